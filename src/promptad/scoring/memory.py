"""Visual memory: how far a patch is from the nearest patch of the good photos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Rows of the bank compared at once: bounds the similarity matrix to about 4096 x patches floats.
_CHUNK = 4096


class MemoryBank:
    """Normalised patch features of good photos, with the photo that each row came from.

    Args:
        rows: (R, D) features, normalised here.
        owners: (R,) int64, index of the good photo of every row; used to leave a photo out when it is scored itself.
    """

    def __init__(self, rows: Tensor, owners: Tensor) -> None:
        # Rounded as they are saved, so that a loaded detector scores exactly as the one that was fitted.
        self.stored = rows if rows.dtype == torch.float16 else F.normalize(rows.float(), dim=-1).half()
        self.rows = F.normalize(self.stored.float(), dim=-1)
        self.owners = owners

    def __len__(self) -> int:
        return len(self.rows)

    def distance(self, patches: Tensor, *, leave_out: int | None = None) -> Tensor:
        """Half the cosine distance to the nearest row: (1 - max cos) / 2 (PromptAD, CVPR 2024, section 3.5).

        Args:
            patches: (..., D), normalised here.
            leave_out: index of a good photo whose own rows are not looked at.

        Returns:
            (...,) in [0, 1]; 0 for a memorised patch.
        """
        rows = self.rows if leave_out is None else self.rows[self.owners != leave_out]
        flat = F.normalize(patches.float(), dim=-1).reshape(-1, patches.shape[-1])
        nearest = torch.full((len(flat),), -1.0, device=flat.device)
        for chunk in rows.split(_CHUNK) if len(rows) else ():
            nearest = torch.maximum(nearest, (flat @ chunk.T).amax(dim=1))
        return ((1 - nearest.clamp(max=1)) / 2).view(patches.shape[:-1])


def build_memory(patches: Sequence[Tensor]) -> MemoryBank:
    """One bank from the patch features of each good photo, (T_i, D) each; the i-th photo owns its rows."""
    owners = torch.cat([torch.full((len(rows),), index) for index, rows in enumerate(patches)])
    return MemoryBank(torch.cat(list(patches)), owners.to(patches[0].device))

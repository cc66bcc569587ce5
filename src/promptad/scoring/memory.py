"""Visual memory: how far a patch is from the nearest patch of the good photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.features import Features
from promptad.scoring.tokens import greedy_coreset

MemoryPrecision = Literal["fp16", "fp32"]

# Rows of the bank compared at once: bounds the similarity matrix to about 4096 x patches floats.
_CHUNK = 4096


class MemoryBank:
    """Unit patch features of good photos, with the photo that each row came from.

    Args:
        stored: (R, D) unit vectors as they are saved, float16 or float32: a loaded bank is the very one that was built.
        owners: (R,) int64, index of the good photo of every row; used to leave a photo out when it is scored itself.
        turns: (R,) int64, which of the turned copies of that photo a row came from, 0 for the photo as it is; None where
            there are no copies.
    """

    def __init__(self, stored: Tensor, owners: Tensor, turns: Tensor | None = None) -> None:
        self.stored, self.owners, self.turns = stored, owners, turns
        # What rounding took from the length of a row is given back.
        self.rows = stored if stored.dtype == torch.float32 else F.normalize(stored.float(), dim=-1)

    def __len__(self) -> int:
        return len(self.rows)

    def distance(self, patches: Tensor, *, leave_out: int | None = None) -> Tensor:
        """Half the cosine distance to the nearest row: (1 - max cos) / 2 (PromptAD, CVPR 2024, section 4.1, eq. 8).

        Args:
            patches: (..., D), normalised here.
            leave_out: index of a good photo whose own rows are not looked at.

        Returns:
            (...,) float32 in [0, 1]; 0 for a memorised patch.
        """
        return _half_distance(patches, self.without(leave_out))

    def turn_distances(self, patches: Tensor, count: int, *, leave_out: int | None = None) -> Tensor:
        """:meth:`distance` to the rows of each turn alone: (..., D) -> (count, ...); 1 where a turn has no rows."""
        turns = torch.zeros_like(self.owners) if self.turns is None else self.turns
        kept = turns if leave_out is None else turns[self.owners != leave_out]
        rows = self.without(leave_out)
        return torch.stack([_half_distance(patches, rows[kept == turn]) for turn in range(count)])

    def without(self, leave_out: int | None) -> Tensor:
        """(R', D) float32 unit rows of all photos, or of all but one."""
        return self.rows if leave_out is None else self.rows[self.owners != leave_out]


def _half_distance(patches: Tensor, rows: Tensor) -> Tensor:
    """(1 - max cos) / 2 of (..., D) patches to unit rows (R, D); 1 where there are none."""
    flat = F.normalize(patches.float(), dim=-1).reshape(-1, patches.shape[-1])
    nearest = torch.full((len(flat),), -1.0, device=flat.device)
    for chunk in rows.split(_CHUNK) if len(rows) else ():
        nearest = torch.maximum(nearest, (flat @ chunk.T).amax(dim=1))
    return ((1 - nearest.clamp(max=1)) / 2).view(patches.shape[:-1])


def build_memory(
    patches: Sequence[Tensor],
    precision: MemoryPrecision = "fp16",
    *,
    turns: Sequence[Tensor] | None = None,
    budget: int = 0,
) -> MemoryBank:
    """One bank from the patch features of each good photo, (T_i, D) each, of any length; the i-th photo owns its rows.

    Args:
        precision: "fp16" halves the size of saved detectors and moves distances by about 1e-4; "fp32" rounds nothing.
        turns: of each photo (T_i,), which of its turned copies a row came from.
        budget: most rows that are kept, those that are farthest apart (`scoring.tokens.greedy_coreset`); 0 keeps all.
    """
    device = patches[0].device
    owners = torch.cat([torch.full((len(rows),), index) for index, rows in enumerate(patches)]).to(device)
    turned = None if turns is None else torch.cat(list(turns)).to(device)
    unit = F.normalize(torch.cat(list(patches)).float(), dim=-1)
    if 0 < budget < len(unit):
        kept = greedy_coreset(unit, budget)
        unit, owners, turned = unit[kept], owners[kept], None if turned is None else turned[kept]
    return MemoryBank(unit.half() if precision == "fp16" else unit, owners, turned)


def layer_memories(
    photos: Sequence[Sequence[Features]], layers: Iterable[int], precision: MemoryPrecision
) -> dict[int, MemoryBank]:
    """A bank of the tapped tokens of each layer, of good photos given as the features of their views."""
    return {
        layer: build_memory(
            [torch.cat([view.taps[layer].flatten(0, 1) for view in views]) for views in photos], precision
        )
        for layer in layers
    }

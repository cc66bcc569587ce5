"""FastRecon (Fang et al., "FastRecon: Few-shot Industrial Anomaly Detection via Fast Feature Reconstruction", ICCV 2023) on tokens of
the image tower.

A photo's patches Q are rebuilt from a coreset S of good patches by a regression that is also drawn to their mean mu at each position:

    min over W of |Q - W S|^2 + lambda |W S - mu|^2

What a patch differs from its reconstruction is its score. The minimum is W S = (Q + lambda mu) / (1 + lambda) projected on what the rows
of S span, which needs no inverse. The paper's backbone is WideResNet-50-2; here patches are tokens of CLIP's layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from promptad.annotations import Range, Seed, Weight
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.clip.preprocess import Fit
from promptad.inputs import setting
from promptad.methods.baselines.tapped import PooledConfig, TappedMemory, require_one_square, without
from promptad.methods.contract import EpochHook, Scores
from promptad.methods.state import require_learned, saved_tensor
from promptad.notices import notice
from promptad.scoring.tokens import greedy_coreset

# More rows than this share of their width span so much that any defect can be rebuilt from them.
_LARGEST_SPAN = 4


@dataclass(frozen=True)
class FastReconConfig(PooledConfig):
    """Settings of FastRecon besides those of every method; defect words do not change its scores."""

    idle: ClassVar[Mapping[str, str]] = {
        "finest_defect": "FastRecon compares positions, so every photo is one square view"
    }

    # Every photo must have the same patch grid.
    fit: Fit = "squash"
    # Share of the patches of good photos that patches are rebuilt from, spread as far as can be; never more than a quarter of
    # their width.
    coreset: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    # Lambda: how much the reconstruction is drawn to the mean of the good photos at its position.
    regularisation: Weight = 2.0
    # Seed of the linear map before the coreset.
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_square("FastRecon", self.fit)


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "crop", "map_size": 224, "coreset": 0.01},
    "release": {"fit": "crop", "map_size": 224, "coreset": 0.01, "normalise": False, "edges": "zeros"},
}


class FastRecon(TappedMemory):
    """FastRecon for one object; see the module's docstring.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    name = "fastrecon"

    def __init__(self, backbone: Backbone, config: FastReconConfig, object_name: str = "object") -> None:
        super().__init__(backbone, config, object_name, pooling=config.pooling)
        self._rows = torch.empty(0)
        self._kept = torch.empty(0, dtype=torch.int64)
        self._bases: dict[int | None, Tensor] = {}

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps the patches of good photos, (N, T, D), and which of them others are rebuilt from."""
        config = self.config
        self._rows, self._bases = torch.cat([self.tokens(view) for own in photos for view in own]), {}
        flat = self._rows.flatten(0, 1)
        count, most = max(1, int(config.coreset * len(flat))), max(1, flat.shape[1] // _LARGEST_SPAN)
        if count > most:
            notice(
                f"FastRecon rebuilds patches from {most} of the {count} that {setting('coreset', str(config.coreset))} asks for: "
                f"more would span most of their {flat.shape[1]} values, and defects would be rebuilt too"
            )
        self._kept = greedy_coreset(flat, min(count, most), seed=config.seed)

    def _basis(self, leave_out: int | None) -> Tensor:
        """(D, r) orthonormal, float64: what the kept rows of all photos but one span."""
        if leave_out not in self._bases:
            owners = self._kept // self._rows.shape[1]
            kept = self._kept if leave_out is None else self._kept[owners != leave_out]
            kept = kept if len(kept) else self._kept  # a coreset may have kept patches of that photo alone
            self._bases[leave_out] = span(self._rows.flatten(0, 1)[kept].double())
        return self._bases[leave_out]

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w) of distances to the reconstruction, not negative.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(bool(len(self._rows)))
        queries, mean = self.tokens(features), without(self._rows, leave_out).double().mean(dim=0)
        rebuilt = reconstruction(queries, mean, self._basis(leave_out), self.config.regularisation)
        values = (queries.double() - rebuilt).norm(dim=-1).float()
        image = values.amax(dim=1)
        return Scores(image, values.view(len(features), *features.tapped.grid), {"memory": image})

    def state(self) -> dict[str, Tensor]:
        """The patches of the good photos, and which of them are the coreset."""
        return {"rows": self._rows, "kept": self._kept}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        rows = saved_tensor(state, "rows", (None, None, self.token_width), "FastRecon")
        kept = saved_tensor(state, "kept", (None,), "FastRecon")
        self._rows, self._kept = rows.to(self.backbone.device), kept.to(self.backbone.device)
        self._bases = {}


def span(rows: Tensor) -> Tensor:
    """(D, r) orthonormal basis of what the rows (S, D) span; directions below the precision of the largest are left out."""
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    limit = values[0] * max(rows.shape) * torch.finfo(rows.dtype).eps
    return right[values > limit].T


def reconstruction(queries: Tensor, mean: Tensor, basis: Tensor, weight: float) -> Tensor:
    """The minimum's W S: (Q + lambda mu) / (1 + lambda), projected on the basis.

    Args:
        queries: (B, T, D). mean: (T, D). basis: (D, r) orthonormal. weight: lambda.

    Returns:
        (B, T, D), as float64.
    """
    drawn = (queries.double() + weight * mean) / (1 + weight)
    return (drawn @ basis) @ basis.T

"""PaDiM (Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", ICPR 2021 workshops).

Each position of the patch grid has a Gaussian of the good photos' features there (section III-B); a patch's score is its Mahalanobis
distance (III-C), a photo's the largest. The covariance is the sample's plus 0.01 on its diagonal (of tokens of length 1, that share of the
mean square of their values). Good photos are few, so the inverse is had
through their own small matrix (the Woodbury identity), exactly. The paper's backbone is WideResNet-50-2 or ResNet-18.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from promptad.annotations import Above0, Positive, Seed
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.clip.preprocess import Fit
from promptad.methods.baselines.tapped import TappedConfig, TappedMemory, require_one_square, without
from promptad.methods.contract import EpochHook, Scores
from promptad.methods.state import require_learned, saved_tensor


@dataclass(frozen=True)
class PaDiMConfig(TappedConfig):
    """Settings of PaDiM besides those of every method; defect words do not change its scores."""

    idle: ClassVar[Mapping[str, str]] = {"finest_defect": "PaDiM compares positions, so every photo is one square view"}

    # Every photo must have the same patch grid.
    fit: Fit = "squash"
    # Values of the joined tokens that are kept, drawn at random.
    dimensions: Positive = 550
    # What is added to the diagonal of each covariance, of tokens whose values have a mean square of 1; of tokens as they are
    # (normalise off), as it is.
    epsilon: Above0 = 0.01
    # Seed of the draw of values.
    seed: Seed = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_square("PaDiM", self.fit)


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "crop", "map_size": 224},
    # As unofficial codes: tokens as they are.
    "release": {"fit": "crop", "map_size": 224, "normalise": False},
}


class PaDiM(TappedMemory):
    """PaDiM for one object; see the module's docstring.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    name = "padim"

    def __init__(self, backbone: Backbone, config: PaDiMConfig, object_name: str = "object") -> None:
        super().__init__(backbone, config, object_name)
        order = torch.randperm(self.token_width, generator=torch.Generator().manual_seed(config.seed))
        self._kept = order[: config.dimensions].to(backbone.device)
        # Values of tokens of length 1 are small, and 0.01 would be far above all their variances.
        square = len(self.layers) / self.token_width if config.normalise else 1.0
        self._epsilon = config.epsilon * square
        self._rows = torch.empty(0)

    def tokens(self, features: Features) -> Tensor:
        """(B, T, d) the values that are kept."""
        return super().tokens(features)[..., self._kept]

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps the features of good photos; Gaussians follow from them when a photo is scored."""
        self._rows = torch.cat([self.tokens(view) for views in photos for view in views])

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w) of Mahalanobis distances, not negative.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(bool(len(self._rows)))
        values = mahalanobis(self.tokens(features), without(self._rows, leave_out), self._epsilon)
        image = values.amax(dim=1)
        return Scores(image, values.view(len(features), *features.tapped.grid), {"memory": image})

    def state(self) -> dict[str, Tensor]:
        """The features of the good photos."""
        return {"rows": self._rows}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        rows = saved_tensor(state, "rows", (None, None, len(self._kept)), "PaDiM")
        self._rows = rows.to(self.backbone.device)


def mahalanobis(queries: Tensor, rows: Tensor, epsilon: float) -> Tensor:
    """Distances at each position to the Gaussian of the rows there: covariance with divisor N - 1, plus epsilon on the diagonal.

    With one row the covariance is unknown and left out: sqrt(1 / epsilon) times the Euclidean distance.

    Args:
        queries: (B, T, D). rows: (N, T, D).

    Returns:
        (B, T), as float32, computed in float64.
    """
    count = len(rows)
    mean = rows.double().mean(dim=0)
    centred = (rows.double() - mean).transpose(0, 1)  # (T, N, D)
    delta = (queries.double() - mean).transpose(0, 1)  # (T, B, D)
    squares = delta.square().sum(dim=-1)
    if count > 1:
        small = centred @ centred.transpose(1, 2)
        small = small + (count - 1) * epsilon * torch.eye(count, dtype=small.dtype, device=small.device)
        seen = centred @ delta.transpose(1, 2)  # (T, N, B)
        squares = squares - (seen * torch.linalg.solve(small, seen)).sum(dim=1)
    return (squares.clamp(min=0) / epsilon).sqrt().T.float()

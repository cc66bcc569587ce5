"""What memories of good photos on tapped tokens have in common: PatchCore, PaDiM, SPADE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from promptad.annotations import Count
from promptad.clip.backbone import Backbone
from promptad.clip.preprocess import Fit
from promptad.clip.vision import FeatureRequest, Features
from promptad.errors import ConfigError
from promptad.methods.contract import Method, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import ScoringConfig
from promptad.scoring.tokens import joined_tokens


@dataclass(frozen=True)
class TappedConfig(ScoringConfig):
    """Settings of a memory on tapped tokens besides those of every method; defect words do not change its scores."""

    # Tapped layers whose tokens are compared.
    layers: tuple[Count, ...] = (3, 8)
    # Whether each layer's tokens have length 1 before they are compared.
    normalise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise ConfigError("layers is empty; name one or more, such as 3, 8")


@dataclass(frozen=True)
class PooledConfig(TappedConfig):
    """The same of those that average tokens over neighbouring patches first."""

    # Side of the windows of patches over which tokens are averaged first.
    pooling: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling % 2 == 0:
            raise ConfigError(f"pooling={self.pooling} must be odd")


def require_one_square(title: str, fit: Fit) -> None:
    """Raises ConfigError where photos would not all have the same patch grid, for a method that compares positions."""
    if fit not in ("squash", "crop"):
        raise ConfigError(f"fit={fit}: {title} compares positions, so it needs one square view: squash or crop")


def without(rows: Tensor, leave_out: int | None) -> Tensor:
    """Rows of good photos of one view each, without one of them; all where it is the only one."""
    if leave_out is None or len(rows) == 1:
        return rows
    return torch.cat([rows[:leave_out], rows[leave_out + 1 :]])


class TappedMemory(Method):
    """Base of these methods: what they read, and CLIP's ranking of defect words.

    Args:
        pooling: side of the windows of patches over which tokens are averaged first.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    def __init__(self, backbone: Backbone, config: Any, object_name: str = "object", *, pooling: int = 1) -> None:
        self.backbone, self.config = backbone, config
        self.request = FeatureRequest(taps=config.layers, tap_pool=pooling)
        self._ranked = RankedWords(backbone, config, object_name)

    @property
    def token_width(self) -> int:
        """Values of a patch of :meth:`tokens`."""
        return sum(self.backbone.sizes.vision.tap_width(layer) for layer in self.config.layers)

    def tokens(self, features: Features) -> Tensor:
        """(B, T, D) what is compared: the layers' tokens side by side."""
        return joined_tokens(features, self.config.layers, normalise=self.config.normalise)

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views."""
        return self._ranked(features)

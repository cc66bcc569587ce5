"""What memories of good photos on tapped tokens have in common: PatchCore, PaDiM, SPADE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptad.annotations import Count
from promptad.clip.backbone import Backbone
from promptad.clip.vision import FeatureRequest, Features
from promptad.errors import ConfigError
from promptad.methods.contract import Method, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import ScoringConfig


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

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views."""
        return self._ranked(features)

"""What methods have in common to which good photos teach nothing, and those that learn nothing at all: there everything
follows from the words and the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.methods.contract import EpochHook, Method, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import ScoringConfig
from promptad.prompts.words import object_words


class Unfitted(Method):
    """A method that good photos teach nothing."""

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Nothing is learned; good photos only set the threshold."""


class Untrained(Unfitted):
    """A method without anything to learn, for one object; `score` and `request` are its own.

    Raises:
        ConfigError, TextError: words that do not exist or are too long.
    """

    def __init__(self, backbone: Backbone, config: ScoringConfig, object_name: str) -> None:
        self.backbone = backbone
        self.object = object_words(object_name)
        self._ranked = RankedWords(backbone, config, object_name)

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views, and for patches where there are any."""
        return self._ranked(features)

    def state(self) -> dict[str, Tensor]:
        """One empty tensor: a file has to hold something."""
        return {"nothing": torch.zeros(1)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to restore."""

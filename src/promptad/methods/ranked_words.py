"""Which defect words fit a photo and its hottest region best: the same untrained ranking for every method.

Prompts that are trained for all products know no defect by name, so the words come from CLIP itself.
"""

from __future__ import annotations

from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.methods.contract import WordScores
from promptad.methods.settings import ScoringConfig
from promptad.prompts.words import anomaly_states, defect_words, fill, object_words
from promptad.scoring.prototypes import state_probabilities

# CLIP's own inverse temperature.
_SCALE = 100.0


class RankedWords:
    """The defect words of one object, encoded once.

    Args:
        backbone: frozen CLIP. config: says which words. object_name: in words or as a data set names it.

    Raises:
        ConfigError, TextError: words that do not exist or are too long.
    """

    def __init__(self, backbone: Backbone, config: ScoringConfig, object_name: str) -> None:
        words = object_words(object_name)
        self.states = anomaly_states(
            object_name, source=config.state_bank, extra=config.defects, replace=config.only_defects
        )
        self._features = backbone.encode_texts([f"a photo of a {fill(state, words)}." for state in self.states])

    def __call__(self, features: Features) -> WordScores:
        """Probability of every defect state for views, and for patches where the features have them."""

        def rank(rows: Tensor) -> Tensor:
            return state_probabilities(rows, self._features, _SCALE)

        patches = None if features.patches is None else rank(features.patches)
        return WordScores(tuple(defect_words(state) for state in self.states), rank(features.image), patches)

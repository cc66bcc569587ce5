"""Text ensembles without any training: CLIP with sentences for "normal" and "anomalous".

The sentences are WinCLIP's (Jeong et al., CVPR 2023: 154 normal, 88 anomalous), APRIL-GAN's, CLIP-AC's (80 a side), or one a side. With
`local="vv"` this is the row "CPE + VV-CLIP" of PromptAD (CVPR 2024, table 5); with `local="qk"` the plain patch tokens,
whose maps are known to be nearly inverted. It needs no good photo, and is what every learned prompt is measured against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from promptad.annotations import Count
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalAttention, LocalStream
from promptad.methods.contract import Scores
from promptad.methods.settings import ScoringConfig
from promptad.methods.untrained import Untrained
from promptad.prompts.words import ensemble
from promptad.scoring.prototypes import anomalous_probability, ensemble_prototype


@dataclass(frozen=True)
class EnsembleConfig(ScoringConfig):
    """Settings of the untrained text score, besides those of every method; defect words do not change its scores."""

    # Whose sentences.
    sentences: Literal["winclip", "april_gan", "clip_ac", "two_prompt"] = "winclip"
    # Inverse temperature.
    scale: float = 100.0
    # Patch features of the maps.
    local: LocalAttention = "vv"
    # First block of the local stream.
    local_start: Count = 1


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "crop", "local": "qk", "smoothing": 0.0},
    "release": {"fit": "squash", "local": "qk", "smoothing": 0.0},
    # Rows of the papers' tables: CLIP-AC (its maps are the plain tokens'), and MaskCLIP as its released code.
    "clip-ac": {"sentences": "clip_ac", "fit": "squash", "local": "qk", "smoothing": 0.0},
    "maskclip": {"fit": "squash", "local": "maskclip_official", "smoothing": 0.0},
}


class TextEnsemble(Untrained):
    """Untrained two-class text score for one object; see the module's docstring.

    Raises:
        ConfigError, TextError: words that do not exist or are too long.
    """

    name = "clip"

    def __init__(self, backbone: Backbone, config: EnsembleConfig, object_name: str = "object") -> None:
        super().__init__(backbone, config, object_name)
        self.config = config
        self.request = FeatureRequest(local=LocalStream(config.local_start, config.local))
        normal, anomalous = ensemble(config.sentences, self.object)
        self._normal = ensemble_prototype(backbone.encode_texts(normal))
        self._anomalous = ensemble_prototype(backbone.encode_texts(anomalous))

    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Probability of the anomalous sentences for views (B,) and patches (B, h, w)."""
        assert features.patches is not None
        image = anomalous_probability(features.image, self._normal, self._anomalous, self.config.scale)
        patches = anomalous_probability(features.patches, self._normal, self._anomalous, self.config.scale)
        return Scores(image, patches.view(len(features), *features.grid), {"text": image})

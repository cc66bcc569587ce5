"""Trans-MM on CLIP (Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers", ICCV 2021), as the row of PromptAD zero-shot's Table 2.

A method of explanation taken as a detector: the map says how far each patch speaks for the anomalous sentences, from the gradients of
their cosine with respect to the attentions of the image tower. The image score is CLIP's own. Neither that paper nor the tables say how
a map for anomalies is made of it; what we fill in is said at the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.annotations import Above0, Count
from promptad.clip.attentions import attended
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.errors import ConfigError
from promptad.methods.contract import Scores
from promptad.methods.settings import ScoringConfig
from promptad.methods.untrained import Untrained
from promptad.prompts.words import ensemble
from promptad.scoring.prototypes import anomalous_probability, ensemble_prototype
from promptad.scoring.relevance import patch_relevance


@dataclass(frozen=True)
class TransMMConfig(ScoringConfig):
    """Settings of Trans-MM besides those of every method; defect words do not change its scores."""

    # Whose sentences.
    sentences: Literal["winclip", "april_gan", "clip_ac", "two_prompt"] = "winclip"
    # Inverse temperature: of the image score, and of the logit whose gradients are taken.
    scale: Above0 = 100.0
    # First block whose attention counts; 0: the last one alone, as in the authors' notebook.
    start: Count = 1
    # The map: relevance for the anomalous sentences, or that less the relevance for the normal ones.
    relevance: Literal["anomalous", "difference"] = "anomalous"
    # Whether each view's map is brought to 0..1 by its own smallest and largest value, as for display; maps of different
    # photos can no longer be compared then.
    min_max: bool = False

    @property
    def own_map_range(self) -> tuple[float, float] | None:
        """0 and 1 where each view's map is brought there by itself."""
        return (0.0, 1.0) if self.min_max else None


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "squash", "smoothing": 0.0},
    # As the authors' notebook on CLIP shows photos.
    "release": {"fit": "squash", "smoothing": 0.0, "start": 0, "min_max": True},
}


class TransMM(Untrained):
    """Trans-MM for one object; see the module's docstring.

    Raises:
        ConfigError: a backbone that is no ViT, a block that it has not, or words that do not exist. TextError: words that are too
            long.
    """

    name = "transmm"

    def __init__(self, backbone: Backbone, config: TransMMConfig, object_name: str = "object") -> None:
        super().__init__(backbone, config, object_name)
        self.config = config
        self._tower, sizes = backbone.vit("Trans-MM")
        self._start = config.start or sizes.layers
        if self._start > sizes.layers:
            raise ConfigError(f"start={config.start} is no block of this image tower, which has 1..{sizes.layers}")
        self.request = FeatureRequest(inputs=True)
        self._normal, self._anomalous = (
            ensemble_prototype(backbone.encode_texts(sentences))
            for sentences in ensemble(config.sentences, self.object)
        )

    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Probability of the anomalous sentences for views (B,), and relevance of patches (B, h, w)."""
        assert features.inputs is not None  # `request` asks for them
        image = anomalous_probability(features.image, self._normal, self._anomalous, self.config.scale)
        # One view at a time: the attentions of all blocks are in memory together.
        rows = torch.cat([self._relevance(view) for view in features.inputs.split(1)])
        return Scores(image, rows.view(len(features), *features.grid), {"text": image})

    def _relevance(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, T) float32."""
        config, run = self.config, attended(self._tower, images, self._start)
        with torch.enable_grad():
            unit = F.normalize(run.image, dim=-1)
            logits = [config.scale * unit @ side for side in (self._anomalous, self._normal)]
        rows = patch_relevance(logits[0], run.attentions)
        if config.relevance == "difference":
            rows = rows - patch_relevance(logits[1], run.attentions)
        if config.min_max:
            low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
            rows = (rows - low) / (high - low).clamp(min=1e-12)
        return rows

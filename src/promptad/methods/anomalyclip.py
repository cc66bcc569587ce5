"""AnomalyCLIP (Zhou Q. et al., "AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection", ICLR 2024).

One normal prompt "X1..X12 object." and one abnormal prompt "Y1..Y12 damaged object.", both learned once on the labelled
photos of another data set, with deep tokens in the text tower:

* loss: cross-entropy of the image plus 4 (focal + dice of the map + dice of its complement);
* image score: probability of the abnormal prompt for the class token; map: the same for the patches of the V-V stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.vision import Features
from promptad.errors import ConfigError
from promptad.learning.auxiliary import Batch
from promptad.learning.map_losses import map_loss
from promptad.methods.base import Scores
from promptad.methods.object_agnostic import DAMAGED, OBJECT, ObjectAgnostic, ObjectAgnosticConfig, anomalous_logit
from promptad.prompts.layout import Layout, Slot


@dataclass(frozen=True)
class AnomalyCLIPConfig(ObjectAgnosticConfig):
    """Everything that can be chosen, besides the settings of `ObjectAgnosticConfig` and `ScoringConfig`.

    Attributes:
        context_tokens: learnable tokens of every prompt.
        abnormal_prompts: independent abnormal prompts, whose features are averaged; 10 is FAPrompt's baseline
            "AnomalyCLIP Ensemble".
        map_weight: lambda of the map losses: 4, on the last layer's map alone. The paper sums over four layers, but in
            the code that made its numbers an addition in place left four equal maps (F-19, F-23).
    """

    context_tokens: int = 12
    abnormal_prompts: int = 1
    map_weight: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.context_tokens, self.abnormal_prompts) < 1 or self.map_weight < 0:
            raise ConfigError("context_tokens and abnormal_prompts must be at least 1, map_weight not negative")


# 518 pixels and sigma 4 belong to ViT-L-14-336; `clean` smooths over the same share of the photo.
_PRINTED = {"input_size": 518, "fit": "squash", "positions": "bilinear", "map_size": 518, "smoothing": 4.0}

PRESETS: dict[str, dict[str, Any]] = {
    "clean": {"map_size": 400, "smoothing": round(4 * 400 / 518, 2)},
    "paper": _PRINTED,
    "release": _PRINTED,
}


class AnomalyCLIP(ObjectAgnostic):
    """Prompts for "object" and "damaged object", trained once; see the module's docstring.

    Args:
        backbone: frozen CLIP; the paper's numbers are with ViT-L-14-336.
        config: see :class:`AnomalyCLIPConfig`. object_name: only for naming defects, never for scores.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    name = "anomalyclip"
    config: AnomalyCLIPConfig

    def __init__(self, backbone: Backbone, config: AnomalyCLIPConfig, object_name: str = "object") -> None:
        shapes = {
            "normal": (1, config.context_tokens),
            "abnormal": (config.abnormal_prompts, config.context_tokens),
        }
        layouts: list[Layout] = [(Slot("normal"), OBJECT, ".")]
        layouts += [(Slot("abnormal", i), DAMAGED, ".") for i in range(config.abnormal_prompts)]
        super().__init__(backbone, config, object_name, layouts, shapes)

    def _logits(self, features: Features, normal: Tensor, abnormal: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) of views and (B, h, w) of patches."""
        assert features.patches is not None  # `request` asks for them
        scale = self.config.scale
        image = anomalous_logit(F.normalize(features.image, dim=-1), normal, abnormal, scale)
        patches = anomalous_logit(F.normalize(features.patches, dim=-1), normal, abnormal, scale)
        return image, patches.view(len(features), *features.grid)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the image + lambda * map losses."""
        assert batch.masks is not None  # `train` asks for them
        features = self.encode(self.prompts)
        image, patches = self._logits(batch.features, features[0], features[1:].mean(0))
        # With two classes the softmax cross-entropy is the binary one of the logits' difference.
        total = F.binary_cross_entropy_with_logits(image, batch.labels.to(image.dtype))
        return total + self.config.map_weight * map_loss(patches.sigmoid(), batch.masks)

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) and patch maps (B, h, w), both in [0, 1]; `parts` has "text".

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        image, patches = self._logits(features, *self.prototypes())
        text = image.sigmoid()
        return Scores(text, patches.sigmoid(), {"text": text})

"""AnomalyCLIP (Zhou Q. et al., "AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection", ICLR 2024).

One normal prompt "X1..X12 object." and one abnormal prompt "Y1..Y12 damaged object.", both learned once on the labelled
photos of another data set, with deep tokens in the text tower:

* loss: cross-entropy of the image plus 4 (focal + dice of the map + dice of its complement);
* image score: probability of the abnormal prompt for the class token; map: the same for the patches of the V-V stream.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.learning.auxiliary import Batch
from promptad.learning.map_losses import map_loss
from promptad.methods.anomalyclip.config import AnomalyCLIPConfig
from promptad.methods.contract import Scores
from promptad.methods.object_agnostic import DAMAGED, OBJECT, ObjectAgnostic
from promptad.prompts.layout import Layout, Slot
from promptad.scoring.prototypes import anomalous_logit


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

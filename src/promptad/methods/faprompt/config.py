"""Settings and presets of FAPrompt (ICCV 2025), with every place where paper and released code differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from promptad.annotations import Positive, Weight
from promptad.learning.map_losses import ImageFocal
from promptad.methods.object_agnostic import ObjectAgnosticConfig


@dataclass(frozen=True)
class FAPromptConfig(ObjectAgnosticConfig):
    """Everything that can be chosen, besides the settings of `ObjectAgnosticConfig` and `ScoringConfig`."""

    # Tokens E of the shared V.
    normal_tokens: Positive = 5
    # Tokens E' of every A.
    abnormal_tokens: Positive = 2
    # K; 1 gives the ablation without CAP.
    abnormal_prompts: Positive = 10
    # Off gives the ablation without DAP: no prior network, no refined prompts.
    prior: bool = True
    # The M patches that look most abnormal, as Algorithm 1 prints, or the first M of the photo's top row, which the released code
    # takes through a bug, in training and scoring alike (F-14).
    prior_patches: Literal["top", "raster"] = "top"
    # M, how many patches feed the prior.
    patch_count: Positive = 10
    # Weight of L_oc (F-15); 0 is off.
    orthogonality_weight: Weight = 0.1
    # Weight of L_prior (F-15); 0 is off.
    prior_weight: Weight = 1.0
    # Weight of the refined map's loss (F-15); 0 is off.
    refined_weight: Weight = 0.5
    # "logits": the image score goes through a sigmoid once more in the focal loss, as released; "prob": it is taken as
    # the probability that it is (F-16), our reading: the appendix names eq. 10 and does not print it.
    image_focal: ImageFocal = "logits"
    # F-17: 7 for FAPrompt, 15 for AnomalyCLIP.
    epochs: Positive = 7


# 518 pixels and sigma 10 belong to ViT-L-14-336 (F-24); `clean` smooths over the same share of the photo.
_PRINTED = {"input_size": 518, "fit": "squash", "positions": "bilinear", "map_size": 518, "smoothing": 10.0}

PRESETS: dict[str, dict[str, Any]] = {
    "clean": {"map_size": 400, "smoothing": round(10 * 400 / 518, 2)},
    "paper": {**_PRINTED, "image_focal": "prob"},
    "release": {**_PRINTED, "prior_patches": "raster", "deep_precision": "fp16"},
}

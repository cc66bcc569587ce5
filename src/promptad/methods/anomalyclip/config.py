"""Settings and presets of AnomalyCLIP (ICLR 2024), with every place where paper and released code differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptad.annotations import Positive, Weight
from promptad.methods.object_agnostic import ObjectAgnosticConfig


@dataclass(frozen=True)
class AnomalyCLIPConfig(ObjectAgnosticConfig):
    """Everything that can be chosen, besides the settings of `ObjectAgnosticConfig` and `ScoringConfig`."""

    # Learnable tokens of every prompt.
    context_tokens: Positive = 12
    # Independent abnormal prompts, whose features are averaged; 10 is FAPrompt's baseline "AnomalyCLIP Ensemble".
    abnormal_prompts: Positive = 1
    # Lambda of the map losses: 4, on the last layer's map alone. The paper sums over four layers, but in the code that
    # made its numbers an addition in place left four equal maps (F-19, F-23).
    map_weight: Weight = 4.0


# 518 pixels and sigma 4 belong to ViT-L-14-336; `clean` smooths over the same share of the photo.
_PRINTED = {"input_size": 518, "fit": "squash", "positions": "bilinear", "map_size": 518, "smoothing": 4.0}

PRESETS: dict[str, dict[str, Any]] = {
    "clean": {"map_size": 400, "smoothing": round(4 * 400 / 518, 2)},
    "paper": _PRINTED,
    "release": {**_PRINTED, "deep_precision": "fp16"},
}

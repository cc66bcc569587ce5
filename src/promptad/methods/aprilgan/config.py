"""Settings and presets of APRIL-GAN (VAND challenge at CVPR 2023). Flags F-n are where descriptions and code differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from promptad.annotations import Above0, Count, Positive, Seed, Share
from promptad.clip.architecture import Activation
from promptad.methods.settings import FREE_SETTINGS, ScoringConfig, check_rising
from promptad.scoring.memory import MemoryPrecision

FREE = (*FREE_SETTINGS, "memory_precision")
"""Settings that may differ from those of training."""


@dataclass(frozen=True)
class AprilGANConfig(ScoringConfig):
    """Everything that can be chosen, besides the settings of every method; defect words do not change its scores."""

    # Tapped layers with a linear map each, shallow to deep; empty takes four, evenly spread: 6, 12, 18, 24 of 24 blocks,
    # 3, 6, 9, 12 of 12, the four stages of a ResNet.
    layers: tuple[Count, ...] = ()
    # How the object stands in the sentences: in words, or ("raw") as its folder is called, "metal_nut", as the code does (F-42).
    class_names: Literal["words", "raw"] = "words"
    # Activation that the towers must have: "any" takes what they have, others refuse a backbone with another. The released code
    # runs OpenAI's weights with the exact GELU instead of their own (F-31), and its numbers belong to that.
    tower_activation: Literal["any", "gelu", "quick_gelu"] = "any"
    # Inverse temperature of losses and scores.
    scale: Above0 = 100.0
    # Probability that a mosaic of four photos of its class takes a training photo's place, anew in every epoch; 0 makes none.
    mosaic: Share = 0.2
    # Passes over all photos.
    epochs: Positive = 15
    # Photos of a batch.
    batch_size: Positive = 8
    # Of Adam, without schedule and weight decay.
    lr: Above0 = 1e-3
    # Of Adam.
    betas: tuple[Share, Share] = (0.5, 0.999)
    # Of the first values, the order of photos and the mosaics.
    seed: Seed = 111
    # How exactly tokens of good photos are kept; float16 moves distances by about 1e-4.
    memory_precision: MemoryPrecision = "fp16"

    @property
    def asked_activation(self) -> Activation | Literal["any"]:
        """The activation that the towers must have."""
        return self.tower_activation

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising(self.layers)


# Trained on the test photos of MVTec AD. 518 pixels and no Gaussian belong to ViT-L-14-336.
_MVTEC: dict[str, Any] = {
    "input_size": 518,
    "fit": "squash",
    "map_size": 518,
    "smoothing": 0.0,
    "class_names": "raw",
    "tower_activation": "gelu",
    "memory_precision": "fp32",
    "epochs": 3,
}
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": _MVTEC,
    # Trained on the test photos of VisA, to be measured on MVTec AD.
    "paper-visa": {**_MVTEC, "mosaic": 0.0, "epochs": 15},
    # What is printed was read out of the code.
    "release": _MVTEC,
}

"""A random CLIP at which photos and prompts differ, and PromptAD built, trained and scored on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.clip.preprocess import Preprocess
from promptad.learning.features import Encoder
from promptad.methods.promptad.config import PRESETS, PromptADConfig
from promptad.methods.promptad.method import PromptAD
from promptad.methods.settings import make_config
from tiny import tiny_backbone

BASE = {"memory_layers": (1, 3), "epochs": 4, "defects": ("with scratch", "bent [c]"), "only_defects": True}


def lively_backbone() -> Backbone:
    """Random weights of a size at which photos and prompts differ."""
    backbone = tiny_backbone(11)
    generator = torch.Generator().manual_seed(12)
    for tower in (backbone.vision, backbone.text):
        for parameter in tower.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone


def build(backbone: Backbone, name: str = "cable", preset: str = "", **values: Any) -> PromptAD:
    """Not trained yet; the plain defaults of the config unless a preset is named."""
    if preset:
        return PromptAD(backbone, make_config(PromptADConfig, preset, PRESETS, BASE | values), name)
    return PromptAD(backbone, PromptADConfig(**(BASE | values)), name)


def photo(seed: int, shape: tuple[int, int] = (60, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def encode(method: PromptAD, *photos: np.ndarray, fit: str = "squash", learned: bool = False) -> list[list[Features]]:
    encoder = Encoder(method.backbone, Preprocess(48, 8, fit), method.request)
    return [encoded.features for encoded in encoder.encode(photos, learned=learned)]


def trained(backbone: Backbone, name: str = "cable", **values: Any) -> PromptAD:
    method = build(backbone, name, **values)
    method.fit(encode(method, photo(1), photo(2), learned=True))
    return method


def outcome(method: PromptAD, seed: int = 9) -> Tensor:
    (view,) = encode(method, photo(seed))[0]
    scores = method.score(view)
    return torch.cat([scores.image, scores.map.flatten()])

"""A tiny random CLIP with the real structure, for tests that need no real weights."""

from __future__ import annotations

import torch

from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.tokenizer import clip_tokenizer

# Two threads that wait for each other cost more than they give on a model this small.
torch.set_num_threads(1)

SIZES = ClipSizes(
    embed_dim=24,
    activation="quick_gelu",
    vision=VisionSizes(width=32, layers=4, heads=2, mlp_width=64, patch_size=8, image_size=48),
    text=TextSizes(width=32, layers=3, heads=2, mlp_width=64, context_length=77, vocab_size=49408),
)


def tiny_backbone(seed: int = 0) -> Backbone:
    """Random weights; 48-pixel input, 6 x 6 patches of 8 pixels."""
    return random_backbone(SIZES, clip_tokenizer(), seed)

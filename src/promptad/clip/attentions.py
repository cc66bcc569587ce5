"""The image tower with its attentions in reach: of gradients, for methods that explain a score by them, and of the eye.

The ordinary pass (`clip/vision.py`) uses fused attention, which never holds the matrices; these form them, block by block, and
`attended` gives the same feature. No parameter receives a gradient: the graph begins at the first matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from promptad.clip.architecture import Block
from promptad.clip.vision import VisionTower
from promptad.errors import ConfigError


@dataclass(frozen=True)
class Attended:
    """One pass of B photos whose graph holds the attentions; 1 + T tokens, the class token first.

    Attributes:
        image: (B, E) class-token feature in the joint space, not normalised, float32, with a graph.
        attentions: of each block from the first one asked for on, (B, heads, 1 + T, 1 + T) after softmax, rows summing to one.
    """

    image: Tensor
    attentions: tuple[Tensor, ...]


def attended(tower: VisionTower, images: Tensor, start: int = 1) -> Attended:
    """Encodes photos with gradients from the class-token feature back to the attentions.

    Args:
        images: (B, 3, H, W) as for the tower itself. start: first block (1-based) whose attention is given; the graph begins
            there.

    Raises:
        ConfigError: a block that does not exist, or a size that is not a multiple of the patch.
    """
    depth = len(tower.blocks)
    if not 1 <= start <= depth:
        raise ConfigError(f"attentions start at block {start}; this image tower has blocks 1..{depth}")
    blocks = list(cast(Iterable[Block], tower.blocks))
    with torch.no_grad():
        x = tower.ln_pre(tower.embed(images))
        for block in blocks[: start - 1]:
            x = block(x)
    attentions: list[Tensor] = []
    with torch.enable_grad():
        for block in blocks[start - 1 :]:
            q, k, v = block.attention.project(block.ln_1(x))
            weights = _weights(q, k)
            if not attentions:
                weights = weights.detach().requires_grad_()
            attentions.append(weights)
            x = x + block.attention.merge(weights @ v)
            x = x + block.mlp(x)
        image = tower.projection(tower.ln_post(x[:, 0])).float()
    return Attended(image, tuple(attentions))


@torch.no_grad()
def attention_maps(tower: VisionTower, images: Tensor, kind: Literal["qk", "vv"]) -> list[Tensor]:
    """Attention of each block after softmax, mean over heads, (B, 1 + T, 1 + T): rows look at columns, class token first.

    "qk" is the tower's own; "vv" that of the values with themselves, on the same stream.
    """
    x, made = tower.ln_pre(tower.embed(images)), []
    for block in cast(Iterable[Block], tower.blocks):
        q, k, v = block.attention.project(block.ln_1(x))
        made.append((_weights(q, k) if kind == "qk" else _weights(v, v)).mean(dim=1))
        x = block(x)
    return made


def _weights(left: Tensor, right: Tensor) -> Tensor:
    """softmax(left right^T / sqrt(d)) of (B, heads, 1 + T, d)."""
    return (left @ right.transpose(-2, -1) * left.shape[-1] ** -0.5).softmax(dim=-1)

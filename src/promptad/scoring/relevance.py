"""Relevance of patches for a score, from attentions and their gradients.

Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers" (Trans-MM),
ICCV 2021, arXiv 2103.15679: the rules for self-attention alone, which is all that CLIP's image tower has.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_attention(attention: Tensor, gradient: Tensor) -> Tensor:
    """A-bar: mean over heads of max(0, gradient * attention); both (B, heads, N, N) -> (B, N, N) float32, >= 0."""
    return (gradient.float() * attention.detach().float()).clamp(min=0).mean(dim=1)


def class_row(means: Sequence[Tensor]) -> Tensor:
    """Row of the class token of R, which starts as the identity and goes on as R + A-bar R from block to block.

    R is the product of all (I + A-bar), the last block at the left, so its first row is carried from the last block to the first
    and no product of whole matrices is needed.

    Args:
        means: of each block in the tower's order, (B, N, N).

    Returns:
        (B, N), the class token's own place first.
    """
    row = torch.zeros_like(means[0][:, :1])
    row[..., 0] = 1
    for mean in reversed(means):
        row = row + row @ mean
    return row[:, 0]


def patch_relevance(scores: Tensor, attentions: Sequence[Tensor]) -> Tensor:
    """How far each patch speaks for a score: gradients of (B,) scores, one a photo, with respect to attentions.

    Args:
        scores: (B,), with a graph that reaches the attentions; the graph is kept. attentions: as `clip.attentions.Attended` has
            them.

    Returns:
        (B, T), >= 0.
    """
    with torch.enable_grad():
        total = scores.sum()
    gradients = torch.autograd.grad(total, list(attentions), retain_graph=True)
    return class_row([mean_attention(a, g) for a, g in zip(attentions, gradients, strict=True)])[:, 1:]

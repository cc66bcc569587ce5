"""Local features of PromptAD's text maps: the image tower's own, or learned linear layers over every block.

The row "CLIP+Linear" of table 5 (PromptAD, CVPR 2024, section 5.5) adds a linear layer after each block and trains it with
the prompts. What becomes of the blocks is not printed. Our reading follows APRIL-GAN, which the row cites: the mapped tokens
of every block are local features of their own, each a term of the losses, and the map is the mean of their probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features

WEIGHT, BIAS = "linear.weight", "linear.bias"


def block_numbers(backbone: Backbone) -> tuple[int, ...]:
    """All blocks of the image tower, 1-based."""
    return tuple(range(1, backbone.vit("local=linear")[1].layers + 1))


def draw_linear(backbone: Backbone, generator: torch.Generator) -> dict[str, Tensor]:
    """Leaf tensors of one linear layer a block, weights (L, D, E) and biases (L, E), as `torch.nn.Linear` starts them."""
    vision, embed = backbone.sizes.vision, backbone.sizes.embed_dim
    bound = vision.width**-0.5
    shapes = {WEIGHT: (vision.layers, vision.width, embed), BIAS: (vision.layers, embed)}
    return {
        name: nn.init.uniform_(torch.empty(shape), -bound, bound, generator=generator)
        .to(backbone.device)
        .requires_grad_()
        for name, shape in shapes.items()
    }


def stacked_blocks(features: Features, blocks: tuple[int, ...]) -> Tensor:
    """(L, B, T, D) patch tokens after every block."""
    return torch.stack([features.taps[number] for number in blocks])


def mapped(tokens: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    """(L, B, T, D) tokens through the linear layer of their block -> (L, B, T, E), not normalised."""
    return torch.einsum("lbtd,lde->lbte", tokens, parameters[WEIGHT]) + parameters[BIAS][:, None, None]

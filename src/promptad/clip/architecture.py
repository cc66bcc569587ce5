"""Sizes of a CLIP model, and the shared transformer block (Radford et al., ICML 2021).

Both towers are stacks of pre-norm blocks; they differ only in their embeddings, their mask and their read-out. The
block exposes its projections, because the local V-V stream of the image tower re-uses them with another attention.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from promptad.errors import WeightsError

Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class VisionSizes:
    """Image tower: `image_size` is the side in pixels that the position table was trained for."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    patch_size: int
    image_size: int

    @property
    def stride(self) -> int:
        """Pixels of the input from one position of the grid of features to the next."""
        return self.patch_size

    def tap_width(self, layer: int) -> int:
        """Channels of the output of a layer (1-based)."""
        return self.width


@dataclass(frozen=True)
class ResNetSizes:
    """Image tower that is a ResNet: `blocks` bottlenecks in each of its four stages, the first of 4 * `stem_width`
    channels; `image_size` is the side in pixels that the position table of its pooling was trained for."""

    stem_width: int
    blocks: tuple[int, ...]
    heads: int
    image_size: int

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return self.tap_width(len(self.blocks))

    @property
    def layers(self) -> int:
        """Stages, each of which can be tapped."""
        return len(self.blocks)

    @property
    def patch_size(self) -> int:
        """Sides of inputs are multiples of this: the stride of the last stage."""
        return 32

    @property
    def stride(self) -> int:
        """Pixels of the input from one position of the grid of features to the next: that of stage 2."""
        return 8

    def tap_width(self, layer: int) -> int:
        """Channels of the output of a stage (1-based)."""
        return self.stem_width * 2 ** (layer + 1)


@dataclass(frozen=True)
class TextSizes:
    """Text tower: `context_length` counts tokens, start and end included."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    context_length: int
    vocab_size: int


@dataclass(frozen=True)
class ClipSizes:
    """A whole CLIP model: `embed_dim` is the size E of the joint space."""

    embed_dim: int
    activation: Activation
    vision: VisionSizes | ResNetSizes
    text: TextSizes

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy, as JSON gives it back: lists where we have tuples."""
        copy: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return copy


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the activation of OpenAI's weights; a named function, since towers are pickled."""
    return F.silu(1.702 * x) / 1.702


def activation_function(name: str) -> Any:
    """The MLP non-linearity: OpenAI's sigmoid approximation or the exact GELU."""
    if name == "quick_gelu":
        # x * sigmoid(1.702 x), through the fused SiLU: half the passes over memory.
        return quick_gelu
    if name == "gelu":
        return F.gelu
    raise WeightsError(f"unknown activation {name!r}; expected 'quick_gelu' or 'gelu'")


class Attention(nn.Module):
    """Multi-head attention with one fused projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise WeightsError(f"width {width} is not divisible by {heads} attention heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> queries, keys and values, each (B, heads, T, D / heads)."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def merge(self, heads: Tensor) -> Tensor:
        """(B, heads, T, D / heads) -> (B, T, D), through the output projection."""
        return self.out(heads.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block: attention and MLP, each added to its input (never in place)."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, mlp_width)
        self.mlp_out = nn.Linear(mlp_width, width)
        self.activation = activation_function(activation)

    def mlp(self, x: Tensor) -> Tensor:
        """The MLP branch of (B, T, D) tokens, before it is added."""
        return self.mlp_out(self.activation(self.mlp_in(self.ln_2(x))))

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """(B, T, D) -> (B, T, D). With `causal`, a token sees itself and what stands before it."""
        q, k, v = self.attention.project(self.ln_1(x))
        x = x + self.attention.merge(F.scaled_dot_product_attention(q, k, v, is_causal=causal))
        return x + self.mlp(x)

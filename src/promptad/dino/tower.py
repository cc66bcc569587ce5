"""DINOv2's image tower (Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024), with registers
(Darcet et al., "Vision Transformers Need Registers", ICLR 2024) or without.

A ViT of pre-norm blocks whose two branches have a learned factor for each channel (LayerScale):

    x = x + gamma_1 * Attention(LN_1(x)),    x = x + gamma_2 * FFN(LN_2(x))

The FFN is an MLP with the exact GELU, or SwiGLU in the giant tower: [a | b] = W_12 x, W_3 (silu(a) * b). The tokens are the class
token, the registers and the patches row by row; registers have no position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.errors import ConfigError

PositionInterpolation = Literal["official", "size", "size_antialias"]
TokenNorm = Literal["none", "final", "next"]
_EPS = 1e-6


@dataclass(frozen=True)
class DinoSizes:
    """Sizes of a tower.

    Attributes:
        width: channels D of a token. layers: blocks. heads: of an attention. hidden: width inside the FFN, for SwiGLU that of
            one of its halves. patch_size: pixels along the side of a patch. image_size: side in pixels that the position table
            was trained for. registers: tokens without place. swiglu: whether the FFN is gated.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch_size: int = 14
    image_size: int = 518
    registers: int = 0
    swiglu: bool = False

    @property
    def stride(self) -> int:
        """Pixels of the input from one patch to the next."""
        return self.patch_size

    def tap_width(self, layer: int) -> int:
        """Channels of the output of a block (1-based)."""
        return self.width

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


@dataclass(frozen=True)
class Tokens:
    """What a block gave for B photos, float32: the class token `cls` (B, D), `registers` (B, R, D), `patches` (B, T, D)."""

    cls: Tensor
    registers: Tensor
    patches: Tensor


class Attention(nn.Module):
    """Multi-head attention, queries, keys and values from one projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """MLP with the exact GELU, or SwiGLU, whose first projection gives the gate and then what is gated."""

    def __init__(self, width: int, hidden: int, swiglu: bool) -> None:
        super().__init__()
        self.swiglu = swiglu
        self.inner = nn.Linear(width, 2 * hidden if swiglu else hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        inner = self.inner(x)
        if self.swiglu:
            gate, value = inner.chunk(2, dim=-1)
            return self.outer(F.silu(gate) * value)  # type: ignore[no-any-return]
        return self.outer(F.gelu(inner))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm block with LayerScale on both branches; its input is never changed."""

    def __init__(self, sizes: DinoSizes) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width, _EPS)
        self.attention = Attention(sizes.width, sizes.heads)
        self.scale_1 = nn.Parameter(torch.empty(sizes.width))
        self.ln_2 = nn.LayerNorm(sizes.width, _EPS)
        self.ffn = FeedForward(sizes.width, sizes.hidden, sizes.swiglu)
        self.scale_2 = nn.Parameter(torch.empty(sizes.width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.scale_1 * self.attention(self.ln_1(x))
        return x + self.scale_2 * self.ffn(self.ln_2(x))


def usual_interpolation(sizes: DinoSizes) -> PositionInterpolation:
    """How the authors' code brings the position table of such a tower to another grid."""
    return "size_antialias" if sizes.registers else "official"


def interpolated(table: Tensor, grid: tuple[int, int], how: PositionInterpolation) -> Tensor:
    """Position table (1 + s * s, D) of a square grid -> (1 + h * w, D) for `grid`; the class token's row is kept.

    Bicubic, in float32. The three differ away from the trained grid, where all give the table itself:

    * "official": the authors' towers without registers give the factor (n + 0.1) / s instead of a size, and the positions
      are then sampled by that factor; no antialias.
    * "size": to h x w exactly, no antialias, as transformers for towers without registers.
    * "size_antialias": to h x w exactly with antialias: the authors' towers with registers and transformers' reading of
      them, and all of timm's.

    Raises:
        ConfigError: no such way.
    """
    if how not in get_args(PositionInterpolation):
        raise ConfigError(
            f"pos_interp {how!r} is unknown; expected one of {', '.join(get_args(PositionInterpolation))}"
        )
    side = round((len(table) - 1) ** 0.5)
    if grid == (side, side):
        return table
    square = table[1:].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    if how == "official":
        factors = tuple((patches + 0.1) / side for patches in grid)
        resized = F.interpolate(square, scale_factor=factors, mode="bicubic")
    else:
        resized = F.interpolate(square, size=grid, mode="bicubic", antialias=how == "size_antialias")
    return torch.cat([table[:1], resized.flatten(2)[0].T.to(table.dtype)])


class DinoTower(nn.Module):
    """DINOv2 without its head and its mask token, which only its training needs. Outputs are float32 whatever the weights are.

    Attributes:
        pos_interp: how positions are brought to other grids, see :func:`interpolated`.
    """

    def __init__(self, sizes: DinoSizes, pos_interp: PositionInterpolation | None = None) -> None:
        super().__init__()
        self.sizes = sizes
        self.pos_interp: PositionInterpolation = pos_interp or usual_interpolation(sizes)
        self.class_embedding = nn.Parameter(torch.empty(sizes.width))
        self.registers = nn.Parameter(torch.empty(sizes.registers, sizes.width))
        side = sizes.image_size // sizes.patch_size
        self.position_embedding = nn.Parameter(torch.empty(1 + side * side, sizes.width))
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch_size, sizes.patch_size)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, _EPS)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.class_embedding.device

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patch grid (h, w) of an input of `height` x `width` pixels. Raises ConfigError where these are not multiples of a patch."""
        patch = self.sizes.patch_size
        if height % patch or width % patch or not height or not width:
            raise ConfigError(f"input of {height}x{width} pixels is not a multiple of the patch size {patch}")
        return height // patch, width // patch

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised RGB -> (B, 1 + R + T, D): class token, registers, patches, as block 1 gets them."""
        grid, batch = self.grid(*images.shape[-2:]), len(images)
        patches = self.patch_embedding(images.to(self.class_embedding.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(batch, 1, -1), patches], dim=1)
        tokens = tokens + interpolated(self.position_embedding, grid, self.pos_interp)
        return torch.cat([tokens[:, :1], self.registers.expand(batch, -1, -1), tokens[:, 1:]], dim=1)

    def forward(self, images: Tensor, taps: Iterable[int], norm: TokenNorm = "final") -> dict[int, Tokens]:
        """The tokens of some blocks, from one pass that ends at the last of them.

        Args:
            images: (B, 3, H, W) float, RGB, normalised with the tower's mean and std; H and W multiples of the patch size.
            taps: blocks, 1-based.
            norm: "final" each with the final LayerNorm, as the authors' helper gives them; "none" as they are; "next" as the
                tower itself reads them: with LN_1 of the following block, after the last one with the final LayerNorm.

        Returns:
            Block -> its tokens, in the order of `taps`; not of length 1.

        Raises:
            ConfigError: a block that is not there, or a size that is not a multiple of the patch.
        """
        wanted = tuple(taps)
        self.require(wanted)
        tokens_of: dict[int, Tokens] = {}
        x, first = self.embed(images), 1 + self.sizes.registers
        blocks = cast(Sequence[Block], self.blocks)
        for number in range(1, max(wanted, default=0) + 1):
            x = blocks[number - 1](x)
            if number in wanted:
                following = blocks[number].ln_1 if norm == "next" and number < len(blocks) else self.norm
                out = (x if norm == "none" else following(x)).float()
                tokens_of[number] = Tokens(out[:, 0], out[:, 1:first], out[:, first:])
        return {number: tokens_of[number] for number in wanted}

    def require(self, taps: Iterable[int]) -> None:
        """Raises ConfigError for blocks that this tower has not."""
        if wrong := [number for number in taps if not 1 <= number <= self.sizes.layers]:
            raise ConfigError(
                f"tapped layers {wrong} must lie in 1..{self.sizes.layers} for this DINOv2 tower; name others (setting layers, "
                "of promptad memory_layers)"
            )


def build_tower(state: Mapping[str, Tensor], sizes: DinoSizes, dtype: torch.dtype = torch.float32) -> DinoTower:
    """A frozen tower, in eval mode, of tensors under our names. Raises RuntimeError where they do not fit the sizes."""
    with torch.device("meta"):  # which skips initialisation
        tower = DinoTower(sizes)
    tower.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    return tower.eval().requires_grad_(False)

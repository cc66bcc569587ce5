"""CLIP's image tower, with taps and the local V-V stream, in one pass.

The local stream ("CLIP Surgery", Li et al., 2023; PromptAD, CVPR 2024, section 3.2, equations 4 to 7; also AnomalyCLIP, ICLR
2024) starts as the input of block L0 and adds, at every block from L0 on, the attention of the block's values with themselves:

    Z[l] = Z[l-1] + Proj(softmax(v v^T / sqrt(d_head)) v),   v = value projection of LN1(Z_ori[l-1])

Equation 4 is the original stream Z_ori, 5 the local one Z, 6 the projection, 7 the line above with attention as in equation 3
(softmax(Q K^T scale) V) for Q = K = V. The stream has no MLP, and its attention always reads the *original* stream, which it
never changes. Where it starts, and that the projection reads LN1 of the stream, the equations do not say: the one is a
setting, the other CLIP's own block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.architecture import Block, VisionSizes
from promptad.clip.features import (
    FeatureRequest,
    Features,
    LocalStream,
    PositionResize,
    TapSpace,
    pooled_rows,
    window_patches,
)
from promptad.errors import ConfigError

_LAST_BLOCK = ("maskclip_official", "maskclip_pure")


def resize_positions(table: Tensor, grid: tuple[int, int], mode: str) -> Tensor:
    """Position table (1 + s*s, D) of a square grid -> (1 + h*w, D) for `grid`; the class token's row is kept.

    "bilinear" (align_corners off, no antialias) is what AnomalyCLIP and FAPrompt use; "bicubic" with antialias is what
    OpenCLIP uses when it builds a model at another size.
    """
    side = round((table.shape[0] - 1) ** 0.5)
    if (side, side) == grid:
        return table
    square = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    resized = F.interpolate(square, size=grid, mode=mode, align_corners=False, antialias=mode == "bicubic")
    flat = resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)
    return torch.cat([table[:1], flat.to(table.dtype)])


class VisionTower(nn.Module):
    """CLIP ViT. All outputs are float32 whatever the dtype of the weights."""

    def __init__(self, sizes: VisionSizes, embed_dim: int, activation: str) -> None:
        super().__init__()
        self.sizes = sizes
        self.position_resize: PositionResize = "bicubic"
        self.class_embedding = nn.Parameter(torch.empty(sizes.width))
        tokens = 1 + (sizes.image_size // sizes.patch_size) ** 2
        self.position_embedding = nn.Parameter(torch.empty(tokens, sizes.width))
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch_size, sizes.patch_size, bias=False)
        self.ln_pre = nn.LayerNorm(sizes.width)
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.mlp_width, activation) for _ in range(sizes.layers)
        )
        self.ln_post = nn.LayerNorm(sizes.width)
        self.projection = nn.Linear(sizes.width, embed_dim, bias=False)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.class_embedding.device

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patch grid (h, w) of an input of `height` x `width` pixels, which must be multiples of the patch size."""
        patch = self.sizes.patch_size
        if height % patch or width % patch or not height or not width:
            raise ConfigError(f"input of {height}x{width} pixels is not a multiple of the patch size {patch}")
        return height // patch, width // patch

    def embed(self, images: Tensor, positions: PositionResize | None = None) -> Tensor:
        """(B, 3, H, W) normalised RGB -> (B, 1 + T, D) tokens with positions, before `ln_pre`."""
        grid = self.grid(*images.shape[-2:])
        patches = self.patch_embedding(images.to(self.class_embedding.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], dim=1)
        return tokens + resize_positions(self.position_embedding, grid, positions or self.position_resize)

    def streams(
        self, tokens: Tensor, local: LocalStream | None = None, prompts: Sequence[Tensor] = ()
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Runs the blocks over embedded tokens (B, 1 + T, D), with `prompts` (see :meth:`forward`) over n more.

        Yields, block by block: the original stream after the block's attention but before its MLP, the original stream
        after the block, and the local stream (None before its start). No tensor is changed after it was yielded.
        """
        x, z = self.ln_pre(_ended(tokens, prompts[0], 0) if prompts else tokens), None
        for number, block in enumerate(cast(Iterable[Block], self.blocks), start=1):
            if 1 < number <= len(prompts):
                x = _ended(x, prompts[number - 1], len(prompts[0]))
            q, k, v = block.attention.project(block.ln_1(x))
            if local is not None and local.attention in _LAST_BLOCK:
                if number == len(self.blocks):
                    z = block.attention.merge(v)
                    if local.attention == "maskclip_official":
                        z = x + z
                        z = z + block.mlp(z)
            elif local is not None and local.attention != "qk" and number >= local.start:
                own = v if local.attention == "maskclip" else F.scaled_dot_product_attention(v, v, v)
                z = (x if z is None else z) + block.attention.merge(own)
            attended = x + block.attention.merge(F.scaled_dot_product_attention(q, k, v))
            x = attended + block.mlp(attended)
            yield attended, x, z

    def forward(
        self, images: Tensor, request: FeatureRequest = FeatureRequest(), prompts: Sequence[Tensor] = ()
    ) -> Features:
        """Encodes a batch once and gives everything that was requested.

        Args:
            images: (B, 3, H, W) float, RGB, normalised with CLIP's mean and std; H, W multiples of the patch size.
            request: taps, local stream and variants.
            prompts: sets of (n, D) tokens, the same for all photos, with gradients (MaPLe, Khattak et al., CVPR 2023). The
                first is appended to the patches, behind their positions and before `ln_pre`; set i takes the place of
                these n tokens before block i. No feature that is given is one of them, and windows do not see them.

        Raises:
            ConfigError: a tap or start layer that does not exist, a size that is not a multiple of the patch, or more
                sets of prompts than blocks.
        """
        self.require(request)
        if len(prompts) > self.sizes.layers:
            raise ConfigError(
                f"{len(prompts)} sets of prompts need as many blocks, this image tower has {self.sizes.layers}"
            )
        local, between = request.local, request.tap_point == "after_next_attention"
        first, grid = 0 if request.tap_class else 1, self.grid(*images.shape[-2:])
        end = 1 + grid[0] * grid[1]
        taps: dict[int, Tensor] = {}
        final, patches = images, None
        tokens = self.embed(images, request.positions)
        for number, (attended, x, z) in enumerate(self.streams(tokens, local, prompts), start=1):
            layer = number - 1 if between else number
            if layer in request.taps:
                rows = self._tapped(attended if between else x, z, request)[:, first:end]
                if request.tap_point == "next_norm":
                    rows = self._next_norm(layer)(rows)
                rows = self._in_space(rows, request.tap_space)
                taps[layer] = pooled_rows(rows.float(), grid, request.tap_pool)
            final, patches = x, z
        if local is not None:
            rows = (final if patches is None else patches)[:, 1:end]
            patches = self.projection(self.ln_post(rows)).float()
        cls = self.ln_post(final[:, 0]) if request.normalise_class else final[:, 0]
        windows = {side: self._encode_windows(tokens, window_patches(grid, side), request) for side in request.windows}
        given = images.float() if request.inputs else None
        return Features(self.projection(cls).float(), patches, {k: taps[k] for k in request.taps}, grid, windows, given)

    def _next_norm(self, layer: int) -> nn.Module:
        """What the tower reads the output of a layer (1-based) through next."""
        return cast(Block, self.blocks[layer]).ln_1 if layer < len(self.blocks) else self.ln_post

    @staticmethod
    def _tapped(x: Tensor, z: Tensor | None, request: FeatureRequest) -> Tensor:
        """(B, 1 + m, D) tokens of a block in the stream that is asked for, the class token first."""
        return x if request.tap_stream == "original" or z is None else torch.cat([x[:, :1], z[:, 1:]], dim=1)

    def _in_space(self, rows: Tensor, space: TapSpace) -> Tensor:
        if space == "block":
            return rows
        normed = self.ln_post(rows)
        return cast(Tensor, normed if space == "normed" else self.projection(normed))

    def require(self, request: FeatureRequest) -> None:
        """Raises ConfigError for what this tower cannot give: layers and attentions that it has not."""
        depth = self.sizes.layers
        last = depth - 1 if request.tap_point == "after_next_attention" else depth
        if any(not 1 <= layer <= last for layer in request.taps):
            raise ConfigError(
                f"tapped layers {list(request.taps)} must lie in 1..{last} for this image tower; name others (setting layers, of "
                "promptad memory_layers)"
            )
        if request.tap_pool < 1 or request.tap_pool % 2 == 0 or (request.tap_pool > 1 and request.tap_class):
            raise ConfigError(
                f"tap_pool={request.tap_pool} must be an odd number of positions, without the class token"
            )
        if request.tap_space != "block" and request.tap_point != "block":
            raise ConfigError(
                f"taps at {request.tap_point!r} have a space of their own, so tap_space={request.tap_space!r} does not go with it"
            )
        local = request.local
        if request.tap_stream == "local" and (
            local is None
            or request.tap_point != "block"
            or local.attention not in ("vv", "maskclip")
            or any(layer < local.start for layer in request.taps)
        ):
            raise ConfigError(
                f"taps {list(request.taps)} of the local stream need one (vv or maskclip) that has begun by the first of them"
            )
        if request.local is not None and request.local.attention == "vv_cosine":
            raise ConfigError(
                "local features 'vv_cosine' are defined for ResNet towers alone; expected vv, maskclip or qk"
            )
        if request.local is not None and request.local.attention in _LAST_BLOCK and request.local.start != 1:
            raise ConfigError(
                f"local features {request.local.attention!r} come from the last block alone, so they have no start; leave "
                f"it at 1 instead of {request.local.start}"
            )
        if request.local is not None and not 1 <= request.local.start <= depth:
            raise ConfigError(
                f"local stream starts at block {request.local.start}; this image tower has blocks 1..{depth}"
            )

    def encode_windows(
        self, images: Tensor, windows: Tensor, request: FeatureRequest = FeatureRequest(), batch: int = 64
    ) -> Tensor:
        """Class-token feature of every window of patches (WinCLIP, Jeong et al., CVPR 2023, section 4.2).

        Each window keeps the class token and its own patch tokens with their original positions, and runs through the
        whole tower as a short sequence.

        Args:
            images: (B, 3, H, W) as in :meth:`forward`.
            windows: (n, p) integer indices into the T patches in row-major order.
            request: its `positions` and `normalise_class` hold here too.
            batch: windows that run together, which bounds the memory.

        Returns:
            (B, n, E) float32, not normalised.
        """
        return self._encode_windows(self.embed(images, request.positions), windows, request, batch)

    def _encode_windows(self, tokens: Tensor, windows: Tensor, request: FeatureRequest, batch: int = 64) -> Tensor:
        """:meth:`encode_windows` from embedded tokens (B, 1 + T, D)."""
        photos, count = len(tokens), len(windows)
        rows = tokens[:, 1:][:, windows.flatten()].view(photos * count, windows.shape[1], -1)
        cls = tokens[:, :1].repeat_interleave(count, dim=0)
        encoded = []
        for part in torch.cat([cls, rows], dim=1).split(batch):
            x = self.ln_pre(part)
            for block in cast(Iterable[Block], self.blocks):
                x = block(x)
            last = self.ln_post(x[:, 0]) if request.normalise_class else x[:, 0]
            encoded.append(self.projection(last).float())
        return torch.cat(encoded).view(photos, count, -1)


def _ended(x: Tensor, prompts: Tensor, replaced: int) -> Tensor:
    """(B, m, D) tokens with the prompts (n, D) at their end, in the place of the last `replaced`."""
    return torch.cat([x[:, : x.shape[1] - replaced], prompts.to(x.dtype).expand(len(x), -1, -1)], dim=1)

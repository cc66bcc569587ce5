"""CLIP's ResNet image towers (Radford et al., ICML 2021, section 2.4), with taps and V-V attention inside their pooling.

The trunk is a ResNet with a stem of three convolutions and average pooling in front of every stride; its last stage (stride
32) goes through an attention pool, whose query is the mean over positions. PromptAD (CVPR 2024, table 8) is run on RN101.

The local stream is that pool with every position as a query ("CLIP Surgery", Li et al., 2023, whose released code is the only
place where V-V attention on this tower is defined): queries, keys and values are all the value projection. There is no
residual and no MLP. Stages have grids of their own; everything that is given comes on the grid of stage 2 (stride 8), larger
and smaller ones by bilinear interpolation, so that features do not depend on what else was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.architecture import ResNetSizes
from promptad.clip.features import FeatureRequest, Features, LocalStream, PositionResize, pooled
from promptad.clip.vision import resize_positions
from promptad.errors import ConfigError

EXPANSION = 4


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut; where it strides, average pooling does it, in both branches."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def _pooled(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 * planes, H / stride, W / stride)."""
        inner = torch.relu(self.bn1(self.conv1(x)))
        inner = self._pooled(torch.relu(self.bn2(self.conv2(inner))))
        shortcut = x if self.downsample is None else self.downsample(self._pooled(x))
        return torch.relu(self.bn3(self.conv3(inner)) + shortcut)


class AttentionPool(nn.Module):
    """The attention that reads one image feature, or one for every position, from the last stage."""

    def __init__(self, tokens: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, embed_dim)

    def tokens(self, stage: Tensor, resize: PositionResize) -> Tensor:
        """(B, D, h, w) -> (B, 1 + h * w, D): the mean over positions and the positions, with the position table added."""
        grid = (stage.shape[-2], stage.shape[-1])
        rows = stage.flatten(2).transpose(1, 2)
        rows = torch.cat([rows.mean(dim=1, keepdim=True), rows], dim=1)
        return rows + resize_positions(self.positional_embedding, grid, resize)

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _merge(self, heads: Tensor) -> Tensor:
        return cast(Tensor, self.c_proj(heads.transpose(1, 2).flatten(2)))

    def forward(self, tokens: Tensor, queries: int | None = 1) -> Tensor:
        """(B, T, D) tokens -> (B, queries, E), the first of them as queries; None takes all."""
        q = self._split(self.q_proj(tokens[:, :queries]))
        k, v = self._split(self.k_proj(tokens)), self._split(self.v_proj(tokens))
        return self._merge(F.scaled_dot_product_attention(q, k, v))

    def value_value(self, tokens: Tensor, *, cosine: bool) -> Tensor:
        """(B, T, D) -> (B, T, E): softmax(v v^T / sqrt(d)) v; with `cosine` the softmax of the values' cosines."""
        v = self._split(self.v_proj(tokens))
        if not cosine:
            return self._merge(F.scaled_dot_product_attention(v, v, v))
        unit = v / (v.norm(dim=-1, keepdim=True) + 1e-6)
        return self._merge(F.scaled_dot_product_attention(unit, unit, v, scale=1.0))

    def values(self, stage: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, h * w, E): the projected values alone, without positions and mean (MaskCLIP, ECCV 2022)."""
        return cast(Tensor, self.c_proj(self.v_proj(stage.flatten(2).transpose(1, 2))))


class ResNetTower(nn.Module):
    """CLIP ResNet. All outputs are float32 whatever the dtype of the weights."""

    def __init__(self, sizes: ResNetSizes, embed_dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.position_resize: PositionResize = "bilinear"
        stem = sizes.stem_width
        self.conv1 = nn.Conv2d(3, stem // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem // 2)
        self.conv2 = nn.Conv2d(stem // 2, stem // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem // 2)
        self.conv3 = nn.Conv2d(stem // 2, stem, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(stem)
        inputs = stem
        for stage, blocks in enumerate(sizes.blocks, start=1):
            planes, stride = stem * 2 ** (stage - 1), 1 if stage == 1 else 2
            rows = [
                Bottleneck(inputs if i == 0 else planes * EXPANSION, planes, stride if i == 0 else 1)
                for i in range(blocks)
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*rows))
            inputs = planes * EXPANSION
        side = sizes.image_size // sizes.patch_size
        self.attnpool = AttentionPool(1 + side * side, sizes.width, sizes.heads, embed_dim)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.attnpool.positional_embedding.device

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Grid (h, w) of all features of an input of `height` x `width` pixels, which must be multiples of 32."""
        patch, stride = self.sizes.patch_size, self.sizes.stride
        if height % patch or width % patch or not height or not width:
            raise ConfigError(
                f"input of {height}x{width} pixels is not a multiple of {patch}, the stride of this ResNet"
            )
        return height // stride, width // stride

    def stages(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised RGB -> outputs of the four stages, (B, C, H / s, W / s) with s = 4, 8, 16, 32."""
        x = images.to(self.conv1.weight.dtype)
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = torch.relu(norm(conv(x)))
        x, out = F.avg_pool2d(x, 2), []
        for stage in range(1, len(self.sizes.blocks) + 1):
            for block in cast(Iterable[Bottleneck], getattr(self, f"layer{stage}")):
                x = block(x)
            out.append(x)
        return out

    def forward(self, images: Tensor, request: FeatureRequest = FeatureRequest()) -> Features:
        """Encodes a batch once and gives everything that was requested.

        Args:
            images: (B, 3, H, W) float, RGB, normalised with CLIP's mean and std; H, W multiples of 32.
            request: `taps` are stages 1 to 4; all patches lie on the grid of stage 2. `local.start` has no meaning here and
                must be 1.

        Raises:
            ConfigError: something that this tower does not have, or a size that is not a multiple of 32.
        """
        self.require(request)
        grid = self.grid(*images.shape[-2:])
        stages = self.stages(images)
        last, resize = stages[-1], request.positions or self.position_resize
        tokens = self.attnpool.tokens(last, resize)
        taps = {
            layer: _rows(_on_grid(pooled(stages[layer - 1].float(), request.tap_pool), grid)) for layer in request.taps
        }
        local = None if request.local is None else self._local(last, tokens, request.local)
        patches = None
        if local is not None:
            square = local.float().transpose(1, 2).unflatten(2, (last.shape[-2], last.shape[-1]))
            patches = _rows(_on_grid(square, grid))
        image = self.attnpool(tokens)[:, 0].float()
        return Features(image, patches, taps, grid, inputs=images.float() if request.inputs else None)

    def _local(self, last: Tensor, tokens: Tensor, local: LocalStream) -> Tensor:
        """(B, h * w, E) features of the positions of the last stage."""
        if local.attention == "maskclip":
            return self.attnpool.values(last)
        if local.attention == "qk":
            return cast(Tensor, self.attnpool(tokens, None))[:, 1:]
        return self.attnpool.value_value(tokens, cosine=local.attention == "vv_cosine")[:, 1:]

    def require(self, request: FeatureRequest) -> None:
        """Raises ConfigError for what this tower cannot give: layers and attentions that it has not."""
        stages = len(self.sizes.blocks)
        if request.tap_pool < 1 or request.tap_pool % 2 == 0:
            raise ConfigError(f"tap_pool={request.tap_pool} must be an odd number of positions")
        if any(not 1 <= layer <= stages for layer in request.taps):
            raise ConfigError(f"tapped layers {list(request.taps)} must lie in 1..{stages}, the stages of this ResNet")
        if request.local is not None and (request.local.start != 1 or request.local.attention not in ATTENTIONS):
            raise ConfigError(
                f"local features {request.local.attention!r} from block {request.local.start} do not exist in a ResNet, whose "
                f"only attention is its pooling; expected start 1 and one of {', '.join(ATTENTIONS)}"
            )
        vit_only = {
            # Next to a stage stands a convolution, whose norm follows it: the output is what is read ("next_norm").
            "tap_point": request.tap_point == "after_next_attention",
            "tap_class": request.tap_class,
            "normalise_class=False": not request.normalise_class,
            "windows": bool(request.windows),
            f"tap_space={request.tap_space}": request.tap_space != "block",
            "tap_stream": request.tap_stream != "original",
        }
        asked = [name for name, given in vit_only.items() if given]
        if asked:
            raise ConfigError(
                f"this method needs a ViT image tower ({', '.join(asked)}), and this backbone is a ResNet"
            )


ATTENTIONS = ("vv", "vv_cosine", "maskclip", "qk")


def _on_grid(planes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, C, H, W) -> (B, C, h, w): averaged where it shrinks, so that no value is skipped, bilinear where it grows."""
    if planes.shape[-2] > grid[0]:
        return F.adaptive_avg_pool2d(planes, grid)
    same = planes.shape[-2:] == grid
    return planes if same else F.interpolate(planes, size=grid, mode="bilinear", align_corners=False)


def _rows(planes: Tensor) -> Tensor:
    return planes.flatten(2).transpose(1, 2).contiguous()

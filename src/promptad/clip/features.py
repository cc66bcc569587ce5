"""What the image tower is asked for and what it gives: requests, features, and patches that lie beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.errors import ConfigError

LocalAttention = Literal["vv", "vv_cosine", "maskclip", "maskclip_official", "maskclip_pure", "qk"]
TapPoint = Literal["block", "after_next_attention", "next_norm"]
TapSpace = Literal["block", "normed", "joint"]
TapStream = Literal["original", "local"]
PositionResize = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class LocalStream:
    """Which local features the image tower gives.

    Attributes:
        start: first block (1-based) of the local stream; PromptAD uses 1, AnomalyCLIP and FAPrompt use 6.
        attention: "vv" softmax(v v^T) v; "maskclip" the values themselves, added block by block (the reading of MaskCLIP, Zhou
            et al., ECCV 2022, in PromptAD's tables); "maskclip_official" the values in the last block alone, with its residual
            and MLP, as MaskCLIP's released code; "maskclip_pure" the projected values of the last block and nothing else, as
            its formula; both have no start but the last block, and `start` must be 1 there; "qk" no local stream at all, the patch tokens of the ordinary last block; "vv_cosine", of ResNet towers alone, the softmax of
            the values' cosines (a variant that CLIP Surgery's code has and never runs).
    """

    start: int = 1
    attention: LocalAttention = "vv"


@dataclass(frozen=True)
class FeatureRequest:
    """What a method wants from one pass through the image tower.

    Attributes:
        taps: layers (1-based) of the original stream to return.
        local: the local stream; None gives no patch features in the joint space.
        tap_point: "block" the output of the layer; "after_next_attention" that output plus the attention of the
            following block, which is what PromptAD's released code stores (flag F-5); "next_norm" that output as the tower
            itself reads it next: through LN_1 of the following block, after the last block through LN_post; stages of a ResNet as they are.
        normalise_class: apply LN_post to the class token (False is flag F-20 of AnomalyCLIP and FAPrompt).
        tap_class: keep the class token as the first row of every tap.
        positions: how the position table is brought to another grid, see :func:`resize_positions`; None as the tower says.
        tap_pool: side of the windows of positions (odd, stride 1) over which taps are averaged; 1 leaves them as they are.
        tap_space: where the tokens of taps lie: as the block gives them, after LN_post (D values), or after LN_post and the
            projection in the joint space (E values). tap_stream: whose patch tokens; the class token is the original's always.
        turns: orientations, evenly spread over 360 degrees, in which a photo that is learned from is tapped, as it is among them;
            mirrored: each of them mirrored too. The tower knows nothing of it, `learning.features.Encoder` does it.
        windows: sides in patches of the square windows (stride 1) that are encoded too, for WinCLIP.
        inputs: give the normalised input itself too, for methods that run the tower on their own.
        memory: what is wanted of the second image tower (`clip.memory_tower`), whose tokens then come in `Features.memory`;
            CLIP's tower itself takes no notice of it.
    """

    taps: tuple[int, ...] = ()
    local: LocalStream | None = None
    tap_point: TapPoint = "block"
    normalise_class: bool = True
    tap_class: bool = False
    positions: PositionResize | None = None
    windows: tuple[int, ...] = ()
    inputs: bool = False
    tap_pool: int = 1
    turns: int = 1
    mirrored: bool = False
    memory: FeatureRequest | None = None
    tap_space: TapSpace = "block"
    tap_stream: TapStream = "original"

    def decides(self) -> dict[str, Any]:
        """JSON-ready: everything that decides a feature; what was added later appears only where it is asked for, so that
        features that were cached before are still found."""
        later = {"windows": (), "inputs": False, "tap_pool": 1, "turns": 1, "mirrored": False, "memory": None}
        later |= {"tap_space": "block", "tap_stream": "original"}
        named = {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}
        return named if self.memory is None else {**named, "memory": self.memory.decides()}


@dataclass(frozen=True)
class Features:
    """One batch of B photos through the frozen image tower; float32, T = h * w patches in row-major order.

    Attributes:
        image: (B, E) class-token feature in the joint space, not normalised.
        patches: (B, T, E) local stream after LN_post and projection, not normalised; None if not asked for.
        taps: layer (1-based) -> (B, T, D) patch tokens of the original stream, class token removed; (B, 1 + T, D)
            with the class token first where the request has `tap_class`; of the stream and in the space that it names.
        grid: (h, w) patches.
        windows: side in patches -> (B, n, E) class-token features of the windows of `window_patches`, not normalised.
        inputs: (B, 3, H, W) what the tower was given: RGB, normalised with CLIP's mean and std; None if not asked for.
        turned: layer -> (B, n, T, D) the same taps of n turned copies of the photo, of one that is learned from alone.
        memory: what a second image tower saw in the same rectangles of the same photos: `taps`, on a grid of its own, and an empty
            `image`; None without such a tower.
    """

    image: Tensor
    patches: Tensor | None
    taps: dict[int, Tensor] = field(default_factory=dict)
    grid: tuple[int, int] = (0, 0)
    windows: dict[int, Tensor] = field(default_factory=dict)
    inputs: Tensor | None = None
    turned: dict[int, Tensor] = field(default_factory=dict)
    memory: Features | None = None

    @property
    def tapped(self) -> Features:
        """Those that a memory of tapped tokens is made of: the second tower's where there is one, else these."""
        return self if self.memory is None else self.memory

    def __len__(self) -> int:
        return self.image.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name ("image", "patches", "tap3", "turned3", "window2", "inputs", "memory.tap3"); :meth:`with_tensors`
        takes them back."""
        named = {"image": self.image, "patches": self.patches, "inputs": self.inputs}
        named |= {f"tap{layer}": tensor for layer, tensor in self.taps.items()}
        named |= {f"window{side}": tensor for side, tensor in self.windows.items()}
        named |= {f"turned{layer}": tensor for layer, tensor in self.turned.items()}
        if self.memory is not None:
            named |= {f"memory.{name}": tensor for name, tensor in self.memory.tensors().items()}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """The patch grid, and behind it that of the second tower where there is one."""
        return (self.grid, *(self.memory.grids if self.memory is not None else ()))

    @classmethod
    def with_tensors(cls, tensors: Mapping[str, Tensor], *grids: tuple[int, int]) -> Features:
        """Features of what :meth:`tensors` and :attr:`grids` gave. Raises KeyError without "image", ValueError for other names
        or a number of grids that does not fit."""
        taps: dict[int, Tensor] = {}
        windows: dict[int, Tensor] = {}
        turned: dict[int, Tensor] = {}
        others = {name[7:]: tensor for name, tensor in tensors.items() if name.startswith("memory.")}
        for name, tensor in tensors.items():
            if name.startswith("tap"):
                taps[int(name[3:])] = tensor
            elif name.startswith("window"):
                windows[int(name[6:])] = tensor
            elif name.startswith("turned"):
                turned[int(name[6:])] = tensor
            elif name not in ("image", "patches", "inputs") and not name.startswith("memory."):
                raise ValueError(f"no feature is called {name!r}")
        if len(grids) != 1 + bool(others):
            raise ValueError(f"{len(grids)} patch grids do not fit {1 + bool(others)} towers")
        memory = cls.with_tensors(others, *grids[1:]) if others else None
        named = tensors["image"], tensors.get("patches")
        return cls(*named, taps, grids[0], windows, tensors.get("inputs"), turned, memory)

    def each(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The same batch with every tensor changed."""
        return Features.with_tensors({name: change(tensor) for name, tensor in self.tensors().items()}, *self.grids)

    def orientations(self, turns: int, mirrored: bool = False) -> list[Features]:
        """These, and the taps of the turned copies as features of their own, so many as a request with these values gives.

        Raises:
            ConfigError: the features hold another number of copies.
        """
        asked = turns * (2 if mirrored else 1)
        copies = min((taps.shape[1] for taps in self.turned.values()), default=0)
        if copies + 1 != asked:
            raise ConfigError(
                f"{asked} orientations of each good photo are asked for, and the features hold {copies + 1}; encode good photos "
                "with Detector.encode(photo, reference=True)"
            )
        turned = [{layer: taps[:, n] for layer, taps in self.turned.items()} for n in range(copies)]
        return [replace(self, turned={}), *(replace(self, taps=taps, turned={}) for taps in turned)]

    @property
    def nbytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    def to(self, device: torch.device | str) -> Features:
        """The same batch on another device."""
        return self.each(lambda tensor: tensor.to(device))

    def __getitem__(self, rows: slice) -> Features:
        return self.each(lambda tensor: tensor[rows])


def concatenate(parts: Sequence[Features]) -> Features:
    """One batch from several of the same grid that hold the same tensors."""
    if len({part.grids for part in parts}) != 1:
        raise ConfigError("features of different patch grids cannot be joined in one batch")
    named = [part.tensors() for part in parts]
    if any(tensors.keys() != named[0].keys() for tensors in named):
        raise ConfigError("features that hold different tensors cannot be joined in one batch")
    joined = {name: torch.cat([tensors[name] for tensors in named]) for name in named[0]}
    return Features.with_tensors(joined, *parts[0].grids)


def window_patches(grid: tuple[int, int], side: int) -> Tensor:
    """Patch indices of every `side` x `side` window at stride 1, (n, side * side) int64, row-major.

    A 15 x 15 grid has 196 windows of 2 x 2 and 169 of 3 x 3.

    Raises:
        ConfigError: the window does not fit in the grid.
    """
    height, width = grid
    if not 1 <= side <= min(height, width):
        raise ConfigError(f"windows of {side}x{side} patches do not fit in a grid of {height}x{width}")
    index = torch.arange(height * width).view(height, width)
    return index.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)


def pooled(planes: Tensor, side: int) -> Tensor:
    """(B, C, h, w) -> the same, each position the mean of the `side` x `side` around it that are there."""
    return planes if side == 1 else F.avg_pool2d(planes, side, 1, side // 2, count_include_pad=False)


def pooled_rows(rows: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """:func:`pooled` for positions in rows, (B, h * w, C)."""
    if side == 1:
        return rows
    return pooled(rows.transpose(1, 2).unflatten(2, grid), side).flatten(2).transpose(1, 2)

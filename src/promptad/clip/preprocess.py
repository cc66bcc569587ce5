"""From a photo to the tower's input, and from the input's frame back to the photo. Pillow and numpy only.

A photo becomes one or more :class:`View`\\ s. A view is a rectangle of the photo and the size at which the tower sees it;
because it remembers the rectangle, anything found on the tower's patch grid can be carried back to photo pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptad.errors import ConfigError, PhotoError
from promptad.inputs import argument

Fit = Literal["auto", "letterbox", "area", "squash", "crop", "tiles", "multicrop"]
Channels = Literal["rgb", "bgr"]
Box = tuple[float, float, float, float]

# A photo longer than this many times its short edge is cut into tiles by "auto": as one view it would be a thin strip.
TILE_ASPECT = 2.0
# Neighbouring tiles start this share of their side apart.
TILE_STRIDE = 0.8
# More tiles than this would cost minutes for one photo.
MAX_TILES = 16
# So many tiles of one photo at most where a finest defect is named: each costs as much as a whole photo does otherwise.
MAX_FINE_TILES = 256
# Side of the crops of "multicrop", as a share of the short edge.
CROP_SHARE = 0.8


@dataclass(frozen=True)
class View:
    """One rectangle of a photo, as the tower sees it.

    Attributes:
        box: (left, top, right, bottom) in photo pixels that is resized.
        resized: (height, width) in pixels after resizing `box`.
        crop: (top, left, height, width) of the tower's input inside `resized`.
    """

    box: Box
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the tower's input in pixels."""
        return self.crop[2], self.crop[3]

    @property
    def region(self) -> Box:
        """(left, top, right, bottom) in photo pixels that the tower's input covers."""
        left, top, right, bottom = self.box
        sy, sx = (bottom - top) / self.resized[0], (right - left) / self.resized[1]
        y, x, height, width = self.crop
        return left + x * sx, top + y * sy, left + (x + width) * sx, top + (y + height) * sy


@dataclass(frozen=True)
class Preprocess:
    """How photos are laid out for the tower.

    Attributes:
        size: side S of the square input in pixels, a multiple of the patch size.
        patch: patch size of the tower in pixels.
        fit: what happens to photos that are not square.
            "letterbox": aspect ratio kept, the long edge becomes S; the empty bars of the square are not encoded at all.
            "area": aspect ratio kept, as many patches as the square has, spread over a rectangle.
            "squash": resized to S x S whatever the shape (PRE-A of AnomalyCLIP, FAPrompt, APRIL-GAN).
            "crop": short edge to S, centre crop S x S (PRE-C, OpenCLIP's own; the rest of the photo is not inspected).
            "tiles": square tiles of the short edge, 0.8 of it apart, the last flush with the border (PRE-D); at most 16,
                longer ones where squares would be more.
            "multicrop": the whole photo squashed, and square crops of 0.8 of the short edge: two positions along the short
                edge and two or more along the long one, and the centre (the multi-crop of RWDA, BMVC 2023, which the
                paper does not describe).
            "auto": "tiles" for photos longer than twice their short edge, otherwise "letterbox".
        pre_resize: 0, or a side in pixels to which photos are first resized, bilinear without antialias, as OpenCV does
            it (PRE-B of PromptAD's released code uses 1024, flag F-6).
        channels: "rgb", or "bgr" to swap red and blue before the tower (the released code's slip on test photos, F-6).
        finest: 0, or the side in photo pixels of the smallest defect that has to be seen. Every photo, whatever its size
            and shape, is then looked at in one scale, at which such a defect is as large as a patch; what is larger than
            S there is cut into tiles in both directions, at least a fifth of their side shared with the next.
        input_range, max_pixels: for whoever reads the photos: the value that is white where they have more than 8 bits, 0 as
            their files say; and how many pixels they may have.
    """

    size: int = 240
    patch: int = 16
    fit: Fit = "auto"
    pre_resize: int = 0
    channels: Channels = "rgb"
    finest: int = 0
    input_range: float = 0.0
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if self.size < self.patch or self.size % self.patch:
            raise ConfigError(f"input size {self.size} must be a multiple of the patch size {self.patch}")
        if self.fit not in get_args(Fit):
            raise ConfigError(f"fit {self.fit!r} is unknown; expected one of {', '.join(get_args(Fit))}")
        if self.channels not in get_args(Channels) or self.pre_resize < 0:
            raise ConfigError(
                f"channels {self.channels!r} must be rgb or bgr, pre_resize {self.pre_resize} not negative"
            )

        if self.finest < 0 or (self.finest and (self.fit != "auto" or self.pre_resize)):
            raise ConfigError(
                f"finest_defect {self.finest} must not be negative, and plans the views itself: leave fit "
                f"({self.fit}) at auto and pre_resize ({self.pre_resize}) at 0"
            )

    def views(self, height: int, width: int) -> list[View]:
        """The views of a photo of `height` x `width` pixels, left to right and top to bottom.

        Raises:
            PhotoError: the finest defect would need more than `MAX_FINE_TILES` tiles.
        """
        if self.finest:
            scale = self.patch / self.finest
            return [self._whole(box, scale) for box in self._fine_boxes(height, width)]
        fit, s = self.fit, self.size
        long, short = max(height, width), min(height, width)
        if fit == "auto":
            fit = "tiles" if long > TILE_ASPECT * short else "letterbox"
        whole = (0.0, 0.0, float(width), float(height))
        if fit == "crop":
            resized = (s, max(s, int(s * width / height))) if height <= width else (max(s, int(s * height / width)), s)
            top, left = round((resized[0] - s) / 2), round((resized[1] - s) / 2)
            return [View(whole, resized, (top, left, s, s))]
        if fit == "tiles":
            return [self._whole(box, s / max(box[2] - box[0], box[3] - box[1])) for box in tile_boxes(height, width)]
        if fit in ("squash", "multicrop"):
            boxes = [whole, *(crop_boxes(height, width) if fit == "multicrop" else ())]
            return [View(box, (s, s), (0, 0, s, s)) for box in boxes]
        return [self._whole(whole, s / long if fit == "letterbox" else s / (height * width) ** 0.5)]

    def _fine_boxes(self, height: int, width: int) -> list[Box]:
        side = self.size * self.finest / self.patch
        rows, columns = _evenly(height, side), _evenly(width, side)
        if len(rows) * len(columns) > MAX_FINE_TILES:
            finest = self.finest
            while len(_evenly(height, side)) * len(_evenly(width, side)) > MAX_FINE_TILES:
                finest += 1
                side = self.size * finest / self.patch
            raise PhotoError(
                f"a photo of {width}x{height} pixels needs {len(rows) * len(columns)} tiles for defects of {self.finest} "
                f"pixels, at most {MAX_FINE_TILES} are made; name at least {argument('finest_defect', str(finest))}, or cut the photo"
            )
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _whole(self, box: Box, scale: float) -> View:
        """A view of all of `box`, scaled and rounded to whole patches."""
        target = (self._patches((box[3] - box[1]) * scale), self._patches((box[2] - box[0]) * scale))
        return View(box, target, (0, 0, *target))

    def _patches(self, pixels: float) -> int:
        """The nearest multiple of the patch size, at least one patch."""
        return max(1, round(pixels / self.patch)) * self.patch

    def pixels(self, photo: NDArray[np.uint8], view: View, *, reference: bool = False) -> NDArray[np.uint8]:
        """The view's own pixels: (H, W, 3) uint8 RGB photo -> (h, w, 3) uint8, bicubic with antialias.

        `reference` marks a good photo shown to `fit`; `channels="bgr"` swaps test photos only.
        """
        if self.pre_resize:
            side = self.pre_resize
            sy, sx = side / photo.shape[0], side / photo.shape[1]
            photo = bilinear_resize(photo, (side, side))
            left, top, right, bottom = view.box
            view = View((left * sx, top * sy, right * sx, bottom * sy), view.resized, view.crop)
        image = Image.fromarray(photo)
        box = None if view.box == (0.0, 0.0, float(image.width), float(image.height)) else view.box
        if image.size != (view.resized[1], view.resized[0]) or box is not None:
            image = image.resize((view.resized[1], view.resized[0]), Image.Resampling.BICUBIC, box=box)
        top, left, height, width = view.crop
        out = np.asarray(image)[top : top + height, left : left + width]
        return out[..., ::-1] if self.channels == "bgr" and not reference else out


def normalise(
    pixels: NDArray[np.uint8], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32, (value / 255 - mean) / std."""
    scaled = pixels.astype(np.float32) / np.float32(255.0)
    out = (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(out.transpose(2, 0, 1))


def tile_boxes(height: int, width: int) -> list[Box]:
    """Tiles along the long edge, `TILE_STRIDE` of a tile apart, the last flush with the border.

    They are squares of the short edge; where that would give more than `MAX_TILES`, they are longer instead.
    """
    short, long = min(height, width), max(height, width)
    side, starts = _along(long, short, MAX_TILES)
    return [_box(height, width, (start, 0, start + side, short)) for start in starts]


def crop_boxes(height: int, width: int) -> list[Box]:
    """Crops of `CROP_SHARE` of the short edge, and one in the centre; a square photo has its four corners and the centre.

    The others are flush with both long edges, and along them `TILE_STRIDE` of a crop apart, the last one flush. They are
    squares; where that would give more than `MAX_TILES`, they are longer instead.
    """
    short, long = min(height, width), max(height, width)
    side = max(1, round(CROP_SHARE * short))
    length, along = _along(long, side, MAX_TILES // 2)
    starts = [(a, b) for a in along for b in (0, short - side)] + [((long - length) // 2, (short - side) // 2)]
    return [_box(height, width, (a, b, a + length, b + side)) for a, b in dict.fromkeys(starts)]


def _along(long: int, side: int, most: int) -> tuple[int, list[int]]:
    """Length of the pieces of an edge, `side` or longer where there would be more than `most`, and where they start."""
    length = max(side, math.ceil(long / (1 + TILE_STRIDE * (most - 1))))
    while True:
        stride = max(1, round(TILE_STRIDE * length))
        starts = [*range(0, long - length, stride), long - length]
        if len(starts) <= most:
            return length, starts
        length += 1  # a stride that was rounded down takes more pieces than were reckoned with


def _evenly(edge: int, side: float) -> list[tuple[float, float]]:
    """(from, to) of the pieces of an edge: the whole where it is no longer than `side`, else pieces of that length, evenly
    spread, no two starting more than `TILE_STRIDE` of it apart."""
    if edge <= side:
        return [(0.0, float(edge))]
    last = math.ceil((edge - side) / (TILE_STRIDE * side))
    return [(start := i * (edge - side) / last, start + side) for i in range(last + 1)]


def _box(height: int, width: int, edges: tuple[int, int, int, int]) -> Box:
    """(start along the long edge, start across it, end along, end across) as (left, top, right, bottom)."""
    along, across, end, far = (float(edge) for edge in edges)
    return (along, across, end, far) if width >= height else (across, along, far, end)


def bilinear_resize(photo: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> `size` (h, w), bilinear from the four nearest pixels, pixel centres aligned, no antialias."""

    def axis(count: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        at = np.clip((np.arange(target) + 0.5) * count / target - 0.5, 0, count - 1)
        low = np.floor(at).astype(np.intp)
        return low, np.minimum(low + 1, count - 1), (at - low).astype(np.float32)

    top, bottom, fy = axis(photo.shape[0], size[0])
    left, right, fx = axis(photo.shape[1], size[1])
    # Columns first: the row pass then works on the narrower of the two sizes.
    wide = photo.astype(np.float32)
    across = wide[:, left] * (1 - fx)[None, :, None] + wide[:, right] * fx[None, :, None]
    out = across[top] * (1 - fy)[:, None, None] + across[bottom] * fy[:, None, None]
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)

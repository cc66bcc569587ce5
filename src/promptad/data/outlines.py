"""Masks that an annotation draws (polygons, run lengths, boxes) or colours.

Coordinates are those of COCO: x to the right, y down, in pixels, (0, 0) the upper left corner of the first pixel. A pixel is
inside a polygon where its centre is, by the even-odd rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from promptad.data.parts import MaskView
from promptad.data.photos import read_colours
from promptad.errors import DataError, PhotoError

Mask = NDArray[np.bool_]
Polygon = tuple[float, ...]
"""x and y of the corners in turn."""
Ring = NDArray[np.int64]
"""(n, 2) x and y of the corners of a closed line along the edges of pixels, the last joined to the first."""
Runs = tuple[int, ...]
"""Lengths of runs down the columns, from the left; the first is of background, and they alternate."""


@dataclass(frozen=True)
class Outlines(MaskView):
    """The union of what an annotation draws on one photo.

    Attributes:
        path: the annotation. name: of the photo in it. size: (H, W) in which it is drawn, None for the photo's own.
        polygons, runs: what is drawn. relative: whether polygons are shares of width and height.
    """

    name: str = ""
    size: tuple[int, int] | None = None
    polygons: tuple[Polygon, ...] = ()
    runs: tuple[Runs, ...] = ()
    relative: bool = False

    self_contained: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.path} (outlines of {self.name})"

    @property
    def rule(self) -> str:
        """All that is drawn."""
        return repr((self.size, self.polygons, self.runs, self.relative))

    def draw(self, size: tuple[int, int] | None) -> Mask:
        """The mask, (H, W) bool. Raises PhotoError where neither says a size, or runs do not fill it."""
        shape = self.size or size
        if shape is None:
            raise PhotoError(
                f"{self}: does not say how large its photo is, and nobody else does; give the photo's size"
            )
        mask = np.zeros(shape, np.bool_)
        scale = np.array([shape[1], shape[0]]) if self.relative else np.ones(2)
        for polygon in self.polygons:
            mask |= filled(np.reshape(polygon, (-1, 2)) * scale, shape)
        for runs in self.runs:
            if sum(runs) != shape[0] * shape[1]:
                raise PhotoError(
                    f"{self}: runs of {sum(runs)} pixels, the photo has {shape[1]}x{shape[0]}; export the annotation again"
                )
            mask |= filled_runs(runs, shape)
        return mask


@dataclass(frozen=True)
class ColourMask(MaskView):
    """A mask image in which some colours mean defects, such as those of Amazon Lookout for Vision.

    Attributes:
        path: the image. colours: RGB, 0..255. slack: how much each channel may differ.
    """

    colours: tuple[tuple[int, int, int], ...] = ()
    slack: int = 8

    @property
    def rule(self) -> str:
        """The colours, as ``#rrggbb``."""
        return "defect " + ", ".join("#" + "".join(f"{value:02x}" for value in colour) for colour in self.colours)

    def draw(self, size: tuple[int, int] | None) -> Mask:
        """The mask, (H, W) bool. Raises PhotoError where the image cannot be read."""
        pixels = read_colours(self.path).astype(np.int16)
        mask = np.zeros(pixels.shape[:2], np.bool_)
        for colour in self.colours:
            mask |= (np.abs(pixels - np.array(colour, np.int16)) <= self.slack).all(axis=2)
        return mask


def filled(corners: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """The inside of a polygon.

    Args:
        corners: (n, 2) x and y. size: (H, W).

    Returns:
        (H, W) bool.
    """
    height, width = size
    mask = np.zeros(size, np.bool_)
    if len(corners) < 3:
        return mask
    centres = np.arange(width) + 0.5
    starts, ends = corners, np.roll(corners, -1, axis=0)
    first = max(0, int(np.floor(corners[:, 1].min())))
    last = min(height, int(np.ceil(corners[:, 1].max())))
    for row in range(first, last):
        y = row + 0.5
        crossing = (starts[:, 1] <= y) != (ends[:, 1] <= y)
        (x0, y0), (x1, y1) = starts[crossing].T, ends[crossing].T
        xs = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        # A centre is inside where an odd number of edges lie to its left.
        mask[row] = np.searchsorted(np.sort(xs), centres) % 2 == 1
    return mask


def filled_runs(runs: Runs, size: tuple[int, int]) -> Mask:
    """The mask of runs that fill `size` (H, W): (H, W) bool."""
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[::-1]).T


def rings_of(mask: Mask) -> list[Ring]:
    """The border of a mask, along the edges of pixels: outer rings run clockwise, those of holes the other way.

    By the even-odd rule all rings together give the mask again. Where two pixels touch at a corner alone, the rings keep apart.

    Args:
        mask: (H, W) bool.
    """
    padded = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each side of a pixel that has no neighbour there, with the pixel to its right: (side to look at, from, to).
    sides = (((-1, 0), (0, 0), (1, 0)), ((0, 1), (1, 0), (1, 1)), ((1, 0), (1, 1), (0, 1)), ((0, -1), (0, 1), (0, 0)))
    for (down, across), begin, end in sides:
        free = mask & ~padded[1 + down : padded.shape[0] - 1 + down, 1 + across : padded.shape[1] - 1 + across]
        for y, x in np.argwhere(free).tolist():
            steps.setdefault((x + begin[0], y + begin[1]), []).append((x + end[0], y + end[1]))
    rings = []
    while steps:
        start = here = min(steps)
        corners, heading = list[tuple[int, int]](), (0, 0)
        while here in steps:
            # At a corner where two pixels touch the ring turns right, around the pixel that it is at.
            ways = steps[here]
            turned = [way for way in ways if (way[0] - here[0], way[1] - here[1]) == (-heading[1], heading[0])]
            there = turned[0] if len(ways) > 1 and turned else ways[0]
            ways.remove(there)
            if not ways:
                del steps[here]
            now = (there[0] - here[0], there[1] - here[1])
            if now != heading:
                corners.append(here)
            here, heading = there, now
            if here == start and start not in steps:
                break
        rings.append(np.array(corners, np.int64))
    return rings


def simplified(ring: Ring, tolerance: float = 1.0) -> Ring:
    """The ring with fewer corners, no point of it farther from the old one than `tolerance` pixels (Douglas and Peucker, 1973).

    Args:
        ring: (n, 2), closed. Rings of up to four corners stay as they are.
    """
    if len(ring) <= 4:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([ring, ring[:1]]).astype(float)
    kept = {0, far, len(ring)}
    spans = [(0, far), (far, len(ring))]
    while spans:
        begin, end = spans.pop()
        if end - begin < 2:
            continue
        along = closed[end] - closed[begin]
        between = closed[begin + 1 : end] - closed[begin]
        share = np.clip(between @ along / max(float(along @ along), 1e-9), 0, 1)
        off = np.hypot(*(between - share[:, None] * along).T)
        most = int(np.argmax(off))
        if off[most] > tolerance:
            kept.add(begin + 1 + most)
            spans += [(begin, begin + 1 + most), (begin + 1 + most, end)]
    return ring[sorted(kept - {len(ring)})]


def signed_area(ring: Ring) -> float:
    """Area inside a ring in pixels: above 0 for outer rings of :func:`rings_of`, below for those of holes."""
    x, y = ring[:, 0].astype(float), ring[:, 1].astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def write_counts(runs: Sequence[int]) -> str:
    """COCO's compressed `counts` of run lengths: what :func:`read_counts` unpacks."""
    text = []
    for place, run in enumerate(runs):
        value, more = run - (runs[place - 2] if place > 2 else 0), True
        while more:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            text.append(chr((code | (32 if more else 0)) + 48))
    return "".join(text)


def box_polygon(left: float, top: float, width: float, height: float) -> Polygon:
    """The corners of a box."""
    return (left, top, left + width, top, left + width, top + height, left, top + height)


def read_counts(counts: str | Sequence[int], where: str) -> Runs:
    """The runs of COCO's `counts`: a list as it is, a text unpacked.

    In the text each number takes characters from ``0`` on with five bits each, low ones first; a sixth bit says that another
    character follows, and the highest bit of the last one is the sign. From the fourth number on, the difference from the one
    before the previous is stored.

    Raises:
        DataError: a text that ends early or has other characters, or a negative run.
    """
    if not isinstance(counts, str):
        runs = [int(run) for run in counts]
    else:
        runs, place = [], 0
        while place < len(counts):
            value, shift, more = 0, 0, True
            while more:
                code = ord(counts[place]) - 48 if place < len(counts) else -1
                if not 0 <= code < 64:
                    raise DataError(f"{where}: counts are not those of a compressed mask; export the annotation again")
                place += 1
                value |= (code & 31) << shift
                shift += 5
                more = bool(code & 32)
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    if any(run < 0 for run in runs):
        raise DataError(f"{where}: counts hold a negative run; export the annotation again")
    return tuple(runs)

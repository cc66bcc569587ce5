"""Where a product's photos are looked at: a region of interest, less what is to be ignored, drawn once for all of them.

A mask is read by its values, as masks of defects are (:mod:`promptad.data.mask_values`): of two levels the larger is white, of soft masks what lies
above half of the largest value. That a mask is inverted nobody can know, so how much of the photo is looked at is always said.

Photos of the mask's aspect ratio are looked at through the mask scaled to them; others are refused. What lies outside is painted over with the
mean colour of what lies inside before the image tower sees a photo, and its patches are put aside, so that nothing there can change a score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptad.data.files import shown
from promptad.data.outlines import Mask, filled_runs, read_counts, write_counts
from promptad.data.photos import ASPECT_SLACK, read_marks
from promptad.errors import ConfigError, PhotoError
from promptad.inputs import argument
from promptad.notices import notice

Box = tuple[float, float, float, float]
"""(left, top, right, bottom)."""
Drawn = str | Path | NDArray[Any]
"""A mask: a file, or an array (H, W), bool or numbers of which those above half of the largest are white."""


@dataclass(frozen=True)
class InspectedArea:
    """The pixels that are looked at.

    Attributes:
        size: (H, W) of the photos for which it was drawn. counts: its pixels as COCO's compressed run lengths.
    """

    size: tuple[int, int]
    counts: str

    @classmethod
    def of(cls, mask: Mask) -> InspectedArea:
        """From a mask, (H, W) bool. Raises ConfigError: it marks nothing."""
        if mask.ndim != 2 or not mask.any():
            raise ConfigError("the region of interest leaves nothing of a photo to look at; draw it white on black")
        flat = mask.T.ravel()
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
        return cls((mask.shape[0], mask.shape[1]), write_counts([*([0] if flat[0] else []), *map(int, runs)]))

    @cached_property
    def mask(self) -> Mask:
        """(H, W) bool, True where photos are looked at."""
        return filled_runs(read_counts(self.counts, "region of interest"), self.size)

    @property
    def digest(self) -> str:
        """SHA-256 of what is looked at, by which detectors are told apart."""
        return hashlib.sha256(repr((self.size, self.counts)).encode()).hexdigest()

    @property
    def share(self) -> float:
        """Share of a photo that is looked at, above 0 to 1."""
        return float(self.mask.mean())

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy, with its digest."""
        return {"size": list(self.size), "counts": self.counts, "sha256": self.digest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InspectedArea:
        """What :meth:`to_dict` gave. Raises ConfigError, DataError, ValueError, KeyError or TypeError: other values, or changed ones."""
        height, width = values["size"]
        area = cls((int(height), int(width)), str(values["counts"]))
        if area.digest != values["sha256"] or sum(read_counts(area.counts, "region of interest")) != height * width:
            raise ConfigError("the region of interest is damaged")
        return area

    def require(self, size: tuple[int, int]) -> None:
        """Asks whether a photo of `size` (H, W) has the mask's shape. Raises PhotoError."""
        (height, width), (own_height, own_width) = size, self.size
        if abs(own_width * height / (own_height * width) - 1) > ASPECT_SLACK:
            raise PhotoError(
                f"the photo is {width}x{height} (width x height), the region of interest was drawn for {own_width}x{own_height}, which has "
                "another shape; take the photo alike, or fit a detector with a mask for such photos"
            )
        if size != self.size:
            notice(
                f"the region of interest was drawn for photos of {own_width}x{own_height} and is scaled to others (first: {width}x{height})"
            )

    def at(self, size: tuple[int, int]) -> Mask:
        """The mask for photos of another size: (H, W) bool, True where at least half of a pixel is looked at; never empty."""
        return self.mask if size == self.size else _half(self.shares((0, 0, 1, 1), size))

    def patches(self, region: Box, photo: tuple[int, int], grid: tuple[int, int]) -> Mask:
        """The patches of a view of which at least half is looked at: `grid` (h, w) bool.

        Args:
            region: (left, top, right, bottom) in pixels of a photo of size `photo` (H, W) that the view covers.
        """
        return np.asarray(self.seen(region, photo, grid) >= 0.5)

    def seen(self, region: Box, photo: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float32]:
        """:meth:`shares` of a region in pixels of a photo; arguments as for :meth:`patches`."""
        left, top, right, bottom = region
        height, width = photo
        return self.shares((left / width, top / height, right / width, bottom / height), grid)

    def shares(self, box: Box, grid: tuple[int, int]) -> NDArray[np.float32]:
        """Share of each cell of a grid over a box that is looked at: `grid` (h, w), 0 to 1; `box` in shares of width and height."""
        height, width = self.size
        left, right = max(0.0, box[0] * width), min(float(width), box[2] * width)
        top, bottom = max(0.0, box[1] * height), min(float(height), box[3] * height)
        picture = Image.fromarray(self.mask.astype(np.uint8) * 255)
        resized = picture.resize((grid[1], grid[0]), Image.Resampling.BOX, box=(left, top, right, bottom))
        return np.asarray(resized, np.float32) / np.float32(255)

    def painted(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The photo as the tower sees it: (H, W, 3) uint8 RGB with the mean colour of what is looked at everywhere else.

        Raises:
            PhotoError: it has another shape than the mask.
        """
        size = photo.shape[0], photo.shape[1]
        self.require(size)
        inside = self.at(size)
        out = photo.copy()
        out[~inside] = np.rint(photo[inside].mean(axis=0)).astype(np.uint8)
        return out


def _half(shares: NDArray[np.float32]) -> Mask:
    """Where a share is at least one half; where none is, the largest."""
    return np.asarray(shares >= min(0.5, float(shares.max())))


def read_area(roi: Drawn | None, ignore: Drawn | None) -> InspectedArea | None:
    """The area of two masks, of which either may be absent: what is white in the first and not in the second.

    Raises:
        PhotoError: a file cannot be read. ConfigError: nothing is left to look at, or the masks are of different sizes.
    """
    if roi is None and ignore is None:
        return None
    looked, ignored = (_marked(name, drawn) for name, drawn in (("roi", roi), ("ignore", ignore)))
    if looked is not None and ignored is not None and looked.shape != ignored.shape:
        raise ConfigError(
            f"{argument('roi')} is {looked.shape[1]}x{looked.shape[0]} and {argument('ignore')} {ignored.shape[1]}x{ignored.shape[0]}; "
            "draw both on the same photo"
        )
    mask = looked if looked is not None else ~ignored if ignored is not None else None
    assert mask is not None
    if looked is not None and ignored is not None:
        mask = looked & ~ignored
    if not mask.any():
        raise ConfigError(
            f"{_named(roi, ignore)}: nothing of a photo is left to look at; white is looked at in {argument('roi')} and left out in "
            f"{argument('ignore')}"
        )
    area = InspectedArea.of(mask)
    notice(
        f"{_named(roi, ignore)}: {area.share:.0%} of a photo is looked at, nothing is said about the rest; white is looked at in "
        f"{argument('roi')} and left out in {argument('ignore')}"
    )
    return area


def _marked(name: str, drawn: Drawn | None) -> Mask | None:
    """What is white in a mask, (H, W) bool."""
    if drawn is None:
        return None
    if not isinstance(drawn, str | Path):
        values = np.asarray(drawn)
        if values.ndim != 2 or values.size == 0:
            raise ConfigError(f"{argument(name)}: a mask of shape {values.shape}, expected (height, width)")
        return np.asarray(values > 0.5 * max(float(values.max()), 1e-9))
    reading = read_marks(Path(drawn))
    if reading.edges_matter:
        notice(
            f"{shown(drawn)}: is soft, with greys between black and white; what lies above half of its largest value is white"
        )
    return reading.mask


def _named(*masks: Drawn | None) -> str:
    files = [shown(mask) for mask in masks if isinstance(mask, str | Path)]
    return ", ".join(files) or "region of interest"

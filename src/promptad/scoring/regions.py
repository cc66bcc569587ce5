"""Regions: the places of an anomaly map that lie above a level, each with its outline.

A region is a set of pixels that touch each other, corners included, as in :func:`skimage.measure.label`. It is found, measured
and kept as runs down the columns, COCO's own form, so that memory grows with its outline and not with its area.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from promptad.annotations import Above0, Positive, check_fields
from promptad.data.outlines import Mask, Ring, filled_runs, read_counts, rings_of, write_counts

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class RegionRule:
    """What counts as a region of a product, and how large its pixels are.

    Attributes:
        least_area: in photo pixels; smaller places above the pixel threshold are no regions. scale: millimetres that a photo pixel is wide, where known.
    """

    least_area: Positive = 1
    scale: Above0 | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return {"least_area": self.least_area, "scale": self.scale}


EVERY_PIXEL = RegionRule()
"""Every pixel above the pixel threshold is a region; of its size nothing is known."""


@dataclass(frozen=True, slots=True)
class Region:
    """One region of a photo.

    Attributes:
        box: (left, top, width, height) in photo pixels. area: in pixels. peak: largest value of the map in it. at: (row, column) where that is.
        counts: its pixels, as COCO's compressed run lengths of a mask of the photo's size.
        words: what fits it best; "" without words. probability: of these words at this place, 0 to 1; None where they are the whole photo's.
        scale: millimetres that a photo pixel is wide, None where nobody said.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    at: tuple[int, int]
    counts: str
    words: str = ""
    probability: float | None = None
    scale: float | None = None

    @property
    def area_mm2(self) -> float | None:
        """Square millimetres; None without a scale."""
        return None if self.scale is None else self.area * self.scale**2

    @property
    def box_mm(self) -> tuple[float, float] | None:
        """Width and height of the box in millimetres; None without a scale."""
        return None if self.scale is None else (self.box[2] * self.scale, self.box[3] * self.scale)

    def mask(self, size: tuple[int, int]) -> Mask:
        """The region in a photo of `size` (H, W): (H, W) bool."""
        return filled_runs(read_counts(self.counts, "region"), size)

    def outline(self, size: tuple[int, int]) -> tuple[Ring, ...]:
        """Its border along the edges of pixels, outer rings and those of holes: each (n, 2) x and y; by the even-odd rule they give the mask."""
        left, top, width, height = self.box
        inside = self.mask(size)[top : top + height, left : left + width]
        return tuple(ring + np.array([left, top]) for ring in rings_of(inside))

    def to_dict(self) -> dict[str, Any]:
        """As a line of ``results.jsonl`` has it."""
        size = self.box_mm
        return {
            "box": list(self.box),
            "area": self.area,
            "peak": self.peak,
            "at": {"x": self.at[1], "y": self.at[0]},
            "counts": self.counts,
            "words": self.words,
            "probability": self.probability,
            "mm": None if size is None else {"width": size[0], "height": size[1], "area": self.area_mm2},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], scale: float | None = None) -> Region:
        """What :meth:`to_dict` gave; `scale` is that of the photo."""
        left, top, width, height = values["box"]
        at = values["at"]["y"], values["at"]["x"]
        known = {name: values[name] for name in ("area", "peak", "counts", "words", "probability")}
        return cls((left, top, width, height), at=at, scale=scale, **known)


def joined_mask(regions: Iterable[Region], size: tuple[int, int]) -> Mask:
    """All regions of a photo of `size` (H, W) in one mask: (H, W) bool."""
    flat = np.zeros(size[0] * size[1], np.bool_)
    for region in regions:
        bounds = np.cumsum(read_counts(region.counts, "region"))
        for begin, end in zip(bounds[0::2], bounds[1::2], strict=False):
            flat[begin:end] = True
    return flat.reshape(size[::-1]).T


def by_rule(regions: tuple[Region, ...], rule: RegionRule) -> tuple[Region, ...]:
    """Regions that were found with a smaller least area, or another scale, under a rule."""
    return tuple(replace(region, scale=rule.scale) for region in regions if region.area >= rule.least_area)


def find_regions(
    values: NDArray[np.floating], level: float, rule: RegionRule, inspected: Mask | None = None
) -> tuple[Region, ...]:
    """The regions of a map, the highest peak first.

    Args:
        values: (H, W), finite. level: a pixel is in a region where its value is above it. inspected: (H, W) bool, False where the photo was not
            looked at; None means everywhere.
    """
    above = np.asarray(values > level)
    if inspected is not None:
        above &= inspected
    columns, starts, ends = column_runs(above)
    if not len(columns):
        return ()
    height = above.shape[0]
    label = _joined(columns, starts, ends, height)
    areas = np.bincount(label, ends - starts).astype(np.int64)
    order = np.argsort(label, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    kept = (
        _region(values, columns[piece], starts[piece], ends[piece], rule)
        for piece, area in zip(pieces, areas, strict=True)
        if area >= rule.least_area
    )
    return tuple(sorted(kept, key=lambda region: (-region.peak, region.at)))


def column_runs(mask: Mask) -> tuple[Numbers, Numbers, Numbers]:
    """Column, first row and the row behind the last of every run of True down the columns, from the left and from the top."""
    rows, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    top, left = rows[0], across[0]
    part = mask[top : rows[-1] + 1, left : across[-1] + 1]
    padded = np.zeros((part.shape[1], part.shape[0] + 2), np.int8)
    padded[:, 1:-1] = part.T
    change = np.diff(padded, axis=1)
    columns, starts = np.nonzero(change == 1)
    ends = np.nonzero(change == -1)[1]
    return columns + left, starts + top, ends + top


def _joined(columns: Numbers, starts: Numbers, ends: Numbers, height: int) -> NDArray[np.int32]:
    """(n,) number of the region of each run: runs of neighbouring columns touch where one begins no later than the other ends."""
    wide = height + 2  # places of one column never reach into those of the next
    first = np.searchsorted(columns * wide + ends, (columns + 1) * wide + starts, "left")
    last = np.searchsorted(columns * wide + starts, (columns + 1) * wide + ends, "right")
    count = np.maximum(last - first, 0)
    here = np.repeat(np.arange(len(columns)), count)
    within = np.arange(len(here)) - np.repeat(np.cumsum(count) - count, count)
    there = np.repeat(first, count) + within
    pairs = coo_array((np.ones(len(here), np.int8), (here, there)), shape=(len(columns), len(columns)))
    return np.asarray(connected_components(pairs, directed=False)[1], np.int32)


def _region(values: NDArray[np.floating], columns: Numbers, starts: Numbers, ends: Numbers, rule: RegionRule) -> Region:
    """The region of these runs."""
    height, width = values.shape
    left, top = int(columns[0]), int(starts.min())
    across, down = int(columns[-1]) + 1 - left, int(ends.max()) - top
    first, behind = columns * height + starts, columns * height + ends
    apart = first[1:] != behind[:-1]  # a run down to the lowest row goes on in the next column
    bounds = np.stack([first[np.r_[True, apart]], behind[np.r_[apart, True]]], axis=1).ravel()
    runs = np.diff(np.concatenate([[0], bounds, [height * width]]))
    if not runs[-1]:
        runs = runs[:-1]
    inside = np.zeros((across, down), np.int8)
    np.add.at(inside, (columns - left, starts - top), 1)
    closed = ends - top < down
    np.add.at(inside, (columns[closed] - left, ends[closed] - top), -1)
    within = np.cumsum(inside, axis=1, dtype=np.int8).T.astype(np.bool_)
    part = np.where(within, values[top : top + down, left : left + across], -np.inf)
    row, column = divmod(int(np.argmax(part)), across)
    return Region(
        (left, top, across, down),
        int((ends - starts).sum()),
        float(part[row, column]),
        (top + row, left + column),
        write_counts([int(run) for run in runs]),
        scale=rule.scale,
    )

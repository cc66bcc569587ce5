"""What is said about a photo beside its verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

from promptad.prediction import AT_ODDS, at_odds
from promptad.report.rows import Row
from promptad.scoring.regions import RegionRule

Size = tuple[int, int]

SHAPE_FACTOR = 1.1
"""A photo whose aspect ratio differs by more than this factor from that of every good photo has another shape."""

SIZE_FACTOR = 1.5
"""A photo whose edges are longer or shorter by more than this factor than those of every good photo has another size."""

SIZE_REMARK = "Taken otherwise than the good photos"
"""How a remark about shape or size begins."""

LEARNED = "Learned from: it is one of the good photos, so its score says nothing about new photos."
"""The remark about a photo that the detector was fitted to."""

UNWRITTEN = "Not written"
"""How a remark about a file begins that was asked for and is missing."""


def remarks_of(size: Size | None, good: Sequence[Size], *, learned: bool) -> tuple[str, ...]:
    """What a run says of a photo by what the good photos are, not by its score.

    Args:
        size: (H, W) in pixels, None for a photo that could not be read. good: (H, W) of the good photos.
        learned: whether it is one of those that the detector learned from.
    """
    other = size_remark(size, good) if size is not None else ""
    return tuple(remark for remark in (LEARNED if learned else "", other) if remark)


def region_remark(row: Row) -> tuple[str, ...]:
    """A line where verdict and regions say different things."""
    rule = row.rule or RegionRule()
    line = at_odds(row.verdict, row.regions, row.map_threshold, rule.least_area)
    return (line,) if line else ()


def is_said_anew(remark: str) -> bool:
    """Whether a remark is one of :func:`remarks_of` or :func:`region_remark`, which every run says by its own good photos and thresholds."""
    return remark == LEARNED or remark.startswith((SIZE_REMARK, *AT_ODDS))


def size_remark(size: Size, good: Sequence[Size]) -> str:
    """A line when a photo clearly differs in shape or size from all good photos, else "".

    Args:
        size: (H, W) of the photo in pixels. good: (H, W) of the good photos; with none, nothing is said.
    """
    if not good or not all(size):
        return ""

    def distances(other: Size) -> tuple[float, float]:
        shape = abs(math.log(size[1] / size[0]) - math.log(other[1] / other[0]))
        edge = abs(math.log(size[0] * size[1]) - math.log(other[0] * other[1])) / 2
        return shape, edge

    nearest = min((other for other in good if all(other)), key=lambda other: sum(distances(other)), default=size)
    shape, edge = distances(nearest)
    if shape > math.log(SHAPE_FACTOR):
        kind = "another shape"
    elif edge > math.log(SIZE_FACTOR):
        kind = "another size"
    else:
        return ""
    return (
        f"{SIZE_REMARK}: {kind}, {size[1]}x{size[0]} here, {nearest[1]}x{nearest[0]} there; "
        "its score may not compare with theirs."
    )

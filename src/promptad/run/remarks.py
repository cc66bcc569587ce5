"""What is said about a photo beside its verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]

SHAPE_FACTOR = 1.1
"""A photo whose aspect ratio differs by more than this factor from that of every good photo has another shape."""

SIZE_FACTOR = 1.5
"""A photo whose edges are longer or shorter by more than this factor than those of every good photo has another size."""

SIZE_REMARK = "Taken otherwise than the good photos"
"""How a remark about shape or size begins."""

UNWRITTEN = "Not written"
"""How a remark about a file begins that was asked for and is missing."""


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

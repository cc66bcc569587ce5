"""From the grey values of a mask to defect or not: by the values, whatever file they came from.

Published masks are of three kinds. Two levels: everything above the lower one is defect. Label numbers (VisA has 0 to 9,
MVTec LOCO one number a file): every number but 0 is defect. Soft ones, with greys between 0 and full along the edges, or
with the noise of a lossy file around them: a pixel is defect above half of the mask's largest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

Kind = Literal["empty", "full", "levels", "raised", "labels", "soft"]

# Whole numbers up to here are label numbers: no soft mask is drawn that dark.
LABELS_UP_TO = 31
# More levels than this between black and full are greys, never numbers.
_MOST_LABELS = 12
# Label numbers of which more than this share lie beside another number are no areas.
_MIXED_SHARE = 0.25
# Soft masks whose area differs by more than this share between a quarter and three quarters of full get a line.
_SOFT_SHARE = 0.005


@dataclass(frozen=True)
class Reading:
    """A mask and how it was read.

    Attributes:
        mask: (H, W) bool, True is defect.
        kind: "empty" no pixel is marked; "full" all are, with one value; "levels" black and one value; "raised" two
            values, neither of them 0, the larger is defect; "labels" label numbers; "soft" half of the largest value.
        ambiguous: of a soft mask, the area between a quarter and three quarters of its largest value, as a share of
            the area above half.
        mixed: of label numbers, the share of marked pixels beside another number: near 0 for drawn areas, large for the
            noise of a lossy file or a faint soft mask, of which every pixel above 0 counts.
    """

    mask: NDArray[np.bool_]
    kind: Kind
    ambiguous: float = 0.0
    mixed: float = 0.0

    @property
    def is_noise(self) -> bool:
        """Whether what is read as label numbers looks like noise."""
        return self.mixed > _MIXED_SHARE

    @property
    def edges_matter(self) -> bool:
        """Whether another limit than one half would give a clearly different mask."""
        return self.ambiguous > _SOFT_SHARE


def read_values(values: NDArray[Any]) -> Reading:
    """The defect pixels of a mask.

    Args:
        values: (H, W) numbers, 0 is black, finite. Negative numbers count as black.
    """
    levels = np.unique(values)
    marked = levels[levels > 0]
    if marked.size == 0:
        return Reading(np.zeros(values.shape, np.bool_), "empty")
    lowest, largest = levels[0], marked[-1]
    if marked.size == 1:
        return Reading(values > 0, "full" if lowest > 0 else "levels")
    if marked.size == 2 and lowest > 0:
        return Reading(values == largest, "raised")
    if _are_labels(values, marked):
        return Reading(values > 0, "labels", mixed=_mixed(values))
    # Whole numbers of 8 bits would overflow when doubled.
    share = values.astype(np.float32) / np.float32(largest)
    quarter, half, three = (int(np.count_nonzero(share > limit)) for limit in (0.25, 0.5, 0.75))
    return Reading(share > 0.5, "soft", (quarter - three) / max(1, half))


def _are_labels(values: NDArray[Any], marked: NDArray[Any]) -> bool:
    if values.dtype.kind == "f" and bool((marked != np.rint(marked)).any()):
        return False
    if marked[-1] <= LABELS_UP_TO:
        return True
    if marked.size > _MOST_LABELS:
        return False
    # Numbers are flat areas of their own. A soft edge lies beside something brighter, and noise is never flat.
    above = maximum_filter(values, 3)
    flat = minimum_filter(values, 3) == above
    for level in marked[:-1]:
        here = values == level
        alone = np.count_nonzero(above[here] == level) / np.count_nonzero(here)
        if alone < 0.5 or (level < marked[-1] / 16 and np.count_nonzero(flat[here]) < np.count_nonzero(here) / 4):
            return False
    return True


def _mixed(values: NDArray[Any]) -> float:
    """Of the pixels above 0, the share that has another number above 0 beside it."""
    marked = values > 0
    largest = maximum_filter(values, 3)
    smallest = minimum_filter(np.where(marked, values, largest.max()), 3)
    return float(np.count_nonzero(marked & (largest != smallest)) / np.count_nonzero(marked))

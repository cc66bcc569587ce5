"""Which defect words fit the places of a photo best, kept small: one word a patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promptad.clip.preprocess import Box


@dataclass(frozen=True, eq=False)
class ViewWords:
    """The best words of each patch of one view.

    Attributes:
        region: (left, top, right, bottom) in photo pixels that the view covers. best: (h, w) number of the words. probability: (h, w) of these words there.
    """

    region: Box
    best: NDArray[np.int16]
    probability: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PlaceWords:
    """The best words of all places of a photo.

    Attributes:
        words: by number. views: of the photo.
    """

    words: tuple[str, ...]
    views: Sequence[ViewWords]

    def at(self, row: float, column: float) -> tuple[str, float]:
        """The words that fit a photo pixel best, and their probability there: of the view in whose middle it lies deepest."""
        y, x = row + 0.5, column + 0.5

        def off(view: ViewWords) -> float:
            left, top, right, bottom = view.region
            return max(abs(2 * (x - left) / (right - left) - 1), abs(2 * (y - top) / (bottom - top) - 1))

        view = min(self.views, key=off)
        left, top, right, bottom = view.region
        height, width = view.best.shape
        place = (
            min(height - 1, max(0, int((y - top) / (bottom - top) * height))),
            min(width - 1, max(0, int((x - left) / (right - left) * width))),
        )
        return self.words[view.best[place]], float(view.probability[place])

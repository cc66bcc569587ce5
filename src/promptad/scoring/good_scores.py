"""What a score says of the good photos themselves, and how far another value of it lies beyond that.

Words are right about one product and wrong about the next, and good photos show it: where the sentences for "anomalous" fit a good
photo as often as not, their score spreads there. Counted in that spread, a score says as much as it is worth on this product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Number of photos that the usual spread counts as, beside a product's own; as for thresholds (`calibration/scales.py`).
_WEIGHT = 2.0


@dataclass(frozen=True)
class GoodScores:
    """Values of one score on k good photos.

    Attributes:
        moments: (k, 3) float64, of each photo how many values it has (views, or patches of all its views), their mean, and the mean of
            their squares.
        spread: standard deviation that such values usually have over a product's good photos. A few photos say little about their own;
            it counts as two further ones.
    """

    moments: Tensor
    spread: float

    @classmethod
    def of(cls, photos: Sequence[Tensor], spread: float) -> GoodScores:
        """From the values of each good photo, of any shape."""
        values = [photo.double().flatten() for photo in photos]
        rows = [torch.stack([v.new_tensor(float(len(v))), v.mean(), v.square().mean()]) for v in values]
        return cls(torch.stack(rows), spread)

    def deviations(self, values: Tensor, *, leave_out: int | None = None) -> Tensor:
        """(...,) values -> the same in standard deviations above the mean of the good photos, float32.

        With the population variance V of all values of k photos and the usual spread u it is (k V + 2 u^2) / (k + 1), and
        (1 + 1 / k) times that for a further photo, whose mean is not known from so few either.

        Args:
            leave_out: index of a good photo that is judged by the others; of a single one nothing is left, and it stays in.
        """
        rows = self.moments
        if leave_out is not None and len(rows) > 1:
            rows = torch.cat([rows[:leave_out], rows[leave_out + 1 :]])
        counts, photos = rows[:, 0], len(rows)
        mean, square = ((rows[:, column] * counts).sum() / counts.sum() for column in (1, 2))
        variance = (square - mean.square()).clamp(min=0)
        variance = (photos * variance + _WEIGHT * self.spread**2) / (photos - 1 + _WEIGHT)
        return ((values.double() - mean) / (variance * (1 + 1 / photos)).sqrt()).float()

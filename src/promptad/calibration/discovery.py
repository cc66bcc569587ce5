"""Photos chosen from a batch with a controlled share of false discoveries: conformal p-values and Benjamini-Hochberg.

p-values against the same good photos depend on each other, but so that Benjamini and Hochberg's choice still holds (Bates et al., Testing for outliers with conformal p-values, Annals of Statistics 51, 2023,
theorem 2): where all of a batch is decided at once and its good photos are drawn like those compared with, the mean share of good
photos among the chosen ones is at most the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promptad.calibration.bounds import counted
from promptad.calibration.p_values import p_values


def benjamini_hochberg(values: ArrayLike, rate: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected: the k smallest p-values, k the largest with p_(k) <= rate k / m.

    Benjamini and Hochberg, Controlling the false discovery rate, JRSS B 57, 1995, section 3.1.

    Args:
        values: (m,) p-values. rate: above 0 and below 1.

    Returns:
        (m,) bool.
    """
    p = np.asarray(values, np.float64)
    ordered = np.sort(p)
    # The same rounding on both sides, so that a p-value which is the limit counts as within it.
    within = np.flatnonzero(ordered <= rate * np.arange(1, len(p) + 1) / max(1, len(p)) * (1 + 1e-12))
    return p <= ordered[within[-1]] if within.size else np.zeros(p.shape, np.bool_)


def good_needed(photos: int, chosen: int, rate: float) -> int:
    """Good photos without which `chosen` of so many photos cannot be chosen: 1 / (n + 1) <= rate chosen / photos."""
    return max(1, math.ceil(photos / (rate * chosen) - 1 - 1e-9))


@dataclass(frozen=True)
class Discoveries:
    """What was chosen from a batch.

    Attributes:
        rate: share of false discoveries that is controlled. good: number n of good photos. p: (m,) p-values. chosen: (m,) bool.
    """

    rate: float
    good: int
    p: NDArray[np.float64]
    chosen: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """How many are chosen."""
        return int(self.chosen.sum())

    @property
    def above(self) -> int:
        """Photos that score higher than every good one: those whose p-value is as small as it can be."""
        return int((self.p <= 1 / (self.good + 1) * (1 + 1e-12)).sum())

    @property
    def least(self) -> int:
        """So many photos have to score higher than every good one before any can be chosen."""
        return math.ceil(len(self.p) / (self.rate * (self.good + 1)) - 1e-9)

    @property
    def text(self) -> str:
        """What was chosen, and what the good photos do not allow, in sentences for people."""
        photos, rate, floor = len(self.p), f"{100 * self.rate:g} %", f"1/{self.good + 1}"
        if not photos:
            return f"no photo to choose from at a false discovery rate of {rate}"
        if self.count:
            return (
                f"{self.count} of {photos} photos chosen at a false discovery rate of {rate}: if these photos' good ones are taken like the "
                f"{counted(self.good)} compared with, at most {rate} of the chosen are good on average (Benjamini-Hochberg, conformal p-values)"
            )
        smallest = (
            f"the p-value of a photo against {counted(self.good)} is {floor} = {1 / (self.good + 1):.3g} at the least"
        )
        if self.least > photos:
            return (
                f"nothing can be chosen from {photos} photos at a false discovery rate of {rate}, whatever they look like: {smallest}; "
                f"{good_needed(photos, photos, self.rate)} good photos are needed if all of them stand out, "
                f"{good_needed(photos, 1, self.rate)} if one does"
            )
        wanted = good_needed(photos, max(1, self.above), self.rate)
        return (
            f"none of {photos} photos chosen at a false discovery rate of {rate}: {smallest}, so {self.least} have to score higher than "
            f"every good photo before any is chosen, and {self.above} {'does' if self.above == 1 else 'do'}; {wanted} good photos would be "
            f"needed to choose {'these' if self.above > 1 else 'a single one'}"
        )


def discover(scores: Sequence[float], good: Sequence[float], rate: float) -> Discoveries:
    """Chooses from a batch of scores against those of good photos (n >= 1)."""
    p = p_values(scores, good)
    return Discoveries(rate, len(good), p, benjamini_hochberg(p, rate))

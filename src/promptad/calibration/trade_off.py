"""Every threshold that scores allow, with what it misses and falsely alarms, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Costs:
    """What mistakes cost, in any unit.

    Attributes:
        miss: of a defective photo that reads normal. alarm: of a good photo that reads anomalous. share: of defective photos where the
            detector works, above 0 and below 1.
    """

    miss: float
    alarm: float
    share: float

    def of(self, missed: float, alarmed: float) -> float:
        """Mean cost of a photo with these shares of missed defective and alarmed good photos."""
        return self.share * missed * self.miss + (1 - self.share) * alarmed * self.alarm


@dataclass(frozen=True)
class Point:
    """A threshold: photos that score higher are anomalous. missed, alarmed: counts. cost: mean of a photo, None without costs."""

    threshold: float
    missed: int
    alarmed: int
    cost: float | None = None


def trade_off(good: Sequence[float], bad: Sequence[float], costs: Costs | None = None) -> list[Point]:
    """All thresholds that differ in what they call anomalous, from the one below all scores up to the highest score.

    Thresholds lie in the middle of the gaps between scores.

    Args:
        good, bad: scores of good and of defective photos, at least one of both together.
    """
    scores = np.unique(np.concatenate([np.asarray(good, np.float64), np.asarray(bad, np.float64)]))
    margin = max(float(scores[-1] - scores[0]) / 100, abs(float(scores[0])) * 1e-3, 1e-9)
    middles = scores[:-1] + np.diff(scores) / 2  # of neighbouring numbers the lower one, which lies between them too
    levels = np.array([scores[0] - margin, *middles, scores[-1]])
    return points_at(levels, good, bad, costs)


def points_at(
    thresholds: ArrayLike, good: Sequence[float], bad: Sequence[float], costs: Costs | None = None
) -> list[Point]:
    """What thresholds miss and falsely alarm."""
    levels = np.atleast_1d(np.asarray(thresholds, np.float64))
    missed = np.searchsorted(np.sort(np.asarray(bad, np.float64)), levels, side="right")
    alarmed = len(good) - np.searchsorted(np.sort(np.asarray(good, np.float64)), levels, side="right")
    return [
        Point(level, m, a, None if costs is None else costs.of(m / max(1, len(bad)), a / max(1, len(good))))
        for level, m, a in zip(levels.tolist(), missed.tolist(), alarmed.tolist(), strict=True)
    ]


def cheapest(points: Sequence[Point], present: Point) -> Point:
    """The point of least cost: the present one where none costs less, else of several the one nearest to its threshold."""
    least = min(cost for point in (present, *points) if (cost := point.cost) is not None)
    if present.cost is not None and math.isclose(present.cost, least, rel_tol=1e-12, abs_tol=1e-15):
        return present
    equal = [p for p in points if p.cost is not None and math.isclose(p.cost, least, rel_tol=1e-12, abs_tol=1e-15)]
    return min(equal, key=lambda point: abs(point.threshold - present.threshold))

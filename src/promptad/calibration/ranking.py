"""How far a ranking can be trusted that no good photo stands behind, and where its top ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 12
"""Fewer photos are too few to compare halves of them."""
HALVES, LAYERS = 0.9, 0.8
"""Correlation of the scores that two halves of the references give, and the lowest one between single layers, from which on a ranking
is trusted: the lowest values on 16 practice products (0.916 and 0.83), rounded down."""


@dataclass(frozen=True)
class Ranking:
    """What the scores of unlabelled photos say of themselves.

    Attributes:
        photos: how many were ranked. halves: Pearson's correlation, -1 to 1, of the scores from two halves of the references: where
            few photos are defective, the order of the good ones is chance, and ranks would not tell.
        layers: the lowest correlation between scores of single layers. knee: photos at the top before the scores level off;
            0 where they do not.
    """

    photos: int
    halves: float
    layers: float
    knee: int

    @property
    def trusted(self) -> bool:
        """Whether both halves rank the photos alike, and there are enough of them to tell."""
        return self.photos >= FEWEST and self.halves >= HALVES and self.layers >= LAYERS

    @property
    def sentence(self) -> str:
        """What people read of it."""
        if self.photos < FEWEST:
            return (
                f"{self.photos} photos are too few to tell whether their ranking holds (at least {FEWEST}); good photos "
                "give verdicts"
            )
        alike = (
            f"scores against two halves of the photos agree to {self.halves:.2f} (wanted {HALVES:g}), those of single layers to "
            f"{self.layers:.2f} (wanted {LAYERS:g}; 1 is equal)"
        )
        if not self.trusted:
            return (
                f"this ranking cannot be trusted: {alike}; that happens where many photos share one "
                "defect or good parts differ much, and then defects may rank low: give good photos instead"
            )
        top = (
            f"the first {self.knee} photos stand out, then the scores level off"
            if self.knee
            else "no group of photos stands out at its top"
        )
        return f"a ranking, no verdicts: {alike}; {top}"


def judge_ranking(
    scores: Sequence[float], halves: Sequence[Sequence[float]], layers: Sequence[Sequence[float]]
) -> Ranking:
    """Looks at scores of the same photos from all references, from two halves of them, and from single layers.

    Args:
        scores: (n,) larger = more anomalous. halves: two of (n,). layers: any number of (n,).
    """
    pairs = [_correlation(layer, other) for number, layer in enumerate(layers) for other in layers[:number]]
    return Ranking(len(scores), _correlation(*halves), min(pairs, default=1.0), knee_of(scores))


def knee_of(scores: Sequence[float], least: float = 0.2) -> int:
    """How many of the largest scores come before the bend of their falling curve; 0 where it has none.

    The bend is the point farthest below the straight line from the first to the last score, both axes from 0 to 1 (the idea of
    Satopää et al., "Finding a 'Kneedle' in a Haystack", ICDCSW 2011, without their smoothing).

    Args:
        least: distance below the line, 0 to 1, that makes a bend.
    """
    falling = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    if len(falling) < 3 or falling[0] == falling[-1]:
        return 0
    height = (falling - falling[-1]) / (falling[0] - falling[-1])
    below = 1 - np.linspace(0, 1, len(falling)) - height
    bend = int(below.argmax())
    return bend if below[bend] >= least else 0


def _correlation(scores: Sequence[float], others: Sequence[float]) -> float:
    """Pearson's; 0 where one of them is constant."""
    first, second = np.asarray(scores, np.float64), np.asarray(others, np.float64)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])

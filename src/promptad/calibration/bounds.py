"""Thresholds where the good photos are too few to prove one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from promptad.calibration.scales import USUAL, from_line, to_line
from promptad.errors import ConfigError
from promptad.methods.contract import ScoreKind

# Rates below this one were not measured, so they are aimed at only where the photos prove them.
LEAST_AIM = 0.01


def least_rate(photos: int) -> float:
    """The smallest rate of false alarms that so many good photos allow: what they prove, or what was measured."""
    return min(LEAST_AIM, 1 / (photos + 1))


def check_rate(rate: float, photos: int | None = None) -> float:
    """The rate, if it is one and the good photos allow it.

    Args:
        rate: share of good photos that may be called anomalous. photos: their number, where it is known.

    Raises:
        ConfigError: not between 0 and 1 (NaN neither), or smaller than :func:`least_rate`.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"the rate of false alarms must lie between 0 and 1, got {rate:g}; 0.01 means 1 %")
    if photos is not None and rate < least_rate(photos) * (1 - 1e-9):
        needed = math.ceil(1 / rate) - 1
        raise ConfigError(
            f"a rate of false alarms of {rate:g} is more than {counted(photos)} can say: they allow "
            f"{least_rate(photos):.3g} at the least; {needed:.6g} good photos would be needed"
        )
    return rate


def counted(photos: int) -> str:
    """ "1 good photo", "4 good photos"."""
    return "1 good photo" if photos == 1 else f"{photos} good photos"


def prediction_bound(scores: NDArray[np.float64], rate: float, kind: ScoreKind) -> float:
    """Upper bound for the score of one more good photo, exceeded with probability `rate`.

    Normal scores on the line of their kind, whose variance has a scaled inverse chi-square prior (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., section 3.3): a t distribution of `weight + n - 1` degrees of freedom. One score
    is enough, since the usual spread then stands alone.

    Args:
        scores: (n,) of photos that the detector had not learned from.
    """
    line, usual, n = to_line(np.asarray(scores, dtype=float), kind), USUAL[kind], len(scores)
    freedom = usual.weight + n - 1
    variance = (usual.weight * usual.spread**2 + float(((line - line.mean()) ** 2).sum())) / freedom
    step = float(stats.t.ppf(1 - rate, freedom)) * math.sqrt(variance * (1 + 1 / n))
    return from_line(float(line.mean()) + step, kind)


def copies_bound(scores: NDArray[np.float64], rate: float, kind: ScoreKind) -> float:
    """The same where altered copies of the only good photo are all there is.

    Copies are no draws of good photos: how much they differ is our choice. They only say where the scores of this
    product begin; how far further good photos lie above them comes from measured products alone.

    Args:
        scores: (m,) of the copies, scored against the photo that they were made from.
    """
    usual = USUAL[kind]
    begin = float(to_line(np.asarray(scores, dtype=float), kind).max())
    return from_line(begin + usual.gap + float(stats.t.ppf(1 - rate, usual.weight)) * usual.gap_spread, kind)

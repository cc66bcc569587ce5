"""Thresholds from the scores of good photos: what they prove, and what they allow where they are too few to prove it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from promptad.calibration.scales import Usual, from_line, to_line
from promptad.errors import ConfigError
from promptad.methods.contract import ScoreKind

How = Literal["leave-one-out", "held-out", "altered copies", "by hand"]
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


def threshold_at(
    scores: NDArray[np.float64], how: How, rate: float, kind: ScoreKind, usual: Usual
) -> tuple[bool, float]:
    """Whether the good photos prove the rate, and the threshold for it.

    Args:
        scores: (n,) of good photos, in any order, or (m,) of altered copies of the only one.
    """
    values = np.sort(np.asarray(scores, dtype=float))
    if how == "altered copies":
        return False, copies_bound(values, rate, kind, usual)
    # Smallest rank whose exceedance the exchangeable bound covers; beyond n nothing is proved.
    rank = math.ceil((len(values) + 1) * (1 - rate) - 1e-9)
    if rank <= len(values):
        return True, float(values[rank - 1])
    return False, prediction_bound(values, rate, kind, usual, left_out=how == "leave-one-out")


def prediction_bound(
    scores: NDArray[np.float64], rate: float, kind: ScoreKind, usual: Usual, *, left_out: bool = False
) -> float:
    """Upper bound for the score of one more good photo, exceeded with probability `rate`.

    Normal scores on the line of their kind, whose variance has a scaled inverse chi-square prior (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., section 3.3): a t distribution of `weight + n - 1` degrees of freedom. One score
    is enough, since the usual spread then stands alone. Never below the largest score.

    Args:
        scores: (n,) of photos that the detector had not learned from.
        left_out: each was compared with the n - 1 others, and the further photo will be compared with all n.
    """
    line, n = to_line(np.asarray(scores, dtype=float), kind), len(scores)
    if left_out:
        line = line - usual.gain * math.log(n / (n - 1))
    freedom = usual.weight + n - 1
    variance = (usual.weight * usual.spread**2 + float(((line - line.mean()) ** 2).sum())) / freedom
    bound = float(line.mean()) + float(stats.t.ppf(1 - rate, freedom)) * math.sqrt(variance * (1 + 1 / n))
    # Where the rate is not proved, it is smaller than the chance of exceeding the largest.
    return from_line(max(bound, float(line.max())), kind)


def copies_bound(scores: NDArray[np.float64], rate: float, kind: ScoreKind, usual: Usual) -> float:
    """The same where altered copies of the only good photo are all there is.

    Copies are no draws of good photos: how much they differ is our choice. They only say where the scores of this
    product begin; how far further good photos lie above them comes from measured products alone.

    Args:
        scores: (m,) of the copies, scored against the photo that they were made from.
    """
    begin = float(np.median(to_line(np.asarray(scores, dtype=float), kind)))
    return from_line(begin + usual.gap + float(stats.norm.ppf(1 - rate)) * usual.gap_spread, kind)

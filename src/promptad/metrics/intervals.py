"""How sure an AUROC is: DeLong's variance and paired test, and bootstrap weights over photos.

DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
curves", Biometrics 44, 1988; computed from midranks as in Sun and Xu, "Fast implementation of DeLong's algorithm", IEEE SPL
21, 2014. Both treat photos as independent and the detectors as fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from promptad.errors import DataError
from promptad.metrics.ranking import as_scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Two AUROCs of the same photos: first minus second, its standard error, and the two-sided p-value."""

    value: float
    standard_error: float
    p: float


def delong(labels: ArrayLike, scores: Sequence[ArrayLike]) -> tuple[Floats, Floats]:
    """AUROCs of several detectors on the same photos, and the covariance of these estimates.

    Args:
        labels: (N,) 0 normal, 1 anomalous; at least two of each. scores: one (N,) a detector, larger = more anomalous.

    Returns:
        (D,) AUROCs in [0, 1] and their (D, D) covariance, float64.

    Raises:
        DataError: other labels, lengths that differ, scores that are not finite, or fewer than two photos of a kind.
    """
    label = np.asarray(labels)
    anomalous, normal = label == 1, label == 0
    m, n = int(anomalous.sum()), int(normal.sum())
    if label.ndim != 1 or m + n != label.size or m < 2 or n < 2:
        raise DataError(f"DeLong's variance needs two normal and two anomalous photos or more; got {n} and {m}")
    areas, of_anomalous, of_normal = [], [], []
    for given in scores:
        score = as_scores(given)
        if score.shape != label.shape:
            raise DataError(f"labels have shape {label.shape} and scores {score.shape}; give one score a photo")
        ranks = rankdata(score)
        above = (ranks[anomalous] - rankdata(score[anomalous])) / n  # share of normal photos below each anomalous one
        below = 1 - (ranks[normal] - rankdata(score[normal])) / m  # share of anomalous photos above each normal one
        areas.append(float(above.mean()))
        of_anomalous.append(above)
        of_normal.append(below)
    covariance = np.atleast_2d(np.cov(of_anomalous)) / m + np.atleast_2d(np.cov(of_normal)) / n
    return np.array(areas), covariance


def delong_test(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> Difference:
    """DeLong's test of two detectors on the same photos; p is 1 where their scores rank all photos alike.

    Arguments and errors as in :func:`delong`.
    """
    areas, covariance = delong(labels, (first, second))
    value = float(areas[0] - areas[1])
    variance = max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    if variance < 1e-18:
        return Difference(value, 0.0, 1.0 if abs(value) < 1e-12 else 0.0)
    error = math.sqrt(variance)
    return Difference(value, error, float(2 * norm.sf(abs(value) / error)))


def bootstrap_weights(number: int, draws: int, generator: np.random.Generator) -> Floats:
    """(draws, number) float64: how often each of `number` photos is drawn, with replacement, in each draw."""
    return generator.multinomial(number, np.full(number, 1 / number), size=draws).astype(np.float64)


def weighted_aurocs(labels: ArrayLike, scores: ArrayLike, weights: Floats) -> Floats:
    """AUROC under every row of weights, ties counted one half; NaN where a kind of photo has no weight.

    Args:
        labels: (N,) 0 or 1. scores: (N,). weights: (R, N), not negative.

    Returns:
        (R,) float64 in [0, 1].
    """
    label, score = np.asarray(labels), np.asarray(scores, np.float64)
    anomalous, normal = label == 1, label == 0
    up, down = score[anomalous][:, None], score[normal][None, :]
    pairs = (up > down) + 0.5 * (up == down)  # (A, B)
    heavy, light = weights[:, anomalous], weights[:, normal]
    total = heavy.sum(axis=1) * light.sum(axis=1)
    right = ((heavy @ pairs) * light).sum(axis=1)
    return np.divide(right, total, out=np.full(len(weights), np.nan), where=total > 0)

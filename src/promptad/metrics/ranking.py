"""AUROC, average precision, PR area and F1-max of 0/1 labels against scores, exact with ties.

All four read the same counts: for each distinct score of an anomalous sample, how many anomalous samples
reach it and how many normal samples lie above it or reach it. Normal samples between two such scores change
none of the four values, so it is enough to sort each group by value; no index sort over all samples is
needed, which is what makes the 50-100 million pixels of a test set affordable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promptad.errors import DataError

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RankedScores:
    """Counts at the distinct scores of the anomalous samples, from which every ranking metric is read.

    Attributes (K = number of distinct anomalous scores):
        normal: (N,) scores of the normal samples, ascending.
        thresholds: (K,) the distinct scores of the anomalous samples, ascending.
        count: (K,) int64, anomalous samples with exactly this score.
        weight: (K,) float64, sum of their weights; equal to ``count`` where no weights were given.
        tp: (K,) int64, anomalous samples with score >= threshold.
        fp_above: (K,) int64, normal samples with score > threshold.
        fp: (K,) int64, normal samples with score >= threshold.
        n_normal, n_anomalous: group sizes.

    Memory: nothing beyond the given ``normal`` array for the normal samples (sorted in place) and 44 bytes a
    distinct anomalous score (float32); about 30 bytes more an anomalous sample while it is built.
    """

    normal: FloatArray
    thresholds: FloatArray
    count: NDArray[np.int64]
    weight: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp_above: NDArray[np.int64]
    fp: NDArray[np.int64]
    n_normal: int
    n_anomalous: int

    @classmethod
    def from_groups(
        cls, normal: FloatArray, anomalous: FloatArray, weights: NDArray[np.float64] | None = None
    ) -> RankedScores:
        """Rank two groups of finite scores.

        Args:
            normal: (N,) scores of the normal samples. Sorted IN PLACE: hand over an array that may be
                reordered.
            anomalous: (P,) scores of the anomalous samples, same dtype. Left as it is.
            weights: (P,) weight of each anomalous sample, for metrics that weigh them (AUPRO).
        """
        normal.sort()
        if weights is None:
            ordered = np.sort(anomalous)
        else:
            order = np.argsort(anomalous)
            ordered = anomalous[order]
        first = np.ones(ordered.size, bool)
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        thresholds = ordered[starts]
        count = np.diff(starts, append=ordered.size)
        if weights is None:
            weight = count.astype(np.float64)
        else:
            weight = np.add.reduceat(weights[order], starts)
        return cls(
            normal=normal,
            thresholds=thresholds,
            count=count,
            weight=weight,
            tp=ordered.size - starts,
            fp_above=normal.size - np.searchsorted(normal, thresholds, "right"),
            fp=normal.size - np.searchsorted(normal, thresholds, "left"),
            n_normal=normal.size,
            n_anomalous=ordered.size,
        )

    @property
    def defined(self) -> bool:
        """Whether both groups have samples. Without that every metric here is NaN."""
        return self.n_normal > 0 and self.n_anomalous > 0

    def auroc(self) -> float:
        """Area under the ROC curve, in [0, 1]; a tie of a normal and an anomalous sample counts one half."""
        if not self.defined:
            return float("nan")
        # twice the number of pairs in the right order, in whole numbers so that no rounding enters
        pairs = int((self.count * (2 * self.n_normal - self.fp_above - self.fp)).sum())
        return pairs / (2 * self.n_normal * self.n_anomalous)

    def average_precision(self) -> float:
        """Step-wise average precision, sum of (R_i - R_(i-1)) * P_i over the thresholds, in [0, 1]."""
        if not self.defined:
            return float("nan")
        precision = self.tp / (self.tp + self.fp)
        return float((self.count * precision).sum() / self.n_anomalous)

    def pr_auc(self) -> float:
        """Area under the precision-recall curve by the trapezoid rule, in [0, 1]; not average precision."""
        if not self.defined:
            return float("nan")
        # Each distinct anomalous score moves recall once: from the precision just above it to the precision
        # at it. Before the first anomalous sample the precision is 0, or 1 (the curve's start) if no normal
        # one came earlier.
        tp_above = self.tp - self.count
        above = np.where(self.fp_above > 0, 0.0, 1.0)
        np.divide(tp_above, tp_above + self.fp_above, out=above, where=tp_above > 0)
        precision = self.tp / (self.tp + self.fp)
        return float((self.count * (above + precision)).sum() / (2 * self.n_anomalous))

    def f1_max(self) -> tuple[float, float]:
        """Largest F1 = 2 TP / (2 TP + FP + FN) over all thresholds, and that threshold (anomalous: score >=
        it).

        The highest threshold is given where several reach the maximum. It is always the score of an anomalous
        sample: lowering the threshold onto a normal sample alone only adds a false positive. An oracle
        number, because the threshold is chosen on the test labels.
        """
        if not self.defined:
            return float("nan"), float("nan")
        f1 = 2 * self.tp / (self.n_anomalous + self.tp + self.fp)
        best = f1.size - 1 - int(np.argmax(f1[::-1]))
        return float(f1[best]), float(self.thresholds[best])


def as_scores(scores: ArrayLike) -> FloatArray:
    """Scores as a float32 or, where the input needs it, float64 array; integers and float16 are converted.

    Raises:
        DataError: a score is NaN or infinite.
    """
    array = np.asarray(scores)
    array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    if not np.isfinite(array).all():
        raise DataError(f"{describe_not_finite(array)}; metrics need finite scores, remove or repair these samples")
    return array


def describe_not_finite(array: FloatArray) -> str:
    """Say how many values are not finite, for an error line: ``"3 of 100 scores are NaN or infinite"``."""
    bad = int(array.size - np.isfinite(array).sum())
    return f"{bad} of {array.size} scores {'is' if bad == 1 else 'are'} NaN or infinite"


def rank(labels: ArrayLike, scores: ArrayLike) -> RankedScores:
    """Rank scores by 0/1 labels once, to read several metrics from the result.

    Args:
        labels: (N,) 0 normal, 1 anomalous; bool or any number type (uint8 for pixels).
        scores: (N,) finite, larger = more anomalous; float32 and float64 are kept, others are converted.

    Memory: one copy of the scores (4 bytes a float32 sample) and two bytes a sample, besides what
    :class:`RankedScores` states. The inputs are left as they are.

    Raises:
        DataError: not 1-D or not of one length, a label other than 0 and 1, a score that is NaN or infinite.
    """
    label = np.asarray(labels)
    score = as_scores(scores)
    if label.ndim != 1 or score.shape != label.shape:
        raise DataError(f"labels have shape {label.shape} and scores {score.shape}; both must be 1-D and of one length")
    anomalous = label == 1
    normal = label == 0
    other = label.size - int(anomalous.sum()) - int(normal.sum())
    if other:
        raise DataError(f"{other} of {label.size} labels are neither 0 (normal) nor 1 (anomalous); use only these two")
    return RankedScores.from_groups(score[normal], score[anomalous])


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve of (N,) labels 0/1 and (N,) scores, exact with ties; NaN if only one class.

    Equal to the probability that an anomalous sample scores above a normal one, ties counted one half. Input
    rules, memory and errors as in :func:`rank`.
    """
    return rank(labels, scores).auroc()


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision, step-wise (the value of scikit-learn's function); NaN if only one class is there.

    Input rules, memory and errors as in :func:`rank`. For the trapezoid area see :func:`pr_auc`.
    """
    return rank(labels, scores).average_precision()


def pr_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Trapezoid area under the precision-recall curve, the "AUPR" of some papers; NaN if only one class.

    The curve starts at recall 0 and precision 1. Linear interpolation in this plane is optimistic, so the
    value is usually a little above :func:`average_precision`. Input rules, memory and errors as in
    :func:`rank`.
    """
    return rank(labels, scores).pr_auc()


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Largest F1 over all thresholds of the precision-recall curve, ``(f1, threshold)``; NaNs if one class.

    A sample counts as anomalous when its score >= threshold. An oracle number: the threshold is chosen on
    these labels. Input rules, memory and errors as in :func:`rank`.
    """
    return rank(labels, scores).f1_max()

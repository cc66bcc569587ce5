"""The deviation loss of weakly supervised anomaly detection, on image scores that are means of the hottest places.

DevNet (Pang et al., KDD 2019) asks of scores how many standard deviations they lie from those of normal photos, DRA (Ding
et al., CVPR 2022) takes the top 10 % of a map as its score, and PromptAD zero-shot (WACV 2024) trains both branches so.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

Rounding = Literal["up", "down"]


def top_count(places: int, fraction: float, rounding: Rounding = "up") -> int:
    """How many of `places` the fraction is, at least one: 0.1 of 196 is 20 rounded up, and 19 rounded down, as in DRA."""
    # The little less and more keep products that are whole but for rounding (0.1 * 70 = 7.000000000000001) whole.
    count = math.ceil(fraction * places - 1e-9) if rounding == "up" else math.floor(fraction * places + 1e-9)
    return max(1, count)


def top_mean(maps: Tensor, fraction: float = 0.1, rounding: Rounding = "up") -> Tensor:
    """Mean of the largest values of every map.

    Args:
        maps: (..., T) scores of T places. fraction: share of the places, in (0, 1]. rounding: see :func:`top_count`.

    Returns:
        (...,).
    """
    return maps.topk(top_count(maps.shape[-1], fraction, rounding), dim=-1).values.mean(dim=-1)


def deviation_loss(
    scores: Tensor, labels: Tensor, *, margin: float = 5.0, mean: float = 0.0, deviation: float = 1.0
) -> Tensor:
    """Symmetric deviation loss: normal scores at least `margin` deviations below the mean, anomalous ones above.

    PromptAD zero-shot (WACV 2024), section 3.6, eq. 5: (1 - y) max(0, a + dev) + y max(0, a - dev), dev = (S - mean) / deviation.
    DevNet's own loss draws mean and deviation from a prior and takes |dev| of normal scores; here both are fixed.

    Args:
        scores: (B,) larger = more anomalous. labels: (B,) of 0 and 1. margin: a.

    Returns:
        Scalar, the mean over the batch; zero exactly where every score is beyond its margin.
    """
    dev = (scores - mean) / deviation
    anomalous = labels.to(dev.dtype)
    return ((1 - anomalous) * (margin + dev).clamp(min=0) + anomalous * (margin - dev).clamp(min=0)).mean()


def prior_deviation_loss(scores: Tensor, labels: Tensor, prior: Tensor, *, margin: float = 5.0) -> Tensor:
    """DevNet's deviation loss: normal scores at the mean of a prior, anomalous ones `margin` deviations above it.

    Pang et al., KDD 2019; also the loss of all heads of DRA (CVPR 2022): (1 - y) |dev| + y max(0, a - dev) with
    dev = (S - mean of the prior) / its standard deviation.

    Args:
        scores: (B,) larger = more anomalous. labels: (B,) of 0 and 1. prior: (n,) draws of N(0, 1), 5000 in both codes.

    Returns:
        Scalar, the mean over the batch.
    """
    dev = (scores - prior.mean()) / prior.std()
    anomalous = labels.to(dev.dtype)
    return ((1 - anomalous) * dev.abs() + anomalous * (margin - dev).clamp(min=0)).mean()

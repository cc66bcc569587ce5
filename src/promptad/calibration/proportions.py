"""What counts prove of a share: exact limits, and how many more photos another promise needs.

Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial, Biometrika 26, 1934. The limits are
those of photos that are drawn independently from what the share is of; they hold for any share and any number, at the price of being
wide.
"""

from __future__ import annotations

from scipy.stats import beta

PROMISES: tuple[float, ...] = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001)
"""Largest shares that tables of promises are about."""


def upper_limit(events: int, photos: int, confidence: float = 0.95) -> float:
    """The share that is not exceeded, one-sided: a larger one gives so few events with probability at most 1 - confidence."""
    if events >= photos:
        return 1.0
    return float(beta.ppf(confidence, events + 1, photos - events))


def limits(events: int, photos: int, confidence: float = 0.95) -> tuple[float, float]:
    """Both limits of a share, half of 1 - confidence on each side; (0, 1) where there is no photo.

    Args:
        events: from 0 to photos.
    """
    side = (1 + confidence) / 2
    low = float(beta.ppf(1 - side, events, photos - events + 1)) if events else 0.0
    return low, upper_limit(events, photos, side)


def photos_needed(events: int, promise: float, confidence: float = 0.95) -> int:
    """The fewest photos, so many events among them, whose :func:`upper_limit` is at most the promised share."""
    low, high = events, max(1, events)
    while upper_limit(events, high, confidence) > promise:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_limit(events, middle, confidence) > promise else (low, middle)
    return high

"""Ways to join two anomaly scores."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-12


def harmonic(first: Tensor, second: Tensor) -> Tensor:
    """1 / (1 / a + 1 / b), half the harmonic mean (PromptAD, CVPR 2024, section 4.4, eqs. 17 and 18).

    Monotone in both; 0 where either is 0. Values must not be negative; shapes broadcast.
    """
    a, b = first.clamp(min=_EPS), second.clamp(min=_EPS)
    return a * b / (a + b)


def raised(distance: Tensor, deviations: Tensor, weight: float, margin: float) -> Tensor:
    """d * (1 + exp(z - margin)) ^ weight: a distance that a second score raises where it lies beyond what is usual, and leaves as it is
    elsewhere.

    Args:
        distance: (...,) not negative. deviations: z, of the same shape, in standard deviations (`scoring.good_scores`).
        weight: power by which the distance rises for each standard deviation above the margin; 0 leaves the distance alone.
    """
    return distance * (weight * F.softplus(deviations - margin)).exp()

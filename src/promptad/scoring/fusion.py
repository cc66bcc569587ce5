"""Ways to join two anomaly scores."""

from __future__ import annotations

from torch import Tensor

_EPS = 1e-12


def harmonic(first: Tensor, second: Tensor) -> Tensor:
    """1 / (1 / a + 1 / b), half the harmonic mean (PromptAD, CVPR 2024, section 4.4, eqs. 17 and 18).

    Monotone in both; 0 where either is 0. Values must not be negative; shapes broadcast.
    """
    a, b = first.clamp(min=_EPS), second.clamp(min=_EPS)
    return a * b / (a + b)

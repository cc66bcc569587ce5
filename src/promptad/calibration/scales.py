"""The line on which a method's scores are compared, and how far good photos usually spread on it.

A few scores say little about their own spread, and one says nothing. What they lack comes from products that were
measured: scores of good photos of one product are taken as normally distributed on the line, with a variance that varies
from product to product around a usual one. The constants were fitted to measured products, method by method, as
`docs/thresholds.md` tells with the command; a method that was not measured takes those of its kind of scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promptad.methods.contract import ScoreKind

_LEAST = 1e-9


@dataclass(frozen=True)
class Usual:
    """What measured products say about scores of good photos, on the line of their kind.

    Attributes:
        spread: usual standard deviation of one product's good photos.
        weight: number of scores that this knowledge counts as, beside a product's own.
        gain: how far scores fall when the number of photos that they are compared with grows by the factor e.
        gap: how far a further good photo usually lies above the median of the altered copies of the only good one.
        gap_spread: standard deviation of that, over photos and products.
    """

    spread: float
    weight: float
    gain: float = 0.0
    gap: float = 0.0
    gap_spread: float = 0.0


# Fitted to the scores of one method with its preset "clean" and the starter's weights.
MEASURED_METHODS: dict[tuple[str, ScoreKind], Usual] = {
    ("promptad", "distance"): Usual(0.1, 2.0, 0.114, 0.077, 0.14),
    ("clip", "probability"): Usual(1.555, 2.0),
    ("faprompt", "probability"): Usual(0.845, 2.0),
    ("anomalyclip", "probability"): Usual(0.665, 2.0),
    ("rwda", "sum"): Usual(0.09, 2.0, 0.015, -0.021, 0.155),
    ("promptad-zs", "deviation"): Usual(4.55, 2.0, -0.194, -0.16, 7.75),
}
# Of methods that were not measured: what the measured ones with scores of that kind have, all their scores together.
BY_KIND: dict[ScoreKind, Usual] = {
    "distance": MEASURED_METHODS["promptad", "distance"],
    "sum": MEASURED_METHODS["rwda", "sum"],
    "probability": Usual(0.91, 2.0),
    "deviation": MEASURED_METHODS["promptad-zs", "deviation"],
}


def usual_spread(kind: ScoreKind, method: str = "") -> Usual:
    """What is known of good photos' scores of that kind by that method, or of other methods with such scores."""
    return MEASURED_METHODS.get((method, kind), BY_KIND[kind])


def to_line(scores: NDArray[np.float64], kind: ScoreKind) -> NDArray[np.float64]:
    """Scores -> the line: logarithm of a distance or sum, logit of a probability, a deviation as it is."""
    if kind == "deviation":
        return scores
    if kind == "probability":
        share = np.clip(scores, _LEAST, 1 - _LEAST)
        return np.asarray(np.log(share / (1 - share)))
    return np.asarray(np.log(np.maximum(scores, _LEAST)))


def from_line(value: float, kind: ScoreKind) -> float:
    """The inverse of :func:`to_line` for one value."""
    if kind == "deviation":
        return float(value)
    if kind == "probability":
        return float(1 / (1 + np.exp(-value)))
    return float(np.exp(value))

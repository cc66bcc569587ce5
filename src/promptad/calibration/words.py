"""What a threshold is worth, in words for people: what was aimed at, what is proved, what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from promptad.calibration.bounds import How, counted
from promptad.calibration.measured import is_measured, measured
from promptad.methods.contract import ScoreKind


def threshold_words(
    good: int, how: How, rate: float, proved: bool, kind: ScoreKind, method: str = "", unlike: str = ""
) -> str:
    """Where a threshold from `good` different photos came from, and what follows for further good photos.

    Args:
        unlike: in what the detector differs from those that were measured, see `calibration.measured.unlike_measured`.
    """
    photos = counted(good)
    ways = {
        "leave-one-out": f"{photos}, each compared with the others",
        "held-out": f"{photos} that the detector had not learned from",
        "altered copies": "altered copies of the only good photo",
    }
    needed = math.ceil(1 / rate - 1e-9) - 1
    known = measured(method, kind, how, rate, good, unlike)
    if proved:
        return (
            f"Threshold from {ways[how]}: at most {rate:.1%} of further good photos are called anomalous on average, "
            f"if they are taken like these.{known}"
        )
    if method and not is_measured(method, kind):
        known = f" How far thresholds from so few photos hold was not measured for {method} with such scores."
    return (
        f"Threshold from {ways[how]}: aims at {rate:.1%} false alarms by extrapolating their scores. "
        f"{photos[0].upper() + photos[1:]} alone prove{'s' if good == 1 else ''} only 1 in {good + 1}; "
        f"{needed} would be needed to prove {rate:.1%}.{known}"
    )


def missed_words(threshold: float, defective: Sequence[float] = ()) -> str:
    """What is known of defective photos below the threshold; begins with a blank."""
    if not defective:
        return (
            " Of misses nothing is known for this product: a defective photo may score below it and reads normal then."
        )
    missed = sum(score <= threshold for score in defective)
    photos = "1 known defective photo lies" if len(defective) == 1 else f"{len(defective)} known defective photos lie"
    return f" {missed} of {photos} below it and would read normal; how many others do is not known."


def by_hand_words(threshold: float, scores: Sequence[float] = ()) -> str:
    """The same for a threshold that a person chose; `scores` are those of good photos that were not copies."""
    if not scores:
        return "Threshold given by hand; nothing is known about its false alarms."
    above = sum(score > threshold for score in scores)
    return f"Threshold given by hand; {above} of {counted(len(scores))} score above it."

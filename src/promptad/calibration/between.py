"""A threshold with two sides: good photos below, defective ones that a person marked above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from promptad.calibration.bounds import counted
from promptad.calibration.threshold import Calibration
from promptad.calibration.words import missed_words


def between(calibration: Calibration, defective: Sequence[float]) -> Calibration:
    """The calibration with the threshold that makes fewest mistakes on its good photos and these defective ones together.

    Where the threshold that good photos alone set makes no more mistakes than any other, it stays, and with it what it
    promises. Else the threshold goes to the middle of the nearest gap between two scores in which mistakes are fewest; a
    false alarm counts as much as a miss. Each good photo was scored without itself, so both sides are new photos.

    Args:
        calibration: with the scores of the good photos. defective: scores of marked defects, any order; () changes nothing.
    """
    if not defective or not calibration.scores:
        return calibration
    good, start = calibration.scores, calibration.threshold

    def mistakes(threshold: float) -> tuple[int, int]:
        return sum(score > threshold for score in good), sum(score <= threshold for score in defective)

    scores = sorted({*good, *defective})
    gaps = [(low + high) / 2 for low, high in pairwise(scores)]
    fewest = min(sum(mistakes(threshold)) for threshold in (start, *gaps))
    kept = sum(mistakes(start)) == fewest
    best = (threshold for threshold in gaps if sum(mistakes(threshold)) == fewest)
    threshold = start if kept else min(best, key=lambda gap: abs(gap - start))
    return replace(
        calibration,
        threshold=threshold,
        defective=tuple(map(float, defective)),
        note=_words(calibration, threshold, defective, mistakes(start), mistakes(threshold)),
    )


def _words(
    calibration: Calibration,
    threshold: float,
    defective: Sequence[float],
    before: tuple[int, int],
    after: tuple[int, int],
) -> str:
    """Where the threshold came from, whether the two sides overlap, and what was chosen."""
    good, highest, lowest = calibration.scores, max(calibration.scores), min(defective)
    marked = "1 marked defect" if len(defective) == 1 else f"{len(defective)} marked defects"
    apart = (
        f"All score above every good photo ({lowest:.4g} against {highest:.4g})."
        if lowest > highest
        else f"They overlap: good photos reach {highest:.4g}, the lowest defect scores {lowest:.4g}."
    )
    if threshold == calibration.threshold:
        start = calibration.note.removesuffix(missed_words(threshold, calibration.defective))
        chosen = "No other threshold makes fewer mistakes on these photos, so it stays."
        return f"{start} The other side is set by {marked}. {apart} {chosen}{missed_words(threshold, defective)}"
    return (
        f"Threshold between {counted(len(good))} and {marked}. {apart} It makes {after[0]} false alarms and {after[1]} misses on "
        f"them, the fewest that any makes; the one from good photos alone ({calibration.threshold:.4g}) makes {before[0]} and "
        f"{before[1]}. It was chosen by these photos and promises no rate of false alarms; others may do worse."
    )

"""A threshold with two sides, against all thresholds there are."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptad.calibration.between import between
from promptad.calibration.threshold import calibrate

numbers = st.lists(st.integers(1, 40).map(lambda n: n / 40), min_size=1, max_size=12)


def mistakes(threshold: float, good, defective) -> int:
    return sum(score > threshold for score in good) + sum(score <= threshold for score in defective)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(numbers, numbers)
def test_no_threshold_makes_fewer_mistakes_and_the_calibrated_one_stays_where_it_can(good, defective):
    calibration = calibrate(good, [], [], "held-out")
    chosen = between(calibration, defective)
    fewest = min(mistakes(threshold, good, defective) for threshold in np.arange(-0.0125, 1.1, 0.0125 / 2))
    start = mistakes(calibration.threshold, good, defective)
    # A threshold outside all scores is no gap between two of them; nothing but the calibrated one may lie there.
    inside = [t for t in np.arange(0, 1.1, 0.0125 / 2) if min(good + defective) < t < max(good + defective)]
    best = min([start, *(mistakes(t, good, defective) for t in inside)])
    assert fewest <= best == mistakes(chosen.threshold, good, defective)
    assert (chosen.threshold == calibration.threshold) == (start == best)
    assert chosen.defective == tuple(defective) and chosen.scores == calibration.scores


def test_the_nearest_gap_is_taken_in_its_middle_and_told():
    calibration = calibrate([0.1, 0.12, 0.14, 0.3], [], [], "leave-one-out")
    assert calibration.threshold > 0.3
    moved = between(calibration, [0.2, 0.24, 0.9])
    assert moved.threshold == (0.14 + 0.2) / 2
    assert moved.note.startswith(
        "Threshold between 4 good photos and 3 marked defects. They overlap: good photos reach 0.3, the"
    )
    assert "It makes 1 false alarms and 0 misses" in moved.note and "promises no rate of false alarms" in moved.note
    kept = between(calibration, [6.0])
    assert kept.threshold == calibration.threshold
    assert "All score above every good photo (6 against 0.3). No other threshold makes fewer mistakes" in kept.note
    assert "Of misses nothing is known" not in kept.note and "0 of 1 known defective photo lies below it" in kept.note
    assert between(calibration, []) is calibration

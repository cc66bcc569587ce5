"""Exact limits of shares: against SciPy's own, known values, and how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from promptad.calibration.proportions import PROMISES, limits, photos_needed, upper_limit


@pytest.mark.parametrize(("events", "photos"), [(0, 1), (1, 1), (0, 59), (3, 60), (29, 30), (30, 30), (7, 400)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_limits_are_scipys(events, photos, confidence):
    test = binomtest(events, photos)
    assert limits(events, photos, confidence) == pytest.approx(tuple(test.proportion_ci(confidence, "exact")))
    one_sided = binomtest(events, photos, alternative="less").proportion_ci(confidence, "exact").high
    assert upper_limit(events, photos, confidence) == pytest.approx(one_sided)


def test_photos_that_promises_need():
    known = {0: (59, 299), 1: (93, 473), 2: (124, 628), 3: (153, 773)}
    assert {k: (photos_needed(k, 0.05), photos_needed(k, 0.01)) for k in known} == known
    assert [photos_needed(0, share) for share in (0.1, 0.02, 0.005, 0.001)] == [29, 149, 598, 2995]
    for events in (0, 1, 5):
        for share in PROMISES:
            needed = photos_needed(events, share)
            assert upper_limit(events, needed) <= share < upper_limit(events, needed - 1)


def test_no_photo_proves_nothing():
    assert limits(0, 0) == (0.0, 1.0) and upper_limit(0, 0) == 1.0


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_limits_hold_as_often_as_they_say(share):
    counts = np.arange(61)
    ends = np.array([limits(int(count), 60) for count in counts])
    held = binom.pmf(counts, 60, share)[(ends[:, 0] <= share) & (share <= ends[:, 1])].sum()
    assert 0.95 <= held < 1

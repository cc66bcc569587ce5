"""All thresholds against a count by hand, and the cheapest among them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from promptad.calibration.trade_off import Costs, Point, cheapest, points_at, trade_off

SCORES = st.lists(st.integers(0, 8).map(lambda n: n / 4), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40)
@given(good=SCORES, bad=SCORES)
def test_every_threshold_counts_as_scikit_learn_does_and_every_division_of_the_photos_is_there(good, bad):
    costs = Costs(20, 1, 0.1)
    points = trade_off(good, bad, costs)
    truth, scores = [0] * len(good) + [1] * len(bad), np.array([*good, *bad])
    assert len(points) == len(set(scores)) + 1
    for point in points:
        (_, alarmed), (missed, _) = confusion_matrix(truth, scores > point.threshold, labels=[0, 1])
        assert (point.missed, point.alarmed) == (missed, alarmed)
        assert point.cost == pytest.approx(0.1 * 20 * missed / len(bad) + 0.9 * alarmed / len(good))
    assert points[0].missed == 0 and points[-1].alarmed == 0
    assert [p.threshold for p in points] == sorted(p.threshold for p in points)


def test_neighbouring_numbers_have_a_threshold_between_them():
    low = 0.1
    high = float(np.nextafter(low, 1))
    [_, between, _] = trade_off([low], [high])
    assert (between.missed, between.alarmed) == (0, 0)


def test_the_cheapest_is_the_nearest_of_those_and_the_present_one_where_nothing_is_gained():
    good, bad, costs = [0.1, 0.2, 0.3], [0.25, 0.5, 0.6], Costs(10, 1, 0.5)
    points = trade_off(good, bad, costs)
    [present] = points_at([0.4], good, bad, costs)
    best = cheapest(points, present)
    assert (best.missed, best.alarmed, best.threshold) == (0, 1, pytest.approx(0.225))
    [equal] = points_at([0.21], good, bad, costs)
    assert cheapest(points, equal) is equal
    expensive = Costs(1, 10, 0.5)
    best = cheapest(trade_off(good, bad, expensive), points_at([0.15], good, bad, expensive)[0])
    assert best.threshold == pytest.approx(0.4) and best.alarmed == 0  # 0.3 to 0.5 costs the same
    assert cheapest([Point(0.1, 0, 1, 0.5), Point(0.3, 1, 0, 0.5)], Point(0.25, 1, 1, 0.9)).threshold == 0.3


def test_without_costs_there_are_counts_alone():
    assert {point.cost for point in trade_off([0.1], [])} == {None}
    assert [(p.missed, p.alarmed) for p in trade_off([0.1], [])] == [(0, 1), (0, 0)]

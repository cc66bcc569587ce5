"""Thresholds from good photos, against simulation and hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest

from promptad.calibration.threshold import by_hand, calibrate, prediction_bound
from promptad.errors import ConfigError


def made(scores, rate=None, how="held-out"):
    return calibrate(scores, [0.2 * s for s in scores], [0.05] * len(scores), how, rate)


def test_threshold_is_the_conformal_quantile_where_the_photos_suffice():
    scores = np.random.default_rng(0).permutation(np.arange(1, 100) / 100)  # 99 photos: 1 % is just provable
    assert made(scores, 0.01).threshold == pytest.approx(0.99)
    assert made(scores, 0.10).threshold == pytest.approx(0.90)
    assert "at most 1.0%" in made(scores, 0.01).note


def test_false_alarms_of_new_good_photos_stay_below_the_rate_on_average():
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(2000):
        good, new = rng.gamma(2.0, size=19), rng.gamma(2.0, size=10)
        alarms.append((new > made(good, 0.05).threshold).mean())
    assert np.mean(alarms) < 0.055


def test_few_photos_never_give_a_threshold_below_their_largest_and_say_what_they_prove():
    found = made([0.1, 0.3, 0.2, 0.25], 0.01, "leave-one-out")
    assert found.threshold >= 0.3
    assert found.bound == pytest.approx(0.2)
    assert "1 in 5" in found.note and "99 would be needed" in found.note


def test_scores_with_a_limit_get_a_threshold_that_can_be_exceeded():
    scores = [0.92, 0.55, 0.97, 0.60]
    free = calibrate(scores, scores, scores, "held-out")
    bound = calibrate(scores, scores, scores, "held-out", limit=1.0)
    assert free.threshold > 1.0 and 0.97 < bound.threshold < 1.0
    assert bound.at_rate(0.02).threshold > bound.threshold and bound.at_rate(0.02).threshold < 1.0
    assert prediction_bound(np.array([0.5]), 0.1, 1.0) == pytest.approx(0.5)
    for extreme in ([0.0, 0.0], [1.0, 1.0]):
        assert 0 <= prediction_bound(np.array(extreme), 0.1, 1.0) <= 1


def test_a_threshold_by_hand_knows_no_rate():
    with pytest.raises(ConfigError, match="by hand"):
        by_hand(0.4, (0.0, 1.0)).at_rate(0.1)


def test_prediction_bound_equals_the_textbook_formula():
    values = np.array([1.0, 2.0, 4.0])
    spread = np.sqrt(((values - values.mean()) ** 2).sum() / 2)
    assert prediction_bound(values, 0.05) == pytest.approx(values.mean() + 2.919986 * spread * np.sqrt(4 / 3), rel=1e-5)


def test_one_altered_photo_gives_a_threshold_and_plain_words():
    found = made([0.2, 0.21, 0.22], how="altered copies")
    assert found.threshold > 0.22
    assert "rough start" in found.note


def test_another_rate_and_a_threshold_by_hand():
    found = made([0.1, 0.3, 0.2, 0.25])
    assert found.at_rate(0.01).threshold > found.at_rate(0.2).threshold
    assert found.at_rate(found.rate) == found
    by_hand = found.with_threshold(0.7)
    assert by_hand.threshold == 0.7 and "by hand" in by_hand.note and by_hand.map_threshold == found.map_threshold


def test_the_colour_scale_is_never_empty():
    found = calibrate([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], "leave-one-out")
    assert found.map_low < found.map_threshold < found.map_high
    found = calibrate([0.1, 0.2], [0.5, 0.7], [0.3, 0.4], "leave-one-out")
    assert (found.map_low, found.map_threshold, found.map_high) == pytest.approx((0.35, 0.7, 1.05))


@pytest.mark.parametrize(("scores", "rate"), [([], 0.05), ([0.1], 0.0), ([0.1], 1.0), ([0.1], -0.2)])
def test_impossible_questions_get_one_line(scores, rate):
    with pytest.raises(ConfigError) as error:
        made(scores, rate)
    assert "\n" not in str(error.value)

"""Thresholds from good photos, against simulation and hand-made numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from promptad.calibration.threshold import Calibration, by_hand, calibrate
from promptad.errors import ConfigError


def made(scores, rate=None, how="held-out"):
    return calibrate(scores, [0.2 * s for s in scores], [0.05] * len(scores), how, rate, kind="distance")


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
    calibration = made([0.1, 0.3, 0.2, 0.25], 0.01, "leave-one-out")
    assert calibration.threshold >= 0.3
    assert calibration.bound == pytest.approx(0.2)
    assert "1 in 5" in calibration.note and "99 would be needed" in calibration.note


def test_probabilities_get_a_threshold_that_can_be_exceeded():
    scores = [0.92, 0.55, 0.97, 0.60]
    free = calibrate(scores, scores, scores, "held-out")
    bound = calibrate(scores, scores, scores, "held-out", kind="probability")
    assert free.threshold > 1.0 and 0.97 <= bound.threshold < 1.0
    assert bound.threshold < bound.at_rate(0.02).threshold < 1.0


def test_a_threshold_by_hand_knows_no_rate():
    with pytest.raises(ConfigError, match="by hand"):
        by_hand(0.4, (0.0, 1.0)).at_rate(0.1)


def test_one_altered_photo_counts_as_one_and_gets_plain_words():
    calibration = made([0.2, 0.21, 0.22], how="altered copies")
    assert calibration.threshold > 0.22 and calibration.map_threshold > 0.2 * 0.22
    assert (calibration.good, calibration.bound) == (1, 0.5)
    assert "prove only 1 in 2" in calibration.note.replace("proves", "prove") and "at most" not in calibration.note


def test_another_rate_and_a_threshold_by_hand():
    calibration = made([0.1, 0.3, 0.2, 0.25])
    assert calibration.at_rate(0.01).threshold > calibration.at_rate(0.2).threshold
    assert calibration.at_rate(calibration.rate) == calibration
    by_hand = calibration.with_threshold(0.7)
    assert by_hand.threshold == 0.7 and "0 of 4 good photos score above it" in by_hand.note
    assert by_hand.map_threshold == calibration.map_threshold and by_hand.at_rate(calibration.rate) == calibration


def test_the_colour_scale_is_never_empty():
    calibration = calibrate([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], "leave-one-out")
    assert calibration.map_low < calibration.map_threshold < calibration.map_high
    calibration = calibrate([0.1, 0.2] * 5, [0.5, 0.7] * 5, [0.3, 0.4] * 5, "leave-one-out")
    assert (calibration.map_low, calibration.map_threshold, calibration.map_high) == pytest.approx((0.35, 0.7, 1.05))


@pytest.mark.parametrize(("scores", "rate"), [([], 0.05), ([0.1], 0.0), ([0.1], 1.0), ([0.1], -0.2)])
def test_impossible_questions_get_one_line(scores, rate):
    with pytest.raises(ConfigError) as error:
        made(scores, rate)
    assert "\n" not in str(error.value)


def test_every_note_says_what_is_known_of_misses():
    for how in ("held-out", "leave-one-out", "altered copies"):
        for scores in ([0.1, 0.2], list(np.linspace(0.1, 0.2, 30))):
            assert "misses" in made(scores, how=how).note
            known = calibrate(scores, [], [], how, kind="distance", defective=[0.0, 9.0, 9.0])
            assert "1 of 3 known defective photos" in known.note and "3 of 3" in known.with_threshold(10.0).note
    assert "misses" in by_hand(0.5, (0, 1)).note


def test_calibrations_of_saved_files_are_read_also_those_of_the_first_version():
    calibration = calibrate([0.1, 0.2], [0.3, 0.4], [0.1, 0.1], "leave-one-out", 0.05, kind="distance", defective=[0.5])
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    old = {key: value for key, value in calibration.to_dict().items() if key not in ("kind", "defective")}
    read = Calibration.from_dict(old)
    assert (read.threshold, read.kind, read.defective) == (calibration.threshold, "deviation", ())
    assert Calibration.from_dict(old | {"limit": 1.0}).kind == "probability"
    copies = Calibration.from_dict(old | {"how": "altered copies", "good": 6, "bound": 1 / 7})
    assert (copies.good, copies.bound) == (1, 0.5)
    with pytest.raises(KeyError):
        Calibration.from_dict({key: value for key, value in old.items() if key != "threshold"})

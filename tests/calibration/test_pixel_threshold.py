"""Pixel thresholds: their own rate, their words, and that image thresholds leave them alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from promptad.calibration.threshold import Calibration, by_hand, calibrate
from promptad.errors import ConfigError


def made(peaks: NDArray[np.float64] | list[float], how: str = "held-out") -> Calibration:
    return calibrate([2 * peak for peak in peaks], peaks, [0.01] * len(peaks), how, kind="distance")  # type: ignore[arg-type]


def test_by_default_no_good_photo_has_a_region_and_the_note_says_what_that_proves() -> None:
    calibration = made(np.arange(1, 20) / 20)
    assert calibration.map_threshold == pytest.approx(0.95) and calibration.map_rate is None
    assert "at most 5.0% of further good photos have a region" in calibration.map_note
    few = made([0.1, 0.2, 0.15, 0.12], "leave-one-out")
    assert few.map_threshold is not None and few.map_threshold >= 0.2
    assert "aims at 10.0%" in few.map_note and "prove only 1 in 5, 9 would be needed" in few.map_note


def test_a_rate_takes_the_conformal_quantile_of_the_peaks() -> None:
    calibration = made(np.arange(1, 20) / 20).at_map_rate(0.1)
    assert calibration.map_threshold == pytest.approx(0.9)
    assert "at most 10.0% of further good photos have a region" in calibration.map_note
    with pytest.raises(ConfigError, match="good photos would be needed"):
        made([0.1, 0.2]).at_map_rate(0.001)


def test_regions_of_new_good_photos_stay_below_the_rate_on_average() -> None:
    rng = np.random.default_rng(2)
    share = {rate: [] for rate in (0.1, 0.2)}
    for _ in range(1500):
        good, new = rng.gamma(2.0, size=9), rng.gamma(2.0, size=10)
        for rate, seen in share.items():
            seen.append((new > (made(good).at_map_rate(rate).map_threshold or 0)).mean())
    assert np.mean(share[0.1]) < 0.11 and 0.15 < np.mean(share[0.2]) < 0.21


def test_the_threshold_of_scores_and_that_of_pixels_move_apart() -> None:
    calibration = made(np.arange(1, 20) / 20)
    moved = calibration.at_rate(0.3)
    assert moved.threshold < calibration.threshold and moved.map_threshold == calibration.map_threshold
    asked = calibration.at_map_rate(0.2)
    assert asked.threshold == calibration.threshold and asked.at_rate(0.3).map_threshold == asked.map_threshold
    assert (asked.map_low, asked.map_high) == (calibration.map_low, calibration.map_high)
    drawn = calibration.with_map_threshold(0.72)
    assert drawn.at_rate(0.3).map_threshold == 0.72 and drawn.with_threshold(1.0).map_threshold == 0.72
    assert "5 of 19 good photos have a region" in drawn.map_note
    assert Calibration.from_dict(json.loads(json.dumps(drawn.to_dict()))) == drawn
    assert drawn.at_map_rate(None) == calibration


def test_what_a_person_asked_for_is_carried_to_other_good_photos() -> None:
    old, new = made(np.arange(1, 20) / 20), made(np.arange(1, 30) / 10)
    assert new.with_pixels_of(old) == new == new.with_pixels_of(None)
    assert new.with_pixels_of(old.with_map_threshold(0.5)).map_threshold == 0.5
    assert new.with_pixels_of(old.at_map_rate(0.2)) == new.at_map_rate(0.2)


def test_by_hand_and_without_maps() -> None:
    plain = by_hand(0.4, (0.0, 1.0))
    assert plain.map_note == "" and "nothing is known" in plain.with_map_threshold(0.5).map_note
    with pytest.raises(ConfigError, match="no map of a good photo"):
        plain.at_map_rate(0.1)
    with pytest.raises(ConfigError, match="finite"):
        plain.with_map_threshold(float("inf"))
    copies = made([0.1, 0.2, 0.3], "altered copies")
    assert "altered copies" in copies.map_note and "1 good photo alone proves only 1 in 2" in copies.map_note

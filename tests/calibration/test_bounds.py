"""What too few photos say, against SciPy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from promptad.calibration.bounds import check_rate, copies_bound, least_rate, prediction_bound, threshold_at
from promptad.calibration.scales import BY_KIND, Usual, from_line, to_line
from promptad.errors import ConfigError

KINDS = list(BY_KIND)


@pytest.mark.parametrize("kind", KINDS)
def test_the_line_goes_there_and_back_and_keeps_the_order(kind):
    scores = np.array([0.001, 0.2, 0.5, 0.93])
    line = to_line(scores, kind)
    assert (np.diff(line) > 0).all()
    assert [from_line(value, kind) for value in line] == pytest.approx(list(scores))
    assert np.isfinite(to_line(np.array([0.0, 1.0]), kind)).all()


def test_the_bound_is_the_predictive_quantile_of_the_normal_model():
    """By integrating the posterior of the variance, instead of the closed form."""
    values, usual, rate = np.array([1.0, 4.0, 2.5]), Usual(3.0, 2.0), 0.1
    freedom = usual.weight + len(values) - 1
    scale = (usual.weight * usual.spread**2 + ((values - values.mean()) ** 2).sum()) / freedom
    bound = prediction_bound(values, rate, "deviation", usual)

    def above(variance: float) -> float:
        density = stats.invgamma.pdf(variance, freedom / 2, scale=freedom * scale / 2)
        sigma = math.sqrt(variance * (1 + 1 / len(values)))
        return float(density * stats.norm.sf(bound, values.mean(), sigma))

    assert integrate.quad(above, 0, np.inf, limit=200)[0] == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_rise_with_a_smaller_rate_and_stay_where_scores_can_be(kind):
    few = np.array([0.12, 0.15])
    for bound in (prediction_bound, copies_bound):
        bounds = [bound(few, rate, kind, Usual(0.2, 2.0, 0.1, 0.1, 0.3)) for rate in (0.1, 0.05, 0.02, 0.01)]
        assert bounds == sorted(bounds) and len(set(bounds)) == 4
        assert kind != "probability" or bounds[-1] < 1
    assert math.isfinite(prediction_bound(few[:1], 0.1, kind, BY_KIND[kind]))


def test_products_like_the_usual_one_keep_the_rate_from_one_photo_on():
    """Variances and scores drawn as the model says: the rate is kept, whatever the number of photos."""
    rng, usual = np.random.default_rng(0), BY_KIND["distance"]
    for photos in (1, 2, 4):
        alarms = []
        for _ in range(1500):
            sigma = usual.spread * math.sqrt(usual.weight / rng.chisquare(usual.weight))
            scores = np.exp(rng.normal(-2.0, sigma, photos + 20))
            level = prediction_bound(scores[:photos], 0.1, "distance", usual)
            alarms.append((scores[photos:] > level).mean())
        assert np.mean(alarms) == pytest.approx(0.1, abs=0.02)


def test_the_rate_is_kept_where_every_photo_is_compared_with_the_others():
    """Distances to the nearest of n points fall as n grows, so leaving one out alone would set the threshold too high."""
    rng, dimensions = np.random.default_rng(1), 8
    usual = Usual(0.2, 2.0, gain=1 / dimensions)  # the distance to the nearest of n falls as n ** (-1 / dimensions)
    share = {left_out: [] for left_out in (True, False)}
    for _ in range(1500):
        good, new = rng.normal(size=(4, dimensions)), rng.normal(size=(20, dimensions))
        apart = (np.linalg.norm(good[:, None] - good[None], axis=-1) + np.diag(np.full(4, np.inf))).min(1)
        scores = np.linalg.norm(new[:, None] - good[None], axis=-1).min(1)
        for left_out, alarms in share.items():
            alarms.append((scores > prediction_bound(apart, 0.1, "distance", usual, left_out=left_out)).mean())
    assert np.mean(share[False]) < np.mean(share[True]) - 0.01
    assert np.mean(share[True]) == pytest.approx(0.1, abs=0.04)


def test_more_altered_copies_of_one_photo_prove_nothing_more():
    copies, usual = np.array([0.10, 0.11, 0.12]), BY_KIND["distance"]
    levels = [copies_bound(np.tile(copies, times), 0.1, "distance", usual) for times in (1, 50)]
    assert levels[0] == pytest.approx(levels[1]) and levels[0] > 0.12
    proved, level = threshold_at(np.tile(copies, 50), "altered copies", 0.1, "distance", usual)
    assert not proved and level == pytest.approx(levels[0])
    centre = float(np.median(copies)) * math.exp(usual.gap)  # half of further good photos lie above it
    assert copies_bound(copies, 0.5, "distance", usual) == pytest.approx(centre)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.2, 2.0, float("nan"), float("inf"), 1e-20, 1e-300, 0.001])
@pytest.mark.parametrize("photos", [1, 4, 100])
def test_rates_that_the_photos_cannot_say_are_refused_with_what_they_allow(rate, photos):
    with pytest.raises(ConfigError) as error:
        check_rate(rate, photos)
    assert "\n" not in str(error.value)
    if 0 < rate < 1:
        assert f"{least_rate(photos):.3g} at the least" in str(error.value)


def test_what_is_proved_is_allowed():
    assert check_rate(0.001, 999) == 0.001 and check_rate(0.01, 1) == 0.01 and check_rate(1e-20) == 1e-20
    assert least_rate(4) == 0.01 and least_rate(999) == pytest.approx(0.001)

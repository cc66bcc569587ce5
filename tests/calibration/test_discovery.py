"""p-values and chosen photos: against SciPy and nonconform, known values, and how often good photos are chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from promptad.calibration.discovery import benjamini_hochberg, discover, good_needed
from promptad.calibration.p_values import p_values
from promptad.calibration.threshold import by_hand, calibrate

SCORES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=40)
STORED = json.loads((Path(__file__).parent / "nonconform_values.json").read_text())


@settings(deadline=None, max_examples=60)
@given(scores=SCORES, good=SCORES)
def test_p_values_are_counts(scores, good):
    expected = [(1 + sum(g >= score for g in good)) / (len(good) + 1) for score in scores]
    assert p_values(scores, good) == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(
    p=st.lists(st.integers(1, 101).map(lambda n: n / 101), min_size=1, max_size=40),
    rate=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_chosen_are_scipys(p, rate):
    adjusted = false_discovery_control(p, method="bh")
    assert benjamini_hochberg(p, rate).tolist() == (adjusted <= rate * (1 + 1e-9)).tolist()


def test_a_known_choice():
    ranks = np.array([1, 1, 2, 5, 40, 60, 80, 99, 30, 100])
    assert benjamini_hochberg(ranks / 101, 0.1).tolist() == [True] * 3 + [False] * 7
    assert benjamini_hochberg([], 0.1).tolist() == []


@pytest.mark.parametrize("case", STORED["cases"], ids=lambda case: f"{len(case['good'])} good")
def test_p_values_and_choices_are_nonconforms(case):
    """Values that `nonconform` 2.0.0 gave (`tools/nonconform_values.py`), for Pythons that it does not run on."""
    result = discover(case["scores"], case["good"], case["rate"])
    assert result.p == pytest.approx(case["p_values"]) and result.chosen.tolist() == case["chosen"]


def test_p_values_are_those_of_the_nonconform_that_is_installed():
    nonconform = pytest.importorskip("nonconform", reason="nonconform needs Python 3.12")
    rng = np.random.default_rng(1)
    scores, good = rng.normal(1, 1, 50).round(1), rng.normal(0, 1, 99).round(1)
    assert p_values(scores, good) == pytest.approx(nonconform.Empirical().compute_p_values(scores, good))


@pytest.mark.parametrize("good", [30, 100])
def test_the_mean_share_of_false_discoveries_is_controlled(good):
    rng, rate, wrong, power = np.random.default_rng(good), 0.2, [], []
    for _ in range(1500):
        batch = np.concatenate([rng.normal(0, 1, 30), rng.normal(4, 1, 10)])
        chosen = discover(batch.tolist(), rng.normal(0, 1, good).tolist(), rate).chosen
        wrong.append(chosen[:30].sum() / max(1, chosen.sum()))
        power.append(chosen[30:].mean())
    # At most the rate times the share of good photos; on average it comes near that.
    assert np.mean(wrong) <= rate * 0.75 + 3 * np.std(wrong) / len(wrong) ** 0.5
    assert np.mean(wrong) > rate * 0.4 and np.mean(power) > 0.9


def test_too_few_good_photos_are_said_with_how_many_are_needed():
    text = discover([9.0] * 5, [1, 2, 3, 4], 0.1).text
    assert "nothing can be chosen from 5 photos" in text and "1/5 = 0.2" in text
    assert "9 good photos are needed if all of them stand out, 49 if one does" in text
    assert discover([9.0] * 5, range(9), 0.1).count == 5 and discover([10.0] + [0.0] * 4, range(9), 0.1).count == 0
    assert (
        discover([60.0] + [0.0] * 4, range(49), 0.1).count == 1
        and discover([60.0] + [0.0] * 4, range(48), 0.1).count == 0
    )
    text = discover([9.0] * 2 + [0.0] * 40, [1, 2, 3, 4] * 8, 0.1).text
    assert "13 have to score higher than every good photo before any is chosen, and 2 do; 209 good photos" in text
    assert (good_needed(60, 1, 0.1), good_needed(60, 60, 0.1)) == (599, 9)


def test_altered_copies_and_thresholds_by_hand_give_no_p_value():
    known = calibrate([0.1, 0.2, 0.3], [], [], "held-out")
    assert known.p_value(0.25) == pytest.approx(0.5) and known.with_threshold(0.9).p_value(0.25) == pytest.approx(0.5)
    assert calibrate([0.1, 0.2], [], [], "altered copies").p_value(0.25) is None
    assert by_hand(0.1, (0, 1)).p_value(0.25) is None

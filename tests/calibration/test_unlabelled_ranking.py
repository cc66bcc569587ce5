"""What a ranking without good photos says of itself."""

from __future__ import annotations

import numpy as np
import pytest

from promptad.calibration.ranking import FEWEST, HALVES, LAYERS, judge_ranking, knee_of


def test_halves_that_agree_are_trusted_and_others_are_not():
    draw = np.random.default_rng(0)
    scores = draw.random(40)
    alike = [scores, scores + 0.001 * draw.random(40)]
    ranking = judge_ranking(scores, alike, [scores, 2 * scores + 1])
    assert ranking.trusted and ranking.halves > HALVES and ranking.layers == pytest.approx(1)
    apart = judge_ranking(scores, alike, [scores, 2 * scores, -scores])
    assert (
        not apart.trusted and apart.layers == pytest.approx(-1) and LAYERS > 0 and "cannot be trusted" in apart.sentence
    )
    other = judge_ranking(scores, [scores, draw.random(40)], [])
    assert not other.trusted and "cannot be trusted" in other.sentence and "good photos" in other.sentence
    assert other.layers == 1.0


def test_few_photos_and_equal_scores_are_never_trusted():
    few = list(range(FEWEST - 1))
    assert not judge_ranking(few, [few, few], []).trusted
    assert "too few" in judge_ranking(few, [few, few], []).sentence
    same = [0.5] * 30
    assert not judge_ranking(same, [same, same], [same, same]).trusted
    assert judge_ranking(same, [same, same], [same, same]).layers == 0
    assert "too few" in judge_ranking([], [[], []], []).sentence


@pytest.mark.parametrize("outliers", [1, 4, 9])
def test_the_knee_ends_the_photos_that_stand_out(outliers):
    draw = np.random.default_rng(outliers)
    scores = [*(1 + 0.05 * draw.random(outliers)), *(0.2 * draw.random(60))]
    assert knee_of(draw.permutation(scores)) == outliers
    assert knee_of(scores[::-1]) == outliers


def test_scores_that_fall_evenly_have_no_knee():
    assert knee_of(np.linspace(0, 1, 50)) == 0
    assert knee_of([0.3] * 20) == 0
    assert knee_of([0.1, 0.9]) == 0
    ranking = judge_ranking(np.linspace(0, 1, 50), [np.arange(50), np.arange(50)], [])
    assert "no group" in ranking.sentence

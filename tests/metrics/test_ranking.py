"""The ranking metrics against scikit-learn, with and without ties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from promptad.errors import DataError
from promptad.metrics.ranking import auroc, average_precision, f1_max, pr_auc, rank

TIED = st.integers(-3, 3).map(float)
CONTINUOUS = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@st.composite
def samples(draw, scores):
    """Labels with both classes and as many scores."""
    labels = [0, 1, *draw(st.lists(st.integers(0, 1), max_size=40))]
    values = draw(st.lists(scores, min_size=len(labels), max_size=len(labels)))
    return np.array(labels, np.uint8), np.array(values, draw(st.sampled_from([np.float32, np.float64])))


def agree_with_sklearn(labels, scores):
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    total = precision + recall
    f1 = np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert pr_auc(labels, scores) == pytest.approx(auc(recall, precision), abs=1e-12)
    best, threshold = f1_max(labels, scores)
    assert best == pytest.approx(f1.max(), abs=1e-12)
    at_threshold = scores >= threshold
    hits = int((at_threshold & (labels == 1)).sum())
    assert best == pytest.approx(2 * hits / (at_threshold.sum() + labels.sum()), abs=1e-12)
    # the highest of the thresholds that reach the maximum
    reaching = thresholds[np.isclose(f1[:-1], f1.max(), rtol=0, atol=1e-12)]
    assert threshold == reaching.max()


@given(samples(TIED))
def test_tied_scores_equal_sklearn(data):
    agree_with_sklearn(*data)


@given(samples(CONTINUOUS))
def test_continuous_scores_equal_sklearn(data):
    agree_with_sklearn(*data)


@pytest.mark.parametrize("decimals", [None, 2, 0])
def test_pixel_sized_arrays_equal_sklearn(decimals):
    rng = np.random.default_rng(0)
    labels = (rng.random(200_000) < 0.03).astype(np.uint8)
    scores = (rng.normal(size=labels.size) + 1.5 * labels).astype(np.float32)
    agree_with_sklearn(labels, scores if decimals is None else scores.round(decimals))


def test_values_by_hand():
    # descending: 1, 0 = 1 (tie), 0. Pairs won: 2 + 1.5 = 3.5 of 4.
    labels, scores = [0, 1, 0, 1], [0.5, 0.5, 0.1, 0.9]
    assert auroc(labels, scores) == 3.5 / 4
    assert average_precision(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert pr_auc(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * (1 + 2 / 3) / 2)
    assert f1_max(labels, scores) == (pytest.approx(0.8), 0.5)


@given(samples(TIED))
def test_order_alone_matters(data):
    labels, scores = data
    for metric in (auroc, average_precision, pr_auc):
        assert metric(labels, scores) == metric(labels, np.exp(scores.astype(np.float64)))
        assert metric(labels, scores) == metric(labels[::-1], scores[::-1])


def test_one_sort_serves_all_metrics():
    labels, scores = [0, 1, 1, 0], [0.1, 0.4, 0.3, 0.35]
    ranked = rank(labels, scores)
    assert ranked.auroc() == auroc(labels, scores)
    assert ranked.average_precision() == average_precision(labels, scores)
    assert ranked.pr_auc() == pr_auc(labels, scores)
    assert ranked.f1_max() == f1_max(labels, scores)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_nan(labels):
    scores = [0.1, 0.2, 0.3][: len(labels)]
    assert math.isnan(auroc(labels, scores))
    assert math.isnan(average_precision(labels, scores))
    assert math.isnan(pr_auc(labels, scores))
    assert all(math.isnan(value) for value in f1_max(labels, scores))


def test_inputs_stay_as_they_are():
    labels, scores = np.array([1, 0, 0], np.uint8), np.array([3.0, 2.0, 1.0], np.float32)
    auroc(labels, scores)
    assert scores.tolist() == [3.0, 2.0, 1.0]
    assert labels.tolist() == [1, 0, 0]


def test_integer_bool_and_half_scores_are_accepted():
    assert auroc([False, True], np.array([1, 2], np.uint8)) == 1.0
    assert auroc([0, 1], np.array([2, 1], np.float16)) == 0.0
    # float32 cannot tell these two apart
    assert auroc([0, 1], np.array([2**24, 2**24 + 1], np.int64)) == 1.0


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 1], [0.1, float("nan")], "1 of 2 scores is NaN or infinite"),
        ([0, 1, 1], [0.1, float("inf"), float("nan")], "2 of 3 scores are NaN or infinite"),
        ([0, 2], [0.1, 0.2], "1 of 2 labels are neither 0"),
        ([0, 1], [0.1, 0.2, 0.3], r"shape \(2,\) and scores \(3,\)"),
        ([[0, 1]], [[0.1, 0.2]], "must be 1-D"),
    ],
)
def test_bad_input_is_one_clear_line(labels, scores, words):
    with pytest.raises(DataError, match=words) as error:
        auroc(labels, scores)
    assert "\n" not in str(error.value)

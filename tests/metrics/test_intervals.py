"""DeLong against its definition by loops, bootstrap weights against repeated photos."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from promptad.errors import DataError
from promptad.metrics.intervals import bootstrap_weights, delong, delong_test, weighted_aurocs


def made(seed: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of 23 normal and 17 anomalous photos, and the scores of two related detectors."""
    random = np.random.default_rng(seed)
    labels = np.array([0] * 23 + [1] * 17)
    first = random.normal(size=40) + labels
    second = 0.6 * first + random.normal(size=40) * 0.8
    return (labels, first, second) if decimals is None else (labels, first.round(decimals), second.round(decimals))


def slow_delong(labels: np.ndarray, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The structural components of DeLong et al., 1988, eqs. 4 to 6, one pair of photos after the other."""

    def psi(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    m, n = int((labels == 1).sum()), int((labels == 0).sum())
    v10, v01 = np.zeros((len(scores), m)), np.zeros((len(scores), n))
    for r, score in enumerate(scores):
        for i, x in enumerate(score[labels == 1]):
            for j, y in enumerate(score[labels == 0]):
                v10[r, i] += psi(x, y) / n
                v01[r, j] += psi(x, y) / m
    areas = v10.mean(axis=1)
    s10 = (v10 - areas[:, None]) @ (v10 - areas[:, None]).T / (m - 1)
    s01 = (v01 - areas[:, None]) @ (v01 - areas[:, None]).T / (n - 1)
    return areas, s10 / m + s01 / n


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("seed", [0, 1])
def test_delong_is_its_definition(seed: int, decimals: int | None) -> None:
    labels, first, second = made(seed, decimals)
    areas, covariance = delong(labels, [first, second])
    slow_areas, slow_covariance = slow_delong(labels, [first, second])
    np.testing.assert_allclose(areas, slow_areas, atol=1e-12)
    np.testing.assert_allclose(covariance, slow_covariance, atol=1e-12)
    np.testing.assert_allclose(areas, [roc_auc_score(labels, first), roc_auc_score(labels, second)], atol=1e-12)


def test_the_test_is_that_of_a_normal_difference() -> None:
    from scipy.stats import norm

    labels, first, second = made(2)
    areas, covariance = slow_delong(labels, [first, second])
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    result = delong_test(labels, first, second)
    assert result.value == pytest.approx(areas[0] - areas[1]) and result.standard_error == pytest.approx(error)
    assert result.p == pytest.approx(2 * (1 - norm.cdf(abs(areas[0] - areas[1]) / error)))


def test_its_p_is_uniform_where_nothing_differs() -> None:
    """Of 400 pairs of equally good detectors about 5 % must come out below 0.05."""
    random, low = np.random.default_rng(5), 0
    labels = np.array([0] * 40 + [1] * 40)
    for _ in range(400):
        shared = random.normal(size=80) + labels
        low += delong_test(labels, shared + random.normal(size=80), shared + random.normal(size=80)).p < 0.05
    assert 8 <= low <= 36


def test_equal_rankings_do_not_differ() -> None:
    labels, first, _ = made(0)
    assert delong_test(labels, first, np.exp(first)).p == 1.0


@pytest.mark.parametrize("decimals", [None, 0])
def test_weights_count_photos_as_often_as_they_are_drawn(decimals: int | None) -> None:
    labels, scores, _ = made(3, decimals)
    weights = np.random.default_rng(0).integers(0, 4, (6, 40)).astype(float)
    for weight, value in zip(weights, weighted_aurocs(labels, scores, weights), strict=True):
        repeated = np.repeat(np.arange(40), weight.astype(int))
        assert value == pytest.approx(roc_auc_score(labels[repeated], scores[repeated]), abs=1e-12)
    weights[0, labels == 1] = 0
    assert np.isnan(weighted_aurocs(labels, scores, weights)[0])


def test_bootstrap_draws_as_many_photos_as_there_are() -> None:
    weights = bootstrap_weights(9, 200, np.random.default_rng(0))
    assert weights.shape == (200, 9) and (weights.sum(axis=1) == 9).all() and abs(weights.mean() - 1) < 1e-9


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 0, 1], [1.0, 2.0, 3.0], "two normal and two anomalous photos or more; got 2 and 1"),
        ([0, 0, 1, 2], [1.0, 2.0, 3.0, 4.0], "two normal and two anomalous"),
        ([0, 0, 1, 1], [1.0, 2.0, 3.0], "give one score a photo"),
        ([0, 0, 1, 1], [1.0, 2.0, 3.0, float("nan")], "NaN or infinite"),
    ],
)
def test_what_cannot_be_compared_is_a_data_error(labels, scores, words) -> None:
    with pytest.raises(DataError, match=words):
        delong(labels, [scores])

"""Intervals and differences between rows, against repeated photos and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from promptad.bench.uncertainty import RowScores, RunScores, compare
from promptad.metrics.intervals import delong_test

LABELS = (0,) * 20 + (1,) * 20


def run_of(values: np.ndarray, photos: tuple[str, ...] | None = None) -> RunScores:
    names = photos or tuple(f"{i}.png" for i in range(len(values)))
    return RunScores(names, LABELS[: len(values)], tuple(map(float, values)))


def row(seed: int, classes: int = 2, runs: int = 3, shift: float = 1.0) -> RowScores:
    random = np.random.default_rng(seed)
    labels = np.array(LABELS)
    return RowScores(
        {f"class{c}": {r: run_of(random.normal(size=40) + shift * labels) for r in range(runs)} for c in range(classes)}
    )


def test_the_centre_is_the_mean_over_runs_and_classes() -> None:
    made = row(0)
    areas = [[roc_auc_score(LABELS, run.scores) for run in runs.values()] for runs in made.classes.values()]
    assert made.auroc == pytest.approx(np.mean(areas))
    low, high = made.interval
    assert low < made.auroc < high and high - low < 0.3
    assert abs(float(np.mean(made.draws)) - made.auroc) < 0.01


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """AUROC of two normal distributions one apart is Phi(1 / sqrt(2)) = 0.760; 95 % intervals of small sets cover a bit less."""
    inside = [low <= 0.7602 <= high for low, high in (row(seed, 1, 1).interval for seed in range(150))]
    assert 0.86 <= np.mean(inside) <= 0.99


def test_the_same_draws_serve_every_row_so_that_a_row_does_not_differ_from_itself() -> None:
    first, same = row(0), row(0)
    np.testing.assert_array_equal(first.draws, same.draws)
    comparison = compare(first, same)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p, comparison.test) == (
        0,
        0,
        0,
        1.0,
        "paired bootstrap",
    )


def test_a_clear_difference_is_found_and_none_is_not() -> None:
    clear = compare(row(0, shift=3.0), row(1, shift=0.5))
    assert clear.difference > 0.2 and clear.low > 0 and clear.p < 0.01
    none = compare(row(2), row(3))
    assert none.low < 0 < none.high and none.p > 0.05


def test_one_class_and_one_run_are_compared_by_delong() -> None:
    first, second = row(0, 1, 1), row(1, 1, 1)
    comparison = compare(first, second)
    [a], [b] = (list(row.classes["class0"].values()) for row in (first, second))
    assert comparison.test == "DeLong" and comparison.p == delong_test(LABELS, a.scores, b.scores).p


def test_other_photos_or_classes_are_not_compared() -> None:
    assert compare(row(0, 2), row(0, 1)) is None
    other = RowScores({"class0": {0: run_of(np.arange(40.0), tuple(f"x{i}" for i in range(40)))}})
    assert compare(row(0, 1, 1), other) is None


def test_without_photos_of_both_kinds_there_is_no_interval() -> None:
    alone = RowScores({"class0": {0: run_of(np.arange(20.0))}})
    assert alone.interval is None and RowScores({}).interval is None and compare(alone, alone) is None


@pytest.mark.parametrize(("normal", "anomalous", "classes"), [(10, 10, 1), (4, 30, 1), (10, 25, 3)])
def test_a_perfect_row_has_the_interval_that_its_photos_can_prove(normal: int, anomalous: int, classes: int) -> None:
    photos = tuple(f"{number}.png" for number in range(normal + anomalous))
    labels, scores = (0,) * normal + (1,) * anomalous, tuple(map(float, range(normal + anomalous)))
    made = RowScores({f"c{number}": {0: RunScores(photos, labels, scores)} for number in range(classes)})
    pairs = classes * min(normal, anomalous)
    exact = binomtest(pairs, pairs).proportion_ci(confidence_level=0.95, method="exact")
    assert made.interval == pytest.approx((exact.low, 1.0))
    turned = RowScores(
        {f"c{number}": {0: RunScores(photos, labels, tuple(-s for s in scores))} for number in range(classes)}
    )
    assert turned.interval == pytest.approx((0.0, 1 - exact.low))
    same = compare(made, made)
    assert same is not None and same.difference == 0 and same.p == 1
    assert (same.low, same.high) == pytest.approx((exact.low - 1, 1 - exact.low))

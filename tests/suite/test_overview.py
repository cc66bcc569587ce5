"""Tables over all sets, curves, and adjusted p values, against scikit-learn and slow versions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from promptad.bench.summary import Cell, Line
from promptad.metrics.aupro import PooledRegions, split_map
from promptad.suite.files import latex_text, slug
from promptad.suite.overview import Row, holm
from promptad.suite.plots import lines_svg, mean_curve, roc_points


def line(*values: float, classes: tuple[str, ...] = ("a",)) -> Line:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    cell = Cell(float(np.mean(values)), std, len(values), classes, values)
    return Line("clip", "clean", "", 0, "last", {"image_auroc": cell, "pixel_auroc": None})


def test_a_group_is_the_mean_of_sets_and_its_spread_that_of_runs():
    row = Row(line(0.8, 0.9), {"x": line(0.8, 0.9), "y": line(0.6, 0.5)})
    cell = row.cell("image_auroc", ["x", "y"])
    assert cell is not None and cell.mean == pytest.approx(0.7) and cell.by_run == pytest.approx((0.7, 0.7))
    assert cell.std == pytest.approx(0.0)
    assert row.cell("pixel_auroc", ["x"]) is None and row.cell("image_auroc", ["x", "z"]) is None


def test_holm_against_its_definition():
    values = [0.01, 0.04, 0.03, 0.005]
    slow = []
    for value in values:
        # The largest of the step-down products up to this one, never above one.
        below = sorted(p for p in values if p <= value)
        slow.append(max(min(1.0, (len(values) - k) * p) for k, p in enumerate(below)))
    assert holm(values) == pytest.approx(slow) == [0.03, 0.06, 0.06, 0.02]


def test_the_roc_is_scikit_learns():
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 60), random.integers(0, 12, 60) / 10
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert np.allclose(np.array(roc_points(labels.tolist(), scores.tolist())), np.stack([fpr, tpr], 1))


def test_a_mean_curve_takes_the_upper_end_of_a_step():
    step = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.0)]
    assert dict(mean_curve([step, step], 3)) == {0.0: 0.0, 0.5: 1.0, 1.0: 1.0}


def test_the_pro_curve_encloses_the_area_of_aupro():
    random = np.random.default_rng(1)
    mask = np.zeros((40, 40), bool)
    mask[5:12, 5:9] = mask[25:35, 20:35] = True
    split = split_map((random.random((40, 40)) + 0.6 * mask).astype(np.float32), mask)
    regions = PooledRegions.from_pixels(split.normal, split.defect, split.area, split.n_regions)
    curve = np.array(regions.curve(0.3, 3001))
    assert np.trapezoid(curve[:, 1], curve[:, 0]) / 0.3 == pytest.approx(regions.aupro(0.3), abs=1e-3)
    assert (np.diff(curve[:, 1]) >= 0).all()


def test_the_same_curve_is_the_same_picture():
    curves = {"a": [(0.0, 0.1), (1.0, 0.7)], "b": [(0.0, 0.0), (1.0, 1.0)]}
    first = lines_svg(curves, "x", "y", "title", limits=(0, 1))
    assert first == lines_svg(curves, "x", "y", "title", limits=(0, 1)) and first.startswith("<svg") and ">b<" in first


def test_names_of_folders_and_latex():
    assert slug("a b/c: d") == "a-b-c-d" and slug("///") == "set"
    assert latex_text("5 % of a_b & c ± 1") == r"5 \% of a\_b \& c $\pm$ 1"

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from promptad.report.histogram import histogram, histogram_svg, ticks


def test_every_score_is_counted_once() -> None:
    scores = np.random.default_rng(0).normal(size=300).tolist()
    data = histogram(scores)
    assert sum(data.counts["all"]) == 300
    assert list(data.counts) == ["all"]
    assert data.edges[0] <= min(scores) and max(scores) <= data.edges[-1]


def test_known_labels_split_the_counts_and_unknown_ones_do_not() -> None:
    scores, labels = [0.1, 0.2, 0.8, 0.9, 0.95], [0, 0, 1, 1, 1]
    split = histogram(scores, labels)
    assert (sum(split.counts["normal"]), sum(split.counts["anomalous"])) == (2, 3)
    assert list(histogram(scores, [0, 0, 1, 1, None]).counts) == ["all"]


def test_the_threshold_is_a_border_so_that_no_bar_has_both_sides() -> None:
    scores = np.random.default_rng(1).uniform(0, 1, 200)
    data = histogram(scores.tolist(), threshold=0.337)
    assert np.abs(np.asarray(data.edges) - 0.337).min() < 1e-9
    below = sum(n for n, right in zip(data.counts["all"], data.edges[1:], strict=True) if right < 0.337 + 1e-9)
    assert below == int((scores < 0.337).sum())


@pytest.mark.parametrize("threshold", [-2.0, 5.0])
def test_the_span_takes_in_a_threshold_beyond_all_scores(threshold: float) -> None:
    data = histogram([0.0, 0.5, 1.0], threshold=threshold)
    assert data.edges[0] <= threshold + 1e-9 and threshold - 1e-9 <= data.edges[-1]
    assert sum(data.counts["all"]) == 3


@pytest.mark.parametrize("scores", [[0.0], [3.0, 3.0], [1e-9, 1e-9]])
def test_equal_scores_have_a_histogram(scores: list[float]) -> None:
    assert sum(histogram(scores).counts["all"]) == len(scores)
    ElementTree.fromstring(histogram_svg(scores, None, scores[0]))


def test_bar_heights_are_in_proportion_to_the_counts() -> None:
    svg = ElementTree.fromstring(histogram_svg([0.0, 0.0, 0.0, 1.0], [0, 0, 0, 1], 0.5))
    bars = {bar.get("class"): float(bar.get("height", "")) for bar in svg.iter("rect")}
    assert set(bars) == {"bar normal", "bar anomalous"}
    assert bars["bar normal"] == pytest.approx(3 * bars["bar anomalous"], abs=0.2)
    assert len([line for line in svg.iter("line") if line.get("class") == "limit"]) == 1


def test_no_line_without_a_finite_threshold_and_nothing_without_scores() -> None:
    assert 'class="limit"' not in histogram_svg([0.1, 0.9])
    assert 'class="limit"' not in histogram_svg([0.1, 0.9], None, float("inf"))
    assert histogram_svg([]) == ""


def test_svg_stays_inside_its_box() -> None:
    text = histogram_svg(np.random.default_rng(2).gamma(2, size=500).tolist(), None, 9.0)
    width, height = (float(n) for n in re.findall(r'viewBox="0 0 (\S+) (\S+)"', text)[0])
    svg = ElementTree.fromstring(text)
    for bar in svg.iter("rect"):
        x, y, w, h = (float(bar.get(name, "")) for name in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (0.00012, 0.00019), (1e6, 3e6)])
def test_ticks_are_round_even_and_inside(low: float, high: float) -> None:
    marks = ticks(low, high, 8)
    assert 4 <= len(marks) <= 10
    assert low - 1e-9 * high <= marks[0] and marks[-1] <= high * (1 + 1e-9)
    steps = np.diff(marks)
    np.testing.assert_allclose(steps, steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"

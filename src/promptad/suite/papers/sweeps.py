"""Figures over settings: one plot for each set or group and metric, a curve a row."""

from __future__ import annotations

from collections.abc import Iterator

from promptad.bench.published import METRICS
from promptad.suite import plots
from promptad.suite.page import Figure
from promptad.suite.papers.beside import Measured, sweep_points
from promptad.suite.papers.plans import PaperPlan
from promptad.suite.run import SuiteResult


def sweep_figures(made: PaperPlan, result: SuiteResult) -> Iterator[Figure]:
    """The plots of a figure; none where matplotlib is not there."""
    measured = Measured(made, result)
    if not plots.available():
        return
    for key in made.experiment.sets:
        for metric in made.experiment.metrics:
            points = [entry for entry in sweep_points(measured, metric, key) if not entry[1].line.oracle]
            if not points:
                continue
            ticks = list(dict.fromkeys(point.x for point, _, _ in points))
            numeric = all(_number(x) is not None for x in ticks)
            ticks.sort(key=lambda x: _number(x) or 0.0) if numeric else None
            curves: dict[str, list[tuple[float, float]]] = {}
            errors: dict[str, list[float]] = {}
            for point, _, cell in sorted(points, key=lambda entry: ticks.index(entry[0].x)):
                curves.setdefault(point.curve, []).append((ticks.index(point.x), 100 * cell.mean))
                errors.setdefault(point.curve, []).append(100 * (cell.std or 0.0))
            title = f"{METRICS[metric]} on {key}"
            axis = points[0][0].axis
            svg = plots.lines_svg(curves, axis, f"{METRICS[metric]}, percent", title, errors=errors, ticks=ticks)
            yield Figure(title, svg=svg)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

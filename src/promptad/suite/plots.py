"""Curves and sweeps as SVG, drawn by matplotlib (the extra `promptad[bench]`)."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from promptad.notices import notice

Points = Sequence[tuple[float, float]]


def available() -> bool:
    """Whether matplotlib is there; says once how to get it where it is not."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        notice("curves are left out of the page: they need matplotlib; pip install 'promptad[bench]'")
        return False
    return True


def roc_points(labels: Sequence[int], scores: Sequence[float]) -> list[tuple[float, float]]:
    """(false alarm rate, share found) at every distinct score, from (0, 0) to (1, 1)."""
    truth, values = np.asarray(labels), np.asarray(scores, np.float64)
    levels = np.unique(values)[::-1]
    normal, anomalous = np.sort(values[truth == 0]), np.sort(values[truth == 1])
    rates = [
        (float(len(group) - np.searchsorted(group, level, "left")) / max(1, len(group)))
        for level in levels
        for group in (normal, anomalous)
    ]
    return [(0.0, 0.0), *zip(rates[::2], rates[1::2], strict=True)]


def mean_curve(curves: Sequence[Points], points: int = 101) -> list[tuple[float, float]]:
    """Mean of curves at equal steps of their common x."""
    end = min(curve[-1][0] for curve in curves)
    steps = np.linspace(0, end, points)
    values = []
    for curve in curves:
        xs, ys = zip(*curve, strict=True)
        # Of several values at one x the last counts: interpolation needs rising x.
        last = [place for place in range(len(xs)) if place + 1 == len(xs) or xs[place + 1] > xs[place]]
        values.append(np.interp(steps, [xs[place] for place in last], [ys[place] for place in last]))
    return list(zip(steps.tolist(), np.mean(values, axis=0).tolist(), strict=True))


def lines_svg(
    curves: Mapping[str, Points],
    x: str,
    y: str,
    title: str,
    *,
    limits: tuple[float, float] | None = None,
    marks: bool = False,
    errors: Mapping[str, Sequence[float]] | None = None,
    ticks: Sequence[str] = (),
) -> str:
    """Named lines as an ``<svg>`` element.

    Args:
        curves: name -> points. limits: of the x axis of curves of rates, whose y axis then goes from 0 to 1. marks: a dot at each point. errors: name -> half length of the bars.
            ticks: words at 0, 1, 2, ... of the x axis.
    """
    figure, axes = _figure()
    for name, points in curves.items():
        xs, ys = zip(*points, strict=True)
        if errors is not None:
            axes.errorbar(xs, ys, yerr=errors[name], label=name, marker="o", capsize=3, linewidth=1.4)
        else:
            axes.plot(xs, ys, label=name, linewidth=1.4, marker="o" if marks else None)
    if limits is not None:
        axes.set_xlim(*limits)
        axes.set_ylim(0, 1.02)
    if ticks:
        axes.set_xticks(range(len(ticks)), ticks)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _svg(figure, title)


def scatter_svg(groups: Mapping[str, Points], title: str) -> str:
    """Named groups of points as an ``<svg>`` element, without numbers at the axes: of an embedding only neighbours count."""
    figure, axes = _figure()
    for number, (name, points) in enumerate(groups.items()):
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, label=name, s=14, marker="osD^vPX*"[number % 8], alpha=0.8)
    axes.set(xticks=[], yticks=[], title=title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _svg(figure, title)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any, title: str) -> str:
    buffer = io.StringIO()
    # A fixed salt and no date: the same numbers give the same file.
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), count=1, flags=re.DOTALL)

"""Curves and sweeps as SVG, drawn by matplotlib (the extra `promptad[bench]`)."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from promptad.notices import notice

Points = Sequence[tuple[float, float]]
_DASHES = ("-", "--", ":", "-.")
_SHORT = 34
"""Letters of a name of which two stand side by side in a legend."""


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
    colours: Sequence[str] = (),
) -> str:
    """Named lines as an ``<svg>`` element.

    Args:
        curves: name -> points. limits: of the x axis of curves of rates, whose y axis then goes from 0 to 1. marks: a dot at each point. errors: name -> half length of the bars.
            ticks: words at 0, 1, 2, ... of the x axis. colours: names whose order gives each its colour and dashes; the curves' own
            where none is given.
    """
    figure, axes = _figure(list(curves))
    order = list(colours or curves)
    for name, points in curves.items():
        xs, ys = zip(*points, strict=True)
        place = order.index(name)
        style = {"label": name, "linewidth": 1.4, "color": f"C{place % 10}", "linestyle": _DASHES[place // 10 % 4]}
        if errors is not None:
            axes.errorbar(xs, ys, yerr=errors[name], marker="o", capsize=3, **style)
        else:
            axes.plot(xs, ys, marker="o" if marks else None, **style)
    if limits is not None:
        axes.set_xlim(*limits)
        axes.set_ylim(0, 1.02)
    if ticks:
        axes.set_xticks(range(len(ticks)), ticks)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    _legend(figure, list(curves))
    return _svg(figure, title)


def scatter_svg(groups: Mapping[str, Points], title: str) -> str:
    """Named groups of points as an ``<svg>`` element, without numbers at the axes: of an embedding only neighbours count."""
    figure, axes = _figure(list(groups))
    for number, (name, points) in enumerate(groups.items()):
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, label=name, s=14, marker="osD^vPX*"[number % 8], alpha=0.8)
    axes.set(xticks=[], yticks=[], title=title)
    _legend(figure, list(groups))
    return _svg(figure, title)


def _figure(names: Sequence[str]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    lines = -(-len(names) // _columns(names))
    figure = Figure(figsize=(5.8, 3.3 + 0.18 * lines), layout="constrained")
    return figure, figure.subplots()


def _columns(names: Sequence[str]) -> int:
    """Columns of a legend below its figure: two, where the names are short enough."""
    return 2 if len(names) > 1 and max(map(len, names)) <= _SHORT else 1


def _legend(figure: Any, names: Sequence[str]) -> None:
    figure.legend(loc="outside lower center", ncols=_columns(names), fontsize=9, frameon=False)


def _svg(figure: Any, title: str) -> str:
    buffer = io.StringIO()
    # A fixed salt and no date: the same numbers give the same file.
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), count=1, flags=re.DOTALL)

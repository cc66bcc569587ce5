"""The trade-off between misses and false alarms over all thresholds, as one inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from promptad.report.histogram import ticks

_WIDTH, _HEIGHT = 760, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 86, 16, 62, 44


def trade_off_svg(results: Mapping[str, Any]) -> str:
    """Shares of missed and falsely alarmed photos over the threshold, and the cost where there is one.

    Args:
        results: `Acceptance.to_dict()`, also after JSON.

    Returns:
        An ``<svg>`` element of numbers and fixed words; colours come from the page through the classes ``line missed``, ``line alarmed``,
        ``line cost``, ``axis``, ``grid``, ``tick``, ``limit`` and ``best``.
    """
    points = results["points"]
    levels = [float(point["threshold"]) for point in points]
    low, high = min([*levels, results["threshold"]]), max([*levels, results["threshold"]])
    pad = (high - low) * 0.02 or max(abs(low) * 0.05, 0.05)
    low, high, base = low - pad, high + pad, _HEIGHT - _BOTTOM

    def x_of(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(share: float) -> float:
        return base - share * (base - _TOP)

    parts = [
        f'<svg class="trade-off" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Misses and false alarms over the threshold, '
        f'{low:.4g} to {high:.4g}">'
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(share):.1f}" y2="{y_of(share):.1f}"/>'
            f'<text class="tick" x="{_LEFT - 8}" y="{y_of(share) + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>'
        )
    for tick in ticks(low, high, 6):
        parts.append(
            f'<text class="tick x" x="{x_of(tick):.1f}" y="{base + 20}" text-anchor="middle">{tick:.6g}</text>'
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text class="tick title" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">threshold</text>'
    )
    for name in ("missed", "alarmed"):
        if total := results[name]["photos"]:
            parts.append(_line(name, points, name, total, x_of, y_of))
    if results["costs"] is not None:
        most = max(float(point["cost"]) for point in points) or 1.0
        parts.append(_line("cost", points, "cost", most, x_of, y_of))
    parts.append(_marker(x_of(results["threshold"]), results["threshold"], "now", "limit", base, 20))
    best = results["cheapest"]
    if best is not None and best["threshold"] != results["threshold"]:
        parts.append(_marker(x_of(best["threshold"]), best["threshold"], "cheapest", "best", base, 48))
    return "".join([*parts, "</svg>"])


def _line(
    name: str,
    points: Sequence[Mapping[str, Any]],
    key: str,
    whole: float,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
) -> str:
    """Steps: between two thresholds nothing changes until a score lies between them, which is in their middle."""
    path = f"M{x_of(points[0]['threshold']):.1f} {y_of(points[0][key] / whole):.1f}"
    for before, after in pairwise(points):
        middle = (before["threshold"] + after["threshold"]) / 2
        path += f"H{x_of(middle):.1f}V{y_of(after[key] / whole):.1f}H{x_of(after['threshold']):.1f}"
    return f'<path class="line {name}" d="{path}"/>'


def _marker(x: float, value: float, what: str, kind: str, base: int, y: int) -> str:
    """A threshold as an upright line with its number."""
    side, shift = ("end", -6) if x > _WIDTH * 0.7 else ("start", 6)
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 12}" y2="{base}"/>'
        f'<text class="{kind}-text" x="{x + shift:.1f}" y="{y}" text-anchor="{side}">{what} {value:.4g}</text>'
    )

"""The histogram of the scores of a run as one inline SVG, with the threshold as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Group = Literal["normal", "anomalous", "all"]

_WIDTH, _HEIGHT = 760, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 26, 34


@dataclass(frozen=True)
class Histogram:
    """Counts of scores in equal steps.

    Attributes:
        edges: n + 1 rising borders; a score on an inner border counts to the bin on its right.
        counts: for each group the n counts, groups in drawing order from the base line up.
    """

    edges: tuple[float, ...]
    counts: dict[Group, tuple[int, ...]]


def histogram(
    scores: Sequence[float],
    labels: Sequence[int | None] | None = None,
    threshold: float | None = None,
    good: Sequence[float] = (),
) -> Histogram:
    """Equal bins that span all scores and the threshold if finite, which is then a border of two bins.

    Args:
        scores: finite scores, at least one.
        labels: one for each score, 0 normal, 1 anomalous, None unknown. The groups "normal" and "anomalous"
            are kept apart only when all are known; else everything is in the one group "all".
        threshold: included in the span, as are the scores of ``good`` photos.
    """
    values = np.asarray(scores, np.float64)
    known = labels is not None and all(label is not None for label in labels)
    ends = np.append(values, np.asarray(good, np.float64))
    ends = np.append(ends, threshold) if threshold is not None and math.isfinite(threshold) else ends
    low, high = float(ends.min()), float(ends.max())
    if not high > low:
        margin = max(abs(low) * 0.05, 0.05)
        low, high = low - margin, high + margin
    bins = int(np.clip(2 * math.sqrt(len(values)), 8, 48))
    step = (high - low) / bins
    if threshold is not None and math.isfinite(threshold):  # a border lies on it, so that no bar has both sides
        first, last = math.floor((low - threshold) / step - 1e-9), math.ceil((high - threshold) / step + 1e-9)
        edges = threshold + step * np.arange(first, last + 1)
    else:
        edges = np.linspace(low, high, bins + 1)
    counts: dict[Group, tuple[int, ...]] = {}
    if known and labels is not None:
        truth = np.asarray([int(label or 0) for label in labels])
        counts["normal"] = tuple(int(n) for n in np.histogram(values[truth == 0], edges)[0])
        counts["anomalous"] = tuple(int(n) for n in np.histogram(values[truth == 1], edges)[0])
    else:
        counts["all"] = tuple(int(n) for n in np.histogram(values, edges)[0])
    return Histogram(tuple(float(edge) for edge in edges), counts)


def histogram_svg(
    scores: Sequence[float],
    labels: Sequence[int | None] | None = None,
    threshold: float | None = None,
    good: Sequence[float] = (),
) -> str:
    """The histogram as an ``<svg>`` element; empty text without scores. Scores of ``good`` photos are marked under the axis.

    It holds numbers and fixed words only. Colours come from the page through the classes ``bar normal``,
    ``bar anomalous``, ``bar all``, ``axis``, ``tick`` and ``limit``.
    """
    if not scores:
        return ""
    data = histogram(scores, labels, threshold, good)
    low, high = data.edges[0], data.edges[-1]
    totals = np.sum(list(data.counts.values()), axis=0)
    y_ticks = [tick for tick in ticks(0, max(1, int(totals.max())), 4) if tick == int(tick)]
    y_max = max(float(totals.max()), y_ticks[-1])
    base, span = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP

    def x_of(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    parts = [
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" data-low="{low!r}" data-high="{high!r}" '
        f'data-left="{_LEFT}" data-right="{_WIDTH - _RIGHT}" data-top="{_TOP - 14}" data-base="{base}" '
        f'aria-label="{_description(scores, threshold, good)}">',
        *(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base - tick / y_max * span:.1f}" '
            f'y2="{base - tick / y_max * span:.1f}"/><text class="tick" x="{_LEFT - 8}" '
            f'y="{base - tick / y_max * span + 4:.1f}" text-anchor="end">{tick:.0f}</text>'
            for tick in y_ticks
        ),
    ]
    for i in range(len(data.edges) - 1):
        x, width, y = x_of(data.edges[i]), x_of(data.edges[i + 1]) - x_of(data.edges[i]), float(base)
        for group, counts in data.counts.items():
            if counts[i]:
                height = counts[i] / y_max * span
                y -= height
                parts.append(
                    f'<rect class="bar {group}" x="{x + 0.75:.1f}" y="{y:.1f}" width="{width - 1.5:.1f}" '
                    f'height="{height:.1f}"><title>'
                    f"{data.edges[i]:.4g} to {data.edges[i + 1]:.4g}: {counts[i]}"
                    f"{'' if group == 'all' else ' ' + group}</title></rect>"
                )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    parts.extend(_good_marks([x_of(score) for score in good], good, base))
    for tick in ticks(low, high, 8):
        parts.append(
            f'<text class="tick x" x="{x_of(tick):.1f}" y="{base + 16}" text-anchor="middle">{tick:.6g}</text>'
        )
    parts.append(
        f'<text class="tick title" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 3}" text-anchor="middle">'
        "score (larger = more anomalous)</text>"
    )
    if threshold is not None and math.isfinite(threshold):
        parts.append(_limit(x_of(threshold), threshold, base))
    return "".join([*parts, "</svg>"])


def _limit(x: float, threshold: float, base: int) -> str:
    """The threshold as a line with its number."""
    side = "end" if x > _WIDTH * 0.7 else "start"
    return (
        f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 14}" y2="{base}"/>'
        f'<text class="limit-text" x="{x + (-6 if side == "end" else 6):.1f}" y="{_TOP - 8}" '
        f'text-anchor="{side}">threshold {threshold:.4g}</text>'
    )


def _good_marks(places: Sequence[float], scores: Sequence[float], base: int) -> list[str]:
    """Triangles under the axis, with their scores as titles."""
    return [
        f'<path class="good" d="M{x:.1f} {base + 1}l4.5 8h-9z"><title>good photo {score:.4g}</title></path>'
        for x, score in zip(places, scores, strict=True)
    ]


def ticks(low: float, high: float, about: int) -> list[float]:
    """About ``about`` round numbers from ``low`` to ``high``, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _description(scores: Sequence[float], threshold: float | None, good: Sequence[float]) -> str:
    text = f"Histogram of {len(scores)} scores from {min(scores):.4g} to {max(scores):.4g}"
    if good:
        text += f"; good photos from {min(good):.4g} to {max(good):.4g}"
    return text if threshold is None else f"{text}; threshold {threshold:.4g}"

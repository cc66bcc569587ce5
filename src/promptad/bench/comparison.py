"""Our rows beside published numbers: which belong together, and what must be said where none do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptad.bench.conventions import conventions_of
from promptad.bench.published import METRICS, Number, Published, recognise
from promptad.bench.summary import Cell, Line
from promptad.data.shots import shots_order, shots_word

# The conventions on which numbers of pixels hang, and those of images do not.
_OF_MAPS = ("eval_size", "masks", "pixels")


@dataclass(frozen=True)
class Beside:
    """One of our means and the published number that it belongs to; difference None where the backbones differ."""

    line: Line
    number: Number
    ours: Cell
    difference: float | None


@dataclass(frozen=True)
class Standing:
    """What may be said of published numbers.

    Attributes:
        data_set: the public data set that this is, whole; None for any other.
        beside: our means with their published counterparts. notes: sentences for the reader.
    """

    data_set: Published | None
    beside: tuple[Beside, ...]
    notes: tuple[str, ...]


def stand(units: Sequence[Mapping[str, Any]], lines: Sequence[Line], backbone: str = "") -> Standing:
    """Compares finished units with what is published.

    Args:
        lines: means over classes. backbone: the name of ours; "" where each line has its own.
    """
    counts: dict[str, tuple[int, int, int]] = {}
    for unit in units:
        photos = unit["photos"]
        counts[unit["class"]] = (photos["training"], photos["normal"], photos["anomalous"])
    known = recognise(counts)
    if known is None:
        return Standing(None, (), ("no published numbers: these are not classes of MVTec AD or VisA",))
    reason = _why_incomparable(known, counts)
    if reason:
        return Standing(None, (), (f"no published numbers: {reason}",))
    beside = tuple(pair for line in lines for pair in _beside(line, known, backbone or line.backbone))
    shots = {line.shots for line in lines}
    here = backbone or ", ".join(dict.fromkeys(line.backbone for line in lines))
    methods = {number.method for number in known.numbers if number.shots in shots}
    notes = [
        f"published: means over all {len(known.classes)} classes of {known.name}, in percent; each number's source and "
        f"backbone stand beside it, here it is {here}"
    ]
    alone = [line.label for line in lines if not any(pair.line is line for pair in beside)]
    if alone:
        notes.append(
            f"no published number belongs to: {'; '.join(dict.fromkeys(alone))} (a number belongs to the settings that its "
            "paper states: preset paper or release, and the row's own settings)"
        )
    apart = [line.label for line in lines if _without_pixels(line, known, backbone or line.backbone)]
    if apart:
        notes.append(
            f"no published pixel number belongs to: {'; '.join(dict.fromkeys(apart))} (its maps and masks are compared in "
            "another way than the preset's)"
        )
    if any(pair.line.method == "promptad" for pair in beside):
        notes.append(
            "published PromptAD numbers: the released code chooses the epoch on the test set (F-7), so the "
            "oracle rows are their counterpart"
        )
    notes += [
        f"contradiction in print ({', '.join(entry.methods)}): {entry.words}"
        for entry in known.contradictions
        if methods & set(entry.methods)
    ]
    return Standing(known, beside, tuple(notes))


def _why_incomparable(known: Published, counts: Mapping[str, tuple[int, int, int]]) -> str:
    """Why means over these classes are not those of the public set; "" where they are."""
    if not known.complete(counts):
        return f"those of {known.name} are means over all its {len(known.classes)} classes, here are {len(counts)}"
    differing = known.differing_counts(counts)
    if differing:
        more = f" (and {len(differing) - 1} more classes)" if len(differing) > 1 else ""
        return f"{differing[0]}{more}"
    return ""


def _beside(line: Line, known: Published, backbone: str) -> list[Beside]:
    pairs = []
    for number in known.counterparts(line.method, line.parts, line.shots, line.config, backbone):
        cell = line.cells[number.column]
        if not _measured_alike(line, number):
            continue
        if cell is not None and known.complete(cell.classes):
            same = number.backbone == backbone
            pairs.append(Beside(line, number, cell, 100 * cell.mean - number.mean if same else None))
    return pairs


def _measured_alike(line: Line, number: Number) -> bool:
    """Whether maps and masks of a row are compared as those of a preset that a number of pixels belongs to."""
    if number.ours is None or not number.metric.startswith("pixel") or not line.conventions:
        return True
    ways = [conventions_of(line.method, preset).as_dict() for preset in number.ours.presets]
    return any(all(line.conventions.get(key) == way[key] for key in _OF_MAPS) for way in ways)


def _without_pixels(line: Line, known: Published, backbone: str) -> bool:
    """Whether numbers of pixels would stand beside a row if it were measured as they are."""
    numbers = known.counterparts(line.method, line.parts, line.shots, line.config, backbone)
    return any(not _measured_alike(line, number) for number in numbers)


def published_rows(known: Published, shots: Sequence[int]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the papers' main tables for these numbers of shots: only metrics that some row has."""
    numbers = [number for number in known.numbers if number.listed and number.shots in shots]
    metrics = [metric for metric in METRICS if any(number.metric == metric for number in numbers)]
    rows = []
    for k in sorted(set(shots), key=shots_order):
        keys = dict.fromkeys((n.method, n.source, n.backbone) for n in numbers if n.shots == k)
        for method, source, backbone in keys:
            own = [n for n in numbers if (n.shots, n.method, n.source, n.backbone) == (k, method, source, backbone)]
            cells = []
            for metric in metrics:
                number = next((n for n in own if n.metric == metric), None)
                cells.append("–" if number is None else spread(number.mean, number.std))
            rows.append((f"{method}{own[0].mark}", shots_word(k), *cells, f"{source}; {backbone}"))
    return ("method", "shots", *(METRICS[metric] for metric in metrics), "source"), rows


def spread(mean: float, std: float | None) -> str:
    """A mean with its standard deviation, if there is one."""
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"

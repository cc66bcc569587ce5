"""One self-contained HTML page for a benchmark: tables, histograms of scores, ROC and PRO curves, and maps side by side."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from promptad import __version__
from promptad.bench.pictures import read_pictures
from promptad.bench.summary import PART_WORDS, labelled_words
from promptad.bench.tables import Report, Table, tables
from promptad.bench.units import picture_path
from promptad.data.files import write_atomic
from promptad.data.photos import read_mask, read_photo
from promptad.data.records import Record
from promptad.data.shots import shots_order, shots_words
from promptad.errors import PromptadError
from promptad.metrics.ranking import auroc
from promptad.report.heatmap import overlay
from promptad.report.histogram import histogram_svg
from promptad.report.thumbnails import small, thumbnail
from promptad.suite import plots
from promptad.suite.overview import heading
from promptad.suite.run import SetResult, SuiteResult

_EDGE = 150
# Rows whose curves and histograms are drawn, of one set and one k; more make neither readable.
_DRAWN = 24
_WORST_SHOWN = 8


@dataclass(frozen=True)
class Strip:
    """One photo with its mask and its maps: (caption, data URI) each."""

    name: str
    pictures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Drawn:
    """A row's map of a photo, and the values between which its colours lie."""

    label: str
    values: NDArray[np.float32]
    scale: tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A figure of its own: an ``<svg>`` element, or pictures, (caption, data URI) each."""

    title: str
    svg: str = ""
    pictures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Lead:
    """What stands first on a page: lines on what was chosen, and figures."""

    remarks: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()


def write_page(
    result: SuiteResult,
    over: Sequence[Table],
    reports: Mapping[str, Report],
    out: Path,
    command: str = "",
    lead: Lead = Lead(),
) -> Path:
    """Writes ``report.html``. Raises DataError where it cannot be written."""
    sections = [
        _section(of_set, reports[of_set.plan.title], out, worst=result.plan.worst_pictures)
        for of_set in result.sets
        if of_set.plan.title in reports
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("promptad.suite").joinpath("page.html.j2").read_text(encoding="utf-8")
    style = files("promptad.suite").joinpath("page.css").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        title=heading(result),
        version=__version__,
        command=command,
        style=Markup(style),
        overview=over,
        remarks=lead.remarks,
        figures=[replace(figure, svg=Markup(figure.svg)) for figure in lead.figures],
        sections=sections,
        problems=result.problems,
    )
    write_atomic(out / "report.html", page)
    return out / "report.html"


def _section(of_set: SetResult, report: Report, out: Path, *, worst: bool) -> dict[str, Any]:
    drawn = plots.available()
    return {
        "title": report.title,
        "header": report.header,
        "tables": tables(report, full=True),
        "footer": report.footer,
        "histograms": list(_histograms(of_set)),
        "curves": [Markup(svg) for svg in _curves(of_set)] if drawn else [],
        "strips": _strips(of_set, out, worst=worst),
    }


def _named(of_set: SetResult) -> Iterator[tuple[str, int, list[tuple[Mapping[str, Any], Mapping[str, Any]]]]]:
    """Each row of a set: its label, k, and (unit, row) of its classes and runs; the last epoch alone."""
    groups: dict[tuple[str, int], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for unit in of_set.outcome.units:
        for row in unit["rows"]:
            if row["selection"] == "last":
                part = PART_WORDS.get(row["parts"], row["parts"])
                words = (f"{unit['method']} {unit['preset']}", unit["name"], labelled_words(unit), part)
                label = ", ".join(word for word in words if word)
                groups.setdefault((label, unit["shots"]), []).append((unit, row))
    for (label, shots), members in groups.items():
        yield label, shots, members


def _histograms(of_set: SetResult) -> Iterator[tuple[str, Markup]]:
    """Scores of the first run, all classes together, of each row."""
    for label, shots, members in sorted(_named(of_set), key=lambda named: shots_order(named[1]))[:_DRAWN]:
        scores, labels = [], []
        for unit, row in members:
            if unit["run"] == 0:
                scores += row["scores"]
                labels += [photo["label"] for photo in unit["test"]]
        if scores:
            yield f"{label}, {shots_words(shots)}", Markup(histogram_svg(scores, labels))


def _curves(of_set: SetResult) -> Iterator[str]:
    """ROC of image scores and PRO over the false-positive rate of pixels, mean over classes and runs, one figure each k."""
    rows = list(_named(of_set))
    colours = list(dict.fromkeys(label for label, _, _ in rows))
    for shots in sorted({k for _, k, _ in rows}, key=shots_order):
        roc: dict[str, plots.Points] = {}
        pro: dict[str, plots.Points] = {}
        for label, k, members in rows:
            if k != shots:
                continue
            image = [curve for unit, row in members if (curve := _roc(unit, row))]
            region = [row["pro_curve"] for _, row in members if row["pro_curve"]]
            if image and len(roc) < _DRAWN:
                roc[label] = plots.mean_curve(image)
            if region and len(pro) < _DRAWN:
                pro[label] = plots.mean_curve(region, 61)
        where = f"{of_set.plan.title}, {shots_words(shots)}"
        if roc:
            name = f"ROC of photos: {where}"
            yield plots.lines_svg(roc, "false alarm rate", "share found", name, limits=(0, 1), colours=colours)
        if pro:
            name = f"Per-region overlap: {where}"
            axis = "false-positive rate of pixels"
            yield plots.lines_svg(pro, axis, "PRO", name, limits=(0, 0.3), colours=colours)


def _roc(unit: Mapping[str, Any], row: Mapping[str, Any]) -> list[tuple[float, float]]:
    pairs = [(p["label"], s) for p, s in zip(unit["test"], row["scores"], strict=True) if p["label"] is not None]
    labels = [label for label, _ in pairs]
    return plots.roc_points(labels, [score for _, score in pairs]) if len(set(labels)) == 2 else []


# -- pictures ------------------------------------------------------------------------------------------------------


def _strips(of_set: SetResult, out: Path, *, worst: bool) -> list[Strip]:
    """Photo, mask and each row's map, of a few photos a class; `worst`: of those whose first map fits its mask worst."""
    known, maps = of_set.photos, _maps(of_set, out)
    names = [name for name in maps if name in known]
    if worst:
        fits = {name: _fit(known[name], maps[name][0].values) for name in names}
        names = sorted(names, key=fits.__getitem__)[:_WORST_SHOWN]
    strips = []
    masks = any(known[name].mask is not None for name in names)
    for name in names:
        try:
            strips.append(Strip(name, tuple(_pictures(known[name], maps[name], masks))))
        except PromptadError:
            continue  # it was read for the numbers, and lies there no more
    return strips


def _maps(of_set: SetResult, out: Path) -> dict[str, list[Drawn]]:
    """Name of a photo -> its stored maps of the first run, a row each."""
    maps: dict[str, list[Drawn]] = {}
    for label, shots, members in _named(of_set):
        for unit, row in members:
            if unit["run"] != 0:
                continue
            stored = read_pictures(picture_path(out, unit["key"]))
            own = {number: values for (parts, number), values in stored.items() if parts == row["parts"]}
            scale = _scale(list(own.values()))
            for number, values in own.items():
                drawn = Drawn(f"{label}, {shots_words(shots)}", values, scale)
                maps.setdefault(unit["test"][number]["file"], []).append(drawn)
    return maps


def _fit(record: Record, values: NDArray[np.float32]) -> float:
    """AUROC of the pixels of a map; above 1 where there is no mask to compare with."""
    if record.mask is None:
        return 2.0
    mask = Image.fromarray(read_mask(record.mask)).convert("L").resize(values.shape[::-1], Image.Resampling.BOX)
    truth = np.asarray(mask).ravel() > 127
    return auroc(truth, values.ravel()) if truth.any() and not truth.all() else 2.0


def _scale(values: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Where the colours of one row's maps begin and end: the median and the maximum of the shown photos of a class."""
    if not values:
        return 0.0, 1.0
    low = statistics.median(float(np.median(v)) for v in values)
    high = max(float(v.max()) for v in values)
    return (low, high) if high > low else (low, low + 1e-6 + abs(low) * 1e-3)


def _pictures(record: Record, drawn: Sequence[Drawn], masks: bool) -> Iterator[tuple[str, str]]:
    """`masks`: whether there is a column for them."""
    photo = small(read_photo(record.photo), _EDGE)
    size = photo.shape[:2]
    yield ("good" if record.label == 0 else record.defect_type or "anomalous"), thumbnail(photo).uri
    if record.mask is not None:
        mask = Image.fromarray(read_mask(record.mask)).convert("L").resize(size[::-1], Image.Resampling.NEAREST)
        yield "mask", thumbnail(np.repeat((np.asarray(mask) > 0)[..., None] * np.uint8(255), 3, axis=2)).uri
    elif masks:
        shade = 0 if record.label == 0 else 128
        yield "no defect" if record.label == 0 else "no mask", thumbnail(np.full((*size, 3), shade, np.uint8)).uri
    for row in drawn:
        large = Image.fromarray(row.values).resize(size[::-1], Image.Resampling.BILINEAR)
        yield row.label, thumbnail(overlay(photo, np.asarray(large), *row.scale, desaturate=0.7)).uri

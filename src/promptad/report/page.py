"""One self-contained HTML page for a run: no network, no other file, works from a mail or a memory stick."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from promptad import __version__
from promptad.data.files import shown, write_atomic
from promptad.errors import PhotoError
from promptad.report.colours import css_gradient
from promptad.report.histogram import histogram_svg
from promptad.report.page_data import other_remarks, page_data, region_lines
from promptad.report.rows import TOP_DEFECTS, VERDICTS, Row, counted, worst_first
from promptad.report.thumbnails import Thumbnail, thumbnail

_SCRIPTS = ("marks.js", "page.js", "viewer.js")
_STANDING = 200  # rows that stand in the page itself, without scripts too


@dataclass(frozen=True)
class Metric:
    """One line of the metrics table: a value, or the reason why there is none.

    Attributes:
        name: as the field calls it ("image AUROC").
        value: the number, or None when it was skipped.
        note: a remark to the value ("threshold chosen on the test labels"), or the reason for skipping.
    """

    name: str
    value: float | None
    note: str = ""


@dataclass(frozen=True)
class PageSummary:
    """What the head of the page says about the run. Empty texts and None are left out.

    Attributes:
        object: what the photos show ("cookie").
        method, backbone: names, with preset or size as the reader should see them.
        threshold: the image-level threshold; None means that photos are only ranked.
        threshold_note: how the threshold was set and with what confidence, in a sentence.
        map_low, map_high: the colour scale of the heat maps; both or none.
        map_threshold: the pixel level of the outlines. map_note: how it was set and what it promises.
        command: the command line that made the page.
        metrics: shown when labels are known.
        words: the defect words that photos were compared with.
        notices: what was assumed, left out or not used, a line each (:mod:`promptad.notices`).
        notes: further remarks, a paragraph each ("12 of 40 photos were taken from an earlier run").
        good_scores: scores of the photos that set the threshold, marked in the histogram. good_words: what these are.
        version: of promptad.
        created: date and time as text; now by default.
    """

    object: str = ""
    method: str = ""
    backbone: str = ""
    threshold: float | None = None
    threshold_note: str = ""
    map_low: float | None = None
    map_high: float | None = None
    map_threshold: float | None = None
    command: str = ""
    metrics: tuple[Metric, ...] = ()
    words: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    good_scores: tuple[float, ...] = ()
    good_words: str = ""
    map_note: str = ""
    version: str = __version__
    created: str = field(default_factory=lambda: datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"))


@dataclass(frozen=True)
class _View:
    """A row as the template shows it. Links lead from the page to the files; "" where there is none."""

    row: Row
    rank: int
    folder: str
    name: str
    score: str
    truth: str  # "", "normal", "anomalous"
    outcome: str  # "", "missed", "false alarm"
    times: str  # the score as a multiple of the threshold
    place: float | None  # of the score between the smallest and the largest, 0 to 100
    photo: Thumbnail | None
    heatmap: Thumbnail | None
    photo_link: str
    heatmap_link: str
    picture_error: str
    remarks: Sequence[str]
    regions: Sequence[tuple[str, str]]
    shown_width: int  # of both pictures in the table, in CSS pixels


def write_page(
    path: Path | str,
    rows: Sequence[Row],
    *,
    title: str,
    summary: PageSummary,
    max_pictures: int = 200,
    max_rows: int = 20000,
    edge: int = 360,
    input_range: float | None = None,
) -> None:
    """Write the page for a run, complete or not at all.

    Photos come worst first. The page shows small pictures that are part of it and links to photos and heat maps at full
    size, which it opens beside each other where they lie at the end of their links. Pictures are read, made small and
    written one at a time, so memory does not grow with the size of the photos. A photo that cannot be read any more is
    said to be so in its row.

    Args:
        path: the HTML file.
        rows: one for each photo, any order; failed photos and skipped files get sections of their own.
        title: heading of the page.
        summary: the head of the page.
        max_pictures: only so many of the worst photos are shown with pictures.
        max_rows: only so many of the worst photos are listed; counts and histogram are of all. Those after the first few hundred
            are built by the page's script when they are reached.
        edge: long edge of the pictures in pixels, at most.
        input_range: the value that was white in photos of more than 8 bits; None as their files say.

    Raises:
        DataError: the file cannot be written.
    """
    resources = files("promptad.report")
    script = "".join(resources.joinpath(name).read_text("utf-8") for name in _SCRIPTS)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.joinpath("page.html.j2").read_text("utf-8"))
    parts = template.generate(
        title=title,
        summary=summary,
        gradient=Markup(css_gradient()),
        top_defects=TOP_DEFECTS,
        style=Markup(resources.joinpath("page.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        **_values(worst_first(rows), Path(path).parent, summary, max_pictures, max_rows, edge, input_range),
    )
    write_atomic(path, "".join(parts).encode("utf-8", "backslashreplace"))


def _values(
    rows: list[Row],
    base: Path,
    summary: PageSummary,
    max_pictures: int,
    max_rows: int,
    edge: int,
    input_range: float | None,
) -> dict[str, Any]:
    """What the template shows of the rows, which come worst first."""
    threshold = summary.threshold
    limit = threshold if threshold is not None and math.isfinite(threshold) else None
    scored = [row for row in rows if row.score is not None]
    folder, home = _folder(rows)
    scores = [row.score or 0.0 for row in scored]
    labels = [row.label for row in scored]
    seconds = [row.seconds for row in scored if row.seconds is not None]
    pictured = min(len(scored), max_rows, max_pictures)
    standing, ends = min(len(scored), max_rows, max(max_pictures, _STANDING)), [] if limit is None else [limit]
    return {
        "folder": shown(home),
        "counts": counted(rows),
        "verdicts": VERDICTS,
        "total": sum(row.verdict != "skipped" for row in rows),
        "views": _views(scored, base, folder, threshold, max_pictures, standing, edge, input_range),
        "standing": standing,
        "limit": limit,
        "ends": (min([*scores, *ends]), max([*scores, *ends])) if scores else (0.0, 0.0),
        "data": page_data(
            scored[:max_rows],
            lambda photo: _inside(photo, folder),
            lambda file: _link(file, base),
            base,
            threshold=limit,
            decimals=_decimals(scores),
            columns=_columns(scored, pictured),
            command=summary.command,
        ),
        "limit_place": None if threshold is None else _placer(scores, threshold)(threshold),
        "unread": {
            verdict: [(shown(_inside(row.photo, folder)), row.error) for row in rows if row.verdict == verdict]
            for verdict in ("failed", "skipped")
        },
        "unequal": len({row.inspected for row in scored}) > 1,
        "partly": [row.inspected for row in scored if row.inspected is not None and row.inspected < 1],
        "listed": min(len(scored), max_rows),
        "scored": len(scored),
        "pictured": pictured,
        "worded": any(row.defects for row in scored),
        "regional": any(word.region_probability is not None for row in scored for word in row.defects),
        "discovery": _chosen(scored),
        "labelled": any(label is not None for label in labels),
        "all_labelled": bool(labels) and None not in labels,
        "outcomes": Counter(_outcome(row) for row in scored),
        "seconds_each": sum(seconds) / len(seconds) if seconds else None,
        "number": _formatter(scores),
        "histogram": Markup(histogram_svg(scores, labels, threshold, summary.good_scores)),
    }


def _views(
    rows: list[Row],
    base: Path,
    folder: str,
    threshold: float | None,
    max_pictures: int,
    max_rows: int,
    edge: int,
    input_range: float | None,
) -> Iterator[_View]:
    scores = [row.score or 0.0 for row in rows]
    number = _formatter(scores)
    place = _placer(scores, threshold)
    for rank, (row, score) in enumerate(zip(rows[:max_rows], scores, strict=False), start=1):
        photo, heatmap, problem = _pictures(row, base, edge, input_range) if rank <= max_pictures else (None, None, "")
        relative = _inside(row.photo, folder)
        yield _View(
            row=row,
            rank=rank,
            folder=shown(os.path.dirname(relative)),
            name=shown(os.path.basename(relative)),
            score=number(score),
            truth={0: "normal", 1: "anomalous"}.get(row.label, "") if row.label is not None else "",
            outcome=_outcome(row),
            place=place(score),
            times=f"{score / threshold:.2f} × threshold" if threshold and 0 < threshold < math.inf else "",
            photo=photo,
            heatmap=heatmap,
            photo_link=_link(row.photo_file(base), base) if row.photo else "",
            heatmap_link=_link(base / row.heatmap, base) if row.heatmap else "",
            picture_error=problem,
            remarks=other_remarks(row),
            regions=region_lines(row),
            shown_width=sum(min(150, round(112 * p.width / p.height)) + 4 for p in (photo, heatmap) if p),
        )


def _pictures(
    row: Row, base: Path, edge: int, input_range: float | None
) -> tuple[Thumbnail | None, Thumbnail | None, str]:
    """The small photo, the small heat map, and why one of them is missing."""
    photo, heatmap = row.picture, row.heatmap_picture
    problem = ""
    if photo is None:
        try:
            photo = thumbnail(row.photo_file(base), edge, input_range=input_range)
        except PhotoError as error:
            problem = str(error)
    if heatmap is None and row.heatmap is not None:
        try:
            heatmap = thumbnail(base / row.heatmap, edge, crop=row.size)
        except PhotoError as error:
            problem = problem or str(error)
    return photo, heatmap, problem


def _chosen(rows: Sequence[Row]) -> tuple[int, float] | None:
    """How many photos were chosen, and at which false discovery rate; None where none was asked for."""
    rates = [row.discovery.rate for row in rows if row.discovery is not None]
    return (sum(row.discovery is not None and row.discovery.chosen for row in rows), rates[0]) if rates else None


def _link(target: Path, base: Path) -> str:
    """A link from a page in ``base`` to a file, relative where there is such a way, so that it survives a move."""
    full = os.path.abspath(target)
    try:
        relative = os.path.relpath(full, os.path.abspath(base))
    except ValueError:  # another drive
        return Path(full).as_uri()
    # A first segment with a colon would read as a scheme.
    return "./" + urllib.parse.quote(os.fsencode(Path(relative).as_posix()))


def _outcome(row: Row) -> str:
    if row.label == 1 and row.verdict == "normal":
        return "missed"
    return "false alarm" if row.label == 0 and row.verdict == "anomalous" else ""


def _formatter(scores: Sequence[float]) -> Callable[[float], str]:
    """Writes scores with :func:`_decimals`."""
    decimals = _decimals(scores)
    return lambda value: f"{value:.{decimals}f}"


def _decimals(scores: Sequence[float]) -> int:
    """As many decimals as the spread of scores needs: about four digits that differ."""
    span = max(scores) - min(scores) if scores else 0.0
    return int(min(10, max(0, 3 - math.floor(math.log10(span))))) if span > 0 else 4


def _columns(rows: Sequence[Row], pictured: int) -> list[str]:
    """The columns of the table, by the classes of their cells."""
    shown_ones = {"pictured": bool(pictured), "worded": any(row.defects for row in rows)}
    return [name for name in ("rank", "pictured", "file", "verdict", "score", "worded") if shown_ones.get(name, True)]


def _placer(scores: Sequence[float], threshold: float | None) -> Callable[[float], float | None]:
    """Where a value lies on the span of scores and threshold, 0 to 100; None when that span is empty."""
    ends = [*scores, threshold] if threshold is not None and math.isfinite(threshold) else [*scores]
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
    return lambda value: 100 * (value - low) / (high - low) if low <= value <= high and high > low else None


def _folder(rows: list[Row]) -> tuple[str, str]:
    """The deepest folder that all photos share, "" when there is none, as their paths begin and as the page tells it."""
    roots = {row.root for row in rows}
    try:
        common = os.path.commonpath([os.path.dirname(row.photo) for row in rows])
    except ValueError:  # no photos, other drives, or absolute paths mixed with relative ones
        common = ""
    if len(roots) != 1 or None in roots:
        return common, common
    return common, os.path.normpath(os.path.join(str(roots.pop()), common))


def _inside(photo: str, folder: str) -> str:
    return os.path.relpath(photo, folder) if folder else photo

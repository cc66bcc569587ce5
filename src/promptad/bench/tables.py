"""The result of an evaluation as tables: text for a terminal, a Markdown page, and CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptad import __version__
from promptad.bench import notes
from promptad.bench.protocol import Protocol
from promptad.bench.published import Published, recognise
from promptad.bench.run import Outcome
from promptad.bench.summary import COLUMNS, Line, by_class, summarise
from promptad.data.files import write_atomic
from promptad.methods.registry import find_method
from promptad.metrics.accumulator import PIXEL_METRICS

F1 = "F1-max (oracle threshold)"
IMAGE_COLUMNS = {
    "AUROC": "image_auroc",
    "AP": "image_ap",
    F1: "image_f1_max",
    "false alarms": "false_alarms",
    "found": "found",
}
PIXEL_COLUMNS = {
    "AUROC": "pixel_auroc",
    "AP": "pixel_ap",
    F1: "pixel_f1_max",
    "AUPRO@0.3": "aupro_30",
    "AUPRO@0.05": "aupro_05",
    "AUPRO-200": "aupro_200",
}
_KEYS = ("method", "shots", "selection")


@dataclass(frozen=True)
class Table:
    """A titled table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Report:
    """All that is shown of an evaluation.

    Attributes:
        title: the data set. header: (name, words) lines above the tables. footer: sentences below them.
        lines: means over classes. class_lines: every class.
        published: numbers of the data set, if it was recognised. classes: classes that were evaluated.
    """

    title: str
    header: tuple[tuple[str, str], ...]
    footer: tuple[str, ...]
    lines: tuple[Line, ...]
    class_lines: tuple[Line, ...]
    published: Published | None
    classes: tuple[str, ...]


def make_report(title: str, protocol: Protocol, backbone: tuple[str, str], outcome: Outcome) -> Report:
    """The report on finished units.

    Args:
        title: the data set's name. backbone: its name, and its one-line identity.
    """
    lines, units = summarise(outcome.units), outcome.units
    classes = tuple(dict.fromkeys(unit["class"] for unit in units))
    known = recognise(classes)
    size = protocol.eval_size
    oracle = any(line.oracle for line in lines)
    last = protocol.seed(protocol.runs - 1)
    settings = {f"{k}={v}": None for variant in protocol.variants for k, v in variant.settings}
    header = [
        ("classes", f"{len(classes)}: {', '.join(classes)}" if classes else "none"),
        ("backbone", backbone[1]),
        ("selection", _selection_words(oracle)),
        (
            "evaluated",
            "maps and masks at each photo's own size" if size == "photo" else f"maps and masks at {size} x {size}",
        ),
        (
            "runs",
            f"{protocol.runs}, seeds {protocol.base_seed} to {last}" if protocol.runs > 1 else f"1, seed {last}",
        ),
        ("settings", ", ".join(settings)),
        (
            "numbers",
            "percent; mean over classes" + (" ± sample standard deviation over runs" if protocol.runs > 1 else ""),
        ),
        ("promptad", __version__),
    ]
    footer = [
        notes.F1_NOTE,
        *notes.threshold_note(lines),
        *notes.oracle_notes(lines),
        *notes.unused_notes(lines),
        *notes.trained_notes(units),
        *notes.skipped_notes(units),
        *notes.partial_notes(lines),
        *(f"not evaluated: {failure.reason}" for failure in outcome.failures),
        *(f"left out: {line}" for line in outcome.problems),
        *notes.published_notes(known, classes, units, backbone[0]),
    ]
    return Report(
        title,
        tuple((name, words) for name, words in header if words),
        tuple(footer),
        tuple(lines),
        tuple(by_class(units)),
        known,
        classes,
    )


def _selection_words(oracle: bool) -> str:
    if not oracle:
        return "last epoch"
    return (
        "rows marked oracle: best epoch on the test set, image and pixel prompts separately (F-7); "
        "beside them the last epoch of the same runs"
    )


def tables(report: Report, *, full: bool) -> list[Table]:
    """Image metrics, pixel metrics, classes, published numbers; `full` adds columns beyond a terminal's."""
    made = [_measured("image", IMAGE_COLUMNS, report)]
    if any(line.cells[metric] for line in report.lines for metric in PIXEL_METRICS):
        made.append(_measured("pixel", PIXEL_COLUMNS, report))
    if full or len(report.classes) > 1:
        made.append(_per_class(report, full))
    if report.published is not None:
        made.append(_published(report, report.published))
    return made


def _measured(kind: str, columns: dict[str, str], report: Report) -> Table:
    first = f"{kind}_auroc"
    compared = [notes.beside(report.published, line, first) for line in report.lines]
    extra = ("published AUROC", "difference") if any(number for number, _ in compared) else ()
    rows = []
    for line, pair in zip(report.lines, compared, strict=True):
        numbers = [notes.percent(line.cells[column]) for column in columns.values()]
        rows.append((*_key(line), *numbers, *(pair if extra else ())))
    return Table(f"{kind} level", (*_KEYS, *columns, *extra), tuple(rows))


def _per_class(report: Report, full: bool) -> Table:
    columns = {f"image {name}": column for name, column in IMAGE_COLUMNS.items()}
    columns |= {name if name.startswith("AUPRO") else f"pixel {name}": column for name, column in PIXEL_COLUMNS.items()}
    if not full:
        kept = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro_30")
        columns = {name: column for name, column in columns.items() if column in kept}
    rows = [
        (line.class_name, *_key(line), *(notes.percent(line.cells[column]) for column in columns.values()))
        for line in report.class_lines
    ]
    return Table("every class", ("class", *_KEYS, *columns), tuple(rows))


def _published(report: Report, known: Published) -> Table:
    """All methods of the paper for the shots that were evaluated; never beside means of other classes."""
    metrics = {
        "image AUROC": "image_auroc",
        "pixel AUROC": "pixel_auroc",
        "image AUPR": "image_aupr",
        "PRO": "pixel_pro",
    }
    shots = sorted({line.shots for line in report.lines})
    rows = []
    for k in shots:
        for method in dict.fromkeys(one.method for one in known.numbers if one.shots == k):
            cells, source = [], ""
            for metric in metrics.values():
                [number] = known.lookup(metric, k, method) or [None]
                cells.append("–" if number is None else notes.spread(number.mean, number.std))
                source = f"{number.source}; {number.backbone}" if number else source
            rows.append((method, str(k), *cells, source))
    return Table(known.scope(report.classes), ("method", "shots", *metrics, "source"), tuple(rows))


def _key(line: Line) -> tuple[str, str, str]:
    return line.label, str(line.shots), _selected(line)


def _selected(line: Line) -> str:
    if line.oracle:
        return "oracle"
    trained = find_method(line.method).trained
    return "last" if line.shots and not trained else "trained elsewhere" if trained else "untrained"


# -- forms ---------------------------------------------------------------------------------------------------


def text(report: Report) -> str:
    """The report for a terminal: aligned columns, no drawing."""
    lines = [report.title, *_aligned([(name, words) for name, words in report.header])]
    for table in tables(report, full=False):
        short = tuple(name.replace(F1, "F1-max*") for name in table.columns)
        lines += ["", table.title, *_aligned([short, *table.rows])]
    return "\n".join([*lines, "", *("* " + one if one == notes.F1_NOTE else "- " + one for one in report.footer)])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown(report: Report) -> str:
    """The report as a Markdown page, with all columns."""
    lines = [
        f"# {_escape(report.title)}",
        "",
        *(f"- {name}: {_escape(words)}" for name, words in report.header),
    ]
    for table in tables(report, full=True):
        lines += [
            "",
            f"## {_escape(table.title)}",
            "",
            _row(table.columns),
            _row(["---"] * len(table.columns)),
        ]
        lines += [_row(row) for row in table.rows]
    return "\n".join([*lines, "", "## Notes", "", *(f"- {_escape(one)}" for one in report.footer), ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(words: str) -> str:
    for mark in "\\|*_<>`":
        words = words.replace(mark, "\\" + mark)
    return words


def csv_text(lines: Sequence[Line]) -> str:
    """Rows with every mean and standard deviation as fractions, and the number of classes behind them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    numbers = [f"{_csv_name(column)}{end}" for column in COLUMNS for end in ("", "_std", "_classes")]
    writer.writerow(["class", "method", "preset", "trained", "parts", "shots", "runs", "selection", *numbers])
    for line in lines:
        runs = max((cell.runs for cell in line.cells.values() if cell), default=0)
        cells: list[Any] = []
        for column in COLUMNS:
            cell = line.cells[column]
            spread = "" if cell is None or cell.std is None else f"{cell.std:.6f}"
            cells += ["", "", ""] if cell is None else [f"{cell.mean:.6f}", spread, len(cell.classes)]
        name = line.class_name or "mean"
        row = [name, line.method, line.preset, line.name, line.parts, line.shots, runs, _selected(line), *cells]
        writer.writerow(row)
    return out.getvalue()


def _csv_name(column: str) -> str:
    return f"{column}_oracle_threshold" if column.endswith("f1_max") else column


def write_report(report: Report, out: Path) -> list[Path]:
    """Writes ``table.md``, ``summary.csv`` and ``per-class.csv``, and gives their paths.

    Raises:
        DataError: the folder cannot be written.
    """
    contents = {
        "table.md": markdown(report),
        "summary.csv": csv_text(report.lines),
        "per-class.csv": csv_text(report.class_lines),
    }
    for name, content in contents.items():
        write_atomic(out / name, content)
    return [out / name for name in contents]

"""The result of an evaluation as tables: text for a terminal, and a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptad import __version__
from promptad.bench import notes
from promptad.bench.comparison import Standing, published_rows, spread, stand
from promptad.bench.protocol import Protocol
from promptad.bench.published import METRICS
from promptad.bench.run import Outcome
from promptad.bench.saturated import SATURATED
from promptad.bench.summary import Line, by_class, summarise
from promptad.bench.uncertainty import Comparison, compare
from promptad.data.shots import shots_word, shots_words
from promptad.methods.registry import find_method
from promptad.metrics.accumulator import PIXEL_METRICS

F1 = "F1-max (oracle threshold)"
INTERVAL = "95 %"
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
_KEYS = ("method", "shots", "runs", "selection")
# More pairs than these are in comparisons.csv alone.
_SHOWN_PAIRS = 15


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
        lines: means over classes. class_lines: every class. pairs: differences between rows, see :func:`compared`.
        standing: what is published of this data set. classes: classes that were evaluated. units: what it is made from.
    """

    title: str
    header: tuple[tuple[str, str], ...]
    footer: tuple[str, ...]
    lines: tuple[Line, ...]
    class_lines: tuple[Line, ...]
    pairs: tuple[tuple[Line, Line, Comparison], ...]
    standing: Standing
    classes: tuple[str, ...]
    units: Sequence[Mapping[str, Any]]


def make_report(title: str, protocol: Protocol, backbone: tuple[str, str], outcome: Outcome) -> Report:
    """The report on finished units.

    Args:
        title: the data set's name. backbone: its name, and its one-line identity.
    """
    lines, units = summarise(outcome.units), outcome.units
    classes = tuple(dict.fromkeys(unit["class"] for unit in units))
    standing = stand(units, lines, backbone[0])
    footer = [
        *notes.limit_note(protocol.limit),
        notes.F1_NOTE,
        *([notes.AUPRO_200_NOTE] if any(line.cells["aupro_200"] for line in lines) else ()),
        notes.INTERVAL_NOTE,
        *notes.threshold_note(lines),
        *notes.oracle_notes(lines),
        *notes.unused_notes(lines),
        *notes.trained_notes(units),
        *notes.contaminated_notes(units),
        *notes.near_notes(units),
        *notes.anomaly_notes(units),
        *notes.skipped_notes(units),
        *notes.partial_notes(lines),
        *(f"not evaluated: {failure.reason}" for failure in outcome.failures),
        *(f"left out: {line}" for line in outcome.problems),
        *standing.notes,
    ]
    return Report(
        f"{title} (first look, {protocol.limit} photos a class and label)" if protocol.limit else title,
        _header(protocol, backbone[1], classes, any(line.oracle for line in lines)),
        tuple(footer),
        tuple(lines),
        tuple(by_class(units)),
        tuple(compared(lines)),
        standing,
        classes,
        units,
    )


def _header(protocol: Protocol, backbone: str, classes: Sequence[str], oracle: bool) -> tuple[tuple[str, str], ...]:
    settings = {f"{k}={v}": None for variant in protocol.variants for k, v in variant.settings}
    measured: dict[str, list[str]] = {}
    for variant in protocol.variants:
        rows = measured.setdefault(protocol.measured_by(variant).words, [])
        if f"{variant.method} {variant.preset}" not in rows:
            rows.append(f"{variant.method} {variant.preset}")
    each = [words if len(measured) == 1 else f"{', '.join(rows)}: {words}" for words, rows in measured.items()]
    source = protocol.given.source if protocol.given is not None else ""
    header = [
        ("classes", f"{len(classes)}: {', '.join(classes)}" if classes else "none"),
        ("backbone", backbone),
        ("selection", _selection_words(oracle)),
        ("evaluated", "; ".join(each)),
        ("good photos", f"named by {source}" if source else ""),
        ("seeds", f"run r has seed {protocol.base_seed} + r - 1; how many runs a row has stands in it"),
        ("settings", ", ".join(settings)),
        ("numbers", "percent; mean over classes ± sample standard deviation over runs, where there are several"),
        ("limit", f"{protocol.limit} normal and {protocol.limit} anomalous photos a class" if protocol.limit else ""),
        ("promptad", __version__),
    ]
    return tuple((name, words) for name, words in header if words)


def compared(lines: Sequence[Line]) -> Iterator[tuple[Line, Line, Comparison]]:
    """Every row against each earlier one, where both are of the same classes and photos."""
    for later, line in enumerate(lines):
        for earlier in lines[:later]:
            comparison = compare(line.scores, earlier.scores)
            if comparison is not None:
                yield line, earlier, comparison


def _selection_words(oracle: bool) -> str:
    if not oracle:
        return "last epoch"
    return (
        "rows marked oracle: best epoch on the test set, image and pixel prompts separately (F-7); "
        "beside them the last epoch of the same runs"
    )


def tables(report: Report, *, full: bool) -> list[Table]:
    """Image metrics, pixel metrics, classes, differences, published numbers; `full` adds columns beyond a terminal's."""
    made = [_measured("image", IMAGE_COLUMNS, report)]
    if any(line.cells[metric] for line in report.lines for metric in PIXEL_METRICS):
        made.append(_measured("pixel", PIXEL_COLUMNS, report))
    if any(line.cells[metric] for line in report.lines for metric in SATURATED):
        made.append(_measured("logical and structural", {name: key for key, name in SATURATED.items()}, report))
    if full or len(report.classes) > 1:
        made.append(_per_class(report, full))
    if 0 < len(report.pairs) <= _SHOWN_PAIRS:
        made.append(_differences(report))
    if report.standing.beside:
        made.append(_beside(report))
    if report.standing.data_set is not None:
        columns, rows = published_rows(report.standing.data_set, [line.shots for line in report.lines])
        made.append(
            Table(f"published, mean of all {len(report.standing.data_set.classes)} classes", columns, tuple(rows))
        )
    return made


def _measured(kind: str, columns: dict[str, str], report: Report) -> Table:
    rows = []
    for line in report.lines:
        numbers = [notes.percent(line.cells[column]) for column in columns.values()]
        if kind == "image":
            numbers.insert(1, _interval(line))
        rows.append((*_key(line), *numbers))
    names = list(columns)
    if kind == "image":
        names.insert(1, INTERVAL)
    return Table(f"{kind} level", (*_KEYS, *names), tuple(rows))


def _interval(line: Line) -> str:
    interval = line.scores.interval if line.cells["image_auroc"] is not None else None
    return "–" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _differences(report: Report) -> Table:
    rows = [
        (
            f"{line.label}, {shots_words(line.shots)}{_mark(line)}",
            f"{earlier.label}, {shots_words(earlier.shots)}{_mark(earlier)}",
            f"{100 * pair.difference:+.1f}",
            f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}",
            f"{pair.p:.3f}" if pair.p >= 0.001 else "< 0.001",
            pair.test,
        )
        for line, earlier, pair in report.pairs
    ]
    columns = ("row", "against", "difference", INTERVAL, "p", "test")
    return Table("differences in image AUROC, same photos", columns, tuple(rows))


def _mark(line: Line) -> str:
    return ", oracle" if line.oracle else ""


def _beside(report: Report) -> Table:
    rows = []
    for pair in report.standing.beside:
        number = pair.number
        difference = "other backbone" if pair.difference is None else f"{pair.difference:+.1f}"
        where = f"{number.source}, {number.table}" if number.table else number.source
        metric = f"{METRICS[number.metric]} ({notes.NAMES[number.column]})"
        rows.append(
            (
                *_key(pair.line),
                metric,
                notes.percent(pair.ours),
                spread(number.mean, number.std),
                difference,
                number.method,
                f"{where}; {number.backbone}",
            )
        )
    columns = (*_KEYS, "metric", "here", "published", "difference", "published as", "source")
    return Table("beside the published numbers", columns, tuple(rows))


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


def _key(line: Line) -> tuple[str, str, str, str]:
    return line.label, shots_word(line.shots), str(len(line.seeds)), selected(line)


def selected(line: Line) -> str:
    """How its epoch was chosen, or where it was trained, in a word or two."""
    if line.class_name in line.trained_on:
        return "TRAINED ON IT"
    if line.oracle:
        return "oracle"
    trained = find_method(line.method).trained
    return "last" if line.shots and not trained else "trained elsewhere" if trained else "untrained"


# -- forms ---------------------------------------------------------------------------------------------------


def text(report: Report) -> str:
    """The report for a terminal: aligned columns, no drawing."""
    lines = [report.title, *aligned([(name, words) for name, words in report.header])]
    for table in tables(report, full=False):
        short = tuple(name.replace(F1, "F1-max*") for name in table.columns)
        lines += ["", table.title, *aligned([short, *table.rows])]
    return "\n".join([*lines, "", *("* " + line if line == notes.F1_NOTE else "- " + line for line in report.footer)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns stand below each other."""
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
        lines += ["", *markdown_table(table)]
    return "\n".join([*lines, "", "## Notes", "", *(f"- {_escape(line)}" for line in report.footer), ""])


def markdown_table(table: Table) -> list[str]:
    """The lines of one table under its title."""
    rows = [_row(row) for row in (table.columns, ["---"] * len(table.columns), *table.rows)]
    return [f"## {_escape(table.title)}", "", *rows]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(words: str) -> str:
    for mark in "\\|*_<>`":
        words = words.replace(mark, "\\" + mark)
    return words

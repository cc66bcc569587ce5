"""The files of an evaluation: the page, and everything behind it as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptad.bench.summary import COLUMNS, Line, labelled_words
from promptad.bench.tables import Report, markdown, selected
from promptad.data.files import write_atomic
from promptad.data.shots import shots_word

_ROW = ["method", "preset", "trained", "anomalies", "parts", "shots", "runs", "selection"]


def write_report(report: Report, out: Path) -> list[Path]:
    """Writes ``table.md``, ``summary.csv``, ``per-class.csv``, ``scores.csv`` and ``comparisons.csv``; gives their paths.

    Raises:
        DataError: the folder cannot be written.
    """
    contents = {
        "table.md": markdown(report),
        "summary.csv": summary_csv(report.lines),
        "per-class.csv": summary_csv(report.class_lines),
        "scores.csv": scores_csv(report.units),
        "comparisons.csv": comparisons_csv(report),
    }
    for name, content in contents.items():
        write_atomic(out / name, content)
    return [out / name for name in contents]


def summary_csv(lines: Sequence[Line]) -> str:
    """Rows with every mean and standard deviation as fractions, the number of classes behind them, and the interval."""
    numbers = [f"{_csv_name(column)}{end}" for column in COLUMNS for end in ("", "_std", "_classes")]
    rows = []
    for line in lines:
        cells: list[Any] = []
        for column in COLUMNS:
            cell = line.cells[column]
            deviation = "" if cell is None or cell.std is None else f"{cell.std:.6f}"
            cells += ["", "", ""] if cell is None else [f"{cell.mean:.6f}", deviation, len(cell.classes)]
        interval = line.scores.interval or ("", "")
        bounds = [f"{bound:.6f}" if bound != "" else "" for bound in interval]
        rows.append([line.class_name or "mean", *_row(line), *cells, *bounds, " ".join(map(str, line.seeds))])
    return _csv(["class", *_ROW, *numbers, "image_auroc_low95", "image_auroc_high95", "seeds"], rows)


def scores_csv(units: Sequence[Mapping[str, Any]]) -> str:
    """The image score of every test photo in every row and run; label 0 normal, 1 anomalous, empty where unknown."""
    rows = []
    for unit in units:
        what = [unit["class"], unit["method"], unit["preset"], unit["name"]]
        for row in unit["rows"]:
            for photo, score in zip(unit["test"], row["scores"], strict=True):
                label = "" if photo["label"] is None else photo["label"]
                where = [
                    labelled_words(unit),
                    row["parts"],
                    shots_word(unit["shots"]),
                    unit["run"] + 1,
                    unit["seed"],
                    row["selection"],
                ]
                rows.append([*what, *where, photo["file"], label, repr(score)])
    columns = ["class", "method", "preset", "trained", "anomalies", "parts", "shots", "run", "seed", "selection"]
    return _csv([*columns, "photo", "label", "score"], rows)


def comparisons_csv(report: Report) -> str:
    """All pairs of rows on the same photos: difference in image AUROC as a fraction, 95 % interval, p, and the test."""
    rows = []
    for line, earlier, pair in report.pairs:
        numbers = [f"{value:.6f}" for value in (pair.difference, pair.low, pair.high, pair.p)]
        rows.append([*_row(line), *_row(earlier), *numbers, pair.test])
    columns = [*_ROW, *(f"against_{name}" for name in _ROW), "difference", "low95", "high95", "p", "test"]
    return _csv(columns, rows)


def _row(line: Line) -> list[Any]:
    return [
        line.method,
        line.preset,
        line.name,
        line.anomalies,
        line.parts,
        shots_word(line.shots),
        len(line.seeds),
        selected(line),
    ]


def _csv_name(column: str) -> str:
    return f"{column}_oracle_threshold" if column.endswith("f1_max") else column


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()

"""The table of a run as a CSV file, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from promptad.data.files import shown, write_atomic
from promptad.data.whole_lines import WholeLines, whole_bytes
from promptad.errors import DataError
from promptad.prediction import Prediction
from promptad.report.rows import TOP_DEFECTS, Row

COLUMNS: tuple[str, ...] = (
    "photo",
    "verdict",
    "score",
    "threshold",
    *(f"defect_{i}{part}" for i in range(1, TOP_DEFECTS + 1) for part in ("", "_photo", "_region")),
    "hottest_x",
    "hottest_y",
    "regions",
    "region_area",
    "width",
    "height",
    "parts",
    "seconds",
    "method",
    "backbone",
    "label",
    "heatmap",
    "map_file",
    "root",
    "inspected",
    "p_value",
    "discovery_rate",
    "chosen",
    "remarks",
    "error",
)
"""The columns of the CSV file, always all of them and in this order. ``defect_1`` holds the most probable
words, ``defect_1_photo`` and ``defect_1_region`` their probability for the photo and its hottest region. ``regions`` counts them and
``region_area`` is their area together in pixels. ``photo`` is relative to ``root``, and ``root``, ``heatmap`` and ``map_file`` are relative to the folder of the table."""


def open_table(path: Path) -> WholeLines:
    """A table to add rows to (:func:`table_line`), in the order in which photos come.

    Raises:
        DataError: what stands there is no such table. OSError: it cannot be opened.
    """
    whole = whole_bytes(path) if path.exists() else 0
    if whole:
        with open(path, "rb") as file:
            first = file.readline(len(HEADER) + 1)
        if first != HEADER:
            raise DataError(
                f"{shown(path)}: is no table as promptad writes it now, or was saved by another program; move it away"
            )
    return WholeLines(path, HEADER, whole)


def write_csv(path: Path | str, rows: Iterable[Row | Prediction]) -> None:
    """Write rows or predictions as a CSV file, in the given order, complete or not at all.

    UTF-8 with a byte order mark, so that spreadsheets show file names right; commas, full precision. A text
    that a spreadsheet would run as a formula (first character = + - @, tab or line end) gets an apostrophe in
    front. A file name that is not printable text is written escaped, as in error messages.

    Raises:
        DataError: the file cannot be written.
    """
    write_atomic(path, HEADER + b"".join(table_line(Row.of(r) if isinstance(r, Prediction) else r) for r in rows))


def table_line(row: Row) -> bytes:
    """The row as a line of the table, its end included."""
    cells = _cells(row)
    return _line([safe_cell(cells.get(column)) for column in COLUMNS])


def _line(cells: Sequence[object]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().encode("utf-8", "backslashreplace")


HEADER = b"\xef\xbb\xbf" + _line(COLUMNS)
"""The first line, behind a byte order mark."""


def _cells(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "photo": shown(row.photo),
        "verdict": row.verdict,
        "score": row.score,
        "threshold": row.threshold,
        "p_value": row.p_value,
        "discovery_rate": None if row.discovery is None else row.discovery.rate,
        "chosen": None if row.discovery is None else int(row.discovery.chosen),
        "parts": "; ".join(f"{name}={value}" for name, value in row.parts.items()),
        "seconds": None if row.seconds is None else round(row.seconds, 4),
        "method": row.method,
        "backbone": row.backbone,
        "label": row.label,
        "heatmap": None if row.heatmap is None else shown(row.heatmap),
        "map_file": None if row.map_file is None else shown(row.map_file),
        "root": None if row.root is None else shown(row.root),
        "inspected": None if row.inspected is None else round(row.inspected, 4),
        "remarks": " ".join(row.remarks),
        "error": row.error,
    }
    for i, word in enumerate(row.defects[:TOP_DEFECTS], start=1):
        cells[f"defect_{i}"] = word.words
        cells[f"defect_{i}_photo"] = word.image_probability
        cells[f"defect_{i}_region"] = word.region_probability
    if row.regions is not None:
        cells["regions"], cells["region_area"] = len(row.regions), sum(region.area for region in row.regions)
    if row.hottest is not None:
        cells["hottest_y"], cells["hottest_x"] = row.hottest
    if row.size is not None:
        cells["height"], cells["width"] = row.size
    return cells


def safe_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula. Numbers stay numbers, None is an empty cell."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return "'" + value
    return "" if value is None else value

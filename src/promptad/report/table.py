"""The table of a run (CSV), and the log that lets a broken-off run go on where it stopped (JSON lines)."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from promptad.data.files import one_line, shown, write_atomic
from promptad.errors import DataError
from promptad.prediction import Prediction
from promptad.report.rows import Row

TOP_DEFECTS = 3
COLUMNS: tuple[str, ...] = (
    "photo",
    "verdict",
    "score",
    "threshold",
    *(f"defect_{i}{part}" for i in range(1, TOP_DEFECTS + 1) for part in ("", "_photo", "_region")),
    "hottest_x",
    "hottest_y",
    "width",
    "height",
    "parts",
    "seconds",
    "method",
    "backbone",
    "label",
    "heatmap",
    "error",
)
"""The columns of the CSV file, always all of them and in this order. ``defect_1`` holds the most probable
words, ``defect_1_photo`` and ``defect_1_region`` their probability for the photo and its hottest region."""

_HEADER = b'{"promptad": "result log", "version": 1}\n'


def write_csv(path: Path | str, rows: Iterable[Row | Prediction]) -> None:
    """Write rows or predictions as a CSV file, in the given order, complete or not at all.

    UTF-8 with a byte order mark, so that spreadsheets show file names right; commas, full precision. A text
    that a spreadsheet would run as a formula (first character = + - @, tab or line end) gets an apostrophe in
    front. A file name that is not printable text is written escaped, as in error messages.

    Raises:
        DataError: the file cannot be written.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = _cells(Row.of(row) if isinstance(row, Prediction) else row)
        writer.writerow([_safe(cells.get(column)) for column in COLUMNS])
    write_atomic(path, b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8", "backslashreplace"))


def _cells(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "photo": shown(row.photo),
        "verdict": row.verdict,
        "score": row.score,
        "threshold": row.threshold,
        "parts": "; ".join(f"{name}={value}" for name, value in row.parts.items()),
        "seconds": None if row.seconds is None else round(row.seconds, 4),
        "method": row.method,
        "backbone": row.backbone,
        "label": row.label,
        "heatmap": None if row.heatmap is None else shown(row.heatmap),
        "error": row.error,
    }
    for i, word in enumerate(row.defects[:TOP_DEFECTS], start=1):
        cells[f"defect_{i}"] = word.words
        cells[f"defect_{i}_photo"] = word.image_probability
        cells[f"defect_{i}_region"] = word.region_probability
    if row.hottest is not None:
        cells["hottest_y"], cells["hottest_x"] = row.hottest
    if row.size is not None:
        cells["height"], cells["width"] = row.size
    return cells


def _safe(value: object) -> object:
    """A cell that no spreadsheet takes for a formula. Numbers stay numbers, None is an empty cell."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return "'" + value
    return "" if value is None else value


def run_key(settings: Mapping[str, Any]) -> str:
    """A short name for everything that decides a result: method, configuration, weights, words, threshold.

    Args:
        settings: values that JSON can write; others count by their ``str``. The order does not matter.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_Key = tuple[str, int, int, str]


class ResultLog:
    """Results on disk as they come: one JSON line for each photo, appended at once.

    A second run that opens the same log asks :meth:`finished` for each photo and scores only the others. A
    result counts for a photo with the same path, size in bytes, time of change and run key. A failed photo
    does not count as finished, nor does one whose saved heat map is gone. A last line without its end, as a
    killed process leaves it, is cut off. Lines reach the operating system at once, which guards against a
    killed process, not against a power cut. One process at a time.

    Args:
        path: the log; created with its folders when missing.
        key: names the method, its configuration and the weights (:func:`run_key`).

    Raises:
        DataError: the file cannot be opened, is no log of promptad, or a line before the last is damaged.
    """

    def __init__(self, path: Path | str, key: str) -> None:
        self.path = Path(path)
        self.key = key
        self._rows: dict[_Key, Row] = {}
        self._asked: dict[str, _Key] = {}  # as the photo was before it was scored
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = self.path.read_bytes() if self.path.exists() else b""
            whole = self._read(content)
            # Unbuffered, so that after a full disk nothing half written waits to be written later.
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed in close()
            self._file.truncate(whole)
            self._end = whole
            if whole == 0:
                self._write(_HEADER)
        except OSError as error:
            raise DataError(
                f"{shown(self.path)}: result log cannot be opened ({one_line(error)}); choose another place"
            ) from error

    def __len__(self) -> int:
        """Number of photos with a result of this run key, failed ones included."""
        return len(self._rows)

    def finished(self, photo: Path | str) -> Row | None:
        """The result of an earlier run, with the path as given now; None when the photo has to be scored."""
        key = _key(photo, self.key)
        self._asked[key[0]] = key
        row = self._rows.get(key)
        if row is None or row.verdict == "failed":
            return None
        if row.heatmap is not None and not os.path.exists(row.heatmap):
            return None
        return replace(row, photo=os.fspath(photo))

    def append(self, row: Row) -> None:
        """Add the result for the photo at ``row.photo`` and hand it to the operating system at once.

        Raises:
            DataError: the line cannot be written (disk full, log closed).
        """
        key = self._asked.pop(os.path.abspath(row.photo), None) or _key(row.photo, self.key)
        entry = {"photo": key[0], "bytes": key[1], "mtime_ns": key[2], "run": key[3], "row": row.to_dict()}
        try:
            self._write(json.dumps(entry, allow_nan=False).encode("ascii") + b"\n")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{shown(self.path)}: result of {shown(row.photo)} cannot be written ({one_line(error)}); "
                "check the disk and start the run again, finished photos are kept"
            ) from error
        self._rows[key] = row

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> ResultLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        """Append a line whole or not at all."""
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(line)

    def _read(self, content: bytes) -> int:
        """Take over all whole lines; returns how many bytes they are."""
        if not content.startswith(_HEADER):
            if _HEADER.startswith(content):  # empty, or torn while its first line was written
                return 0
            raise DataError(f"{shown(self.path)}: is no result log of promptad; choose another name or remove it")
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].split(b"\n")[1:-1], start=2):
            try:
                entry = json.loads(line)
                row = Row.from_dict(entry["row"])
                key = (str(entry["photo"]), int(entry["bytes"]), int(entry["mtime_ns"]), str(entry["run"]))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{shown(self.path)}: line {number} is damaged ({one_line(error)}), expected one result; "
                    "remove the line, or the file to start anew"
                ) from error
            if key[3] == self.key:
                self._rows[key] = row
        return whole


def _key(photo: Path | str, run: str) -> _Key:
    path = os.path.abspath(photo)
    try:
        status = os.stat(path)
        return path, status.st_size, status.st_mtime_ns, run
    except (OSError, ValueError):
        return path, -1, -1, run

"""The log of a run: one JSON line for each photo, on disk at once, from which a broken-off run goes on.

The lines follow :mod:`promptad.report.schema`. Paths in them are relative and photos are known by their content, so that a
folder of results can be moved together with its photos.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from promptad.data.files import TEMPORARY, one_line, shown
from promptad.data.whole_lines import WholeLines, last_line, whole_bytes
from promptad.errors import DataError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.parsing import parsed_json
from promptad.prediction import RESULT_VERSION
from promptad.report.rows import Row
from promptad.report.schema import HEADER, check_result

_HEADER = json.dumps(HEADER).encode("ascii") + b"\n"

_Place = tuple[str, str | None, str | None]


def run_key(settings: Mapping[str, Any]) -> str:
    """A short name for everything that decides a score: method, configuration, weights, words. No threshold.

    Args:
        settings: values that JSON can write; others count by their ``str``. The order does not matter.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ResultLog:
    """Results on disk as they come: one JSON line for each photo, appended at once.

    A later run that opens the same log asks :meth:`find` for each photo and scores only the others. A result counts for a
    photo of the same content under the same run key; where the folder lies does not matter. A last line without its end,
    as a killed process leaves it, is cut off; a damaged line is passed over with a notice. Lines reach the operating
    system at once, which guards against a killed process, not against a power cut. One process at a time
    (:func:`promptad.data.lock.only_one`). What is appended is not kept in memory.

    Args:
        path: the log; created with its folders when missing.
        key: names what decides a score (:func:`run_key`).
        earlier: file to which :meth:`settle` puts results of other photos or detectors; it is read too.

    Raises:
        DataError: the file cannot be opened, is no log of promptad, or of another version.
    """

    def __init__(self, path: Path | str, key: str, *, earlier: Path | None = None) -> None:
        self.path, self.key, self.earlier = Path(path), key, earlier
        self._rows: dict[tuple[str, str], Row] = {}
        self._by_content: dict[str, Row] = {}
        self._claims: dict[str, _Place] = {}  # of which photo and detector a saved picture is
        self._here: set[_Place] = set()  # places whose row in `_rows` stands in the log itself
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = _whole(self.path)
            for file in [earlier, self.path] if earlier is not None else [self.path]:
                for _, values in _lines(file):
                    self._remember(Row.from_dict(values), file == self.path)
            self._file = WholeLines(self.path, _HEADER, whole)
        except OSError as error:
            raise DataError(
                f"{shown(self.path)}: result log cannot be opened ({one_line(error)}); choose another place"
            ) from error

    def __len__(self) -> int:
        """Number of photos that have a score of this run key from earlier runs."""
        return len(self._rows)

    def find(self, photo: str, sha256: str) -> Row | None:
        """The result of an earlier run for a photo of this content, that of the same path if there are several.

        None when the photo has to be scored; failed photos are tried again.
        """
        return self._rows.get((photo, sha256)) or self._by_content.get(sha256)

    def owner(self, file: str) -> tuple[str, str | None, str | None] | None:
        """Path, content and run key of the photo that the last line is about that names a picture; None without one."""
        return self._claims.get(file)

    def append(self, row: Row) -> None:
        """Add a result and hand it to the operating system at once; a line that stands there already is not repeated.

        Raises:
            DataError: the line cannot be written (disk full, log closed).
        """
        if row.sha256 is not None and _place(row) in self._here and self._rows[row.photo, row.sha256] == row:
            return
        try:
            self._file.add(encoded(row))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{shown(self.path)}: result of {shown(row.photo)} cannot be written ({one_line(error)}); "
                "check the disk and start the run again, finished photos are kept"
            ) from error

    def settle(self, rows: Iterable[Row], *, complete: bool) -> None:
        """Leave one line for each photo of a run, its newest.

        Args:
            rows: all rows of the run.
            Their lines get what was decided of the batch as a whole (`Row.discovery`).
            complete: lines of other photos and detectors go to ``earlier``; else they stay where they are, so that an
                interrupted run loses nothing.

        Raises:
            DataError: a file cannot be written; the log is then as it was.
        """
        rows = list(rows)
        mine, photos = {_place(row) for row in rows}, {row.photo for row in rows}
        decided = {_place(row): row.to_dict()["discovery"] for row in rows if row.discovery is not None}
        newest = {_place_of(values): number for number, (_, values) in enumerate(_lines(self.path))}
        with open(self.path, "rb") as file:
            total = sum(1 for _ in file) - 1  # damaged lines too, which then go
        moved = {place for place in newest if place not in mine} if complete else set()

        def outdated(values: Mapping[str, Any]) -> bool:
            """An unread photo that is read by now, or one of another run."""
            place = _place_of(values)
            return values["score"] is None and place not in mine and (complete or place[0] in photos)

        def lines(wanted: bool) -> Iterator[bytes]:
            for number, (line, values) in enumerate(_lines(self.path)):
                place = _place_of(values)
                if newest[place] == number and (place in moved) != wanted and not outdated(values):
                    if place in decided and values.get("discovery") != decided[place]:
                        line = json.dumps({**values, "discovery": decided[place]}, allow_nan=False).encode() + b"\n"
                    yield line

        if not decided and sum(1 for _ in lines(True)) == total:
            return

        if moved and self.earlier is not None:
            older = (line for line, values in _lines(self.earlier) if _place_of(values) not in newest)
            self._replace(self.earlier, [older, lines(False)])
        self._replace(self.path, [lines(True)])
        # The open file is the replaced one; nothing may be added to it any more.
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> ResultLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remember(self, row: Row, here: bool) -> None:
        for name in ("heatmap", "map_file"):
            self._claim(name, getattr(row, name), row)
        if row.run != self.key or row.sha256 is None or row.score is None:  # what failed is tried again
            return
        self._rows[row.photo, row.sha256] = row
        self._by_content[row.sha256] = row
        if here:
            self._here.add(_place(row))

    def _claim(self, name: str, file: str | None, row: Row) -> None:
        """A file that a later line names was written over: the earlier line's photo or detector has it no more."""
        if file is None:
            return
        place = _place(row)
        before = self._claims.get(file, place)
        self._claims[file] = place
        if before == place or before[1] is None or before[2] != self.key:
            return
        loser = self._rows.get((before[0], before[1]))
        if loser is not None and getattr(loser, name) == file:
            without: dict[str, Any] = {name: None}
            self._rows[before[0], before[1]] = replace(loser, **without)
            self._by_content[before[1]] = self._rows[before[0], before[1]]

    def _replace(self, path: Path, parts: Iterable[Iterator[bytes]]) -> None:
        """Write a log anew, line by line, and put it in its place when it is whole."""
        temporary = path.parent / TEMPORARY.replace("*", secrets.token_hex(8))
        try:
            with open(temporary, "wb") as file:
                file.write(_HEADER)
                for lines in parts:
                    file.writelines(lines)
            self._file.close()  # some systems replace no open file
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(f"{shown(path)}: cannot be written ({one_line(error)}); check the disk") from error
        finally:
            temporary.unlink(missing_ok=True)


def _place(row: Row) -> _Place:
    return row.photo, row.sha256, row.run


def _place_of(values: Mapping[str, Any]) -> _Place:
    return values["photo"] or "", values["sha256"], values["run"]


def encoded(row: Row) -> bytes:
    """A row as its line of the log."""
    return json.dumps(row.to_dict(), allow_nan=False).encode("ascii") + b"\n"


def open_results(path: Path) -> WholeLines:
    """A log to add rows to (:func:`encoded`), for a run that asks another file what was judged.

    Raises:
        DataError: the file is no log of promptad, or of another version. OSError: it cannot be opened.
    """
    return WholeLines(path, _HEADER, _whole(path))


def last_result(path: Path) -> Row | None:
    """The row in the last whole line of a log; None where there is none, or the line is damaged."""
    try:
        return Row.from_dict(parsed_json(last_line(path)))
    except ValueError:
        return None


def read_results(path: Path | str) -> list[Row]:
    """The rows of a ``results.jsonl``, in its order.

    Raises:
        DataError: there is no such file, or it is no log of promptad, or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{shown(path)}: there is no such result log; check the path")
    return [Row.from_dict(values) for _, values in _lines(path)]


def _whole(path: Path) -> int:
    """How many bytes the whole lines of a log are; 0 for one that is absent or torn in its first line.

    Raises:
        DataError: a file of another kind or version stands there.
    """
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        first = file.readline(len(_HEADER) + 200)
        if first == _HEADER:
            return whole_bytes(path)
    if _HEADER.startswith(first):
        return 0
    try:
        header = parsed_json(first)
        version = header["version"] if header["promptad"] in ("results", "result log") else None
    except (ValueError, KeyError, TypeError):
        version = None
    if version is None:
        raise DataError(f"{shown(path)}: is no result log of promptad; choose another name or remove it")
    raise DataError(
        f"{shown(path)}: holds results in version {version} of their form, expected {RESULT_VERSION}; "
        f"choose another output folder, or begin anew in this one ({argument('fresh', 'True')})"
    )


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The whole lines of a log behind its header, each as it stands and as the result that it is."""
    whole = _whole(path)
    if whole == 0:
        return
    with open(path, "rb") as file:
        position = len(file.readline())
        for number, line in enumerate(file, start=2):
            position += len(line)
            if position > whole:
                return
            try:
                values = parsed_json(line)
                check_result(values)
            except ValueError as error:
                notice(
                    f"{shown(path)}: line {number} is damaged ({one_line(error)[:200]}) and passed over; its photo is "
                    "judged again"
                )
                continue
            yield line, values

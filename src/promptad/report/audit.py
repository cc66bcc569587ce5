"""The audit log: every verdict as a line that carries the digest of the line before, so that no line can be altered, taken out
or put in between without every later one showing it.

The first line is the header. Each further line is a JSON object whose last field, ``digest``, is the SHA-256 of the line's text
without that field (of ``{... }`` with ``, "digest": "..."`` taken out), and whose field ``previous`` is the digest of the line
before, of the first that of the header's text. A chain shows what was changed inside it; that its end was cut off only shows
to somebody who kept a digest elsewhere (hash chains: Haber and Stornetta, How to time-stamp a digital document, 1991, section 5.1).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from promptad import __version__
from promptad.annotations import checked_value
from promptad.data.files import one_line, shown
from promptad.data.whole_lines import WholeLines, last_line, whole_bytes
from promptad.errors import ConfigError, DataError
from promptad.parsing import parsed_json

NAME = "audit.jsonl"
"""File of the log in the folder of a watch."""

HEADER = json.dumps({"promptad": "audit", "version": 1}).encode("ascii") + b"\n"
"""The first line."""

_END = re.compile(rb', "digest": "([0-9a-f]{64})"\}$')

_KINDS: dict[str, dict[str, Any]] = {
    "begin": {"detector": str, "run": str, "object": str, "method": str, "threshold": float | None},
    "photo": {
        "photo": str,
        "sha256": str,
        "detector": str,
        "score": float | None,
        "threshold": float | None,
        "verdict": str,
        "error": str,
        "camera": dict[str, float],
    },
    "drift": {"text": str, "since": str},
}
"""Kinds of entries, and the fields that each has beside ``entry``, ``time``, ``kind``, ``version`` and ``previous``."""


@dataclass(frozen=True)
class Line:
    """A line of an audit log as it stands on disk.

    Attributes:
        number: in the file, the header is 1. values: the entry. digest: of its text, as it says. end: bytes of the file up to its end.
        fault: what is wrong with it or its place in the chain, "" where nothing is.
    """

    number: int
    values: Mapping[str, Any]
    digest: str
    end: int
    fault: str = ""


class AuditLog:
    """An audit log to which entries are added; each is forced to the disk before :meth:`add` returns.

    Args:
        path: created when missing; a last line without its end, as a killed process leaves it, is cut off.

    Raises:
        DataError: what stands there is no audit log, or its last line is damaged. OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = whole_bytes(path) if path.exists() else 0
        self.entries, self.head = 0, _sha256(HEADER.rstrip(b"\n"))
        if whole:
            require_audit(path)
        if whole > len(HEADER):
            last = _read(0, last_line(path), whole, None, None)
            if last.fault:
                raise DataError(
                    f"{shown(path)}: its last line is damaged ({last.fault}); `promptad verify {path.name}` says more, and "
                    "another output folder begins anew"
                )
            self.entries, self.head = int(last.values["entry"]), last.digest
        self._file = WholeLines(path, HEADER, whole, forced=True)

    @property
    def end(self) -> int:
        """Bytes of the whole lines."""
        return self._file.end

    def add(self, kind: str, **values: Any) -> dict[str, Any]:
        """Adds an entry and gives it, its digest among it.

        Raises:
            OSError: it cannot be written; the log is as before.
        """
        assert set(values) == set(_KINDS[kind]), kind
        entry: dict[str, Any] = {"entry": self.entries + 1, "time": now(), "kind": kind, "version": __version__}
        entry |= {**values, "previous": self.head}
        body = json.dumps(entry, allow_nan=False).encode("ascii")
        entry["digest"] = _sha256(body)
        self._file.add(body[:-1] + f', "digest": "{entry["digest"]}"}}\n'.encode("ascii"))
        self.entries, self.head = self.entries + 1, entry["digest"]
        return entry

    def close(self) -> None:
        """May be called twice."""
        self._file.close()


def now() -> str:
    """The time with its distance to UTC, ISO 8601, to the millisecond."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def is_audit(path: Path) -> bool:
    """Whether a file begins as an audit log does."""
    with open(path, "rb") as file:
        return file.readline(len(HEADER) + 1) == HEADER


def require_audit(path: Path) -> None:
    """Raises DataError where a file is no audit log of this version."""
    if not is_audit(path):
        raise DataError(f"{shown(path)}: is no audit log of this version of promptad; choose another file or folder")


def audit_lines(path: Path, offset: int = 0, after: Line | None = None) -> Iterator[Line]:
    """The whole lines of an audit log behind its header, each with what is wrong with it.

    Args:
        offset: bytes to begin behind, the end of the line `after`; 0 for the whole log.

    Raises:
        DataError: it is no audit log, or cannot be read.
    """
    try:
        require_audit(path)
        whole = whole_bytes(path)
        end = max(offset, len(HEADER))
        previous = after.digest if after is not None else _sha256(HEADER.rstrip(b"\n")) if offset == 0 else None
        number, entry = (
            (after.number, int(after.values["entry"])) if after is not None else (1, 0 if not offset else None)
        )
        with open(path, "rb") as file:
            file.seek(end)
            for text in file:
                end += len(text)
                if end > whole:
                    return
                number += 1
                line = _read(number, text, end, previous, None if entry is None else entry + 1)
                yield line
                previous, entry = line.digest, line.values.get("entry") if line.values else None
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read ({one_line(error)}); check the path and its rights") from error


def _read(number: int, text: bytes, end: int, previous: str | None, entry: int | None) -> Line:
    """A line, and whether it follows the digest `previous` as entry number `entry`; None: anything is right."""
    text = text.rstrip(b"\n")
    match = _END.search(text)
    if match is None:
        return Line(number, {}, _sha256(text), end, "it has no digest")
    body = text[: match.start()] + b"}"
    digest = match.group(1).decode()  # what the next line should name, so that a fault is told where it is
    try:
        values = _checked(parsed_json(body))
    except (ValueError, ConfigError) as error:
        return Line(number, {}, digest, end, f"it is no entry: {one_line(error)[:150]}")
    fault = ""
    if digest != _sha256(body):
        fault = "its text is not what its digest was made of: it was altered"
    elif previous is not None and values["previous"] != previous:
        fault = "it does not follow the line before: lines were altered, taken out, put in or moved"
    elif entry is not None and values["entry"] != entry:
        fault = f"its number is {values['entry']}, {entry} was expected"
    return Line(number, values, digest, end, fault)


def _checked(values: Any) -> dict[str, Any]:
    """The fields of an entry, each of its kind. Raises ConfigError, ValueError."""
    values = checked_value("the line", dict[str, Any], values)
    kind = checked_value("kind", str, values.get("kind"))
    if kind not in _KINDS:
        raise ValueError(f"kind {kind!r}")
    types = {"entry": int, "time": str, "version": str, "previous": str, **_KINDS[kind]}
    return {**values, **{name: checked_value(name, type_, values.get(name)) for name, type_ in types.items()}}


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()

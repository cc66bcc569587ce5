"""Which contents a watch has judged, on disk: memory stays the same however many there are.

Everything here follows from the audit log and the folder of photos. It is made anew where it is missing or damaged.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from promptad.report.audit import audit_lines

NAME = ".promptad.judged.sqlite"

_TABLES = """
create table if not exists photos (sha256 blob primary key) without rowid;
create table if not exists files (path text primary key, size integer, changed integer, looked integer) without rowid;
create table if not exists state (name text primary key, value) without rowid;
"""


class Judged:
    """An index of the audit log by content, and of the files of the inbox that need no second look.

    Args:
        folder: of the watch, locked by it. log: the audit log.

    Raises:
        OSError: it cannot be written. DataError: the audit log cannot be read.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.path, self.log = folder / NAME, log
        try:
            self._open()
            self._catch_up()
        except sqlite3.DatabaseError:
            self._forget()
            self._open()
            self._catch_up()
        self._looks = 0

    def __contains__(self, sha256: str) -> bool:
        key = (bytes.fromhex(sha256),)
        return self._base.execute("select 1 from photos where sha256 = ?", key).fetchone() is not None

    def __len__(self) -> int:
        return int(self._base.execute("select count(*) from photos").fetchone()[0])

    def add(self, sha256: str, end: int, entry: int) -> None:
        """A content was judged. `end`, `entry`: bytes of the audit log with its line, and the number of that."""
        with _as_os_error():
            self._base.execute("insert or ignore into photos values (?)", (bytes.fromhex(sha256),))
            self._keep(end, entry)
            self._base.commit()

    def knows(self, path: str, size: int, changed: int) -> bool:
        """Whether a file was looked at already, as it is by its size and time of change (nanoseconds)."""
        row = self._base.execute("select size, changed, looked from files where path = ?", (path,)).fetchone()
        if row is None or row[:2] != (size, changed):
            return False
        if row[2] != self._looks:
            with suppress(sqlite3.OperationalError):  # a full disk; what is forgotten too early is looked at again
                self._base.execute("update files set looked = ? where path = ?", (self._looks, path))
        return True

    def note_file(self, path: str, size: int, changed: int) -> None:
        """The content of a file is judged."""
        with _as_os_error():
            self._base.execute("insert or replace into files values (?, ?, ?, ?)", (path, size, changed, self._looks))
            self._base.commit()

    def begin_look(self) -> None:
        """Before the inbox is gone through."""
        self._looks = 1 - self._looks

    def end_look(self) -> None:
        """After it was gone through whole: files that are gone need not be remembered."""
        with suppress(sqlite3.OperationalError):
            self._base.execute("delete from files where looked != ?", (self._looks,))
            self._base.commit()

    def close(self) -> None:
        """May be called twice."""
        self._base.close()

    def _open(self) -> None:
        self._base = sqlite3.connect(self.path, check_same_thread=False)
        self._base.execute("pragma journal_mode = wal")
        self._base.execute("pragma synchronous = off")  # after a power cut it is made anew
        self._base.executescript(_TABLES)

    def _forget(self) -> None:
        with suppress(AttributeError, sqlite3.Error):
            self._base.close()
        for ending in ("", "-wal", "-shm"):
            Path(f"{self.path}{ending}").unlink(missing_ok=True)

    def _keep(self, end: int, entry: int) -> None:
        self._base.execute("insert or replace into state values ('end', ?)", (end,))
        self._base.execute("insert or replace into state values ('entry', ?)", (entry,))

    def _catch_up(self) -> None:
        """Entries of the audit log that are not here yet."""
        state = dict(self._base.execute("select name, value from state").fetchall())
        end, entry = int(state.get("end", 0)), int(state.get("entry", 0))
        if end > self.log.stat().st_size:
            raise sqlite3.DatabaseError("it belongs to another log")
        for line in audit_lines(self.log, end):
            if entry and line.values and line.values["entry"] != entry + 1:
                raise sqlite3.DatabaseError("it belongs to another log")
            if line.values and line.values["kind"] == "photo":
                self._base.execute("insert or ignore into photos values (?)", (bytes.fromhex(line.values["sha256"]),))
            entry = int(line.values["entry"]) if line.values else entry + 1
            self._keep(line.end, entry)
        self._base.commit()


class _as_os_error:
    """A refusal of the data base, as by a full disk, becomes the `OSError` that other files give."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise OSError(f"{NAME}: {error}") from error

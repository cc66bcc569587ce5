"""A file that only grows, line by line: each line is there whole or not at all, whatever ends the process or fills the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_BLOCK = 1 << 16


class WholeLines:
    """An open file to which whole lines are added.

    Unbuffered, so that a line is with the operating system when :meth:`add` returns, and after a full disk nothing half written
    waits to be written later. One process at a time (:func:`promptad.data.lock.only_one`).

    Args:
        path: created when missing; its folder exists. header: the first line, its line end included.
        whole: bytes to keep, what lies behind goes (:func:`whole_bytes`); 0 begins with the header.
        forced: whether each line is forced to the disk too, which guards against a power cut and takes milliseconds.

    Raises:
        OSError: it cannot be opened or written.
    """

    def __init__(self, path: Path, header: bytes, whole: int, *, forced: bool = False) -> None:
        self.path, self.forced = path, forced
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed in close()
        try:
            self._file.truncate(whole)
            self.end = whole
            if whole == 0:
                self.add(header)
        except OSError:
            self._file.close()
            raise

    def add(self, line: bytes) -> None:
        """Append a line, its end included, whole or not at all.

        Raises:
            OSError: it cannot be written; the file is as before. ValueError: the file is closed.
        """
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.forced:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self.end)
            raise
        self.end += len(line)

    def close(self) -> None:
        """May be called twice."""
        self._file.close()


def whole_bytes(path: Path) -> int:
    """How many bytes of a file are whole lines; a killed process may leave a last one without its end."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:  # back to the last line end
            start = max(0, end - _BLOCK)
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
    return 0


def last_line(path: Path, most: int = 1 << 24) -> bytes:
    """The last whole line of a file with its end; b"" where there is none. Of a longer line its last `most` bytes."""
    if not path.exists():
        return b""
    end = whole_bytes(path)
    with open(path, "rb") as file:
        size = _BLOCK
        while True:
            start = max(0, end - size)
            file.seek(start)
            text = file.read(end - start)
            at = text.rfind(b"\n", 0, max(0, len(text) - 1))
            if at >= 0 or start == 0 or size >= most:
                return text[at + 1 :]
            size *= 4

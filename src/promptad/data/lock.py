"""One process at a time in a folder: a lock that the operating system lets go when its holder ends, however it ends."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from promptad.data.files import one_line, prepare_folder, shown
from promptad.errors import DataError
from promptad.notices import notice
from promptad.parsing import parsed_json

LOCK_NAME = ".promptad.lock"
"""File in the folder that carries the lock. It stays there; only a lock on it means that somebody is at work."""

LONGEST_NAME = 255
"""Bytes that a file system lets a file's name have, on all that people use."""

_REFUSALS = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Inside, no other process and no other thread is inside for the same folder.

    Args:
        folder: exists and can be written.

    Raises:
        DataError: another one is; the line says which process on which machine, and since when.
    """
    path = folder / LOCK_NAME
    try:
        file = open(path, "a+b")  # noqa: SIM115 - closed below, which lets the lock go
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be written ({one_line(error)}); choose another folder") from error
    with file:
        _hold(file, folder, "another folder")
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def only_writer(output: Path | None) -> Iterator[None]:
    """Inside, no other process and no other thread makes the same file. The lock lies beside it and goes when it is done.

    Args:
        output: the file, or a link to it; its folder exists and can be written. None for a job that writes none. What is
            no regular file (a pipe, /dev/null, by mistake a folder) is not locked.

    Raises:
        DataError: another one makes it; the line says which process on which machine, and since when.
    """
    if output is None or (output.exists() and not output.is_file()):
        yield
        return
    path = _beside(output)
    while True:
        try:
            file = open(path, "a+b")  # noqa: SIM115 - closed below, which lets the lock go
        except OSError as error:
            raise DataError(f"{shown(path)}: cannot be written ({one_line(error)}); choose another folder") from error
        with file:
            _hold(file, output, "another file")
            if not _is_same(file, path):  # its last holder removed it between our opening and our locking
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file; an unlocked one does no harm
                    path.unlink()
            return


@contextmanager
def prepared_folder(folder: Path | None) -> Iterator[None]:
    """`files.prepare_folder` for a job. Where it fails before anything was written, the folders that were made for it go again.

    Args:
        folder: None for a job that writes nothing.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()] if folder is not None else []
    if folder is not None:
        prepare_folder(folder)
    try:
        yield
    except BaseException:
        for place in made:  # the inmost first; one that holds something stays, and so do those around it
            with suppress(OSError):
                if {entry.name for entry in place.iterdir()} == {LOCK_NAME}:
                    (place / LOCK_NAME).unlink()
                place.rmdir()
        raise


def _hold(file: BinaryIO, what: Path, else_where: str) -> None:
    """Locks an open file and writes into it who holds it; where there are no locks, a line says so.

    Raises:
        DataError: it is locked.
    """
    try:
        _lock(file)
    except OSError as error:
        if error.errno in _REFUSALS:
            raise DataError(
                f"{shown(what)}: another run is at work here ({_holder(file)}); wait until it ends, or choose {else_where}"
            ) from None
        notice(
            f"{shown(what)}: this file system knows no locks ({one_line(error)}); take care that no second run writes here"
        )
    file.truncate(0)
    holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    file.write(json.dumps(holder).encode())
    file.flush()


def _beside(output: Path) -> Path:
    """The lock of a file: one for all links to it, under a name that fits where the file's own does."""
    real = Path(os.path.realpath(output))
    name = f".{real.name}.lock"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(real.name)).hexdigest()}.lock"
    return real.with_name(name)


def _is_same(file: BinaryIO, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(file: BinaryIO) -> str:
    """Who holds the lock, as far as the file tells."""
    try:
        file.seek(0)
        holder = parsed_json(file.read(1000))
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "it does not say which"


if sys.platform == "win32":
    import msvcrt

    # Beyond the text that says who holds it: Windows lets nobody read locked bytes.
    _BYTE = 1 << 30

    def _lock(file: BinaryIO) -> None:
        file.seek(_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

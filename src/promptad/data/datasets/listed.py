"""Photos that a table names: paths that stay inside the data set, and files that are really there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from promptad.data.files import shown
from promptad.errors import DataError

_NAMED = 3  # missing files that an error names before it counts the rest


def path_inside(root: Path, entry: str, where: str, absolute: bool = False) -> Path:
    """The path that a table's entry means, with ``/`` or ``\\`` between its parts.

    The check is on the written path and not on where symbolic links lead, since linked data folders are
    common.

    Args:
        root: the data set's folder.
        entry: what the table says, relative to ``root``.
        where: file and line, for the error.
        absolute: also accept an absolute path that exists.

    Raises:
        DataError: the entry is empty, absolute where that is not accepted or does not exist, or leads out
        of ``root``.
    """
    if not entry.strip():
        raise DataError(f"{where}: a path is empty; expected a path relative to {shown(root)}; fill it in")
    if PureWindowsPath(entry).is_absolute() or PurePath(entry).drive or entry.startswith(("/", "\\")):
        if absolute and os.path.exists(entry):
            return Path(entry)
        expected = "a path that exists, or one" if absolute else "a path"
        raise DataError(
            f"{where}: absolute path {shown(entry)}; expected {expected} relative to {shown(root)}; rewrite the table"
        )
    parts = PurePosixPath(os.path.normpath(entry.replace("\\", "/")).replace(os.sep, "/")).parts
    if ".." in parts:
        raise DataError(
            f"{where}: path {shown(entry)} leads out of {shown(root)}; expected a path inside it; "
            "correct the table, and do not use it if you did not write it"
        )
    return root.joinpath(*parts)


def require_files(paths: Iterable[Path], source: Path) -> None:
    """Check that every path is a file.

    Raises:
        DataError: some are missing; names the first few of them and their number.
    """
    listed = list(paths)
    missing = [path for path in listed if not os.path.isfile(path)]
    if missing:
        names = ", ".join(shown(path) for path in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise DataError(
            f"{shown(source)}: {len(missing)} of {len(listed)} listed files are missing ({names}{more}); "
            "unpack the whole data set, or correct the list"
        )


def read_text(path: Path) -> str:
    """A table's text, UTF-8 with or without a byte-order mark.

    Raises:
        DataError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(path)}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{shown(path)}: cannot be read ({reason}); check the path") from error

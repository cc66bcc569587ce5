"""Photos that a table names: paths that stay inside the data set, and files that are really there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from promptad.data.datasets.names import photos_below
from promptad.data.files import shown
from promptad.data.parts import FileRef, FileView
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

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


def require_files(paths: Iterable[FileRef], source: Path) -> None:
    """Check that every path is a file.

    Raises:
        DataError: some are missing; names the first few of them and their number.
    """
    listed = list(dict.fromkeys(Path(path.path if isinstance(path, FileView) else path) for path in paths))
    missing = [path for path in listed if not os.path.isfile(path)]
    if missing:
        names = ", ".join(shown(path) for path in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise DataError(
            f"{shown(source)}: {len(missing)} of {len(listed)} listed files are missing ({names}{more}); "
            "unpack the whole data set, or correct the list"
        )


def each_once(records: Sequence[Record], source: Path) -> list[Record]:
    """The records without those that list a photo of the same split again, which get a line.

    Raises:
        DataError: a photo is listed as normal and as anomalous in one split.
    """
    first: dict[tuple[str, object, str], Record] = {}
    again: list[Record] = []
    for record in records:
        key = (os.path.normpath(record.path), record.crop, record.split)
        known = first.setdefault(key, record)
        if known is record:
            continue
        if known.label != record.label:
            raise DataError(
                f"{shown(source)}: {shown(record.path)} is listed as normal and as anomalous in {record.split}; "
                "remove one of the two entries"
            )
        again.append(record)
    if again:
        photos = "1 photo is" if len(again) == 1 else f"{len(again)} photos are"
        notice(
            f"{shown(source)}: {photos} listed more than once in a split (first: {shown(again[0].path)}) and counted once; "
            "remove the second entries"
        )
    return list(first.values())


def files_of(record: Record) -> list[Path]:
    """The files that a record is read from: its photo's, then its masks'."""
    return [record.path, *(mask.path if isinstance(mask, FileView) else mask for mask in record.masks)]


def say_unlisted(records: Sequence[Record], root: Path, source: Path) -> None:
    """One line for the photo files below `root` that are neither photo nor mask of a record."""
    listed = {os.path.realpath(path) for record in records for path in files_of(record)}
    unlisted = [path for path in photos_below(root, masks=True) if os.path.realpath(path) not in listed]
    if unlisted:
        files = "1 photo or mask" if len(unlisted) == 1 else f"{len(unlisted)} photos or masks"
        notice(f"{shown(source)}: {files} below {shown(root)} not listed, so not used (first: {shown(unlisted[0])})")


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

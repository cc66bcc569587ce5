"""Photos that a table names: paths that stay inside the data set, and files that are really there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from promptad.data.datasets.names import photos_below, squeezed
from promptad.data.files import shown
from promptad.data.parts import FileRef, FileView
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice
from promptad.parsing import parsed_json

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
    return as_it_lies(root.joinpath(*parts))


def as_it_lies(path: Path) -> Path:
    """The path of a file, its name in the capitals that it has on the disk: `000.png` is listed, `000.PNG` lies there.

    A path without such a file, or with several, comes back as it is.
    """
    if os.path.exists(path):
        return path
    try:
        changed = path.parent.stat().st_mtime_ns
    except OSError:
        return path
    name = _names_in(path.parent, changed).get(path.name.casefold())
    return path if name is None else path.with_name(name)


@lru_cache(maxsize=256)
def _names_in(folder: Path, changed: int) -> dict[str, str]:
    """Name without capitals -> the name of the one file that has it; `changed`: when the folder last was, for the cache."""
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(name.casefold(), []).append(name)
    return {key: own[0] for key, own in names.items() if len(own) == 1}


def without_absent_classes(records: Sequence[Record], source: Path) -> list[Record]:
    """The records of classes of which a photo is there; a line names the others. All of them where no class is there."""
    there: dict[str, bool] = {}
    for record in records:
        if not there.get(record.class_name, False):
            there[record.class_name] = os.path.isfile(record.path)
    absent = [name for name, is_there in there.items() if not is_there]
    if not absent or len(absent) == len(there):
        return list(records)
    notice(f"{shown(source)}: none of the listed photos of {', '.join(map(shown, absent))} is there; left out")
    return [record for record in records if there[record.class_name]]


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


class PhotoFinder:
    """Files that an annotation names, wherever they lie now: as written, below given places, by the end of a longer path, else by
    a name that only one file has.

    Args:
        source: the annotation. places: folders beside it, and beside its folder, that may hold the files.
    """

    def __init__(self, source: Path, places: Sequence[str] = ("",)) -> None:
        self.source = source
        self.bases = [base / place for base in (source.parent, source.parent.parent) for place in places]
        self._missing: list[str] = []
        self._elsewhere: list[str] = []
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, entry: str) -> Path:
        """The file of an entry; one that is not there is remembered for :meth:`say`. Raises DataError where a path leads out."""
        parts = PurePosixPath(entry.replace("\\", "/").lstrip("/")).parts
        if ".." in parts or not parts:
            raise DataError(
                f"{shown(self.source)}: path {shown(entry)} leads out of its folder; expected a path inside it; correct it"
            )
        for start in range(len(parts)):
            for base in self.bases:
                place = as_it_lies(base.joinpath(*parts[start:]))
                if os.path.isfile(place):
                    if start and not entry.startswith("/"):
                        self._elsewhere.append(entry)
                    return place
        alone = self._named(parts[-1])
        if alone is None:
            self._missing.append(entry)
            return self.source.parent.joinpath(*parts)
        self._elsewhere.append(entry)
        return alone

    def _named(self, name: str) -> Path | None:
        if self._by_name is None:
            self._by_name = {}
            for photo in photos_below(self.source.parent, masks=True):
                self._by_name.setdefault(photo.name.casefold(), []).append(photo)
        files = self._by_name.get(name.casefold(), [])
        return files[0] if len(files) == 1 else None

    def say(self) -> None:
        """A line for files that lie elsewhere than written. Raises DataError where some are not there at all."""
        if self._missing:
            names = ", ".join(map(shown, self._missing[:_NAMED]))
            more = f" and {len(self._missing) - _NAMED} more" if len(self._missing) > _NAMED else ""
            raise DataError(
                f"{shown(self.source)}: {len(self._missing)} files that it names are not below {shown(self.source.parent)} "
                f"({names}{more}); put them there"
            )
        if self._elsewhere:
            notice(
                f"{shown(self.source)}: {len(self._elsewhere)} files lie elsewhere than it says and are taken by their names "
                f"(first: {shown(self._elsewhere[0])})"
            )


def folder_class(path: Path) -> str:
    """The name of the folder that holds a set of one class, or its annotation; `annotations` is none."""
    folder = Path(os.path.abspath(path if path.is_dir() else path.parent))
    return folder.parent.name if squeezed(folder.name) in ("annotations", "images") else folder.name


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


def read_json(path: Path) -> Any:
    """What stands in a JSON file of a data set.

    Raises:
        DataError: as :func:`read_text`. ValueError: no JSON, or a key twice in one object, of which JSON
            itself would drop the first.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
        return content

    return parsed_json(read_text(path), object_pairs_hook=once)

"""Plain folders and lists of photos: what is taken, what is left out, and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from promptad.data.decoding import HEIF_SUFFIXES, PHOTO_SUFFIXES, heif_available, heif_way_out
from promptad.data.files import one_line, shown
from promptad.errors import DataError
from promptad.notices import notice

Reasons = list[tuple[Path, str]]
"""``(path, reason)``, the reason in words that follow the path: "broken link; ..."."""

UNREAD_SUFFIXES = (
    *(".avif", ".jxl", ".jp2", ".j2k", ".psd", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"),
)
"""Suffixes, in lower case, of photos in formats that are not read here; such a file is a photo that failed."""

_LITTER = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "ehthumbs.db"}  # .DS_Store and ._name are hidden files


class FoundPhotos(NamedTuple):
    """What :func:`find_photos` found, each list sorted by path.

    Attributes:
        photos: files that have a photo's name and are there; whether they decode is not known yet.
        skipped: what is no photo (text, tables, pipes, files without suffix), with the reason.
        failed: what is, or may hold, photos and cannot be read (broken links, folders without rights, HEIC
            without pillow-heif, camera raw files), with the reason and the way out.
    """

    photos: list[Path]
    skipped: Reasons
    failed: Reasons


def find_photos(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], recursive: bool = True
) -> FoundPhotos:
    """The photos in files and folders; what is no photo; and what should have been read and cannot be.

    A file is a photo by its suffix, in any case (:data:`~promptad.data.decoding.PHOTO_SUFFIXES`; HEIC counts
    where pillow-heif is installed); its content is not looked at. Hidden files and folders, ``__MACOSX``,
    ``Thumbs.db`` and ``desktop.ini`` inside a folder are passed over in silence. Symbolic links are
    followed; a file that is reached twice counts once, and a folder that contains itself is entered once.

    Args:
        paths: one path or several, files and folders mixed.
        recursive: also look into the folders inside folders.

    Raises:
        DataError: a path does not exist, a named folder cannot be read, or no photo was found at all.
    """
    given = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    if not given:
        raise DataError("no photo was named; expected files or folders; give at least one path")
    files: list[Path] = []
    failed: Reasons = []
    for path in given:
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            if not os.path.islink(path):
                raise DataError(f"{shown(path)}: there is no such file or folder; check the path") from None
            is_folder = False
        except (OSError, ValueError) as error:
            raise DataError(f"{shown(path)}: cannot be opened ({one_line(error)}); {_way_out(error)}") from error
        if is_folder:
            files.extend(_walk(path, recursive, failed, set(), top=True))
        else:
            files.append(path)
    sorted_files = FoundPhotos([], [], failed)
    for path in _once(files):
        kind, reason = _sorted_out(path)
        if kind == "photo":
            sorted_files.photos.append(path)
        else:
            (sorted_files.failed if kind == "failed" else sorted_files.skipped).append((path, reason))
    for reasons in (sorted_files.skipped, sorted_files.failed):
        reasons.sort(key=lambda entry: entry[0].as_posix())
    if not sorted_files.photos:
        raise DataError(_nothing_found(given, [*sorted_files.failed, *sorted_files.skipped], recursive))
    return sorted_files


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is what systems leave behind: hidden ones, ``Thumbs.db``, ``@eaDir``, ..."""
    return name.startswith(".") or name.lower() in _LITTER


def is_photo_name(path: Path) -> bool:
    """Whether a file name has a photo's suffix and is no hidden file."""
    suffix = path.suffix.lower()
    readable = suffix in PHOTO_SUFFIXES or (suffix in HEIF_SUFFIXES and heif_available())
    return readable and not path.name.startswith(".")


def reason_not_read(path: Path) -> str | None:
    """Why a file that is a photo by its name cannot be read here (its format), with the way out; None for others."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return None
    if suffix in UNREAD_SUFFIXES:
        return f"{suffix[1:].upper()} is not read; convert it to PNG, TIFF or JPEG"
    return heif_way_out() if suffix in HEIF_SUFFIXES and not heif_available() else None


def _walk(
    folder: Path, recursive: bool, failed: Reasons, entered: set[tuple[int, int]], top: bool = False
) -> Iterator[Path]:
    try:
        info = folder.stat()
        if (info.st_dev, info.st_ino) in entered:  # a link back to a folder that is already listed
            return
        entered.add((info.st_dev, info.st_ino))
        entries = sorted(folder.iterdir())
    except OSError as error:
        if top:
            raise DataError(f"{shown(folder)}: cannot be read ({one_line(error)}); {_way_out(error)}") from error
        failed.append((folder, f"folder cannot be read ({one_line(error)}); {_way_out(error)}"))
        return
    for entry in entries:
        if is_litter(entry.name):
            continue
        if not os.path.isdir(entry):
            yield entry
        elif recursive:
            yield from _walk(entry, recursive, failed, entered)


def _once(paths: list[Path]) -> list[Path]:
    """Sorted by name, and one path for each file: the first of those that lead to it."""
    by_file: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.as_posix()):
        by_file.setdefault(os.path.realpath(path), path)
    return list(by_file.values())


def _sorted_out(path: Path) -> tuple[str, str]:
    """("photo" | "skipped" | "failed", reason)."""
    suffix = path.suffix.lower()
    if suffix not in UNREAD_SUFFIXES and suffix not in PHOTO_SUFFIXES + HEIF_SUFFIXES:
        if os.path.islink(path) and not os.path.exists(
            path
        ):  # it may have led to a folder of photos, whatever its name
            return "failed", "broken link; restore what it points to, or remove it"
        return "skipped", f"suffix {shown(path.suffix)} is not a photo's" if suffix else "has no suffix"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if os.path.islink(path):
            return "failed", f"broken link ({one_line(error)}); restore the photo that it points to"
        return "failed", f"cannot be opened ({one_line(error)}); {_way_out(error)}"
    if not stat.S_ISREG(mode):
        return "skipped", "not a regular file"
    reason = reason_not_read(path)
    return ("failed", reason) if reason else ("photo", "")


def _way_out(error: Exception) -> str:
    return "change its rights or copy it" if isinstance(error, PermissionError) else "check the path"


def _nothing_found(given: list[Path], left_out: Reasons, recursive: bool) -> str:
    where = shown(given[0]) if len(given) == 1 else f"{shown(given[0])} and {len(given) - 1} more"
    expected = f"expected {', '.join(PHOTO_SUFFIXES)}"
    if left_out:
        path, reason = left_out[0]
        files = "1 file was" if len(left_out) == 1 else f"{len(left_out)} files were"
        return f"{where}: no photo found, {files} left out ({shown(path.name)}: {reason}); {expected}"
    way_out = "give a folder that holds photos" if recursive else "look into its subfolders too, or give another"
    return f"{where}: no photo found; {expected}; {way_out}"


def is_folder(item: Any) -> bool:
    """Whether `item` is the path of a folder."""
    return isinstance(item, str | Path) and Path(item).is_dir()


def each_photo(photos: Any) -> Iterator[Any]:
    """Single photos, in whatever form, from one photo or a list of photos; a folder gives its photo files in order.

    What a folder holds besides readable photos gets a notice each.

    Raises:
        DataError: a folder without photos.
    """
    items: Sequence[Any] = photos if isinstance(photos, list | tuple) else [photos]
    for item in items:
        if is_folder(item):
            photos_inside = find_photos([Path(item)])
            for path, reason in (*photos_inside.failed, *photos_inside.skipped):
                notice(f"{shown(path)}: not used: {reason}")
            yield from photos_inside.photos
        else:
            yield item

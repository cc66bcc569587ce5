"""Plain folders and lists of photos: what is taken, what is left out, and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from promptad.data.files import one_line, shown
from promptad.data.photos import HEIF_SUFFIXES, PHOTO_SUFFIXES, heif_available
from promptad.errors import DataError

Skipped = list[tuple[Path, str]]

_LITTER = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"}  # .DS_Store and ._name are hidden files


def find_photos(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], recursive: bool = True
) -> tuple[list[Path], Skipped]:
    """The photos in files and folders, and the files that are left out with the reason for each.

    A file is a photo by its suffix, in any case (:data:`~promptad.data.photos.PHOTO_SUFFIXES`; HEIC counts
    where pillow-heif is installed); its content is not looked at. Hidden files and folders, ``__MACOSX``,
    ``Thumbs.db`` and ``desktop.ini`` inside a folder are passed over in silence. Symbolic links are
    followed; a file that is reached twice counts once, and a folder that contains itself is entered once.

    Args:
        paths: one path or several, files and folders mixed.
        recursive: also look into the folders inside folders.

    Returns:
        ``(photos, skipped)``, each sorted by path; ``skipped`` holds ``(path, reason)``.

    Raises:
        DataError: a path does not exist, a folder cannot be read, or no photo was found at all.
    """
    given = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    if not given:
        raise DataError("no photo was named; expected files or folders; give at least one path")
    found: list[Path] = []
    skipped: Skipped = []
    for path in given:
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            raise DataError(f"{shown(path)}: there is no such file or folder; check the path") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{shown(path)}: cannot be opened ({one_line(error)}); check the path") from error
        if is_folder:
            found.extend(_walk(path, recursive, skipped, set(), top=True))
        else:
            found.append(path)
    photos = []
    for path in _once(found):
        reason = _reason_to_skip(path)
        if reason is None:
            photos.append(path)
        else:
            skipped.append((path, reason))
    skipped.sort(key=lambda entry: entry[0].as_posix())
    if not photos:
        raise DataError(_nothing_found(given, skipped, recursive))
    return photos, skipped


def is_photo_name(path: Path) -> bool:
    """Whether a file name has a photo's suffix and is no hidden file."""
    suffix = path.suffix.lower()
    readable = suffix in PHOTO_SUFFIXES or (suffix in HEIF_SUFFIXES and heif_available())
    return readable and not path.name.startswith(".")


def _walk(
    folder: Path, recursive: bool, skipped: Skipped, entered: set[tuple[int, int]], top: bool = False
) -> Iterator[Path]:
    try:
        info = folder.stat()
        if (info.st_dev, info.st_ino) in entered:  # a link back to a folder that is already listed
            return
        entered.add((info.st_dev, info.st_ino))
        entries = sorted(folder.iterdir())
    except OSError as error:
        if top:
            raise DataError(f"{shown(folder)}: cannot be read ({one_line(error)}); check its rights") from error
        skipped.append((folder, f"folder cannot be read ({one_line(error)})"))
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _LITTER:
            continue
        if not os.path.isdir(entry):
            yield entry
        elif recursive:
            yield from _walk(entry, recursive, skipped, entered)


def _once(paths: list[Path]) -> list[Path]:
    """Sorted by name, and one path for each file: the first of those that lead to it."""
    by_file: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.as_posix()):
        by_file.setdefault(os.path.realpath(path), path)
    return list(by_file.values())


def _reason_to_skip(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in HEIF_SUFFIXES:
        if not heif_available():
            return "needs pillow-heif"
    elif suffix not in PHOTO_SUFFIXES:
        return f"suffix {shown(path.suffix)} is not a photo's" if suffix else "has no suffix"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "broken link" if path.is_symlink() else one_line(error)
    return None if stat.S_ISREG(mode) else "not a regular file"


def _nothing_found(given: list[Path], skipped: Skipped, recursive: bool) -> str:
    where = shown(given[0]) if len(given) == 1 else f"{shown(given[0])} and {len(given) - 1} more"
    expected = f"expected {', '.join(PHOTO_SUFFIXES)}"
    if skipped:
        path, reason = skipped[0]
        files = "1 file was" if len(skipped) == 1 else f"{len(skipped)} files were"
        return f"{where}: no photo found, {files} left out ({shown(path.name)}: {reason}); {expected}"
    way_out = "give a folder that holds photos" if recursive else "look into its subfolders too, or give another"
    return f"{where}: no photo found; {expected}; {way_out}"


def is_folder(item: Any) -> bool:
    """Whether `item` is the path of a folder."""
    return isinstance(item, str | Path) and Path(item).is_dir()


def each_photo(photos: Any) -> Iterator[Any]:
    """Single photos, in whatever form, from one photo or a list of photos; a folder gives its photo files in order.

    Raises:
        DataError: a folder without photos.
    """
    items: Sequence[Any] = photos if isinstance(photos, list | tuple) else [photos]
    for item in items:
        if is_folder(item):
            yield from find_photos([Path(item)])[0]
        else:
            yield item

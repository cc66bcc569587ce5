"""Names for what a run writes about each photo: readable, unique, and possible on every file system."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_LONGEST = 255 - len(".jpg")
"""Bytes of a file name on all common file systems, less the ending that is added."""

_ENDINGS = (".jpg", ".png", ".npy")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"\\|?*\ud800-\udfff]|[. ]$')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def common_folder(photos: Sequence[Path]) -> Path:
    """The deepest folder that holds all photos, absolute; the working directory when there are none, or on several drives."""
    try:
        return Path(os.path.commonpath([os.path.dirname(os.path.abspath(photo)) for photo in photos]))
    except ValueError:
        return Path.cwd()


def relative_path(path: Path, folder: Path) -> str:
    """The way from a folder to a path with forward slashes; the absolute path where there is none (another drive)."""
    full = os.path.abspath(path)
    try:
        return Path(os.path.relpath(full, os.path.abspath(folder))).as_posix()
    except ValueError:
        return Path(full).as_posix()


def picture_names(photos: Sequence[Path], root: Path) -> dict[Path, str]:
    """For each photo the name of its pictures without their ending: its path below ``root``.

    A name gets a short hash where it would be too long, hold what some system forbids, be told from another only by case
    or by the form of its accents, or stand in the way of a folder.
    """
    places = {photo: relative_path(photo, root) for photo in photos}
    folders = {_alike(str(parent)) for place in places.values() for parent in PurePosixPath(_possible(place)).parents}
    names: dict[Path, str] = {}
    used: set[str] = set()
    for photo, place in places.items():
        name = _possible(place)
        taken = _alike(name) in used or any(_alike(name + ending) in folders for ending in _ENDINGS)
        if name != place or taken or len(os.fsencode(PurePosixPath(name).name)) > _LONGEST:
            name = _with_hash(name, place)
        used.add(_alike(name))
        names[photo] = name
    return names


def picture_name(place: str, sha256: str) -> str:
    """The name of the pictures of one photo, without their ending, where others may have the same path: cameras use names again.

    Args:
        place: its path below the folder of photos. sha256: of its content.
    """
    return _ended(_possible(place), f"-{sha256[:16]}")


def _possible(place: str) -> str:
    """The path with what some file system forbids as underscores, and never out of its folder."""
    parts = [part for part in place.split("/") if part not in ("", "..", ".")]
    return "/".join("_" + part if _RESERVED.match(part) else part for part in (_FORBIDDEN.sub("_", p) for p in parts))


def _with_hash(name: str, place: str) -> str:
    return _ended(name, "-" + hashlib.sha256(os.fsencode(place)).hexdigest()[:8])


def _ended(name: str, ending: str) -> str:
    path = PurePosixPath(name)
    kept = os.fsencode(path.name)[: _LONGEST - len(ending)].decode("utf-8", "ignore")
    return str(path.with_name(kept + ending))


def _alike(name: str) -> str:
    """Equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

"""Names of folders and files in data sets: which folders hold normal photos or masks, which file names mean a mask."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from promptad.data.files import one_line, shown
from promptad.data.folder import is_litter, is_photo_name
from promptad.errors import DataError
from promptad.notices import notice

NORMAL_FOLDERS = (
    *("good", "ok", "okay", "normal", "normals", "pass", "passed", "negative", "negatives", "goods", "good parts"),
    *("defect free", "defectless", "non defective", "nondefect", "no defect", "no defects", "without defect"),
    *("anomaly free", "no anomaly", "non anomalous", "fault free", "no fault", "flawless", "undamaged", "intact"),
)
"""Folders whose photos are normal, however they are spelt (case, blanks, hyphens and underscores do not count):
MVTec AD says good, BTAD ok."""

MASK_FOLDERS = ("ground truth", "ground truths", "gt", "mask", "masks", "label", "labels", "annotation", "annotations")
"""Folders that hold masks, spelt in any of these ways too."""

_WORD = r"(?:ground[_\- ]?truth|masks?|gt|labels?|seg(?:mentation)?|annotations?)"
_SUFFIX = re.compile(rf"[_\-. ]+{_WORD}(?P<number>[_\-. ]?\d{{1,4}})?$", re.IGNORECASE)
_COPY = re.compile(r" (\(copy( \d+)?\)|- copy( \(\d+\))?)$", re.IGNORECASE)
_PREFIX = re.compile(rf"^{_WORD}[_\-. ]+", re.IGNORECASE)


def squeezed(name: str) -> str:
    """A folder's name without case, blanks, hyphens and underscores."""
    return re.sub(r"[\s_\-]+", "", name).lower()


_NORMAL = {squeezed(name) for name in NORMAL_FOLDERS}
_MASKS = {squeezed(name) for name in MASK_FOLDERS}


def is_normal(name: str, further: Iterable[str] = ()) -> bool:
    """Whether a folder of this name holds normal photos; `further` are names that the user gave."""
    return squeezed(name) in _NORMAL or squeezed(name) in {squeezed(other) for other in further}


_LIKE_NORMAL = frozenset(
    (
        "good",
        "goods",
        "ok",
        "okay",
        "normal",
        "normals",
        "pass",
        "passed",
        "clean",
        "healthy",
        "perfect",
        "acceptable",
        "intact",
    )
)
_NEGATIONS = frozenset(("not", "no", "non", "un", "never", "nearly", "almost", "half", "bad"))


def resembles_normal(name: str) -> bool:
    """Whether a name that is none of normal photos looks like one: ``good_2``, ``OK parts``, ``clean``, but not ``not_ok``."""
    words = set(re.findall(r"[^\W\d_]+", name.casefold()))
    return bool(words & _LIKE_NORMAL) and not words & _NEGATIONS


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks."""
    return squeezed(name) in _MASKS


def without_mask_word(stem: str) -> str:
    """A mask's stem as its photo is called: ``000_mask``, ``000-GT``, ``mask_000`` and ``000_mask1`` give ``000``."""
    for pattern in (_SUFFIX, _PREFIX):
        short = pattern.sub("", stem)
        if short and short != stem:
            return short
    return stem


def is_numbered_mask(stem: str) -> bool:
    """Whether the stem says that it is one of several masks of its photo, as ``000_mask1`` does."""
    ending = _SUFFIX.search(stem)
    return ending is not None and ending["number"] is not None


def photos_in(folder: Path) -> list[Path]:
    """Photo files directly in a folder, sorted.

    A copy that a file manager made (``10301 (copy).png``) beside what it is a copy of is not among them, and gets a line.
    """
    files = [entry for entry in entries_of(folder) if is_photo_name(entry) and not os.path.isdir(entry)]
    names = {file.name.casefold() for file in files}
    copies = [file for file in files if _COPY.search(file.stem) and _original(file).casefold() in names]
    if copies:
        files_are = "1 file is" if len(copies) == 1 else f"{len(copies)} files are"
        notice(
            f"{shown(folder)}: {files_are} called a copy of the file beside it and not used (first: {shown(copies[0].name)})"
        )
    return [file for file in files if file not in copies]


def _original(copied: Path) -> str:
    return _COPY.sub("", copied.stem) + copied.suffix


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted."""
    return [entry for entry in entries_of(folder) if os.path.isdir(entry)]


def photos_below(folder: Path, *, masks: bool, entered: frozenset[str] = frozenset()) -> list[Path]:
    """Photo files in a folder and the folders inside it, sorted by path.

    Args:
        masks: also those in folders that are called like masks. entered: real paths above, so that circles end.
    """
    real = os.path.realpath(folder)
    if real in entered:
        return []
    files = photos_in(folder)
    for inner in folders_in(folder):
        if masks or not is_mask_folder(inner.name):
            files += photos_below(inner, masks=masks, entered=entered | {real})
    return sorted(files)


def entries_of(folder: Path) -> list[Path]:
    """What lies directly in a folder, sorted, without what systems leave behind; nothing where there is no such folder.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not is_litter(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(folder)}: cannot be read ({one_line(error)}); check the path") from error

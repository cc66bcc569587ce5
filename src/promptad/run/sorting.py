"""Judged photos in folders by their verdict: NG, OK and failed, as copies or as links."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path, PurePosixPath
from typing import Literal

from promptad.data.files import TEMPORARY, sha256_file
from promptad.errors import DataError
from promptad.report.rows import RowVerdict

Sort = Literal["copy", "link", "none"]

FOLDERS: dict[RowVerdict, str] = {"anomalous": "NG", "normal": "OK", "failed": "failed"}
"""The folder of each verdict, below that of the results."""

_CHUNK = 1 << 20


class Altered(Exception):
    """The file is no longer what was judged: it was written over meanwhile."""


def sort_photo(path: Path, sha256: str, verdict: RowVerdict, folder: Path, how: Sort) -> None:
    """Puts a photo into the folder of its verdict; done once more, it is as before.

    Its name there is its own, with the beginning of its content's digest where another photo has that name already.

    Args:
        sha256: of the content that was judged. folder: of the results.

    Raises:
        OSError: it cannot be written. Altered: the file has another content by now.
    """
    if how == "none" or verdict not in FOLDERS:
        return
    target = folder / FOLDERS[verdict]
    target.mkdir(parents=True, exist_ok=True)
    own = PurePosixPath(path.name)
    for name in (path.name, f"{own.stem[:180]}-{sha256[:16]}{own.suffix}"):
        place = target / name
        if os.path.lexists(place):
            if _is(place, path, sha256, how):
                return
            continue
        if how == "link":
            os.symlink(os.path.abspath(path), place)
        else:
            _copy(path, place, sha256)
        return


def _is(place: Path, path: Path, sha256: str, how: Sort) -> bool:
    """Whether what stands there already is this photo."""
    if how == "link":
        return place.is_symlink() and os.readlink(place) == os.path.abspath(path)
    try:
        return sha256_file(place) == sha256
    except DataError:
        return False


def _copy(path: Path, place: Path, sha256: str) -> None:
    temporary = place.parent / TEMPORARY.replace("*", secrets.token_hex(8))
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as source, open(temporary, "wb") as copy:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
        if digest.hexdigest() != sha256:
            raise Altered
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)

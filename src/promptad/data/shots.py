"""The k normal photos of a k-shot run: the same ones on every machine, and a manifest that proves it.

Shots that are drawn as positions in an unsorted folder listing differ between file systems. Here the photos
are sorted by name first, one seed decides the draw, and the manifest names the drawn photos by the hash of
their content.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from promptad.annotations import ALL
from promptad.data.datasets.listed import path_inside
from promptad.data.files import sha256_file, shown, write_atomic
from promptad.data.parts import Crop, FilePart, FileRef, FileView, PhotoRef
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError
from promptad.parsing import parsed_json

Photo = TypeVar("Photo", bound=Record | PhotoRef | str)

_FORMAT = "promptad shots 1"


def shots_word(number: int) -> str:
    """A number of good photos as tables have it: "4", or "all"."""
    return "all" if number == ALL else str(number)


def shots_words(number: int) -> str:
    """A number of good photos beside a name: "no shots", "1 shot", "4 shots", "all good photos"."""
    if number == ALL:
        return "all good photos"
    return "no shots" if number == 0 else f"{number} shot{'' if number == 1 else 's'}"


def shots_order(number: int) -> float:
    """What tables are sorted by: all good photos come last."""
    return float("inf") if number == ALL else number


@dataclass(frozen=True)
class Shot:
    """One drawn photo: where it is, its SHA-256 in hexadecimal, its file's size in bytes, and which part of the file it is."""

    path: Path
    sha256: str
    size: int
    crop: Crop | None = None

    @property
    def photo(self) -> PhotoRef:
        """The file, or the part of it that was drawn."""
        return self.path if self.crop is None else FilePart(self.path, self.crop)


@dataclass(frozen=True)
class Manifest:
    """A drawn set of shots with the seed and k that drew it."""

    shots: tuple[Shot, ...]
    seed: int
    k: int
    root: Path

    @property
    def paths(self) -> list[Path]:
        """The files of the photos, in the order in which they were drawn."""
        return [shot.path for shot in self.shots]


def draw_shots(records_or_paths: Sequence[Photo], k: int, seed: int) -> list[Photo]:
    """Draw k normal training photos of one class.

    Of records, those with ``label == 0`` and ``split == "train"`` take part; of paths, all. They are sorted
    by path (parts joined with ``/``, Unicode in composed form, so that macOS agrees with the rest) and
    shuffled once by NumPy's default generator; the first k are the shots. So the shots of a smaller k are
    among those of a larger k with the same seed, and neither the order of the input nor the place of the
    data set matters.

    Args:
        records_or_paths: records of one class, or paths of normal photos; a photo listed twice counts once.
        k: number of shots, at least 1.
        seed: 0 or larger.

    Returns:
        k of the given items, in the order in which they were drawn.

    Raises:
        DataError: fewer than k normal training photos, or records of several classes.
        ConfigError: k or seed out of range.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; expected a number of shots of at least 1; choose 1, 2, 4 or more")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; expected 0 or larger; choose another")
    candidates: dict[tuple[str, str, Crop | tuple[()]], Photo] = {}
    classes: set[str] = set()
    for item in records_or_paths:
        if isinstance(item, Record):
            if item.label != 0 or item.split != "train":
                continue
            classes.add(item.class_name)
        photo: FileRef = item.photo if isinstance(item, Record) else item
        crop = (photo.crop if isinstance(photo, FilePart) else None) or ()
        path = os.path.abspath(photo.path if isinstance(photo, FileView) else photo)
        candidates.setdefault((unicodedata.normalize("NFC", Path(path).as_posix()), path, crop), item)
    if len(classes) > 1:
        some = ", ".join(sorted(classes)[:3])
        raise DataError(f"shots: photos of {len(classes)} classes ({some}, ...); expected one; draw for each in turn")
    if k > len(candidates):
        raise DataError(
            f"shots: {k} normal training photos were asked for, there are {len(candidates)}; "
            "add photos to train/good or choose a smaller k"
        )
    ordered = [candidates[name] for name in sorted(candidates)]
    return [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))[:k]]


def write_manifest(
    path: str | os.PathLike[str],
    shots: Sequence[Record | Path | str],
    *,
    seed: int,
    k: int,
    root: str | os.PathLike[str] | None = None,
) -> None:
    """Write a manifest of shots: JSON with seed, k and each photo's name, SHA-256 and size in bytes.

    Args:
        path: the file to write.
        shots: what :func:`draw_shots` returned.
        seed: the seed of the draw.
        k: the number of shots; must be ``len(shots)``.
        root: names are written relative to it; the folder that all shots share by default.

    Raises:
        DataError: a shot is missing, unreadable or outside ``root``, or the file cannot be written.
        ConfigError: k is not the number of shots.
    """
    if k != len(shots) or not shots:
        raise ConfigError(f"{shown(path)}: {len(shots)} shots for k={k}; expected k of them, at least 1; pass the draw")
    photos = [Path(os.path.abspath(shot.path if isinstance(shot, Record) else shot)) for shot in shots]
    base = Path(os.path.abspath(root)) if root is not None else _shared_folder(photos)
    entries: list[dict[str, Any]] = []
    for photo, shot in zip(photos, shots, strict=True):
        crop = shot.crop if isinstance(shot, Record) else None
        if not photo.is_relative_to(base):
            raise DataError(f"{shown(photo)}: lies outside {shown(base)}; expected a shot inside; give another root")
        digest = sha256_file(photo if crop is None else FilePart(photo, crop))
        entry = {"file": photo.relative_to(base).as_posix(), "sha256": digest, "size": photo.stat().st_size}
        entries.append(entry | ({} if crop is None else {"crop": list(crop)}))
    # Data beside or below the manifest may move together with it; data elsewhere keeps its full path.
    home = Path(os.path.abspath(path)).parent
    where = base.relative_to(home) if base.is_relative_to(home) else base
    content = {"format": _FORMAT, "seed": int(seed), "k": int(k), "root": where.as_posix(), "shots": entries}
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_manifest(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Manifest:
    """Read a manifest and verify that every shot is still the same file, byte for byte.

    Args:
        path: what :func:`write_manifest` wrote.
        root: where the photos are now, if they were moved; the manifest's own root by default.

    Raises:
        DataError: the manifest is missing or not of this form, or shots are missing or changed (names which).
    """
    file = Path(path)
    try:
        content = parsed_json(file.read_bytes().decode("utf-8", "surrogateescape"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        seed, k = int(content["seed"]), int(content["k"])
        base = Path(root) if root is not None else Path(os.path.abspath(file)).parent / str(content["root"])
        entries = [
            (str(shot["file"]), str(shot["sha256"]), int(shot["size"]), _crop(shot.get("crop")))
            for shot in content["shots"]
        ]
    except OSError as error:
        raise DataError(f"{shown(file)}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(f"{shown(file)}: is not a shot manifest ({error}); write it again") from error
    shots = tuple(
        Shot(path_inside(base, name, shown(file)), digest, size, crop) for name, digest, size, crop in entries
    )
    _verify(file, shots)
    return Manifest(shots, seed, k, base)


def _crop(value: Any) -> Crop | None:
    if value is None:
        return None
    left, top, right, bottom = (int(edge) for edge in value)
    return left, top, right, bottom


def _verify(file: Path, shots: Sequence[Shot]) -> None:
    missing = [shot.path for shot in shots if not os.path.isfile(shot.path)]
    if missing:
        raise DataError(
            f"{shown(file)}: {len(missing)} of {len(shots)} shots are missing (first: {shown(missing[0])}); "
            "restore them, or give the folder they were moved to as root"
        )
    changed = [shot.photo for shot in shots if sha256_file(shot.photo) != shot.sha256]
    if changed:
        raise DataError(
            f"{shown(file)}: {len(changed)} of {len(shots)} shots changed since they were drawn "
            f"({', '.join(shown(path) for path in changed[:3])}); restore them, or draw the shots again"
        )


def _shared_folder(photos: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([photo.parent for photo in photos]))
    except ValueError as error:  # different drives on Windows
        raise DataError("shots: lie on different drives; expected one folder tree; copy them together") from error

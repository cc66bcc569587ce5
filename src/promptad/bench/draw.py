"""The good photos of every run: drawn by a seed, or given by a person.

A file of given photos is JSON in one of two forms: a manifest that an evaluation wrote (`data.shots.write_manifest`), whose
photos are found by their content; or

    {"format": "promptad shot list 1", "listing": "sorted", "classes": {"bottle": [[131], [7]], "cable": ["041.png"]}}

with the photos of every run of a class (a list of lists) or of its one run (a plain list): numbers count from 0 in the listing
of its normal training photos, "sorted" by name or the "directory"'s own; 64 hexadecimal digits are a photo's SHA-256; all else
is the end of its path.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptad.data.files import sha256_file, shown
from promptad.data.parts import PhotoRef
from promptad.data.records import Record
from promptad.data.shots import draw_shots, shots_word
from promptad.errors import DataError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.parsing import parsed_json

LIST_FORMAT = "promptad shot list 1"
MANIFEST_FORMAT = "promptad shots 1"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


def draw_order(records: Sequence[Record], seed: int, order: str = "sorted") -> list[Record]:
    """All normal training photos of a class in the order of a seed's draw: the first k are the k shots.

    Args:
        order: listing that the seed shuffles: "sorted" names, the same on every machine, or the "directory"'s
            own order, as PromptAD's released code takes it (flag F-8), which is another one on another disk.

    Raises:
        DataError: no normal training photo.
    """
    normal = _normal(records)
    if order == "sorted":
        return draw_shots(normal, _number(normal), seed)
    listed = _as_listed(normal)
    return [listed[index] for index in np.random.default_rng(seed).permutation(len(listed))]


def _normal(records: Sequence[Record]) -> list[Record]:
    normal = [record for record in records if record.split == "train" and record.label == 0]
    if not normal:
        name = records[0].class_name if records else "class"
        raise DataError(
            f"{name}: no normal training photos; expected some in train/good; add them or leave the class out"
        )
    return normal


def _number(records: Sequence[Record]) -> int:
    return len({(os.path.abspath(record.path), record.crop) for record in records})


def _as_listed(records: Sequence[Record]) -> list[Record]:
    by_path: dict[str, list[Record]] = {}
    for record in {(os.path.abspath(record.path), record.crop): record for record in records}.values():
        by_path.setdefault(os.path.abspath(record.path), []).append(record)
    listed = []
    for folder in dict.fromkeys(os.path.dirname(path) for path in by_path):
        with os.scandir(folder) as entries:
            paths = [os.path.join(folder, entry.name) for entry in entries]
        listed += [record for path in paths for record in by_path.get(path, ())]
    return listed


def take_shots(
    ordered: Sequence[Record], k: int, problem: Callable[[PhotoRef], str | None]
) -> tuple[list[Record], list[str]]:
    """The first k photos of a draw that can be read (`ALL`: every one), and a line for each that had to be passed over.

    Args:
        problem: why a photo cannot be read, or None.

    Raises:
        DataError: fewer than k are there, or none.
    """
    shots: list[Record] = []
    passed = []
    for record in ordered:
        if len(shots) == k:
            break
        reason = problem(record.photo)
        if reason is None:
            shots.append(record)
        else:
            passed.append(reason)
    if len(shots) < max(k, 1):
        readable = f", {len(shots)} of them readable" if passed else ""
        raise DataError(
            f"{ordered[0].class_name}: {shots_word(k)} good photos were asked for, train has {len(ordered)}{readable}; "
            f"add photos or choose smaller {argument('shots')}"
        )
    return shots, passed


# -- given by a person -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenShots:
    """The good photos of every class and run, as files name them.

    Attributes:
        runs: class -> its runs, each the records of its photos in order. source: the files' names.
    """

    runs: Mapping[str, tuple[tuple[Record, ...], ...]]
    source: str

    def ordered(self, class_name: str, run: int) -> tuple[Record, ...]:
        """The photos of a run; where only one run is given, all runs have its photos.

        Raises:
            DataError: none are given for the class, or fewer runs than are evaluated.
        """
        runs = self.runs.get(class_name, ())
        if not runs:
            raise DataError(f"{class_name}: {self.source} names no good photos of this class; add it, or leave it out")
        if len(runs) > 1 and run >= len(runs):
            raise DataError(
                f"{class_name}: {self.source} names the photos of {len(runs)} runs; run {run + 1} has none; choose {argument('seeds')} "
                f"{len(runs)}, or name more"
            )
        return runs[run if len(runs) > 1 else 0]


def read_given_shots(paths: Sequence[Path], records: Sequence[Record]) -> GivenShots:
    """Reads files of given photos and finds them among the records; several files add up, a manifest each run.

    Raises:
        DataError: a file cannot be read or is of another form, or names a photo that is not there.
    """
    by_class: dict[str, list[Record]] = {}
    for record in records:
        by_class.setdefault(record.class_name, []).append(record)
    runs: dict[str, list[tuple[Record, ...]]] = {}
    for path in paths:
        content = _read_json(path)
        if content.get("format") == MANIFEST_FORMAT:
            name, photos = _from_manifest(path, content, records)
            runs.setdefault(name, []).append(photos)
            continue
        listing, classes = _list_parts(path, content)
        unused = [name for name in classes if name not in by_class]
        if unused:
            notice(
                f"{shown(path)}: names photos of {', '.join(unused)}, which are not evaluated here; they are not used"
            )
        for name in classes:
            if name in by_class:
                pick = _Picker(path, name, by_class[name], listing)
                runs.setdefault(name, []).extend(pick.run(entries) for entries in classes[name])
    return GivenShots({name: tuple(all_runs) for name, all_runs in runs.items()}, ", ".join(map(shown, paths)))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parsed_json(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"{shown(path)}: is no JSON ({error}); expected a manifest or a list of shots") from error
    if not isinstance(content, dict) or content.get("format") not in (MANIFEST_FORMAT, LIST_FORMAT):
        raise DataError(
            f"{shown(path)}: is no list of good photos; expected JSON with format {LIST_FORMAT!r} or {MANIFEST_FORMAT!r}"
        )
    return content


def _from_manifest(path: Path, content: Mapping[str, Any], records: Sequence[Record]) -> tuple[str, tuple[Record, ...]]:
    """The class and photos of a manifest, found by their content wherever the data set lies now."""
    try:
        wanted = [(str(shot["file"]), str(shot["sha256"])) for shot in content["shots"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{shown(path)}: is not a whole shot manifest ({error}); write it again") from error
    normal = [record for record in records if record.split == "train" and record.label == 0]
    # By name first: hashing the photos of the right name alone spares reading a whole data set.
    photos = []
    for name, digest in wanted:
        like = sorted(normal, key=lambda record: record.path.name != Path(name).name)
        photo = next((record for record in like if sha256_file(record.photo) == digest), None)
        if photo is None:
            raise DataError(
                f"{shown(path)}: {name} is not among the normal training photos, by its content; restore it"
            )
        photos.append(photo)
    names = {photo.class_name for photo in photos}
    if len(names) != 1:
        raise DataError(f"{shown(path)}: names photos of {len(names)} classes; expected one class a manifest")
    return names.pop(), tuple(photos)


def _list_parts(path: Path, content: Mapping[str, Any]) -> tuple[str, dict[str, list[list[Any]]]]:
    """The listing, and the entries of every class and run."""
    listing, classes = content.get("listing", "sorted"), content.get("classes")
    if listing not in ("sorted", "directory") or not isinstance(classes, dict):
        raise DataError(
            f'{shown(path)}: expected "listing": "sorted" or "directory", and "classes" with a list for each class'
        )
    out = {}
    for name, given in classes.items():
        runs = given if isinstance(given, list) and given and all(isinstance(run, list) for run in given) else [given]
        if not all(isinstance(run, list) and run for run in runs):
            raise DataError(f"{shown(path)}: {name}: expected a list of photos, or one for each run; got {given!r}")
        out[str(name)] = runs
    return listing, out


class _Picker:
    """Finds the photos of one class that a list names."""

    def __init__(self, path: Path, class_name: str, records: Sequence[Record], listing: str) -> None:
        self.path, self.class_name, self.listing = path, class_name, listing
        normal = _normal(records)
        self.listed = _as_listed(normal) if listing == "directory" else _sorted(normal)

    def run(self, entries: Sequence[Any]) -> tuple[Record, ...]:
        """The photos of one run."""
        photos = tuple(self._photo(entry) for entry in entries)
        if len({record.photo for record in photos}) < len(photos):
            raise self._error(f"{list(entries)!r} names a photo twice")
        return photos

    def _photo(self, entry: Any) -> Record:
        if isinstance(entry, int) and not isinstance(entry, bool):
            if not 0 <= entry < len(self.listed):
                raise self._error(f"number {entry} is not in the listing of {len(self.listed)} photos, from 0")
            return self.listed[entry]
        if not isinstance(entry, str):
            raise self._error(f"{entry!r} is no number, name or SHA-256")
        if _SHA256.fullmatch(entry):
            matching = [record for record in self.listed if sha256_file(record.photo) == entry.lower()][:1]
        else:
            matching = [record for record in self.listed if f"/{record.path.as_posix()}".endswith(f"/{entry}")]
        if len(matching) != 1:
            raise self._error(
                f"{entry!r} is {len(matching) or 'none'} of its {len(self.listed)} normal training photos"
            )
        return matching[0]

    def _error(self, words: str) -> DataError:
        return DataError(f"{shown(self.path)}: {self.class_name}: {words}; correct the list")


def _sorted(records: Sequence[Record]) -> list[Record]:
    """By name, as `data.shots.draw_shots` sorts before it draws."""
    unique = {(os.path.abspath(record.path), record.crop or ()): record for record in records}
    return [unique[key] for key in sorted(unique, key=lambda key: (unicodedata.normalize("NFC", key[0]), *key))]

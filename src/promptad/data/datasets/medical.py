"""Medical photo sets without masks: BrainMRI, Br35H, HeadCT, LAG. All photos are for the test, as FAPrompt counts them.

::

    yes/Y1.jpg, no/1 no.jpeg                            BrainMRI (253 photos; the archive holds them twice) and Br35H (3,000)
    head_ct/head_ct/000.png, labels.csv                 HeadCT; the table's header is "id, hemorrhage"
    LAG_database_part_1/{suspicious_glaucoma,non_glaucoma}/{image,attention_map}/0001.jpg

Of LAG a quarter of the photos without glaucoma is for the test (786 of 3,143), the others are for training; attention maps are
where doctors looked, and no masks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from promptad.data.datasets.layout import Layout, child, held_out
from promptad.data.datasets.listed import as_it_lies, read_text, require_files
from promptad.data.datasets.names import folders_in, photos_in
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

BRAIN, FUNDUS = "brain", "fundus"
_BR35H_FROM = 1000  # photos: BrainMRI has 253, Br35H 3,000
_GLAUCOMA, _CLEAR = "suspicious_glaucoma", "non_glaucoma"


def load_yes_no(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """BrainMRI or Br35H: `no` is normal, `yes` anomalous; folders beside them are no part of the set.

    Raises:
        DataError: one of the two folders is missing or empty.
    """
    folders = [child(root, name) for name in ("no", "yes")]
    records: list[Record] = []
    for label, folder in enumerate(folders):
        photos = photos_in(folder) if folder is not None else []
        if not photos:
            raise DataError(f"{shown(root)}: not BrainMRI or Br35H; expected photos in the folders yes and no")
        records += [Record(photo, label, None, BRAIN, "tumor" if label else "good") for photo in photos]
    others = [inner.name for inner in folders_in(root) if inner.name.casefold() not in ("yes", "no")]
    if others:
        notice(
            f"{shown(root)}: {', '.join(map(shown, others))} beside yes and no are not used: copies or no part of the set"
        )
    return records


def load_head_ct(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """HeadCT by its table.

    Raises:
        DataError: no such table, a row that is none, or a photo that is missing.
    """
    table = root / "labels.csv"
    if not _is_head_ct(table):
        raise DataError(f"{shown(root)}: not HeadCT; expected labels.csv with the columns id, hemorrhage")
    folder = child(root, "head_ct") or root
    records = []
    reader = csv.reader(io.StringIO(read_text(table), newline=""), skipinitialspace=True)
    for row in list(reader)[1:]:
        if not any(cell.strip() for cell in row):
            continue
        try:
            number, label = int(row[0]), int(row[1])
        except (ValueError, IndexError):
            raise DataError(f"{shown(table)}: row {row}; expected a number and 0 or 1; fetch it again") from None
        if label not in (0, 1):
            raise DataError(f"{shown(table)}: hemorrhage of {number} is {label}; expected 0 or 1; fetch it again")
        kind = "hemorrhage" if label else "good"
        records.append(Record(as_it_lies(folder / f"{number:03}.png"), label, None, BRAIN, kind))
    require_files((record.path for record in records), table)
    return records


def load_lag(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """LAG, part 1: all photos with glaucoma and a quarter of the others for the test.

    Raises:
        DataError: a folder is missing.
    """
    base = _lag(root)
    if base is None:
        raise DataError(f"{shown(root)}: not LAG; expected {_GLAUCOMA}/image and {_CLEAR}/image")
    good, defects = (
        [Record(photo, label, None, FUNDUS, kind) for photo in photos_in(_image_folder(base, name))]
        for label, name, kind in ((0, _CLEAR, "good"), (1, _GLAUCOMA, "glaucoma"))
    )
    notice(f"{shown(base)}: attention maps are where doctors looked; they are no masks and are not used")
    train, test = held_out(good)
    return [replace(record, split="train") for record in train] + test + defects


def _image_folder(base: Path, name: str) -> Path:
    folder = child(base, name)
    assert folder is not None  # `_lag` has seen it
    return child(folder, "image") or folder


def _lag(root: Path) -> Path | None:
    for folder in (root, child(root, "LAG_database_part_1")):
        if folder is not None and child(folder, _GLAUCOMA) is not None and child(folder, _CLEAR) is not None:
            return folder
    return None


def _is_head_ct(table: Path) -> bool:
    if not table.is_file():
        return False
    header = table.read_bytes()[:200].decode("utf-8-sig", "replace").split("\n")[0]
    return [cell.strip().casefold() for cell in header.split(",")] == ["id", "hemorrhage"]


def _yes_no(root: Path, large: bool) -> str | None:
    folders = [child(root, name) for name in ("yes", "no")]
    photos = [photos_in(folder) for folder in folders if folder is not None]
    if len(photos) < 2 or not all(photos):
        return None
    total = sum(map(len, photos))
    named = any(file.stem.casefold().startswith("no") and file.stem[2:].isdigit() for file in photos[1])
    # Names tell the sets apart where only a part of one is here: y0.jpg and no0.jpg, against Y1.jpg and "1 no.jpeg".
    br35h = total >= _BR35H_FROM or (named and any(file.stem.startswith("y") for file in photos[0]))
    return f"yes and no, {total} photos" if br35h == large else None


LAYOUTS = (
    Layout(
        "headct",
        load_head_ct,
        lambda root: "labels.csv" if _is_head_ct(root / "labels.csv") else None,
        "labels.csv with id, hemorrhage",
    ),
    Layout("brainmri", load_yes_no, lambda root: _yes_no(root, False), "yes and no"),
    Layout("br35h", load_yes_no, lambda root: _yes_no(root, True), "yes and no"),
    Layout("lag", load_lag, lambda root: _GLAUCOMA if _lag(root) is not None else None, f"{_GLAUCOMA} and {_CLEAR}"),
)

"""DAGM 2007, ten textures of which some are defective.

::

    Class1 ... Class10/{Train,Test}/0576.PNG
    Class1 ... Class10/{Train,Test}/Label/0576_label.PNG     of defective photos; a coarse ellipse
    Class1 ... Class10/{Train,Test}/Label/Labels.txt

A photo is defective where it has a label image. FAPrompt and AnomalyCLIP evaluate on the whole Test side. The training side
holds defective photos too; they keep their label, and what learns from good photos leaves them out. The older archive, which
describes the ellipses in a text file, is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from promptad.data.datasets.layout import Layout, child, unpacked
from promptad.data.datasets.names import entries_of, folders_in, photos_in
from promptad.data.files import shown
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice

_CLASS = re.compile(r"Class(\d+)", re.IGNORECASE)


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """Both sides of every class, classes in the order of their numbers.

    Raises:
        DataError: not the published set, or its lists contradict the label images.
    """
    folders = _classes(root)
    if not folders:
        raise DataError(f"{shown(root)}: not DAGM; expected Class1/Train/Label, Class1/Test/Label")
    records: list[Record] = []
    for folder in folders:
        sides: tuple[tuple[Split, Path | None], ...] = (
            ("train", child(folder, "Train")),
            ("test", child(folder, "Test")),
        )
        for split, side in sides:
            if side is None:
                notice(f"{shown(folder)}: has no {split.capitalize()} side")
                continue
            records += _side(folder.name, split, side)
    return records


def _side(name: str, split: Split, folder: Path) -> list[Record]:
    labels = child(folder, "Label")
    files = photos_in(labels) if labels is not None else []
    masks = {file.stem[:-6].casefold(): file for file in files if file.stem.casefold().endswith("_label")}
    records = []
    for photo in photos_in(folder):
        mask = masks.pop(photo.stem.casefold(), None)
        label = int(mask is not None)
        records.append(Record(photo, label, mask, name, "defect" if label else "good", split))
    if masks:
        first = next(iter(masks.values()))
        notice(f"{shown(folder)}: {len(masks)} label images belong to no photo (first: {shown(first.name)})")
    if labels is not None:
        _compare(labels, {record.path.stem for record in records if record.label})
    return records


def _compare(labels: Path, defective: set[str]) -> None:
    """A line where the list beside the label images says something else than they do."""
    listed = next((entry for entry in entries_of(labels) if entry.name.casefold() == "labels.txt"), None)
    if listed is None:
        return
    said = set()
    for line in listed.read_text("utf-8", errors="replace").splitlines()[1:]:
        fields = line.split("\t")
        if len(fields) >= 3 and fields[1].strip() == "1":
            said.add(Path(fields[2].strip()).stem)
    odd = sorted(said ^ defective)
    if odd:
        notice(
            f"{shown(listed)}: {len(odd)} photos are labelled otherwise than by the label images, which count (first: {odd[0]})"
        )


def _classes(root: Path) -> list[Path]:
    """The class folders, by number; a single one may be given itself."""
    own = unpacked(root)
    if _is_class(own):
        return [own]
    inner = [unpacked(folder) for folder in folders_in(own) if _CLASS.fullmatch(folder.name)]
    return sorted(filter(_is_class, inner), key=lambda folder: int(_CLASS.fullmatch(folder.name)[1]))  # type: ignore[index]


def _is_class(folder: Path) -> bool:
    if not _CLASS.fullmatch(folder.name):
        return False
    sides = [side for name in ("Train", "Test") if (side := child(folder, name)) is not None]
    return any(child(side, "Label") is not None for side in sides)


def _evidence(root: Path) -> str | None:
    folders = _classes(root)
    return f"{folders[0].name}/Train/Label" if folders else None


LAYOUTS = (Layout("dagm", load, _evidence, "Class1/Train/Label"),)

"""MVTec AD 2.

::

    <object>/train/good/000_regular.png, <object>/validation/good/000_regular.png
    <object>/test_public/{good,bad}/000_<light>.png
    <object>/test_public/ground_truth/bad/000_<light>_mask.png
    <object>/test_private/000_regular.png, <object>/test_private_mixed/000_mixed.png      no labels

A scene is photographed under several lights: `group` is the scene, which must not be torn apart, `condition` the light. Private
photos have no label; their maps go to the publisher's server (:mod:`promptad.bench.submission`).

Heckler-Kram et al., "The MVTec AD 2 Dataset: Advanced Scenarios for Unsupervised Anomaly Detection", 2025.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from promptad.data.datasets.layout import Layout, child, unpacked
from promptad.data.datasets.names import folders_in, photos_in
from promptad.data.files import shown
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice

OBJECTS = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
PRIVATE: tuple[Split, ...] = ("test_private", "test_private_mixed")
_NAME = re.compile(r"(?P<scene>\d+)_(?P<light>\w+)")


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """All splits of every object that is there; the public test is the split "test".

    Raises:
        DataError: no object is there.
    """
    objects = _objects(root)
    if not objects:
        raise DataError(f"{shown(root)}: not MVTec AD 2; expected <object>/test_public/good and /bad")
    return [record for folder in objects for record in _object(folder)]


def _object(folder: Path) -> list[Record]:
    name = unpacked(folder).name
    records: list[Record] = []
    splits: tuple[tuple[str, Split], ...] = (("train", "train"), ("validation", "validation"), ("test_public", "test"))
    for place, split in splits:
        side = child(folder, place)
        if side is None:
            notice(f"{shown(folder)}: has no {place}")
            continue
        masks = _masks(side)
        for kind, label in (("good", 0), ("bad", 1)):
            inner = child(side, kind)
            for photo in photos_in(inner) if inner is not None else []:
                mask = masks.pop(photo.stem.casefold(), None) if label else None
                records.append(_record(photo, label, mask, name, kind, split))
        if masks:
            first = next(iter(masks.values()))
            notice(f"{shown(side)}: {len(masks)} masks belong to no photo, not used (first: {shown(first.name)})")
    for split in PRIVATE:
        side = child(folder, split)
        records += [_record(photo, None, None, name, "", split) for photo in (photos_in(side) if side else [])]
    without = [record for record in records if record.label == 1 and record.mask is None]
    if without:
        notice(f"{shown(folder)}: {len(without)} bad photos have no mask (first: {shown(without[0].path.name)})")
    return records


def _record(photo: Path, label: int | None, mask: Path | None, name: str, kind: str, split: Split) -> Record:
    parts = _NAME.fullmatch(photo.stem)
    scene, light = (parts["scene"], parts["light"]) if parts is not None else (photo.stem, "")
    # Numbers start anew in every split, so the split is part of a scene's name.
    return Record(photo, label, mask, name, kind, split, group=f"{split}/{scene}", condition=light)


def _masks(side: Path) -> dict[str, Path]:
    truth = child(side, "ground_truth")
    folder = child(truth, "bad") if truth is not None else None
    files = photos_in(folder) if folder is not None else []
    return {file.stem[:-5].casefold(): file for file in files if file.stem.casefold().endswith("_mask")}


def _objects(root: Path) -> list[Path]:
    if child(root, "test_public") is not None:
        return [root]
    return [inner for folder in folders_in(root) if child(inner := unpacked(folder), "test_public") is not None]


def _evidence(root: Path) -> str | None:
    objects = _objects(root)
    return f"{objects[0].name}/test_public" if objects else None


LAYOUTS = (Layout("ad2", load, _evidence, "test_public"),)

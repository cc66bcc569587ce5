"""KolektorSDD and KolektorSDD2 (ViCoS, University of Ljubljana).

::

    kos01 ... kos50/Part0.jpg ... Part7.jpg, Part0_label.bmp         KolektorSDD as published: grey, about 500 x 1240
    electrical_commutators/{train,test}/{good,defect}, ground_truth  as AnomalyCLIP packs its strips
    train/10000.png, train/10000_GT.png, test/20000.png, ...         KolektorSDD2

The conversions of InCTRL and AdaCLIP, whose counts FAPrompt prints (286 normal, 54 anomalous strips), cut every photo into three
strips at the rows 0, h/3 and 2h/3 rounded down; a strip is anomalous where its mask marks a pixel, and a quarter of the normal
strips are for the test. The masks of defective photos are palette images whose index 1 is white.

Tabernik et al., "Segmentation-based deep-learning approach for surface-defect detection", J. Intelligent Manufacturing 31,
2020; Bozic et al., "Mixed supervision for surface-defect detection: from weakly to fully supervised learning", Computers in
Industry 129, 2021.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from promptad.data.datasets import mvtec
from promptad.data.datasets.layout import Layout, child, held_out
from promptad.data.datasets.names import folders_in, photos_in
from promptad.data.files import shown
from promptad.data.parts import FilePart
from promptad.data.photos import photo_size, read_mask_pixels
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice

CLASS_NAME = "electrical_commutators"
CLASS_NAME_2 = "surface"
_FOLDER = re.compile(r"kos\d\d", re.IGNORECASE)
_PHOTO = re.compile(r"Part\d+", re.IGNORECASE)
_PACKED = ("electrical_commutators", "electrical commutators")


def load_strips(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """KolektorSDD in strips, as FAPrompt counts it: anomalous strips and a quarter of the normal ones are for the test.

    Raises:
        DataError: not the published set, or a photo without its label image.
    """
    strips: list[Record] = []
    for photo, label in _photos(root):
        height, width = photo_size(photo)
        marked = read_mask_pixels(label)
        rows = [0, height // 3, 2 * (height // 3), height]
        for top, bottom in pairwise(rows):
            crop = (0, top, width, bottom)
            defect = bool(marked[top:bottom].any())
            strips.append(
                Record(
                    path=photo,
                    label=int(defect),
                    mask=FilePart(label, crop) if defect else None,
                    class_name=CLASS_NAME,
                    defect_type="defect" if defect else "good",
                    group=f"{photo.parent.name}_{photo.stem}",
                    crop=crop,
                )
            )
    notice(
        f"{shown(root)}: normal strips are split at random (seed 42), as in the released conversions, so strips of one photo lie "
        "in training and in test"
    )
    return _split(strips)


def load_whole(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """KolektorSDD in whole photos, as anomalib reads it: a fifth of the clean photos and all defective ones are for the test.

    Raises:
        DataError: not the published set, or a photo without its label image.
    """
    records = []
    for photo, label in _photos(root):
        defect = bool(read_mask_pixels(label).any())
        kind = "defect" if defect else "good"
        mask = label if defect else None
        records.append(Record(photo, int(defect), mask, CLASS_NAME, kind, group=photo.parent.name))
    return _split(records, share=0.2)


def load_packed(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """KolektorSDD in the strips that AnomalyCLIP publishes: one class in the MVTec layout, with its own split."""
    folder = child(root, *_PACKED) or root
    return [replace(record, class_name=CLASS_NAME) for record in mvtec.load(folder, normal)]


def load_2(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """KolektorSDD2. Its lists of weak labels (``split_*.pyb``) are pickles and never read.

    Raises:
        DataError: not the published set, or a photo without its mask.
    """
    records: list[Record] = []
    for split in ("train", "test"):
        folder = child(root, split)
        files = photos_in(folder) if folder is not None else []
        masks = {file.stem[:-3].casefold(): file for file in files if file.stem.casefold().endswith("_gt")}
        for photo in files:
            if photo in masks.values():
                continue
            mask = masks.get(photo.stem.casefold())
            if mask is None:
                raise DataError(
                    f"{shown(photo)}: has no mask {photo.stem}_GT.png beside it; KolektorSDD2 has one for every photo: unpack it again"
                )
            defect = bool(read_mask_pixels(mask).any())
            where: Split = "train" if split == "train" else "test"
            kind = "defect" if defect else "good"
            records.append(Record(photo, int(defect), mask if defect else None, CLASS_NAME_2, kind, where))
    if not records:
        raise DataError(f"{shown(root)}: not KolektorSDD2; expected train/10000.png, train/10000_GT.png, test/...")
    return records


def _photos(root: Path) -> list[tuple[Path, Path]]:
    """Photos and their label images, sorted."""
    pairs = []
    for folder in folders_in(root):
        if not _FOLDER.fullmatch(folder.name):
            continue
        files = photos_in(folder)
        labels = {file.stem[:-6].casefold(): file for file in files if file.stem.casefold().endswith("_label")}
        for photo in files:
            if not _PHOTO.fullmatch(photo.stem):
                continue
            if photo.stem.casefold() not in labels:
                raise DataError(
                    f"{shown(photo)}: has no {photo.stem}_label.bmp beside it, so its label is unknown; unpack the set again"
                )
            pairs.append((photo, labels[photo.stem.casefold()]))
    if not pairs:
        raise DataError(f"{shown(root)}: not KolektorSDD; expected kos01/Part0.jpg and kos01/Part0_label.bmp")
    return pairs


def _split(records: list[Record], share: float = 0.25) -> list[Record]:
    """All anomalous records and a drawn share of the normal ones to the test, the others to training; in their order."""
    good = [record for record in records if record.label == 0]
    train, _ = held_out(good, share) if good else ([], [])
    learned = {id(record) for record in train}
    return [replace(record, split="train") if id(record) in learned else record for record in records]


def _published(root: Path) -> str | None:
    for folder in folders_in(root):
        if _FOLDER.fullmatch(folder.name) and any(_PHOTO.fullmatch(file.stem) for file in photos_in(folder)):
            return f"{folder.name}/Part*"
    return None


def _packed(root: Path) -> str | None:
    folder = child(root, *_PACKED) or (root if root.name in _PACKED else None)
    return f"{folder.name}/" if folder is not None and mvtec.find_categories(folder) == [folder] else None


def _second(root: Path) -> str | None:
    marks = []
    for split in ("train", "test"):
        folder = child(root, split)
        files = photos_in(folder) if folder is not None and not folders_in(folder) else []
        marks += [f"{split}/{file.name}" for file in files if file.stem.endswith("_GT")][:1]
    return marks[0] if len(marks) == 2 else None


LAYOUTS = (
    Layout("kolektor", load_strips, _published, "kos01/Part0.jpg"),
    Layout("kolektor-whole", load_whole, None, "kos01/Part0.jpg"),
    Layout("kolektor-packed", load_packed, _packed, "electrical_commutators/test"),
    Layout("kolektor2", load_2, _second, "train/*_GT.png and test/*_GT.png"),
)

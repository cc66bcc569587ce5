"""Annotations in COCO's form: a JSON file with images, annotations and categories.

::

    annotations/instances_train.json, instances_val.json, images/...
    {train,valid,test}/_annotations.coco.json, beside the photos

A listed photo without an annotation of a defect is normal; a photo that is not listed is not used. Categories called good,
normal, background and the like are no defects; the others are its types. Where an annotation has no outline but a box, the box
is no mask: the photo keeps its label, and pixel metrics leave it out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptad.data.datasets.layout import Layout, with_test
from promptad.data.datasets.listed import PhotoFinder, each_once, folder_class, read_json, read_text
from promptad.data.datasets.names import entries_of, folders_in, is_normal
from promptad.data.files import shown
from promptad.data.outlines import Outlines, Polygon, Runs, read_counts
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice
from promptad.parsing import parsed_json

_BACKGROUND = ("background", "_background_", "objects")


def load(path: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The records of one annotation file, or of those in a folder.

    The split is in the name of the file or of its folder (train, val or valid, test); one without is for the test. Where no
    file is for the test, the validation photos are, with a line.

    Raises:
        DataError: no such file, another form, or photos that are missing.
    """
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise DataError(f"{shown(path)}: has no annotations; expected instances_*.json or _annotations.coco.json")
    name = folder_class(path)
    records = [record for file in files for record in _Annotations(file, _split(file), name, normal).records()]
    if not records:
        raise DataError(f"{shown(path)}: lists no photos; export it again")
    return each_once(with_test(records, path), path)


@dataclass
class _Drawn:
    """What the annotations say of one photo."""

    polygons: list[Polygon] = field(default_factory=list)
    runs: list[Runs] = field(default_factory=list)
    boxes: int = 0
    kinds: list[str] = field(default_factory=list)


class _Annotations:
    """One file."""

    def __init__(self, file: Path, split: Split, name: str, normal: Sequence[str]) -> None:
        self.file, self.split, self.name, self.normal = file, split, name, normal
        try:
            content = read_json(file)
            self.images = [(image["id"], str(image["file_name"]), image) for image in content["images"]]
            self.annotations: list[dict[str, Any]] = list(content["annotations"])
            self.categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{shown(file)}: is not an annotation in COCO's form ({error!r}); expected images, annotations, categories"
            ) from error

    def records(self) -> list[Record]:
        """The photos in the file's order. Raises DataError."""
        drawn: dict[Any, _Drawn] = {identity: _Drawn() for identity, _, _ in self.images}
        lost = 0
        for number, entry in enumerate(self.annotations):
            try:
                if entry["image_id"] in drawn:
                    self._add(drawn[entry["image_id"]], entry, f"{shown(self.file)} annotation {number}")
                else:
                    lost += 1
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise DataError(
                    f"{shown(self.file)} annotation {number}: is not of COCO's form ({error!r}); export it again"
                ) from error
        if lost:
            notice(f"{shown(self.file)}: {lost} annotations are of photos that it does not list, not used")
        finder = PhotoFinder(self.file, ("", "images", self.file.stem.removeprefix("instances_")))
        records = [self._record(finder.find(name), image, drawn[identity]) for identity, name, image in self.images]
        finder.say()
        boxes = sum(record.label == 1 and record.mask is None for record in records)
        if boxes:
            notice(
                f"{shown(self.file)}: {boxes} anomalous photos have boxes alone, which are no masks: pixel metrics leave them out"
            )
        return records

    def _add(self, drawn: _Drawn, entry: Mapping[str, Any], where: str) -> None:
        kind = self.categories.get(entry["category_id"])
        if kind is None:
            raise DataError(f"{where}: category {entry['category_id']!r} is not listed; export it again")
        if is_normal(kind, self.normal) or kind.casefold() in _BACKGROUND:
            return
        if kind not in drawn.kinds:
            drawn.kinds.append(kind)
        outline = entry.get("segmentation")
        if isinstance(outline, Mapping):
            drawn.runs.append(read_counts(outline["counts"], where))
        elif outline:
            drawn.polygons += [tuple(float(value) for value in polygon) for polygon in outline]
        else:
            drawn.boxes += 1

    def _record(self, path: Path, image: Mapping[str, Any], drawn: _Drawn) -> Record:
        size = (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None
        mask = None
        # A mask without one of several defects would call it normal.
        if (drawn.polygons or drawn.runs) and not drawn.boxes:
            mask = Outlines(self.file, path.name, size, tuple(drawn.polygons), tuple(drawn.runs))
        label = int(bool(drawn.kinds))
        return Record(path, label, mask, self.name, "+".join(drawn.kinds) if label else "good", self.split)


def is_coco(file: Path) -> bool:
    """Whether a JSON file is of this form, by the names of its keys."""
    try:
        content = parsed_json(read_text(file))
    except (ValueError, DataError):
        return False
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _split(file: Path) -> Split:
    for part in (file.stem.casefold(), file.parent.name.casefold()):
        words = part.replace("-", "_").replace(".", "_").split("_")
        if any(word.startswith("train") for word in words):
            return "train"
        if any(word in ("val", "valid", "validation") or word.startswith("val2") for word in words):
            return "validation"
        if any(word.startswith("test") for word in words):
            return "test"
    return "test"


def _files(root: Path) -> list[Path]:
    """Annotation files in a folder, in its `annotations`, and in the folders of splits."""
    out = []
    for folder in (root, *folders_in(root)):
        for entry in entries_of(folder):
            name = entry.name.casefold()
            if name.endswith(".json") and (name.startswith("instances_") or name == "_annotations.coco.json"):
                out.append(entry)
    return [file for file in out if os.path.isfile(file)]


def _evidence(root: Path) -> str | None:
    if root.is_file():
        return root.name if root.suffix.lower() == ".json" and is_coco(root) else None
    files = _files(root)
    return files[0].relative_to(root).as_posix() if files else None


LAYOUTS = (Layout("coco", load, _evidence, "instances_*.json, _annotations.coco.json"),)

"""Photos with outlines in files of their own: YOLO's text files and labelme's JSON files.

::

    images/<split>/005.jpg, labels/<split>/005.txt, data.yaml      lines: class cx cy w h, or class x1 y1 x2 y2 ..., as shares
    005.jpg, 005.json                                              shapes with a label, a type and points in pixels

YOLO: an empty or missing text file is a photo without defects, because packs of defect sets write files for defects alone. A
line of four numbers is a box, and no mask: the photo keeps its label. labelme: a photo without a JSON file has not been looked
at, so it is unlabelled; one without shapes is normal.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptad.data.datasets.layout import Layout, child, with_test
from promptad.data.datasets.listed import each_once, folder_class, read_text
from promptad.data.datasets.names import entries_of, is_normal, photos_below, photos_in
from promptad.data.files import shown
from promptad.data.outlines import Outlines, Polygon, box_polygon
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice
from promptad.parsing import parsed_json

_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
_LISTED = re.compile(r"^\s*(?:-|(?P<number>\d+)\s*:)\s*(?P<name>.+?)\s*$")
_BACKGROUND = "background"


# YOLO ---------------------------------------------------------------------------------------------------------------


def load_yolo(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The records; validation photos are the test where there is no other.

    Raises:
        DataError: no photos, or a line that is none.
    """
    images, labels = child(root, "images"), child(root, "labels")
    # Roboflow turns it round: train/images and train/labels.
    pairs = [(images, labels)] if images is not None and labels is not None else []
    for name in _SPLITS:
        side = child(root, name)
        inner = (child(side, "images"), child(side, "labels")) if side is not None else (None, None)
        if inner[0] is not None and inner[1] is not None:
            pairs.append((inner[0], inner[1]))
    kinds = _names(root)
    records = []
    for photos, texts in pairs:
        for photo in photos_below(photos, masks=True):
            place = photo.relative_to(photos)
            words = [*place.parts[:-1], photos.parent.name]
            split: Split = next((_SPLITS[word.casefold()] for word in words if word.casefold() in _SPLITS), "test")
            text = texts / place.with_suffix(".txt")
            records.append(_yolo_record(photo, text, kinds, folder_class(root), split, normal))
    if not records:
        raise DataError(
            f"{shown(root)}: not a set in YOLO's form; expected images/<split>/*.jpg and labels/<split>/*.txt"
        )
    records = with_test(records, root)
    _say_boxes(root, records)
    return records


def _yolo_record(
    photo: Path, text: Path, kinds: Mapping[int, str], name: str, split: Split, normal: Sequence[str]
) -> Record:
    polygons: list[Polygon] = []
    boxes, names = 0, []
    for number, line in enumerate(read_text(text).splitlines() if text.is_file() else [], 1):
        if not line.strip():
            continue
        try:
            which, *values = int(line.split()[0]), *map(float, line.split()[1:])
        except ValueError:
            which, values = -1, []
        if (
            which < 0
            or (len(values) != 4 and (len(values) < 6 or len(values) % 2))
            or not all(map(math.isfinite, values))
        ):
            raise DataError(
                f"{shown(text)} line {number}: {shown(line[:60])}; expected a class and a box of 4 numbers, or a class and corners"
            )
        kind = kinds.get(which, f"class {which}")
        if is_normal(kind, normal) or kind.casefold() == _BACKGROUND:
            continue
        names += [kind] if kind not in names else []
        if len(values) == 4:
            boxes += 1
        else:
            polygons.append(tuple(values))
    mask = Outlines(text, photo.name, None, tuple(polygons), relative=True) if polygons and not boxes else None
    return Record(photo, int(bool(names)), mask, name, "+".join(names) if names else "good", split)


def _names(root: Path) -> dict[int, str]:
    """Numbers and names of classes from `data.yaml`: a list in brackets, a list of lines, or a mapping."""
    file = next((entry for entry in entries_of(root) if entry.suffix.lower() in (".yaml", ".yml")), None)
    lines = read_text(file).splitlines() if file is not None else []
    for place, line in enumerate(lines):
        if not line.startswith("names:"):
            continue
        rest = line.partition(":")[2].split("#")[0].strip()
        if rest:
            parts = [part.strip().strip("'\"") for part in rest.strip("[]{}").split(",")]
            named = [part.partition(":") for part in parts] if rest.startswith("{") else []
            return {int(number): word.strip().strip("'\"") for number, _, word in named} or dict(enumerate(parts))
        out: dict[int, str] = {}
        for following in lines[place + 1 :]:
            listed = _LISTED.match(following)
            if listed is None:
                break
            out[int(listed["number"] or len(out))] = listed["name"].split(" #")[0].strip().strip("'\"")
        return out
    return {}


def _yolo(root: Path) -> str | None:
    file = next((entry for entry in entries_of(root) if entry.name.lower() in ("data.yaml", "dataset.yaml")), None)
    if file is not None:
        return file.name
    images, labels = child(root, "images"), child(root, "labels")
    if images is None or labels is None:
        return None
    texts = [path for path in labels.rglob("*.txt") if path.name.lower() != "classes.txt"]
    return f"labels/{texts[0].name}" if texts and not photos_below(labels, masks=True) else None


# labelme ------------------------------------------------------------------------------------------------------------


def load_labelme(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The records, all for the test. Raises DataError where a file is of another form or its photo is missing."""
    files = _labelme_files(root)
    if not files:
        raise DataError(f"{shown(root)}: has no labelme files; expected x.json with shapes beside x.jpg")
    records = [_labelme_record(file, content, folder_class(root), normal) for file, content in files]
    known = {os.path.normpath(record.path) for record in records}
    others = [photo for photo in photos_in(root) if os.path.normpath(photo) not in known]
    if others:
        notice(
            f"{shown(root)}: {len(others)} photos have no JSON file, so nobody looked at them, not used (first: {others[0].name})"
        )
    _say_boxes(root, records)
    return each_once(records, root)


def _labelme_record(file: Path, content: Mapping[str, Any], name: str, normal: Sequence[str]) -> Record:
    try:
        polygons: list[Polygon] = []
        names: list[str] = []
        unread = []
        for shape in content["shapes"]:
            kind, form = str(shape["label"]), str(shape.get("shape_type") or "polygon")
            if is_normal(kind, normal) or kind.casefold() in (_BACKGROUND, "_background_"):
                continue
            names += [kind] if kind not in names else []
            points = [(float(x), float(y)) for x, y in shape["points"]]
            drawn = _corners(form, points)
            if drawn is None:
                unread.append(form)
            else:
                polygons.append(drawn)
        size = (int(content["imageHeight"]), int(content["imageWidth"])) if content.get("imageHeight") else None
        # The photo's name may hold folders of another machine and either separator.
        photo = _photo_beside(file, re.split(r"[\\/]", str(content.get("imagePath") or ""))[-1])
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{shown(file)}: is not a labelme file ({error!r}); save it again") from error
    if unread:
        notice(f"{shown(file)}: shapes of the type {unread[0]} are no areas, so the photo has no mask here")
    mask = Outlines(file, photo.name, size, tuple(polygons)) if polygons and not unread else None
    return Record(photo, int(bool(names)), mask, name, "+".join(names) if names else "good", "test")


def _corners(form: str, points: Sequence[tuple[float, float]]) -> Polygon | None:
    """A shape as a polygon; None for lines, points and masks, which are not drawn by corners."""
    if form == "polygon":
        return tuple(value for point in points for value in point)
    if form == "rectangle":
        (x0, y0), (x1, y1) = points
        return box_polygon(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
    if form == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        turns = [2 * math.pi * step / 64 for step in range(64)]
        return tuple(value for turn in turns for value in (x + radius * math.cos(turn), y + radius * math.sin(turn)))
    return None


def _photo_beside(file: Path, name: str) -> Path:
    """The photo of a JSON file: of its name, else of its stem. Raises DataError."""
    if name and (file.parent / name).is_file():
        return file.parent / name
    for photo in photos_in(file.parent):
        if photo.stem.casefold() == file.stem.casefold():
            return photo
    raise DataError(f"{shown(file)}: its photo {shown(name or file.stem)} is not beside it; put it there")


def _labelme_files(root: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    out: list[tuple[Path, Mapping[str, Any]]] = []
    for file in entries_of(root):
        if file.suffix.lower() == ".json":
            try:
                content = parsed_json(read_text(file))
            except ValueError:
                continue
            if isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content:
                out.append((file, content))
    return out


def _labelme(root: Path) -> str | None:
    if not photos_in(root):
        return None
    files = _labelme_files(root)
    return f"{files[0][0].name} with shapes" if files else None


def _say_boxes(root: Path, records: Sequence[Record]) -> None:
    boxes = sum(record.label == 1 and record.mask is None for record in records)
    if boxes:
        notice(
            f"{shown(root)}: {boxes} anomalous photos have no outline of every defect, so no mask: pixel metrics leave them out"
        )


LAYOUTS = (
    Layout("yolo", load_yolo, _yolo, "data.yaml"),
    Layout("labelme", load_labelme, _labelme, "x.json with shapes beside x.jpg"),
)

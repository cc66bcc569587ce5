"""Real-IAD: five views of every sample, listed in JSON files.

::

    realiad_{256,512,1024,raw}/<class>/OK/S0001/<class>_0001_OK_C1_<time>.jpg
    realiad_{256,512,1024,raw}/<class>/NG/<code>/S0001/<class>_0001_NG_<code>_C1_<time>.jpg, .png (the mask)
    realiad_jsons/<class>.json, realiad_jsons_sv (one view), realiad_jsons_fuiad_{0.0,0.1,0.2,0.4} (with anomalies in training)

A view without a visible defect of a defective sample is normal, as the JSON lists it. `group` is the sample, `condition` the
view: :func:`promptad.metrics.samples.sample_level` turns scores of views into scores of samples.

Wang et al., "Real-IAD: A Real-World Multi-View Dataset for Benchmarking Versatile Industrial Anomaly Detection", CVPR 2024.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from promptad.data.datasets.layout import Layout, child, unpacked
from promptad.data.datasets.listed import each_once, path_inside, read_json, require_files, without_absent_classes
from promptad.data.datasets.names import entries_of
from promptad.data.files import shown
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice

DEFECTS = {
    **{"AK": "pit", "BX": "deformation", "CH": "abrasion", "HS": "scratch", "PS": "damage", "QS": "missing_part"},
    **{"YW": "foreign_object", "ZW": "contamination"},
}
"""Codes of defects in folders and names."""
SIZES = ("1024", "512", "256", "raw")
"""Folders of photos, the one that is taken first where several are there."""
LISTS = ("", "sv", "fuiad_0.0", "fuiad_0.1", "fuiad_0.2", "fuiad_0.4")
"""Ends of the folders of lists: all views, one view, and shares of anomalies in training."""
_VIEW = re.compile(r"(?P<sample>.+)_(?P<view>C\d)_")


def _loader(kind: str) -> Callable[[Path, Sequence[str]], list[Record]]:
    def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
        return load_lists(root, kind)

    return load


def load_lists(root: Path, kind: str = "") -> list[Record]:
    """The records of one of the :data:`LISTS`.

    Of the lists with anomalies in training, every training photo counts as good, which is what these lists are for.

    Raises:
        DataError: lists or photos are missing, a list is of another form, or a path in it leads out of the folder.
    """
    lists = _lists(root, kind)
    photos = [folder for size in SIZES if (folder := child(root, f"realiad_{size}")) is not None]
    if not lists or not photos:
        name = f"realiad_jsons{'_' if kind else ''}{kind}"
        raise DataError(
            f"{shown(root)}: not Real-IAD; expected {name}/<class>.json and realiad_1024 (or 512, 256, raw)"
        )
    if len(photos) > 1:
        notice(
            f"{shown(root)}: has photos in {len(photos)} sizes; {photos[0].name} is read: move it away to read another"
        )
    records = [record for file in lists for record in _records(file, photos[0], kind)]
    if kind.startswith("fuiad"):
        notice(
            f"{shown(lists[0].parent)}: every training photo counts as good, though a share of them is anomalous by design"
        )
    records = without_absent_classes(records, lists[0].parent)
    require_files((path for record in records for path in (record.path, *record.masks)), lists[0].parent)
    return each_once(records, lists[0].parent)


def _records(file: Path, photos: Path, kind: str) -> list[Record]:
    try:
        content = read_json(file)
        prefix, normal = content["meta"]["prefix"], content["meta"]["normal_class"]
        sides: list[tuple[Split, list[dict[str, Any]]]] = [("train", content["train"]), ("test", content["test"])]
        return [
            _record(entry, photos, prefix, normal, split, kind, f"{shown(file)} {split} entry {number}")
            for split, entries in sides
            for number, entry in enumerate(entries)
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{shown(file)}: is not a list of Real-IAD ({error!r}); fetch it again") from error


def _record(
    entry: dict[str, Any], photos: Path, prefix: str, normal: str, split: Split, kind: str, where: str
) -> Record:
    path = path_inside(photos, prefix + entry["image_path"], where)
    code, mask = entry["anomaly_class"], entry["mask_path"]
    good = mask is None or code == normal or (kind.startswith("fuiad") and split == "train")
    view = _VIEW.match(path.name)
    return Record(
        path=path,
        label=int(not good),
        mask=None if good else path_inside(photos, prefix + mask, where),
        class_name=entry["category"],
        defect_type="good" if good else DEFECTS.get(code, code),
        split=split,
        group=view["sample"] if view is not None else "",
        condition=view["view"] if view is not None else "",
    )


def _lists(root: Path, kind: str) -> list[Path]:
    """The JSON files of a list, one a class; the folder may lie in itself or in the one of the plain lists."""
    name = f"realiad_jsons{'_' if kind else ''}{kind}"
    outer = child(root, "realiad_jsons")
    for folder in (child(root, name), child(outer, name) if outer is not None else None):
        if folder is not None:
            files = [file for file in entries_of(unpacked(folder)) if file.suffix.lower() == ".json"]
            if files:
                return files
    return []


def _evidence(root: Path) -> str | None:
    lists = _lists(root, "")
    return f"realiad_jsons/{lists[0].name}" if lists else None


LAYOUTS = tuple(
    Layout(
        f"real-iad{'-' if kind else ''}{kind.replace('_', '-')}",
        _loader(kind),
        None if kind else _evidence,
        f"realiad_jsons{'_' if kind else ''}{kind}",
    )
    for kind in LISTS
)

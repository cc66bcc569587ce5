"""VisA as published (``split_csv/{1cls,2cls_fewshot,2cls_highshot}.csv``) or re-laid out
(``1cls/<class>/{train,test}/{good,bad}``).

The one-class split is the default; the two others have defective photos in training too.

Zou et al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV
2022.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from promptad.data.datasets import mvtec
from promptad.data.datasets.layout import Layout
from promptad.data.datasets.listed import (
    each_once,
    path_inside,
    read_text,
    require_files,
    say_unlisted,
    without_absent_classes,
)
from promptad.data.files import shown
from promptad.data.records import Record, Split
from promptad.errors import DataError

TABLE = Path("split_csv", "1cls.csv")
"""The one-class split, inside the data set's folder."""

SPLITS = ("1cls", "2cls_fewshot", "2cls_highshot")
"""The published splits: names of tables in ``split_csv``, and of folders of the re-layout."""

RELAYOUT = "1cls"
"""Folder of the re-laid-out data set."""

_COLUMNS = ("object", "split", "label", "image", "mask")
_LABELS = {"normal": 0, "anomaly": 1}
_TABLE_SPLITS: tuple[Split, ...] = ("train", "test")


def load(root: str | os.PathLike[str], normal: Sequence[str] = (), split: str = SPLITS[0]) -> list[Record]:
    """The records of VisA, from a split's table if there is one, else from its re-layout.

    Args:
        root: the folder that holds ``split_csv`` or ``1cls``, or the ``1cls`` folder itself.
        split: one of :data:`SPLITS`.
        normal: names of further folders of the re-layout whose photos are normal; the table says so itself.

    Returns:
        Records in the table's order (re-layout: sorted). ``defect_type`` is "good" or "anomaly" (re-layout:
        "bad"); the table has no finer types.

    Raises:
        DataError: neither form is there; the table has wrong columns or values, names files that are
            missing, or a path that leads out of ``root``.
    """
    folder, table = Path(root), TABLE.with_name(f"{split}.csv")
    if (folder / table).is_file():
        return _load_table(folder, folder / table)
    if (folder / split).is_dir():
        return mvtec.load(folder / split, normal)
    if folder.name == split:
        return mvtec.load(folder, normal)
    raise DataError(f"{shown(folder)}: not VisA; expected {table.as_posix()} or {split}/<class>/; give its own folder")


def _evidence(folder: Path) -> str | None:
    known = next((place for place in (TABLE, Path(RELAYOUT)) if (folder / place).exists()), None)
    return known.as_posix() if known is not None else None


def _reading(split: str) -> Callable[[Path, Sequence[str]], list[Record]]:
    return lambda root, normal: load(root, normal, split)


def _load_table(root: Path, table: Path) -> list[Record]:
    reader = csv.DictReader(io.StringIO(read_text(table), newline=""))
    records: list[Record] = []
    try:
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            columns = ", ".join(reader.fieldnames or ()) or "nothing"
            raise DataError(
                f"{shown(table)}: columns {columns}; expected {', '.join(_COLUMNS)}; fetch the original table"
            )
        for row in reader:
            records.append(_record(root, row, f"{shown(table)} line {reader.line_num}"))
    except csv.Error as error:
        raise DataError(f"{shown(table)}: line {reader.line_num} is not CSV ({error}); fetch it again") from error
    if not records:
        raise DataError(f"{shown(table)}: has no rows; expected one for each photo; fetch the original table")
    records = without_absent_classes(records, table)
    require_files((path for record in records for path in (record.path, *record.masks)), table)
    records = each_once(records, table)
    say_unlisted(records, root, table)
    return records


def _record(root: Path, row: dict[str, str | None], where: str) -> Record:
    name, split, label, image, mask = ((row[column] or "").strip() for column in _COLUMNS)
    if label not in _LABELS:
        raise DataError(f"{where}: label {label!r}; expected {' or '.join(_LABELS)}; correct the table")
    for known in _TABLE_SPLITS:
        if split == known:
            return Record(
                path=path_inside(root, image, where),
                label=_LABELS[label],
                mask=path_inside(root, mask, where) if mask and _LABELS[label] else None,
                class_name=name,
                defect_type=label if _LABELS[label] else "good",
                split=known,
            )
    raise DataError(f"{where}: split {split!r}; expected {' or '.join(_TABLE_SPLITS)}; correct the table")


LAYOUTS = (
    Layout("visa", load, _evidence, "split_csv/1cls.csv, 1cls"),
    *(
        Layout(f"visa-{split.replace('_', '-')}", _reading(split), None, f"split_csv/{split}.csv, {split}")
        for split in SPLITS[1:]
    ),
)

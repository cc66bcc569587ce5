"""``meta.json``, the interchange list of AnomalyCLIP, APRIL-GAN, AdaCLIP and FAPrompt.

::

    {"train": {"bottle": [{"img_path": "bottle/train/good/000.png", "mask_path": "", "cls_name": "bottle",
                           "specie_name": "good", "anomaly": 0}, ...]},
     "test": {...}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from promptad.data.datasets.listed import path_inside, read_text, require_files
from promptad.data.files import shown, write_atomic
from promptad.data.records import Record, Split
from promptad.errors import DataError

FILE_NAME = "meta.json"

_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    type(None): "nothing",
}


def load(path: str | os.PathLike[str]) -> list[Record]:
    """The records that a ``meta.json`` lists.

    The keys train and test are read in any case. Paths are relative to the file's folder; absolute ones are
    accepted if they exist. A mask of a normal photo is passed over.

    Args:
        path: the file, or the folder that holds it.

    Returns:
        Records in the file's order.

    Raises:
        DataError: the file is missing or not of this form, a path leads out of its folder, or files are
        missing.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(file)}: is not JSON ({error}); write it again") from error
    content = _typed(content, dict, shown(file))
    splits = {key.lower(): classes for key, classes in content.items() if key.lower() in get_args(Split)}
    if not splits:
        keys = ", ".join(list(content)[:5]) or "none"
        raise DataError(f"{shown(file)}: keys {shown(keys)}; expected train and test; correct it")
    records: list[Record] = []
    for split in get_args(Split):
        for name, entries in _typed(splits.get(split, {}), dict, f"{shown(file)} {split}").items():
            where = f"{shown(file)} {split} {shown(name)}"
            for number, entry in enumerate(_typed(entries, list, where)):
                records.append(_record(file.parent, split, name, entry, f"{where} entry {number}"))
    if not records:
        raise DataError(f"{shown(file)}: lists no photos; expected entries under train or test; write it again")
    require_files((path for record in records for path in (record.path, record.mask) if path), file)
    return records


def write(records: Iterable[Record], path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> None:
    """Write records as a ``meta.json``.

    Args:
        records: photos with a label and a class name.
        path: the file to write, or a folder to write ``meta.json`` into.
        root: paths inside it are written relative to it, others absolute; the file's own folder by default,
            which is where readers look.

    Raises:
        DataError: a record has no label or class name, or the file cannot be written.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    base = Path(os.path.abspath(root if root is not None else file.parent))
    content: dict[str, dict[str, list[dict[str, Any]]]] = {split: {} for split in get_args(Split)}
    for record in records:
        if record.label is None or not record.class_name:
            lacking = "label" if record.label is None else "class name"
            raise DataError(f"{shown(record.path)}: has no {lacking}, which meta.json needs; set it in its record")
        content[record.split].setdefault(record.class_name, []).append(
            {
                "img_path": _relative(record.path, base),
                "mask_path": _relative(record.mask, base) if record.mask else "",
                "cls_name": record.class_name,
                "specie_name": record.defect_type,
                "anomaly": record.label,
            }
        )
    write_atomic(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _record(root: Path, split: Split, class_key: str, entry: Any, where: str) -> Record:
    entry = _typed(entry, dict, where)
    anomaly = entry.get("anomaly")
    if not isinstance(anomaly, int) or anomaly not in (0, 1):  # bool is an int here, and accepted
        raise DataError(f"{where}: anomaly is {anomaly!r}; expected 0 or 1; correct it")
    image = _typed(entry.get("img_path"), str, f"{where} img_path")
    mask = _typed(entry.get("mask_path") or "", str, f"{where} mask_path") if anomaly else ""
    return Record(
        path=path_inside(root, image, where, absolute=True),
        label=int(anomaly),
        mask=path_inside(root, mask, where, absolute=True) if mask else None,
        class_name=_typed(entry.get("cls_name") or class_key, str, f"{where} cls_name"),
        defect_type=_typed(entry.get("specie_name") or "", str, f"{where} specie_name") if anomaly else "good",
        split=split,
    )


def _relative(path: Path, base: Path) -> str:
    absolute = Path(os.path.abspath(path))
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


def _typed(value: Any, kind: type[Any], where: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(f"{where}: found {_KINDS.get(type(value), 'a number')}; expected {_KINDS[kind]}; correct it")
    return value

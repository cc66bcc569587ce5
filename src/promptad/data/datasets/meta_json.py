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

from promptad.data.datasets.listed import each_once, path_inside, read_text, require_files, say_unlisted
from promptad.data.datasets.pairing import say_marks_on_good
from promptad.data.files import shown, write_atomic
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice

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

    The keys train and test are read in any case, several spellings of one key together. Paths are relative to the
    file's folder; absolute ones are accepted if they exist. ``mask_path`` is a path, or a list of paths whose union is
    the mask. A photo that is listed twice counts once. Masks of normal photos that mark defects, several spellings,
    photos listed twice, and photos below the folder that are not listed get a notice.

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
    spellings: dict[Split, list[str]] = {
        split: [key for key in content if key.lower() == split] for split in get_args(Split)
    }
    if not any(spellings.values()):
        present = ", ".join(list(content)[:5]) or "none"
        raise DataError(f"{shown(file)}: keys {shown(present)}; expected train and test; correct it")
    records: list[Record] = []
    good_masks: list[Path] = []
    for split, keys in spellings.items():
        if len(keys) > 1:
            notice(f"{shown(file)}: has the keys {shown(' and '.join(keys))}; read together as {split}")
        for key in keys:
            for name, entries in _typed(content[key], dict, f"{shown(file)} {shown(key)}").items():
                where = f"{shown(file)} {shown(key)} {shown(name)}"
                for number, entry in enumerate(_typed(entries, list, where)):
                    records.append(_record(file.parent, split, name, entry, f"{where} entry {number}"))
                    good_masks += _mask_of_good(file.parent, entry, where)
    if not records:
        raise DataError(f"{shown(file)}: lists no photos; expected entries under train or test; write it again")
    require_files((path for record in records for path in (record.path, *record.masks)), file)
    records = each_once(records, file)
    say_marks_on_good(file, good_masks)
    say_unlisted(records, file.parent, file)
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
                "mask_path": _mask_entry([_relative(mask, base) for mask in record.masks]),
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
    masks = _mask_texts(entry, f"{where} mask_path") if anomaly else []
    paths = tuple(path_inside(root, mask, where, absolute=True) for mask in masks)
    return Record(
        path=path_inside(root, image, where, absolute=True),
        label=int(anomaly),
        mask=None if not paths else paths[0] if len(paths) == 1 else paths,
        class_name=_typed(entry.get("cls_name") or class_key, str, f"{where} cls_name"),
        defect_type=_typed(entry.get("specie_name") or "", str, f"{where} specie_name") if anomaly else "good",
        split=split,
    )


def _mask_texts(entry: dict[str, Any], where: str) -> list[str]:
    value = entry.get("mask_path") or []
    if isinstance(value, list):
        return [_typed(text, str, where) for text in value]
    return [_typed(value, str, where)]


def _mask_of_good(root: Path, entry: Any, where: str) -> list[Path]:
    """Masks that are listed for a normal photo and are there; lists often name some that were never made."""
    if entry.get("anomaly"):
        return []
    masks = []
    for text in _mask_texts(entry, where):
        try:
            masks.append(path_inside(root, text, where, absolute=True))
        except DataError:  # it is not used, so where it leads does not matter
            continue
    return [mask for mask in masks if mask.is_file()]


def _mask_entry(masks: list[str]) -> str | list[str]:
    return "" if not masks else masks[0] if len(masks) == 1 else masks


def _relative(path: Path, base: Path) -> str:
    absolute = Path(os.path.abspath(path))
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


def _typed(value: Any, kind: type[Any], where: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(f"{where}: found {_KINDS.get(type(value), 'a number')}; expected {_KINDS[kind]}; correct it")
    return value

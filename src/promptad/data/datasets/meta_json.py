"""``meta.json``, the interchange list of AnomalyCLIP, APRIL-GAN, AdaCLIP and FAPrompt.

::

    {"train": {"bottle": [{"img_path": "bottle/train/good/000.png", "mask_path": "", "cls_name": "bottle",
                           "specie_name": "good", "anomaly": 0}, ...]},
     "test": {...}}

Our own keys, which other readers pass over: ``crop`` [left, top, right, bottom] of a photo that is a part of its file,
``group`` and ``condition`` as :class:`~promptad.data.records.Record` has them, ``mask_above`` the grey value above which a
pixel of the mask is defect; further splits (``validation``) beside train and test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from promptad.data.datasets.layout import Layout
from promptad.data.datasets.listed import each_once, path_inside, read_json, require_files, say_unlisted
from promptad.data.datasets.pairing import say_marks_on_good
from promptad.data.files import shown, write_atomic
from promptad.data.parts import Crop, FilePart
from promptad.data.records import MaskFile, Record, Split
from promptad.errors import DataError
from promptad.notices import notice
from promptad.parsing import parsed_json

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

    The keys train and test are read in any case, several spellings of one key together. Paths are relative to the file's
    folder; absolute ones are accepted if they exist, and those of another machine where their end exists below the file's
    folder. ``mask_path`` is a path, or a list of paths whose union is the mask. The class is the key above an entry,
    whatever its ``cls_name`` says. What a list has wrong and is passed over gets a notice: entries without a photo, masks
    that are folders or none of which is there, masks of normal photos that mark defects, several spellings, photos listed
    twice, and photos below the folder that are not listed.

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
    reader = _Reader(file)
    content = reader.content()
    spellings: dict[Split, list[str]] = {
        split: [key for key in content if key.lower() == split] for split in get_args(Split)
    }
    if not any(spellings.values()):
        present = ", ".join(list(content)[:5]) or "none"
        raise DataError(f"{shown(file)}: keys {shown(present)}; expected train and test; correct it")
    if unread := [key for key in content if key.lower() not in spellings]:
        named = shown(", ".join(unread[:3]))
        notice(f"{shown(file)}: entries under {named} are not used; expected train or test: rename the key")
    records: list[Record] = []
    for split, keys in spellings.items():
        if len(keys) > 1:
            notice(f"{shown(file)}: has the keys {shown(' and '.join(keys))}; read together as {split}")
        for key in keys:
            for name, entries in _typed(content[key], dict, f"{shown(file)} {shown(key)}").items():
                where = f"{shown(file)} {shown(key)} {shown(name)}"
                for number, entry in enumerate(_typed(entries, list, where)):
                    records += reader.record(split, name, entry, f"{where} entry {number}")
    if not records:
        raise DataError(f"{shown(file)}: lists no photos; expected entries under train or test; write it again")
    records = reader.without_missing_masks(records)
    require_files((path for record in records for path in (record.path, *record.masks)), file)
    records = each_once(records, file)
    reader.say()
    say_unlisted(records, file.parent, file)
    return records


def write(records: Iterable[Record], path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> None:
    """Write records as a ``meta.json``: both splits, classes and photos sorted, POSIX paths, UTF-8, line feeds.

    Masks that no file holds alone (outlines and colours of an annotation) cannot be listed and get a notice.

    Args:
        records: photos with a label and a class name.
        path: the file to write, or a folder to write ``meta.json`` into.
        root: paths inside it are written relative to it, others absolute; the file's own folder by default,
            which is where readers look.

    Raises:
        DataError: a record has no label or class name, or the file cannot be written, or is there and no such list.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    _refuse_foreign(file)
    base = Path(os.path.abspath(root if root is not None else file.parent))
    content: dict[str, dict[str, list[dict[str, Any]]]] = {"train": {}, "test": {}}
    drawn = 0
    for record in sorted(records, key=lambda record: (record.class_name, record.path.as_posix(), record.crop or ())):
        if record.label is None or not record.class_name:
            lacking = "label" if record.label is None else "class name"
            raise DataError(f"{shown(record.path)}: has no {lacking}, which meta.json needs; set it in its record")
        drawn += bool(record.masks and not _listed(record.masks))
        content.setdefault(record.split, {}).setdefault(record.class_name, []).append(_entry(record, base))
    if drawn:
        notice(
            f"{shown(file)}: the masks of {drawn} photos are drawn or coloured in an annotation file, which this list cannot "
            "name, and are left out; read the annotation itself to have them"
        )
    write_atomic(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _refuse_foreign(file: Path) -> None:
    """Raises DataError where another file than such a list stands under its name, a photo for example, and would be lost."""
    if not file.is_file() or not file.stat().st_size:
        return
    try:
        content = parsed_json(file.read_bytes())
    except ValueError:
        content = None
    except OSError as error:
        raise DataError(f"{shown(file)}: cannot be read ({error.strerror}); choose another name") from error
    if not isinstance(content, dict) or not {key.lower() for key in content} & set(get_args(Split)):
        raise DataError(
            f"{shown(file)}: is there already and is no list of photos; choose another name, or move it away"
        )


def _entry(record: Record, base: Path) -> dict[str, Any]:
    masks = _listed(record.masks)
    paths = [_relative(mask.path if isinstance(mask, FilePart) else mask, base) for mask in masks]
    entry: dict[str, Any] = {
        "img_path": _relative(record.path, base),
        "mask_path": "" if not paths else paths[0] if len(paths) == 1 else paths,
        "cls_name": record.class_name,
        "specie_name": record.defect_type,
        "anomaly": record.label,
    }
    above = [mask.above for mask in masks if isinstance(mask, FilePart) and mask.above is not None]
    further = {"group": record.group, "condition": record.condition, "crop": list(record.crop or ())}
    return entry | ({"mask_above": above[0]} if above else {}) | {key: value for key, value in further.items() if value}


def _listed(masks: Sequence[MaskFile]) -> list[Path | FilePart]:
    """The masks that a file holds, all or none: a part of them would be another mask."""
    files = [mask for mask in masks if isinstance(mask, Path | FilePart)]
    return files if len(files) == len(masks) else []


class _Reader:
    """The entries of one file, and what was passed over in them."""

    def __init__(self, file: Path) -> None:
        self.file, self.root = file, file.parent
        self._good_masks: list[Path] = []
        self._odd: dict[str, list[str]] = {}

    def content(self) -> dict[str, Any]:
        """The file as JSON. Raises DataError."""
        try:
            content = read_json(self.file)
        except ValueError as error:
            raise DataError(f"{shown(self.file)}: is not JSON ({error}); write it again") from error
        return dict(_typed(content, dict, shown(self.file)))

    def record(self, split: Split, name: str, entry: Any, where: str) -> list[Record]:
        """The record of an entry, none for a placeholder without a photo. Raises DataError."""
        entry = _typed(entry, dict, where)
        image = _typed(entry.get("img_path"), str, f"{where} img_path")
        if not image.strip():
            self._pass("entries have an empty img_path and are passed over", where)
            return []
        anomaly = entry.get("anomaly")
        if not isinstance(anomaly, int) or anomaly not in (0, 1):  # bool is an int here, and accepted
            raise DataError(f"{where}: anomaly is {anomaly!r}; expected 0 or 1; correct it")
        if (says := _typed(entry.get("cls_name") or name, str, f"{where} cls_name")) != name:
            self._pass("entries have another cls_name than the class that they stand under, which counts", says)
        masks = self._masks(entry, where) if anomaly else self._note_masks_of_good(entry, where)
        crop = _crop(entry.get("crop"), f"{where} crop")
        above = entry.get("mask_above")
        parts: tuple[MaskFile, ...] = tuple(masks)
        if crop is not None or above is not None:
            parts = tuple(FilePart(mask, crop, above if isinstance(above, int | float) else None) for mask in masks)
        record = Record(
            path=self._path(image, where),
            label=int(anomaly),
            mask=None if not parts else parts[0] if len(parts) == 1 else parts,
            class_name=name,
            defect_type=_typed(entry.get("specie_name") or "", str, f"{where} specie_name") if anomaly else "good",
            split=split,
            group=_typed(entry.get("group") or "", str, f"{where} group"),
            condition=_typed(entry.get("condition") or "", str, f"{where} condition"),
            crop=crop,
        )
        return [record]

    def _path(self, entry: str, where: str) -> Path:
        """The path of an entry; of an absolute one that is not there, its longest end that is."""
        parts = PurePosixPath(entry.replace("\\", "/")).parts
        absolute = entry.startswith(("/", "\\")) or ":" in parts[0]
        if absolute and not os.path.exists(entry):
            for start in range(1, len(parts)):
                if ".." not in parts and (ending := self.root.joinpath(*parts[start:])).is_file():
                    self._pass(
                        f"paths are those of another machine; their ends are taken below {shown(self.root)}", entry
                    )
                    return ending
        return path_inside(self.root, entry, where, absolute=True)

    def _masks(self, entry: dict[str, Any], where: str) -> list[Path]:
        masks = [self._path(text, where) for text in _mask_texts(entry, f"{where} mask_path") if text.strip()]
        folders = [mask for mask in masks if mask.is_dir()]
        for folder in folders:
            self._pass("mask paths are folders and no masks", shown(folder))
        return [mask for mask in masks if mask not in folders]

    def _note_masks_of_good(self, entry: dict[str, Any], where: str) -> list[Path]:
        """Masks that are listed for a normal photo and are there; lists often name some that were never made."""
        for text in _mask_texts(entry, f"{where} mask_path"):
            try:
                mask = path_inside(self.root, text, where, absolute=True)
            except DataError:  # it is not used, so where it leads does not matter
                continue
            if mask.is_file():
                self._good_masks.append(mask)
        return []

    def without_missing_masks(self, records: list[Record]) -> list[Record]:
        """The same without any masks where none of the listed ones is there: lists of sets without masks name some."""
        masks = [mask.path if isinstance(mask, FilePart) else mask for record in records for mask in record.masks]
        if not masks or any(os.path.isfile(str(mask)) for mask in masks):
            return records
        notice(
            f"{shown(self.file)}: none of its {len(masks)} masks is there (first: {shown(str(masks[0]))}); the photos count as "
            "without masks"
        )
        return [replace(record, mask=None) for record in records]

    def _pass(self, what: str, example: str) -> None:
        self._odd.setdefault(what, []).append(example)

    def say(self) -> None:
        """A line for each kind of oddity, and for masks of good photos that mark defects."""
        for what, examples in self._odd.items():
            notice(f"{shown(self.file)}: {len(examples)} {what} (first: {shown(examples[0])})")
        say_marks_on_good(self.file, self._good_masks)


def _crop(value: Any, where: str) -> Crop | None:
    if value is None:
        return None
    edges = _typed(value, list, where)
    if len(edges) != 4 or not all(isinstance(edge, int) and edge >= 0 for edge in edges):
        raise DataError(f"{where}: {edges}; expected four whole numbers [left, top, right, bottom]; correct it")
    return edges[0], edges[1], edges[2], edges[3]


def _mask_texts(entry: dict[str, Any], where: str) -> list[str]:
    value = entry.get("mask_path") or []
    if isinstance(value, list):
        return [_typed(text, str, where) for text in value]
    return [_typed(value, str, where)]


def _relative(path: Path, base: Path) -> str:
    absolute = Path(os.path.abspath(path))
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


def _typed(value: Any, kind: type[Any], where: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(f"{where}: found {_KINDS.get(type(value), 'a number')}; expected {_KINDS[kind]}; correct it")
    return value


def _evidence(folder: Path) -> str | None:
    return FILE_NAME if (folder / FILE_NAME).is_file() else None


LAYOUTS = (Layout("meta", lambda path, normal: load(path), _evidence, FILE_NAME),)

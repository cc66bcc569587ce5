"""Manifests of Amazon Lookout for Vision and SageMaker Ground Truth: one JSON object a line.

::

    {"source-ref": "s3://bucket/x.jpg", "anomaly-label": 1,
     "anomaly-label-metadata": {"class-name": "anomaly", "type": "groundtruth/image-classification", ...},
     "anomaly-mask-ref": "s3://bucket/m/x.png",
     "anomaly-mask-ref-metadata": {"internal-color-map": {"1": {"class-name": "dent", "hex-color": "#2ca02c"}}, ...}}

The attributes may have other names; they are known by the type in their metadata. Masks are read by colour, since their
indices say nothing; the label decides, since masks of normal photos may be white all over. Files in a bucket are looked for
below the manifest's folder, by the longest end of their key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from promptad.data.datasets.layout import Layout
from promptad.data.datasets.listed import PhotoFinder, each_once, folder_class, read_text
from promptad.data.datasets.names import entries_of
from promptad.data.files import shown
from promptad.data.outlines import ColourMask
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice
from promptad.parsing import parsed_json

_LABEL, _MASK = "groundtruth/image-classification", "groundtruth/semantic-segmentation"
_SUFFIX = "-metadata"
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)


def load(path: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The records of a manifest, or of those in a folder.

    A manifest called after the test is for the test, every other for training. Of several of which none is called so, the first
    trains and the others are for the test, in the order of their names.

    Raises:
        DataError: no manifest, a line of another form, or files that are missing.
    """
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise DataError(f"{shown(path)}: has no manifest; expected *.manifest with one JSON object a line")
    splits: list[Split] = ["test" if "test" in file.stem.casefold() else "train" for file in files]
    if "test" not in splits and len(files) > 1:
        splits[1:] = ["test"] * (len(files) - 1)
        notice(f"{shown(path)}: {files[0].name} is for training, the other manifests are for the test, by their order")
    if "test" not in splits:
        notice(
            f"{shown(files[0])}: has no split, so all its photos are for training; put a second manifest with test in its name "
            "beside it, or read it as the layout manifest-test"
        )
    name = folder_class(path)
    records = [record for file, split in zip(files, splits, strict=True) for record in _records(file, split, name)]
    return each_once(records, path)


def load_as_test(path: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The same with every photo for the test. Raises DataError."""
    files = [path] if path.is_file() else _files(path)
    records = [record for file in files for record in _records(file, "test", folder_class(path))]
    if not records:
        raise DataError(f"{shown(path)}: has no manifest; expected *.manifest with one JSON object a line")
    return each_once([replace(record, split="test") for record in records], path)


def _records(file: Path, split: Split, name: str) -> list[Record]:
    photos, masks = PhotoFinder(file), PhotoFinder(file)
    records = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            try:
                records.append(_record(parsed_json(line), split, name, photos, masks))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(
                    f"{shown(file)} line {number}: is not a line of a manifest ({error}); expected source-ref and a label with its "
                    "metadata"
                ) from error
    if not records:
        raise DataError(f"{shown(file)}: has no lines; export it again")
    photos.say()
    masks.say()
    return records


def _record(entry: Mapping[str, Any], split: Split, name: str, photos: PhotoFinder, masks: PhotoFinder) -> Record:
    photo = photos.find(_key(entry["source-ref"]))
    attribute = _attribute(entry, _LABEL)
    if attribute is None:
        raise ValueError("no label")
    label, about = entry[attribute], entry[attribute + _SUFFIX]
    if label not in (0, 1):
        raise ValueError(f"{attribute} is {label!r}")
    if label == 0:
        return Record(photo, 0, None, name, "good", split)
    kind, mask = str(about.get("class-name") or "anomaly"), None
    drawn = _attribute(entry, _MASK)
    if drawn is not None:
        colours = _colours(entry[drawn + _SUFFIX]["internal-color-map"])
        mask = ColourMask(masks.find(_key(entry[drawn])), tuple(colour for _, colour in colours)) if colours else None
        if kind == "anomaly" and len(colours) == 1:
            kind = colours[0][0]
    return Record(photo, 1, mask, name, kind, split)


def _attribute(entry: Mapping[str, Any], kind: str) -> str | None:
    """The name of the attribute of a type."""
    for key, value in entry.items():
        if key.endswith(_SUFFIX) and isinstance(value, Mapping) and value.get("type") == kind:
            attribute = key.removesuffix(_SUFFIX)
            if attribute in entry:
                return attribute
    return None


def _colours(table: Mapping[str, Any]) -> list[tuple[str, tuple[int, int, int]]]:
    """The kinds of defects and their colours; background is none."""
    out = []
    for value in table.values():
        text = str(value["hex-color"])
        if not _COLOUR.fullmatch(text):
            raise ValueError(f"hex-color {text!r}")
        if str(value["class-name"]).casefold() != "background":
            red, green, blue = bytes.fromhex(text[1:])
            out.append((str(value["class-name"]), (red, green, blue)))
    return out


def _key(reference: Any) -> str:
    """The key of an object in a bucket; any other reference as it is."""
    text = str(reference)
    if text.casefold().startswith("s3://"):
        return "/" + text[5:]  # the bucket may be a folder, too
    return text


def _files(root: Path) -> list[Path]:
    return [entry for entry in entries_of(root) if entry.suffix.lower() == ".manifest" and entry.is_file()]


def _evidence(root: Path) -> str | None:
    if root.is_file():
        return root.name if root.suffix.lower() in (".manifest", ".jsonl") else None
    files = _files(root)
    return files[0].name if files else None


LAYOUTS = (
    Layout("manifest", load, _evidence, "*.manifest"),
    Layout("manifest-test", load_as_test, None, "*.manifest"),
)

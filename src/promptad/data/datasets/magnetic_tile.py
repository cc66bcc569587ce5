"""Magnetic tiles as published, `MT_<type>/Imgs/exp1_num_108719.jpg` with the mask of the same name as `.png`.

Free tiles have empty masks. Four photos of MT_Uneven have an empty mask too; their label is that of the folder. There is no
published split: everything is for the test, and what learns from good photos needs another.

Huang et al., "Surface defect saliency of magnetic tile", The Visual Computer 36, 2020.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from promptad.data.datasets.layout import Layout, child
from promptad.data.datasets.names import folders_in, photos_in
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

CLASS_NAME = "magnetic_tile"
_TYPE = re.compile(r"MT_(\w+)", re.IGNORECASE)


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """All tiles, as test photos. Raises DataError where it is not the published set."""
    records: list[Record] = []
    without = []
    for folder, images in _types(root):
        kind = _TYPE.fullmatch(folder.name)[1].lower()  # type: ignore[index]
        files = photos_in(images)
        masks = {file.stem.casefold(): file for file in files if file.suffix.lower() == ".png"}
        for photo in files:
            if photo in masks.values():
                continue
            label = int(kind != "free")
            mask = masks.get(photo.stem.casefold()) if label else None
            if label and mask is None:
                without.append(photo)
            records.append(Record(photo, label, mask, CLASS_NAME, kind if label else "good"))
    if not records:
        raise DataError(f"{shown(root)}: not the magnetic tiles; expected MT_Free/Imgs/*.jpg, MT_Crack/Imgs/*.jpg")
    if without:
        notice(f"{shown(root)}: {len(without)} defective tiles have no mask (first: {shown(without[0].name)})")
    return records


def _types(root: Path) -> list[tuple[Path, Path]]:
    folders = [folder for folder in folders_in(root) if _TYPE.fullmatch(folder.name)]
    return [(folder, images) for folder in folders if (images := child(folder, "Imgs")) is not None]


def _evidence(root: Path) -> str | None:
    types = _types(root)
    return f"{types[0][0].name}/Imgs" if types else None


LAYOUTS = (Layout("magnetic-tile", load, _evidence, "MT_Free/Imgs"),)

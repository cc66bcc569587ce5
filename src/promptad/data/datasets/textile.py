"""The simulated textile of the package `conformal-clip-data`: `textile_images/simulated/{nominal,local,global}/*.jpg`.

There is no published split; the one of this project's tools is used: of the nominal photos, sorted by name, the 1st, 5th, 9th, ...
are for the test and all others for training, and every photo of a kind of defect is for the test. There are no masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from promptad.data.datasets.layout import Layout
from promptad.data.datasets.names import photos_in
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

CLASS_NAME = "woven_textile"
_PLACES = (
    *("", "simulated", "textile_images/simulated", "data/textile_images/simulated"),
    "conformal_clip_data/data/textile_images/simulated",
)


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """Every fourth nominal photo and all defective ones as test photos. Raises DataError where it is not the package."""
    folder = _folder(root)
    if folder is None:
        raise DataError(f"{shown(root)}: not the textile; expected textile_images/simulated/nominal, local and global")
    nominal = photos_in(folder / "nominal")
    notice(
        f"{shown(folder)}: has no published split; every fourth nominal photo is for the test, the others for training"
    )
    records = [
        Record(photo, 0, None, CLASS_NAME, "good", "train" if place % 4 else "test")
        for place, photo in enumerate(nominal)
    ]
    return records + [
        Record(photo, 1, None, CLASS_NAME, kind) for kind in ("local", "global") for photo in photos_in(folder / kind)
    ]


def _folder(root: Path) -> Path | None:
    for place in _PLACES:
        folder = root / place
        if all((folder / kind).is_dir() for kind in ("nominal", "local", "global")):
            return folder
    return None


def _evidence(root: Path) -> str | None:
    return "nominal, local and global" if _folder(root) is not None else None


LAYOUTS = (Layout("textile", load, _evidence, "textile_images/simulated/nominal"),)

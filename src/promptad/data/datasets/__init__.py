"""Data sets: one adapter a layout, and the function that picks it. Each returns ``list[Record]``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from promptad.data.datasets import meta_json, mvtec, visa
from promptad.data.datasets.names import squeezed
from promptad.data.duplicates import say_copies
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError
from promptad.notices import notice

_LOADERS: dict[str, Callable[[Path, Sequence[str]], list[Record]]] = {
    "meta": lambda path, normal: meta_json.load(path),
    "visa": visa.load,
    "mvtec": mvtec.load,
}
LAYOUTS = ("auto", *_LOADERS)
"""Names that ``layout`` may have."""


def load_dataset(path: str | os.PathLike[str], layout: str = "auto", normal: Sequence[str] = ()) -> list[Record]:
    """The records of a data set in any known layout.

    Args:
        path: the data set's folder, one category of it, or a ``meta.json`` file.
        layout: "meta", "visa" or "mvtec"; "auto" looks for ``meta.json``, then for VisA
            (``split_csv/1cls.csv`` or ``1cls``), then for the MVTec layout.
        normal: names of folders whose photos are normal, besides the known ones
            (:data:`~promptad.data.datasets.names.NORMAL_FOLDERS`); for the MVTec layout and VisA's re-layout.

    What is not used (photos, masks, folders), photos in both training and test split, copies, and names in `normal` that no
    folder has get a notice.

    Raises:
        ConfigError: an unknown layout name, or `normal` is one text.
        DataError: no layout fits (the line says what was looked for), or the adapter's own errors.
    """
    if isinstance(normal, str):
        raise ConfigError(f"normal is the text {normal!r}; expected a list of folder names; write ({normal!r},)")
    folder = Path(path)
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is not known; expected one of {', '.join(LAYOUTS)}; choose one")
    records = _LOADERS[_detect(folder) if layout == "auto" else layout](folder, tuple(normal))
    _say_unused_names(folder, records, normal)
    say_copies(records, folder)
    return records


def _say_unused_names(folder: Path, records: Sequence[Record], normal: Sequence[str]) -> None:
    used = {squeezed(part) for record in records if record.label == 0 for part in record.path.parts[-4:-1]}
    for name in normal:
        if squeezed(name) not in used:
            notice(f"{shown(folder)}: no folder of normal photos is called {name!r}; check the name")


def _detect(folder: Path) -> str:
    if not os.path.exists(folder):
        raise DataError(f"{shown(folder)}: there is no such data set; check the path")
    if (folder / meta_json.FILE_NAME).is_file() or (folder.is_file() and folder.suffix.lower() == ".json"):
        return "meta"
    if (folder / visa.TABLE).is_file() or (folder / visa.RELAYOUT).is_dir():
        return "visa"
    if mvtec.find_categories(folder):
        return "mvtec"
    raise DataError(
        f"{shown(folder)}: no known data set layout; looked for {meta_json.FILE_NAME}, "
        f"{visa.TABLE.as_posix()}, {visa.RELAYOUT}/<class>, train/<type>, test/<type>, also in <class>; "
        "give the data set's own folder"
    )

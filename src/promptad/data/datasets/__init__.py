"""Data sets: one adapter a layout, and the function that picks it. Each returns ``list[Record]``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from promptad.data.datasets import meta_json, mvtec, visa
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError

_LOADERS: dict[str, Callable[[Path], list[Record]]] = {
    "meta": meta_json.load,
    "visa": visa.load,
    "mvtec": mvtec.load,
}
LAYOUTS = ("auto", *_LOADERS)
"""Names that ``layout`` may have."""


def load_dataset(path: str | os.PathLike[str], layout: str = "auto") -> list[Record]:
    """The records of a data set in any known layout.

    Args:
        path: the data set's folder, one category of it, or a ``meta.json`` file.
        layout: "meta", "visa" or "mvtec"; "auto" looks for ``meta.json``, then for VisA
            (``split_csv/1cls.csv`` or ``1cls``), then for the MVTec layout.

    Raises:
        ConfigError: an unknown layout name.
        DataError: no layout fits (the line says what was looked for), or the adapter's own errors.
    """
    folder = Path(path)
    if layout != "auto":
        if layout not in _LOADERS:
            raise ConfigError(f"layout {layout!r} is not known; expected one of {', '.join(LAYOUTS)}; choose one")
        return _LOADERS[layout](folder)
    return _LOADERS[_detect(folder)](folder)


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

"""The MVTec AD layout, also that of MPDD, DTD-Synthetic, BTAD and VisA's one-class re-layout.

::

    <class>/train/good/*.png
    <class>/test/<type>/*.png                        type "good" is normal, every other is an anomaly type
    <class>/ground_truth/<type>/<stem>_mask.png      optional

Bergmann et al., "MVTec AD - A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection", CVPR
2019.
"""

from __future__ import annotations

import os
from pathlib import Path

from promptad.data.files import one_line, shown
from promptad.data.folder import is_photo_name
from promptad.data.records import Record, Split
from promptad.errors import DataError

NORMAL_FOLDERS = ("good", "ok", "normal")
"""Folder names, in lower case, whose photos are normal: MVTec AD says good, BTAD says ok."""

_SPLITS: tuple[Split, ...] = ("train", "test")


def load(root: str | os.PathLike[str]) -> list[Record]:
    """The records of a data set in the MVTec layout, or of one of its categories.

    Masks are optional: an anomalous photo without one gets ``mask=None``. A mask may have another suffix
    than its photo, and ``_mask`` at the end of its stem or not. Folders that are no category are passed
    over.

    Args:
        root: a folder of categories, or one category (a folder with ``train`` or ``test`` in it).

    Returns:
        Records by category, train before test, then sorted by type and file name. ``defect_type`` of a
        normal photo is "good" whatever its folder is called.

    Raises:
        DataError: the folder is missing or not in this layout, or photos or masks in it cannot be told apart.
    """
    folder = Path(root)
    categories = find_categories(folder)
    if not categories:
        raise DataError(
            f"{shown(folder)}: not in the MVTec layout; expected <class>/train/good and <class>/test/<type>; "
            "give the data set's folder or one category"
        )
    records = [record for category in categories for record in _load_category(category)]
    if not records:
        raise DataError(f"{shown(folder)}: train and test hold no photos; put photos into train/good")
    return records


def find_categories(folder: Path) -> list[Path]:
    """The category folders at ``folder``: itself, or those directly inside it, sorted."""
    if _is_category(folder):
        return [folder]
    return [inner for inner in _folders(folder) if _is_category(inner)]


def _is_category(folder: Path) -> bool:
    return any(_folders(folder / split) for split in _SPLITS)


def _load_category(category: Path) -> list[Record]:
    records: list[Record] = []
    name = Path(os.path.abspath(category)).name  # "." has no name of its own
    for split in _SPLITS:
        loose = _photos(category / split)
        if loose:
            raise DataError(
                f"{shown(loose[0])}: lies beside the type folders, so its label is unknown; "
                f"expected {split}/good/ or {split}/<type>/; move it (and {len(loose) - 1} more)"
            )
        for folder in _folders(category / split):
            normal = folder.name.lower() in NORMAL_FOLDERS
            masks = {} if normal else _masks_by_stem(category / "ground_truth" / folder.name)
            for photo in _photos(folder):
                mask = masks.get(f"{photo.stem}_mask") or masks.get(photo.stem)
                defect_type = "good" if normal else folder.name
                records.append(Record(photo, 0 if normal else 1, mask, name, defect_type, split))
    return records


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    several = _folders(folder)
    if several:
        raise DataError(
            f"{shown(several[0])}: several masks for one photo; expected one mask file; merge them into one"
        )
    for mask in _photos(folder):
        other = masks.setdefault(mask.stem, mask)
        if other is not mask:
            raise DataError(f"{shown(mask)}: a second mask beside {shown(other.name)}; remove one of them")
    return masks


def _photos(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if is_photo_name(entry) and not os.path.isdir(entry)]


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if not entry.name.startswith(".") and os.path.isdir(entry)]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(folder)}: cannot be read ({one_line(error)}); check the path") from error

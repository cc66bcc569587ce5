"""The MVTec AD layout, also that of MVTec LOCO AD, MPDD, DTD-Synthetic, BTAD and VisA's one-class re-layout.

::

    <class>/train/good/*.png
    <class>/test/<type>/*.png                        a type called good, ok, pass, ... is normal, every other a defect
    <class>/ground_truth/<type>/<stem>_mask.png      optional
    <class>/ground_truth/<type>/<stem>/*.png         several masks of one photo (MVTec LOCO AD), united

Folders may lie in the type folders; names may have any case; masks may be called and placed in the ways that
:mod:`promptad.data.datasets.names` and :mod:`promptad.data.datasets.pairing` list. What is not used is named in a notice.

Bergmann et al., "MVTec AD - A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection", CVPR 2019.
Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 130, 2022.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from promptad.data.datasets.layout import Layout
from promptad.data.datasets.names import (
    entries_of,
    folders_in,
    is_mask_folder,
    is_normal,
    photos_below,
    photos_in,
    resembles_normal,
    without_mask_word,
)
from promptad.data.datasets.pairing import MaskFile, PhotoFile, pair, say_left_over, say_marks_on_good, say_without_mask
from promptad.data.files import shown
from promptad.data.folder import reason_not_read
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.inputs import argument
from promptad.notices import notice

_SPLITS: tuple[Split, ...] = ("train", "test")


def load(
    root: str | os.PathLike[str], normal: Sequence[str] = (), splits: Sequence[Split] = ("train", "test")
) -> list[Record]:
    """The records of a data set in the MVTec layout, or of one of its categories.

    Masks are optional: an anomalous photo without one gets ``mask=None``. A mask may have another suffix
    than its photo. Folders and masks that are not used get a notice.

    Args:
        root: a folder of categories, or one category (a folder with ``train`` or ``test`` in it).
        normal: names of further folders whose photos are normal.
        splits: the folders of photos in a category, besides train and test ``validation`` of MVTec LOCO AD.

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
    records = [record for category in categories for record in _load_category(category, normal, splits)]
    if not records:
        raise DataError(f"{shown(folder)}: train and test hold no photos; put photos into train/good")
    if categories != [folder]:
        used = {*categories, *(category.parent for category in categories)}
        _say_unused(folder, [inner for inner in folders_in(folder) if inner not in used])
    return records


def find_categories(folder: Path) -> list[Path]:
    """The category folders at ``folder``: itself, or those directly inside it, sorted.

    An archive that unpacks into a folder of its own name (``bottle/bottle/train``) is one category.
    """
    if _is_category(folder):
        return [folder]
    categories = []
    for inner in folders_in(folder):
        nested = inner / inner.name
        if _is_category(inner):
            categories.append(inner)
        elif _is_category(nested):
            categories.append(nested)
    return categories


def _is_category(folder: Path) -> bool:
    return any(folders_in(path) for _, path in _split_folders(folder))


def _split_folders(category: Path, splits: Sequence[Split] = _SPLITS) -> list[tuple[Split, Path]]:
    """The folders of the splits, in any case, train before test."""
    return [(split, inner) for split in splits for inner in folders_in(category) if inner.name.lower() == split]


def _load_category(category: Path, normal: Sequence[str], wanted: Sequence[Split]) -> list[Record]:
    name = Path(os.path.abspath(category)).name  # "." has no name of its own
    photos: list[PhotoFile] = []
    masks: list[MaskFile] = []
    splits = _split_folders(category, wanted)
    for split, folder in splits:
        loose = photos_in(folder)
        if loose:
            raise DataError(
                f"{shown(loose[0])}: lies beside the type folders, so its label is unknown; "
                f"expected {split}/good/ or {split}/<type>/; move it (and {len(loose) - 1} more)"
            )
        for kind in folders_in(folder):
            if is_mask_folder(kind.name):
                masks += _masks_below(kind, (split,))
            else:
                _sort_type(split, kind, is_normal(kind.name, normal), photos, masks)
    for folder in folders_in(category):
        if is_mask_folder(folder.name):
            masks += _masks_below(folder, ())
    _say_not_read(category, [folder for _, folder in splits])
    _say_unused(category, [inner for inner in folders_in(category) if inner not in [folder for _, folder in splits]])
    pairs = pair(photos, masks)
    say_left_over(category, pairs.orphans)
    say_without_mask(category, photos, pairs)
    good = [photo for photo in photos if photo.normal]
    say_marks_on_good(category, [mask for photo in good for mask in pairs.masks.get(photo.path, ())])
    _say_no_good(category, photos)
    return [
        _record(photo, split, pairs.masks.get(photo.path, ()), name)
        for photo in photos
        for split in wanted
        if split == photo.split
    ]


def _record(photo: PhotoFile, split: Split, masks: tuple[Path, ...], name: str) -> Record:
    mask = None if photo.normal or not masks else masks[0] if len(masks) == 1 else masks
    kind = "good" if photo.normal else photo.kind
    return Record(photo.path, 0 if photo.normal else 1, mask, name, kind, split)


def _sort_type(split: Split, folder: Path, normal: bool, photos: list[PhotoFile], masks: list[MaskFile]) -> None:
    """The files of one type folder, those in folders inside it too: photos, and masks that lie beside or below them."""
    for inner in _mask_folders_below(folder):
        around = inner.parent.relative_to(folder).parts
        masks.extend(MaskFile(mask.path, (folder.name, *around, *mask.inner)) for mask in _masks_below(inner, ()))
    files = photos_below(folder, masks=False)
    stems = {(file.parent, file.stem.casefold()) for file in files}
    for file in files:
        inner_folders = file.relative_to(folder).parts[:-1]
        short = without_mask_word(file.stem)
        if short != file.stem and (file.parent, short.casefold()) in stems:
            masks.append(MaskFile(file, (folder.name, *inner_folders)))
        else:
            photos.append(PhotoFile(file, split, folder.name, inner_folders, normal))


def _mask_folders_below(folder: Path) -> list[Path]:
    inside: list[Path] = []
    for inner in folders_in(folder):
        inside += [inner] if is_mask_folder(inner.name) else _mask_folders_below(inner)
    return inside


def _masks_below(folder: Path, above: tuple[str, ...]) -> list[MaskFile]:
    return [MaskFile(file, (*above, *file.relative_to(folder).parts[:-1])) for file in photos_below(folder, masks=True)]


def _say_unused(folder: Path, others: Sequence[Path]) -> None:
    """One line for each folder that holds photos and has no part in the layout, and one for loose photos."""
    for other in others:
        if is_mask_folder(other.name):
            continue
        unused = photos_below(other, masks=True)
        if unused:
            files = "1 photo" if len(unused) == 1 else f"{len(unused)} photos"
            notice(f"{shown(other)}: {files} not used; the layout knows train, test and ground_truth in each class")
    loose = photos_in(folder)
    if loose:
        notice(
            f"{shown(folder)}: {len(loose)} photos outside train and test are not used (first: {shown(loose[0].name)})"
        )


def _say_not_read(category: Path, folders: Sequence[Path]) -> None:
    """One line for the photos in formats that are not read here."""
    waiting, reasons = list(folders), []
    while waiting:
        folder = waiting.pop()
        waiting += [inner for inner in folders_in(folder) if not inner.is_symlink()]
        reasons += [(entry, reason) for entry in entries_of(folder) if (reason := reason_not_read(entry))]
    if reasons:
        path, reason = min(reasons)
        photos = "1 photo is" if len(reasons) == 1 else f"{len(reasons)} photos are"
        notice(f"{shown(category)}: {photos} left out (first: {shown(path.relative_to(category))}: {reason})")


def _say_no_good(category: Path, photos: Sequence[PhotoFile]) -> None:
    """A line where a split has photos and none of its folders has a normal name, or another's looks like one."""
    for split in _SPLITS:
        members = [photo for photo in photos if photo.split == split]
        if members and not any(photo.normal for photo in members):
            kinds = sorted({photo.kind for photo in members})
            names = ", ".join(shown(kind) for kind in kinds[:4]) + (", ..." if len(kinds) > 4 else "")
            notice(
                f"{shown(category)}: no folder of {split} has the name of normal photos (good, ok, pass, ...); "
                f"all count as defects: {names}; name normal ones ({argument('normal')})"
            )
        for kind in sorted({photo.kind for photo in members if not photo.normal and resembles_normal(photo.kind)}):
            if any(photo.normal for photo in members):
                notice(
                    f"{shown(category)}: the photos of {split}/{shown(kind)} count as defects, though its name looks like "
                    f"that of normal ones; if they are, name it ({argument('normal')})"
                )


def _evidence(folder: Path) -> str | None:
    categories = find_categories(folder)
    if not categories:
        return None
    splits = ", ".join(path.name for _, path in _split_folders(categories[0]))
    return f"{categories[0].relative_to(folder).as_posix()}/ with {splits}"


LAYOUTS = (Layout("mvtec", load, _evidence, "train/<type>, test/<type>, also in <class>"),)

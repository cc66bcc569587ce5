"""A folder of photos and a folder of masks: `images` and `masks`, `img` and `gt`, `image` and `label`, `Images` and `GroundTruth`;
or photos with `x_mask` beside them.

Pairs are made by name without case and suffix, with or without a mask word (`_mask`, `-GT`, `mask_`, ...). Folders inside (splits,
types) are looked into. A photo is anomalous where its mask marks a pixel; one without a mask is normal in a folder with a normal
name, and unlabelled elsewhere, because nothing says which it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from promptad.data.datasets.layout import Layout, child
from promptad.data.datasets.names import is_normal, is_numbered_mask, photos_below, photos_in, without_mask_word
from promptad.data.files import shown
from promptad.data.photos import read_mask_pixels
from promptad.data.records import Record, Split
from promptad.errors import DataError, PhotoError
from promptad.inputs import argument
from promptad.notices import notice

_PHOTOS = ("images", "image", "imgs", "img", "photos", "x")
_MASKS = (
    "masks",
    "mask",
    "gt",
    "groundtruth",
    "ground_truth",
    "ground truth",
    "label",
    "labels",
    "annotations",
    "x_mask",
)
_SPLITS: dict[str, Split] = {
    **{"train": "train", "training": "train", "val": "validation", "valid": "validation"},
    **{"validation": "validation", "test": "test"},
}
_NAMED = 3


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The photos, for the test unless they lie in a folder of another split.

    Raises:
        DataError: no such folders; two masks of one photo that do not say that they are several; or at most half of the photos
            with a mask of their name, which is then another naming: nothing is paired by order.
    """
    places = _folders(root)
    if places is None:
        raise DataError(
            f"{shown(root)}: has no photos with masks; expected the folders images and masks, or x.png and x_mask.png"
        )
    photos, masks = places
    of_photo = _paired(root, photos, masks)
    base = child(root, *_PHOTOS) or root
    name = Path(os.path.abspath(root)).name
    records = []
    unlabelled: list[Path] = []
    for photo in photos:
        folders = photo.relative_to(base).parts[:-1]
        split: Split = next((_SPLITS[part.casefold()] for part in folders if part.casefold() in _SPLITS), "test")
        named_normal = any(is_normal(part, normal) for part in folders)
        own = of_photo.get(photo, ())
        label = 0 if named_normal else _label(own)
        if label is None:
            unlabelled.append(photo)
        kinds = [part for part in folders if part.casefold() not in _SPLITS]
        kind = "good" if label == 0 else "" if label is None else "/".join(kinds) or "defect"
        mask = None if label != 1 or not own else own[0] if len(own) == 1 else own
        records.append(Record(photo, label, mask, name, kind, split))
    if unlabelled:
        notice(
            f"{shown(root)}: {len(unlabelled)} photos have no mask, so their label is not known (first: {shown(unlabelled[0])}); put good "
            f"photos into a folder called good, or name theirs ({argument('normal')})"
        )
    return records


def _paired(root: Path, photos: Sequence[Path], masks: Sequence[Path]) -> dict[Path, tuple[Path, ...]]:
    """Photo -> its masks. Raises DataError."""
    by_stem: dict[str, list[Path]] = {}
    for photo in photos:
        by_stem.setdefault(photo.stem.casefold(), []).append(photo)
    pairs: dict[Path, list[Path]] = {}
    orphans = []
    for mask in masks:
        stems = dict.fromkeys((mask.stem.casefold(), without_mask_word(mask.stem).casefold()))
        candidates = next((by_stem[stem] for stem in stems if stem in by_stem), [])
        if len(candidates) > 1:  # the same name in several folders: the one in the folder of the same name
            candidates = [photo for photo in candidates if photo.parent.name == mask.parent.name]
        if len(candidates) == 1:
            pairs.setdefault(candidates[0], []).append(mask)
        else:
            orphans.append(mask)
    for photo, own in pairs.items():
        if len(own) > 1 and not all(is_numbered_mask(mask.stem) for mask in own):
            raise DataError(
                f"{shown(own[1])}: a second mask of {shown(photo.name)}; remove one, or call them _mask1 and _mask2"
            )
    if masks and 2 * len(pairs) <= min(len(photos), len(masks)):
        names = ", ".join([shown(photo.name) for photo in photos if photo not in pairs][:_NAMED])
        others = ", ".join(shown(mask.name) for mask in orphans[:_NAMED])
        raise DataError(
            f"{shown(root)}: only {len(pairs)} of {len(photos)} photos have a mask of their name (photos: {names}; masks: {others}); "
            "call each mask as its photo"
        )
    if orphans:
        notice(f"{shown(root)}: {len(orphans)} masks belong to no photo, not used (first: {shown(orphans[0].name)})")
    return {photo: tuple(sorted(own)) for photo, own in pairs.items()}


def _label(masks: Sequence[Path]) -> int | None:
    """Of a photo with these masks: 1 where one marks a pixel or cannot be read, None without any."""
    if not masks:
        return None
    for mask in masks:
        try:
            if read_mask_pixels(mask).any():
                return 1
        except PhotoError:
            return 1
    return 0


def _folders(root: Path) -> tuple[list[Path], list[Path]] | None:
    """Photos and masks."""
    photos, masks = child(root, *_PHOTOS), child(root, *_MASKS)
    if photos is not None and masks is not None:
        both_folders = photos_below(photos, masks=True), photos_below(masks, masks=True)
        return both_folders if all(both_folders) else None
    files = photos_in(root)
    stems = {file.stem.casefold() for file in files}
    beside = [
        file for file in files if (short := without_mask_word(file.stem)) != file.stem and short.casefold() in stems
    ]
    return ([file for file in files if file not in beside], beside) if beside else None


def _evidence(root: Path) -> str | None:
    places = _folders(root)
    if places is None:
        return None
    photos, masks = places
    return f"{photos[0].relative_to(root).as_posix()} and {masks[0].relative_to(root).as_posix()}"


LAYOUTS = (Layout("images-masks", load, _evidence, "images and masks"),)

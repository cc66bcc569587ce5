"""Medical sets of photos that all show a defect and all have a mask: polyps (CVC-ClinicDB, CVC-ColonDB, Kvasir-SEG, EndoTect),
skin (ISIC 2016), thyroid (TN3K). Their photos serve pixel metrics only.

::

    Original/1.tif, Ground Truth/1.tif          CVC-ClinicDB
    images/1.png, masks/1.png                   the packs of polyps; Kvasir-SEG with its own names, cju....jpg
    EndoTect_2020_Segmentation_Test_Dataset/images/<uuid>.jpg, masks/<uuid>.png
    ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg, ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png
    Thyroid Dataset/tn3k/{trainval,test}-{image,mask}/0000.jpg

Photos and masks are paired by name; Kvasir-SEG's and TN3K's masks are JPEG, which read_mask takes as soft ones. The packs of
the polyp sets lie alike, so what is no Kvasir-SEG by its names is told by the name of a folder (`CVC-ColonDB`), or asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptad.data.datasets.layout import Layout, child
from promptad.data.datasets.names import photos_in, without_mask_word
from promptad.data.files import shown
from promptad.data.records import Record, Split
from promptad.errors import DataError
from promptad.notices import notice

_KVASIR = re.compile(r"cju\w+", re.IGNORECASE)


@dataclass(frozen=True)
class _Place:
    """Folders of photos and of their masks, each inside the one before, in any of these names."""

    photos: tuple[str, ...]
    masks: tuple[str, ...]
    split: Split = "test"
    inside: tuple[str, ...] = ()

    def folders(self, root: Path) -> tuple[Path, Path] | None:
        """The two folders at `root` or inside; None where they are not there."""
        for base in (root, *(child(root, name) for name in self.inside)):
            if base is not None:
                photos, masks = child(base, *self.photos), child(base, *self.masks)
                if photos is not None and masks is not None:
                    return photos, masks
        return None


_PACK = _Place(("images", "image", "Original"), ("masks", "mask", "Ground Truth"))
_ENDO = _Place(("images",), ("masks",), inside=("EndoTect_2020_Segmentation_Test_Dataset",))
_ISIC = _Place(("ISBI2016_ISIC_Part1_Test_Data",), ("ISBI2016_ISIC_Part1_Test_GroundTruth",))
_TN3K = (
    _Place(("trainval-image",), ("trainval-mask",), "train", ("tn3k",)),
    _Place(("test-image",), ("test-mask",), "test", ("tn3k",)),
)


def _loader(
    places: Sequence[_Place], class_name: str, kind: str, title: str
) -> Callable[[Path, Sequence[str]], list[Record]]:
    def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
        root = _thyroid(root) or root
        records: list[Record] = []
        for place in places:
            folders = place.folders(root)
            if folders is not None:
                records += _paired(*folders, class_name, kind, place.split)
        if not any(record.split == "test" for record in records):
            expected = " and ".join((places[-1].photos[0], places[-1].masks[0]))
            raise DataError(f"{shown(root)}: not {title}; expected the folders {expected} with photos")
        return records

    return load


def _paired(photos: Path, masks: Path, class_name: str, kind: str, split: Split) -> list[Record]:
    """Photos with the masks of their names; one line for photos without a mask and one for masks without a photo."""
    by_name = {without_mask_word(mask.stem).casefold(): mask for mask in photos_in(masks)}
    records = []
    for photo in photos_in(photos):
        mask = by_name.pop(photo.stem.casefold(), None)
        records.append(Record(photo, 1, mask, class_name, kind, split))
    without = [record for record in records if record.mask is None]
    if without:
        notice(
            f"{shown(masks)}: {len(without)} photos have no mask of their name (first: {shown(without[0].path.name)})"
        )
    if by_name:
        first = next(iter(by_name.values()))
        notice(f"{shown(masks)}: {len(by_name)} masks belong to no photo, not used (first: {shown(first.name)})")
    return records


def _thyroid(root: Path) -> Path | None:
    return child(root, "Thyroid Dataset")


def _pack_named(*names: str) -> Callable[[Path], str | None]:
    """Evidence of a pack of photos and masks whose folder is called after the set."""

    def evidence(root: Path) -> str | None:
        name = re.sub(r"[\W_]", "", Path(os.path.abspath(root)).name.casefold())
        return f"a folder called {root.name} with photos and masks" if _PACK.folders(root) and name in names else None

    return evidence


def _clinic(root: Path) -> str | None:
    if child(root, "Original") is not None and child(root, "Ground Truth") is not None:
        return "Original and Ground Truth"
    return _pack_named("cvcclinicdb", "clinicdb", "cvc612")(root)


def _kvasir(root: Path) -> str | None:
    folders = _PACK.folders(root)
    names = [file.stem for file in photos_in(folders[0])[:20]] if folders is not None else []
    return f"images/{names[0]}" if names and all(map(_KVASIR.fullmatch, names)) else None


def _endo(root: Path) -> str | None:
    inside = child(root, *_ENDO.inside)
    base = inside or (root if root.name in _ENDO.inside else None)
    return _ENDO.inside[0] if base is not None and _PACK.folders(base) is not None else None


def _isic(root: Path) -> str | None:
    return _ISIC.photos[0] if _ISIC.folders(root) is not None else None


def _tn3k(root: Path) -> str | None:
    return "test-image and test-mask" if _TN3K[1].folders(_thyroid(root) or root) is not None else None


LAYOUTS = (
    Layout("tn3k", _loader(_TN3K, "thyroid", "nodule", "TN3K"), _tn3k, "test-image and test-mask"),
    Layout("isic", _loader((_ISIC,), "skin", "lesion", "ISIC 2016"), _isic, "ISBI2016_ISIC_Part1_Test_Data"),
    Layout("endo", _loader((_ENDO,), "colon", "polyp", "EndoTect"), _endo, _ENDO.inside[0]),
    Layout("kvasir", _loader((_PACK,), "colon", "polyp", "Kvasir-SEG"), _kvasir, "images/cju*, masks/cju*"),
    Layout("clinicdb", _loader((_PACK,), "colon", "polyp", "CVC-ClinicDB"), _clinic, "Original and Ground Truth"),
    Layout(
        "colondb",
        _loader((_PACK,), "colon", "polyp", "CVC-ColonDB"),
        _pack_named("cvccolondb", "colondb"),
        "a folder CVC-ColonDB with images and masks",
    ),
)

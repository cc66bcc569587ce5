"""AITEX, photos of seven fabrics as strips of 4096 x 256 pixels, read in tiles of 256 x 256.

::

    Defect_images/0044_019_04.png              number, code of the defect, code of the fabric
    Mask_images/0044_019_04_mask.png           several: _mask1, _mask2
    NODefect_images/<fabric>/0001_000_05.png

FAPrompt's counts (564 normal, 183 anomalous tiles) come from InCTRL's conversion: a quarter of the tiles of all normal strips,
and of defect photos those tiles whose mask has a pixel above 0; photos with two masks or none are left out. The masks' edges
are soft, so the rule for pixels (above 0) is the same here as for tiles.

Silvestre-Blanes et al., "A Public Fabric Database for Defect Detection Methods and Results", Autex Research Journal 19, 2019.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from promptad.data.datasets.layout import Layout, child, held_out, require_child, unpacked
from promptad.data.datasets.names import folders_in, photos_in, without_mask_word
from promptad.data.files import shown
from promptad.data.parts import Crop, FilePart
from promptad.data.photos import photo_size, read_mask
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

TILE = 256
CLASS_NAME = "fabric"
DEFECTS = {
    **{"002": "Broken_end", "006": "Broken_yarn", "010": "Broken_pick", "016": "Weft_curling", "019": "Fuzzyball"},
    **{"022": "Cut_selvage", "023": "Crease", "025": "Warp_ball", "027": "Knots", "029": "Contamination"},
    **{"030": "Nep", "036": "Weft_crack"},
}
"""Codes of defects, the second number in a name."""
FABRICS = {
    **{"00": "2311694-2040n7u", "01": "2608691-202020u", "02": "2306894-210033u", "03": "2311694-1930c7u"},
    **{"04": "2311517-195063u", "05": "2306881-210020u", "06": "2311980-185026u"},
}
"""Codes of fabrics, the third number in a name, and the folders of their normal strips; code 08 has none."""
_NAME = re.compile(r"(?P<number>\d+)_(?P<defect>\d+)_(?P<fabric>\d+)")


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The tiles as FAPrompt counts them. Raises DataError where it is not the published set."""
    return _one_class(root, every=False)


def load_all(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The same with the defect photos that have two masks, united. Raises DataError."""
    return _one_class(root, every=True)


def load_fabrics(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """A class for each fabric, all its tiles in the test, for leaving one fabric out; a quarter of its normal tiles train.

    PromptAD zero-shot (WACV 2024) says that one category is left out, and the set has no categories but its fabrics: this is
    our reading. Fabric 08 has no normal strips and is left out, with a line.

    Raises:
        DataError: not the published set.
    """
    tiles = _defect_tiles(root, every=True)
    strange = [tile for tile in tiles if tile.condition not in FABRICS]
    if strange:
        notice(
            f"{shown(root)}: {len(strange)} tiles are of a fabric without normal strips ({strange[0].condition}), left out"
        )
    by_fabric = {folder: f"fabric_{code}" for code, folder in FABRICS.items()}
    records = [replace(tile, class_name=f"fabric_{tile.condition}") for tile in tiles if tile not in strange]
    normal_tiles = _normal_tiles(root)
    for folder in dict.fromkeys(tile.condition for tile in normal_tiles):
        name = by_fabric.get(folder.casefold())
        if name is None:
            raise DataError(f"{shown(root)}: {shown(folder)} is no fabric of AITEX; expected {', '.join(by_fabric)}")
        own = [replace(tile, class_name=name) for tile in normal_tiles if tile.condition == folder]
        train, test = held_out(own)
        records += [replace(tile, split="train") for tile in train] + test
    return sorted(records, key=lambda tile: (tile.class_name, tile.split == "test", tile.path.as_posix(), tile.crop))


def _one_class(root: Path, *, every: bool) -> list[Record]:
    train, test = held_out(_normal_tiles(root))
    tiles = _defect_tiles(root, every=every)
    notice(
        f"{shown(root)}: normal tiles are split at random (seed 42), as in the released conversions, so tiles of one strip lie in "
        "training and in test"
    )
    return [replace(tile, split="train") for tile in train] + test + tiles


def _normal_tiles(root: Path) -> list[Record]:
    """Tiles of the normal strips; `condition` is the fabric's folder."""
    folder = require_child(root, "NODefect_images")
    tiles = []
    for fabric in folders_in(folder):
        for strip in photos_in(unpacked(fabric)):
            for crop in _crops(strip):
                record = Record(strip, 0, None, CLASS_NAME, "good", group=strip.stem, condition=fabric.name, crop=crop)
                tiles.append(record)
    if not tiles:
        raise DataError(f"{shown(folder)}: holds no strips; expected NODefect_images/<fabric>/0001_000_05.png")
    return tiles


def _defect_tiles(root: Path, *, every: bool) -> list[Record]:
    """Tiles of the defect photos whose mask marks a pixel; `condition` is the fabric's code."""
    photos, masks = photos_in(require_child(root, "Defect_images")), _masks(root)
    tiles: list[Record] = []
    left: dict[str, list[str]] = {}
    for photo in photos:
        name = _NAME.match(photo.stem)
        if name is None:
            left.setdefault("another name than number_defect_fabric", []).append(photo.name)
            continue
        own = masks.pop(photo.stem.casefold(), [])
        if not own or (len(own) > 1 and not every):
            left.setdefault("no mask" if not own else "two masks, which FAPrompt's counts leave out", []).append(
                photo.name
            )
            continue
        views = tuple(FilePart(mask, above=0) for mask in own)
        marked = read_mask(views, photo_size(photo))
        if not marked.any():
            left.setdefault("an empty mask", []).append(photo.name)
        kind = DEFECTS.get(name["defect"], name["defect"])
        for crop in _crops(photo):
            if marked[crop[1] : crop[3], crop[0] : crop[2]].any():
                parts = tuple(replace(view, crop=crop) for view in views)
                mask = parts[0] if len(parts) == 1 else parts
                record = Record(photo, 1, mask, CLASS_NAME, kind, group=photo.stem, condition=name["fabric"], crop=crop)
                tiles.append(record)
    for reason, names in left.items():
        notice(f"{shown(root)}: {len(names)} defect photos have {reason}, not used (first: {shown(names[0])})")
    if masks:
        first = next(iter(masks.values()))[0]
        notice(f"{shown(root)}: the masks of {len(masks)} photos belong to no photo (first: {shown(first.name)})")
    return tiles


def _masks(root: Path) -> dict[str, list[Path]]:
    """Stem of the photo -> its masks."""
    masks: dict[str, list[Path]] = {}
    for mask in photos_in(require_child(root, "Mask_images")):
        masks.setdefault(without_mask_word(mask.stem).casefold(), []).append(mask)
    return masks


def _crops(photo: Path) -> list[Crop]:
    """The whole tiles of a strip, from the left; a rest that is narrower is none."""
    height, width = photo_size(photo)
    return [(left, 0, left + TILE, min(TILE, height)) for left in range(0, width - TILE + 1, TILE)]


def _evidence(root: Path) -> str | None:
    folders = [child(root, name) for name in ("Defect_images", "Mask_images", "NODefect_images")]
    return "Mask_images and NODefect_images" if all(folders[1:]) and os.path.isdir(str(folders[0])) else None


LAYOUTS = (
    Layout("aitex", load, _evidence, "Defect_images, Mask_images, NODefect_images"),
    Layout("aitex-all", load_all, None, "Defect_images, Mask_images, NODefect_images"),
    Layout("aitex-fabrics", load_fabrics, None, "Defect_images, Mask_images, NODefect_images"),
)

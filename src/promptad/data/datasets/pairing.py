"""Which mask belongs to which photo, by name and never by order; what belongs to none is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promptad.data.datasets.names import is_numbered_mask, without_mask_word
from promptad.data.files import shown
from promptad.data.photos import read_mask_pixels
from promptad.errors import DataError, PhotoError
from promptad.notices import notice


@dataclass(frozen=True)
class PhotoFile:
    """A photo in a folder of its type.

    Attributes:
        path: the file. split: "train", "test" or another folder of photos. kind: the type folder's name. inner: folders between the type folder
        and the file. normal: whether the type is a normal one.
    """

    path: Path
    split: str
    kind: str
    inner: tuple[str, ...]
    normal: bool

    @property
    def key(self) -> tuple[str, ...]:
        """Type, folders and stem, without case."""
        return tuple(part.casefold() for part in (self.kind, *self.inner, self.path.stem))


@dataclass(frozen=True)
class MaskFile:
    """A mask file, and the folders between the masks' own folder and it (`inner`, the type's first)."""

    path: Path
    inner: tuple[str, ...]


@dataclass
class Pairs:
    """Masks by photo, and what is left.

    Attributes:
        masks: photo -> its masks, sorted. orphans: masks that belong to no photo, with the reason.
    """

    masks: dict[Path, tuple[Path, ...]] = field(default_factory=dict)
    orphans: list[tuple[Path, str]] = field(default_factory=list)


def pair(photos: Sequence[PhotoFile], masks: Sequence[MaskFile]) -> Pairs:
    """Gives every mask its photo.

    A mask belongs to the photo that has its folders and its name, with or without a mask word (``_mask``, ``-GT``,
    ``mask_``, ...), else to the photo that its own folder is called after (MVTec LOCO: a folder of masks for each photo),
    else to the only photo of its type, else of the category, that has its name. Case does not count. A mask that fits several
    photos equally well belongs to none.

    Raises:
        DataError: two masks of one photo of which neither says that it is one of several.
    """
    index, pairs = _Index(photos), Pairs()
    several: dict[Path, list[tuple[MaskFile, bool]]] = {}
    for mask in masks:
        owners, of_folder = index.owners(mask)
        if len(owners) == 1:
            several.setdefault(owners[0].path, []).append((mask, of_folder or is_numbered_mask(mask.path.stem)))
        elif owners:
            names = ", ".join(shown(owner.path.name) for owner in owners[:2])
            pairs.orphans.append((mask.path, f"fits {len(owners)} photos equally well ({names})"))
        else:
            pairs.orphans.append((mask.path, "no photo has its name"))
    for photo, members in several.items():
        alone = [mask for mask, numbered in members if not numbered]
        if len(alone) > 1:  # the first of several may go without a number
            first, second = alone[0].path, alone[1].path
            raise DataError(f"{shown(second)}: a second mask beside {shown(first.name)}; remove one of them")
        pairs.masks[photo] = tuple(sorted(mask.path for mask, _ in members))
    return pairs


class _Index:
    """Photos by what a mask may say of them."""

    def __init__(self, photos: Sequence[PhotoFile]) -> None:
        self.kinds = {photo.kind.casefold() for photo in photos}
        self.splits = {photo.split for photo in photos}
        self.by_key: dict[tuple[str, ...], list[PhotoFile]] = {}
        for photo in photos:
            kind, stem = photo.key[0], photo.key[-1]
            # The whole place; the type and the name; the name alone, where only defects are looked for.
            keys = [("place", *photo.key), ("kind", kind, stem), *([] if photo.normal else [("name", stem)])]
            for key in keys:
                self.by_key.setdefault(key, []).append(photo)

    def owners(self, mask: MaskFile) -> tuple[list[PhotoFile], bool]:
        """Photos that a mask may belong to, by the first rule under which there are any; whether a folder named them."""
        folders = tuple(part.casefold() for part in mask.inner)
        split = None
        if folders and folders[0] in self.splits and folders[0] not in self.kinds:  # ground_truth/test/<type>/
            split, folders = folders[0], folders[1:]
        stems = dict.fromkeys(stem.casefold() for stem in (mask.path.stem, without_mask_word(mask.path.stem)))
        kind = folders[0] if folders and folders[0] in self.kinds else None
        rules: list[tuple[tuple[str, ...], bool]] = [(("place", *folders, stem), False) for stem in stems]
        rules.append((("place", *folders), True))
        if kind is not None:
            rules += [(("kind", kind, stem), False) for stem in stems]
            rules.append((("kind", kind, folders[-1]), True))
        else:
            # A folder that is no type may be called after its photo; else its masks are of a type that is not there.
            rules += [(("name", folders[-1]), True)] if folders else [(("name", stem), False) for stem in stems]
        for key, by_folder in rules:
            members = [photo for photo in self.by_key.get(key, []) if split in (None, photo.split)]
            if members:
                # Published masks are those of the test photos.
                return [photo for photo in members if photo.split == "test"] or members, by_folder
        return [], False


def say_left_over(where: Path, orphans: Sequence[tuple[Path, str]]) -> None:
    """One line for the masks that belong to no photo."""
    if orphans:
        path, reason = orphans[0]
        place = path.relative_to(where) if path.is_relative_to(where) else path
        files = "1 mask file belongs" if len(orphans) == 1 else f"{len(orphans)} mask files belong"
        notice(
            f"{shown(where)}: {files} to no photo, not used (first: {shown(place)}: {reason}); "
            "call each mask as its photo, in the folder of its type"
        )


def say_without_mask(where: Path, photos: Iterable[PhotoFile], pairs: Pairs) -> None:
    """One line for each type of which some photos have masks and others have none."""
    kinds: dict[str, list[PhotoFile]] = {}
    for photo in photos:
        if not photo.normal and photo.split == "test":
            kinds.setdefault(photo.kind, []).append(photo)
    for kind, members in kinds.items():
        without = [photo for photo in members if photo.path not in pairs.masks]
        if without and len(without) < len(members):
            notice(
                f"{shown(where)}: {len(without)} of {len(members)} photos of {shown(kind)} have no mask "
                f"(first: {shown(without[0].path.name)}); pixel metrics leave them out"
            )


def say_marks_on_good(where: Path, masks: Iterable[Path]) -> None:
    """One line for the masks of photos that count as good, where they mark defects. Empty ones are usual."""
    marking: list[Path] = []
    for mask in masks:
        try:
            if read_mask_pixels(mask).any():
                marking.append(mask)
        except PhotoError:
            marking.append(mask)
    if marking:
        notice(
            f"{shown(where)}: {len(marking)} masks of good photos mark defects or cannot be read, and are not used "
            f"(first: {shown(marking[0])}); the photos count as good: move them if they are not"
        )

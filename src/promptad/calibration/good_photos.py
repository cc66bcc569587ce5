"""Good photos as they are given: read and encoded, each content once, copies named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptad.calibration.bounds import check_rate, counted
from promptad.calibration.ladder import Role
from promptad.data.camera import camera_statistics
from promptad.data.copies import Photo, altered_copies
from promptad.data.duplicates import CopyFinder
from promptad.data.files import sha256_file, shown
from promptad.errors import ConfigError, DataError, PhotoError
from promptad.inputs import argument
from promptad.learning.features import PhotoFeatures
from promptad.methods.catalogue import require_anomalies, require_tuned
from promptad.notices import notice

# Features of an item, which was decoded to the photo beside it, and whether it is learned from.
Encode = Callable[[Any, Photo, bool], PhotoFeatures]
_NAMED = 3


@dataclass
class GoodPhotos:
    """Features of good photos that differ from each other.

    Attributes:
        learned, held_out: features, copies left out.
        entries: of those given to learn from: name and size (H, W), "sha256" of files, and "copy_of" where it repeats
            another one and was left out; "camera": its statistics (`data.camera`).
        first: pixels of the first of those learned.
    """

    learned: list[PhotoFeatures] = field(default_factory=list)
    held_out: list[PhotoFeatures] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    first: Photo | None = None

    @property
    def alone(self) -> Photo | None:
        """The only photo to learn from, where no other is held out."""
        return self.first if len(self.learned) == 1 and not self.held_out else None

    def altered(self, role: Role) -> list[Photo]:
        """Altered copies of the only photo, where they set the threshold, else none."""
        return [] if self.alone is None or role == "unused" else altered_copies(self.alone)


def read_good_photos(
    good: Sequence[Any],
    held_out: Sequence[Any],
    read: Callable[[Any], Photo],
    encode: Encode,
    role: Role,
    done: Callable[[], None] | None = None,
    unreadable: Callable[[str], None] | None = None,
    *,
    near: bool = True,
) -> GoodPhotos:
    """Reads and encodes good photos. Copies of earlier ones are left out, in what is learned and in what is proved.

    A copy adds nothing to what is known of good photos, and its score, compared with its original, says that a further
    good photo scores next to nothing.

    Args:
        good, held_out: paths, Pillow images or arrays. read: decodes one. encode: gives its features.
        role: what good photos are for the method. done: called after each photo.
        unreadable: called with a line for each photo that cannot be read, which is then left out; None raises instead.
        near: whether copies are left out too that were saved again, resized or turned, and not those of equal pixels alone.

    Raises:
        PhotoError: a photo cannot be read. DataError: none of those to learn from, or none of the held out, can be read.
        ConfigError: held-out photos are learned from too; all of them are read before, and named.
    """
    reading = _Reading(list(good), list(held_out), encode, role, near)
    for number, item in enumerate(reading.items):
        if done is not None and number:
            done()
        try:
            reading.add(number, read(item))
        except PhotoError as error:  # it cannot be read, or not be laid out for the tower
            if unreadable is None:
                raise
            unreadable(str(error))
            _refuse_none(number, reading.used, len(reading.good), len(reading.items))
    _refuse_overlap(reading.overlap)
    if done is not None:
        done()
    _say(reading.copies, len(reading.numbers))
    return reading.out


def require_photos(
    method: str, good: int, held_out: int, faulty: int, false_alarms: float | None, tune: bool = False
) -> None:
    """Refuses what a fit cannot do with so many photos, before they are read, which takes longest. Raises ConfigError."""
    if tune:
        require_tuned(method)
    if not good:
        raise ConfigError("fit needs at least one good photo")
    require_anomalies(method, faulty)
    if false_alarms is not None:
        check_rate(false_alarms, held_out or good)


class _Reading:
    """The photos that were read so far, and how they relate to each other."""

    def __init__(self, good: Sequence[Any], held_out: Sequence[Any], encode: Encode, role: Role, near: bool) -> None:
        self.good, self.items = good, [*good, *held_out]
        self.names = [_name(item, number) for number, item in enumerate(self.items)]
        self.out, self.overlap = GoodPhotos(), list[str]()
        self.copies: list[tuple[str, str, bool]] = []
        # The finder counts what it was given, which unreadable photos are not; `used` are those that features came of.
        self.numbers, self.used = list[int](), list[int]()
        self._finder, self._encode, self._role, self._near = CopyFinder(), encode, role, near

    def add(self, number: int, photo: Photo) -> None:
        """One more photo. Raises PhotoError where it cannot be encoded."""
        learned, item = number < len(self.good), self.items[number]
        self.numbers.append(number)
        copy = self._finder.add(photo)
        if copy is not None and not (copy.exact or self._near):
            copy = None
        original = self.numbers[copy.of] if copy is not None else number
        if copy is not None:
            if copy.exact and not learned and original < len(self.good) and self._role != "unused":
                self.overlap.append(f"{_place(item, number)} as {_place(self.items[original], original)}")
            self.copies.append((self.names[number], self.names[original], copy.exact))
        elif not self.overlap:  # nothing is learned after an overlap, but all of it is told
            features = self._encode(item, photo, learned)
            if learned and self.out.first is None:
                self.out.first = photo
            (self.out.learned if learned else self.out.held_out).append(features)
        if learned:
            name = self.names[original] if copy is not None else None
            self.out.entries.append(
                {**_entry(item, self.names[number], photo.shape[:2], name), "camera": camera_statistics(photo)}
            )
        self.used.append(number)


def _entry(item: Any, name: str, size: Sequence[int], original: str | None = None) -> dict[str, Any]:
    """What is kept of a good photo, see :class:`GoodPhotos`."""
    entry: dict[str, Any] = {"name": name, "size": [int(side) for side in size]}
    if isinstance(item, str | Path):
        entry["sha256"] = sha256_file(item)
    if original is not None:
        entry["copy_of"] = original
    return entry


def encode_defective(
    items: Sequence[Any], encode: Callable[[Any], PhotoFeatures], unreadable: Callable[[str], None] | None = None
) -> tuple[list[PhotoFeatures], list[dict[str, Any]]]:
    """Features of photos that are known to be defective, and name, size and "sha256" of each.

    Args:
        items: paths, Pillow images or arrays. encode: gives the features of one.
        unreadable: called with a line for each photo that cannot be read, which is then left out; None raises instead.

    Raises:
        PhotoError: a photo cannot be read. DataError: none can.
    """
    features, entries = list[PhotoFeatures](), list[dict[str, Any]]()
    for number, item in enumerate(items):
        try:
            photo = encode(item)
            entries.append(_entry(item, _name(item, number), photo.size))
            features.append(photo)
        except PhotoError as error:
            if unreadable is None:
                raise
            unreadable(str(error))
    if items and not features:
        raise DataError("none of the defective photos can be read; give at least one, or leave them out")
    return features, entries


def say_learned(title: str, photos: int) -> None:
    """Says that defective photos are learned from, and so prove nothing."""
    if not photos:
        return
    notice(
        f"{title} learns from the {counted(photos).replace('good', 'defective')} that {'is' if photos == 1 else 'are'} given "
        f"({argument('defective')}), so nothing says how many others the threshold misses"
    )


def _refuse_none(number: int, read: Sequence[int], good: int, total: int) -> None:
    """Raises when the last good photo, or the last held-out one, could not be read and none before it could."""
    if number == good - 1 and not read:
        raise DataError("none of the good photos can be read; give at least one")
    if number == total - 1 > good - 1 and not any(earlier >= good for earlier in read):
        raise DataError("none of the held-out photos can be read; give at least one, or leave them out")


def _refuse_overlap(overlap: Sequence[str]) -> None:
    if overlap:
        more = f", and {len(overlap) - _NAMED} more" if len(overlap) > _NAMED else ""
        raise ConfigError(
            f"{argument('held_out')}: {counted(len(overlap))} {'is' if len(overlap) == 1 else 'are'} learned from too, and so "
            f"say{'s' if len(overlap) == 1 else ''} nothing about new photos ({', '.join(overlap[:_NAMED])}{more}); leave "
            f"{'it' if len(overlap) == 1 else 'them'} out of one of the two"
        )


def _say(copies: Sequence[tuple[str, str, bool]], photos: int) -> None:
    for exact, words in (
        (True, "have the same pixels as"),
        (False, "show the same, saved again, resized or turned, as"),
    ):
        pairs = [f"{name} as {original}" for name, original, equal in copies if equal == exact]
        if pairs:
            more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
            notice(
                f"{len(pairs)} of {photos} good photos {words} another one ({', '.join(pairs[:_NAMED])}{more}): each "
                f"content counts once, which leaves {counted(photos - len(copies))}; give photos of further good parts"
            )


def _name(item: Any, number: int) -> str:
    return Path(item).name if isinstance(item, str | Path) else f"photo {number + 1}"


def _place(item: Any, number: int) -> str:
    """A photo as it was given, with its folder."""
    return shown(item) if isinstance(item, str | Path) else _name(item, number)

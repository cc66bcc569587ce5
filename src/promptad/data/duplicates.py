"""Photos that are the same: exact copies by content, and near copies, which are one photo saved again.

A threshold that is set from copies of one photo promises what nobody knows, and a test photo that was learned from is
judged too well. Exact copies have equal bytes, or equal pixels after decoding (a PNG saved as BMP). Near copies are one
photo that was compressed again, resized, or made a little brighter or darker. They are told from *different* photos of
one product, which may look alike to the eye, by their fine structure: a photo is brought to 96 pixels, what is smooth is
taken away, and the rest (edges, grain, dirt) must correlate by more than :data:`NEAR`.

Measured over all pairs of the good photos of five sets: different photos of one product reach 0.940 (MVTec AD bottle),
0.328 (cookies), 0.971 (magnetic tile), 0.991 (elpv-dataset, 3.4 million pairs) and 0.123 (conformal-clip-data). Above 0.992 lie two
pairs, which are indeed one part photographed twice (cookies normal-1 and -2, 0.994; magnetic tile num_964 and _1012, 0.995).
Copies saved as JPEG of quality 60 reach 0.999 on bottle and cookies, copies of half the size 0.997, darker ones 0.999; photos
with little structure fall to 0.8 to 0.97 (magnetic tile, JPEG of quality 30 and 90). So photos of one shape also count as
near copies where their thumbnails of 64 pixels differ by less than :data:`NEAR_LEVELS` grey levels and less than
:data:`NEAR_SHARE` of their contrast (root mean square). Saved again as JPEG of quality 50, photos of those sets differ by 0.4
to 1.3 levels, those of the textile by 2.0, which their structure tells. Of all pairs of different photos of the five sets
(good and defective, 5,275 photos) only seven pairs lie below, of one magnetic tile under two exposures each; the next are
neighbouring solar cells at 1.9.

Photos of different sizes and one shape are compared at 48 pixels without aliasing, and so are photos that are another one mirrored
or turned by a multiple of 90 degrees, which are copies too. Of 25 photos a set, in all seven ways and saved again as JPEG of
quality 60 to 90, every turned copy is found (0.998 or more), and every copy of half and a third of the size (0.996 or more), but
for magnetic tile, which has little structure: there 23 % (quality 60) to 55 % (90) of the turned ones (from 0.978) and 88 % and 72 %
of the smaller ones (from 0.975). Of all pairs of different photos (4,552, at most 1,500 a set), turned in all seven ways, none
reaches 0.995; pairs of different photos in different sizes were not measured. Crops and shifts are not found.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptad.data.files import sha256_file, shown
from promptad.data.parts import Crop
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

NEAR = 0.992
"""Correlation of fine structure above which two photos are near copies."""

NEAR_LEVELS, NEAR_SHARE = 1.5, 0.08
"""Difference of thumbnails, in grey levels and as a share of their contrast, below which two photos are near copies."""

TURNED = 0.997
"""Correlation at 48 pixels above which a photo is another one, mirrored or turned."""

_SIDE, _EDGE, _PLAIN = 96, 64, 48
_ASPECT = 0.02  # aspect ratios of a photo and its resized copy differ by less
_PIECE = 1 << 14  # bytes that are compared before two files of one size are read whole
_ROWS = 512  # photos that are compared with all others at a time


@dataclass(frozen=True)
class Copies:
    """Which photos are copies of each other, by their places in the sequence.

    Attributes:
        exact: groups of two or more with equal pixels, each in order. near: pairs of near copies (first < second)
            among photos of different content.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, int], ...]

    @property
    def repeated(self) -> tuple[int, ...]:
        """Places of the photos that have an exact copy before them: what is left without them counts once each."""
        return tuple(sorted(place for group in self.exact for place in group[1:]))

    @property
    def related(self) -> tuple[tuple[int, ...], ...]:
        """Groups of two or more photos that are copies, exact or near, of one another."""
        leader: dict[int, int] = {}

        def lead(place: int) -> int:
            while leader.get(place, place) != place:
                place = leader[place]
            return place

        pairs = [(group[0], other) for group in self.exact for other in group[1:]] + list(self.near)
        for first, second in pairs:
            low, high = sorted((lead(first), lead(second)))
            leader[high] = low
        groups: dict[int, list[int]] = {}
        for place in sorted({place for pair in pairs for place in pair}):
            groups.setdefault(lead(place), []).append(place)
        return tuple(tuple(members) for members in groups.values())


def pixel_digest(photo: NDArray[np.uint8]) -> str:
    """SHA-256 of a decoded photo, ``(H, W, 3)`` uint8 RGB: equal for equal pixels and sizes, whatever the file."""
    digest = hashlib.sha256(f"{photo.shape}".encode())
    digest.update(np.ascontiguousarray(photo).data)
    return digest.hexdigest()


def fine_structure(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What near copies are compared by: ``(96, 96)`` float32, grey, without its smooth part.

    Args:
        photo: ``(H, W, 3)`` uint8 RGB.
    """
    return _structure(photo, _SIDE, Image.Resampling.BOX)


def plain_structure(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What copies of other sizes, and turned ones, are compared by: ``(48, 48)`` float32, resized without aliasing."""
    return _structure(photo, _PLAIN, Image.Resampling.BILINEAR)


def _structure(photo: NDArray[np.uint8], side: int, filter_: Image.Resampling) -> NDArray[np.float32]:
    image = Image.fromarray(photo).convert("L")
    small = np.asarray(image.resize((side, side), filter_), np.float32)
    padded = np.pad(small, 2, mode="edge")
    smooth = sum(padded[y : y + side, x : x + side] for y in range(5) for x in range(5)) / 25
    return np.asarray(small - smooth, np.float32)


def _turned(structure: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """A square structure mirrored and turned in all seven ways."""
    quarters = [np.rot90(structure, turns) for turns in range(4)]
    return [*quarters[1:], *(quarter[:, ::-1] for quarter in quarters)]


class _Plain:
    """Plain structures and shapes of photos, and which of them a further one repeats in another size or turned."""

    def __init__(self) -> None:
        self._rows = np.empty((0, _PLAIN * _PLAIN), np.float32)
        self._sizes: list[tuple[int, int]] = []

    def matches(self, photo: NDArray[np.uint8]) -> list[int]:
        """Places of the earlier photos that this one repeats so; it is kept for later ones."""
        structure, size = plain_structure(photo), (photo.shape[0], photo.shape[1])
        own = _unit_rows(np.stack([structure, *_turned(structure)]).reshape(8, -1))
        earlier: list[int] = []
        if self._sizes:
            alike = self._rows[: len(self._sizes)] @ own.T  # (n, 8)
            sizes = np.array(self._sizes)
            shape = np.abs(sizes[:, 0] * size[1] / (sizes[:, 1] * size[0]) - 1) < _ASPECT
            other = (sizes != size).any(axis=1)
            earlier = np.flatnonzero(
                (shape & other & (alike[:, 0] > NEAR)) | (alike[:, 1:].max(axis=1) > TURNED)
            ).tolist()
        self._rows = _with_row(self._rows, len(self._sizes), own[0])
        self._sizes.append(size)
        return earlier

    def forget_last(self) -> None:
        """The last photo repeats another one and is compared with no further one."""
        self._sizes.pop()


def thumbnail(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(H, W, 3)`` uint8 RGB -> ``(h, w)`` float32 grey levels, long side 64, every pixel the mean of its area."""
    height, width = photo.shape[:2]
    factor = _EDGE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(photo).convert("L").resize(size, Image.Resampling.BOX), np.float32)


def find_copies(photos: Iterable[NDArray[np.uint8]]) -> Copies:
    """Exact and near copies among decoded photos.

    Takes a few ms a photo of a megapixel, 46 kB of memory a photo, and 7 s for all pairs of 2,600 photos.

    Args:
        photos: ``(H, W, 3)`` uint8 RGB each, in any sizes; they are looked at one after the other and not kept.
    """
    by_digest: dict[str, list[int]] = {}
    structures: list[NDArray[np.float32]] = []
    thumbnails: list[NDArray[np.float32]] = []
    plain, pairs = _Plain(), set[tuple[int, int]]()
    for place, photo in enumerate(photos):
        digest = pixel_digest(photo)
        members = by_digest.setdefault(digest, [])
        members.append(place)
        if len(members) == 1:
            pairs |= {(earlier, len(structures)) for earlier in plain.matches(photo)}
            structures.append(fine_structure(photo).ravel())
            thumbnails.append(thumbnail(photo))
    firsts = [members[0] for members in by_digest.values()]
    exact = tuple(tuple(members) for members in by_digest.values() if len(members) > 1)
    pairs |= {*_near_pairs(structures), *_pairs_by_thumbnail(thumbnails)}
    return Copies(exact, tuple((firsts[first], firsts[second]) for first, second in sorted(pairs)))


@dataclass(frozen=True)
class Copy:
    """That a photo repeats an earlier one: its place, and whether every pixel agrees."""

    of: int
    exact: bool


class CopyFinder:
    """Tells of photos, one after the other, whether they repeat an earlier one; the rules are those of :func:`find_copies`."""

    def __init__(self) -> None:
        self._digests: dict[str, int] = {}
        self._places: list[int] = []
        self._plain = _Plain()
        self._rows = np.empty((0, _SIDE * _SIDE), np.float32)
        self._shapes: dict[tuple[int, ...], tuple[list[int], list[NDArray[np.float32]]]] = {}
        self._count = 0

    def add(self, photo: NDArray[np.uint8]) -> Copy | None:
        """Takes the next photo, ``(H, W, 3)`` uint8 RGB.

        Returns:
            None where it repeats none, else the first that it repeats; copies are counted in the places too.
        """
        copy = self._seen(photo, keep=True)
        self._count += 1
        return copy

    def look(self, photo: NDArray[np.uint8]) -> Copy | None:
        """The same of a photo that is not kept: no later one is compared with it."""
        return self._seen(photo, keep=False)

    def _seen(self, photo: NDArray[np.uint8], *, keep: bool) -> Copy | None:
        place, digest = self._count, pixel_digest(photo)
        if digest in self._digests:
            return Copy(self._digests[digest], exact=True)
        row, small = _unit_rows(fine_structure(photo).reshape(1, -1)), thumbnail(photo)
        known, kept = self._shapes.get(small.shape, ([], []))
        alike = [self._places[index] for index in np.flatnonzero(self._rows[: len(self._places)] @ row[0] > NEAR)]
        alike += [known[index] for index in np.flatnonzero(_nearly_equal(small.reshape(1, -1), kept)[0])]
        if not alike:
            alike = [self._places[index] for index in self._plain.matches(photo)]
            if alike or not keep:
                self._plain.forget_last()
        if alike:
            if keep:
                self._digests[digest] = min(alike)
            return Copy(min(alike), exact=False)
        if keep:
            self._digests[digest] = place
            self._shapes[small.shape] = [*known, place], [*kept, small.ravel()]
            self._rows = _with_row(self._rows, len(self._places), row[0])
            self._places.append(place)
        return None


def _with_row(rows: NDArray[np.float32], count: int, row: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of which the first `count` are used, with one more; they grow by doubling."""
    if count == len(rows):
        rows = np.concatenate([rows, np.empty((max(16, len(rows)), rows.shape[1]), np.float32)])
    rows[count] = row
    return rows


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    # A photo without any structure is like nothing but its exact copies.
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)


def _near_pairs(structures: Sequence[NDArray[np.float32]]) -> list[tuple[int, int]]:
    if len(structures) < 2:
        return []
    rows = _unit_rows(np.stack(structures))
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(rows), _ROWS):
        alike = rows[start : start + _ROWS] @ rows[start:].T > NEAR
        for first, second in np.argwhere(np.triu(alike, 1)):
            pairs.append((start + int(first), start + int(second)))
    return pairs


def _pairs_by_thumbnail(thumbnails: Sequence[NDArray[np.float32]]) -> list[tuple[int, int]]:
    shapes: dict[tuple[int, ...], list[int]] = {}
    for place, small in enumerate(thumbnails):
        shapes.setdefault(small.shape, []).append(place)
    pairs: list[tuple[int, int]] = []
    for places in shapes.values():
        rows = [thumbnails[place].ravel() for place in places]
        for start in range(0, len(rows), _ROWS):
            alike = _nearly_equal(np.stack(rows[start : start + _ROWS]), rows[start:])
            for first, second in np.argwhere(np.triu(alike, 1)):
                pairs.append((places[start + int(first)], places[start + int(second)]))
    return pairs


def _nearly_equal(rows: NDArray[np.float32], others: Sequence[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Which thumbnails (n, p) differ little from which others (m, p): (n, m) bool."""
    if not others:
        return np.zeros((len(rows), 0), bool)
    # Double precision: the difference of large numbers is small.
    first, second = rows.astype(np.float64), np.stack(others).astype(np.float64)
    products = first @ second.T / rows.shape[1]
    squares = (first**2).mean(1)[:, None] + (second**2).mean(1)[None] - 2 * products
    limit = np.minimum(NEAR_LEVELS, NEAR_SHARE * first.std(axis=1))[:, None]
    return np.asarray(squares < limit**2)


def same_files(paths: Sequence[Path]) -> list[list[Path]]:
    """Groups of two or more paths whose files have equal bytes, in the order given; unreadable files are in none.

    Only files of equal size are opened, and only those whose beginning, middle and end agree are read whole.
    """
    groups: list[list[Path]] = []
    for members in _grouped(list(dict.fromkeys(paths)), _size):
        for alike in _grouped(members, _pieces):
            groups += _grouped(alike, _whole)
    return groups


def say_copies(records: Sequence[Record], where: Path) -> None:
    """Lines about photos of equal bytes: in training and test split, under two labels, and simply repeated."""
    by_path: dict[Path, dict[Crop | None, list[Record]]] = {}
    for record in records:
        by_path.setdefault(Path(os.path.realpath(record.path)), {}).setdefault(record.crop, []).append(record)
    groups: list[list[Record]] = []
    for paths in same_files(list(by_path)):  # equal parts of equal files
        crops = dict.fromkeys(crop for path in paths for crop in by_path[path])
        groups += [[record for path in paths for record in by_path[path].get(crop, [])] for crop in crops]
    groups = [group for group in groups if len(group) > 1]
    grouped = {id(record) for group in groups for record in group}
    alone = [group for parts in by_path.values() for group in parts.values()]
    groups += [group for group in alone if len(group) > 1 and id(group[0]) not in grouped]
    crossing = [group for group in groups if len({record.split for record in group}) > 1]
    contrary = [group for group in groups if len({record.label for record in group}) > 1]
    repeated = [group for group in groups if group not in crossing and group not in contrary]
    for kind, words in (
        (crossing, "lie in both training and test split; scores on them look too good: remove them from one"),
        (contrary, "are labelled normal in one place and anomalous in another; remove the wrong one"),
        (repeated, "are there more than once; each copy counts as a photo of its own: remove the copies"),
    ):
        if kind:
            first, second = kind[0][0].path, kind[0][1].path
            photos = "1 photo" if len(kind) == 1 else f"{len(kind)} photos"
            notice(
                f"{shown(where)}: {photos}, equal byte for byte, {words} (first: {shown(first)} and {shown(second)})"
            )


def _grouped(paths: Sequence[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    """Groups of two or more paths with one key; None is no key."""
    groups: dict[object, list[Path]] = {}
    for path in paths:
        value = key(path)
        if value is not None:
            groups.setdefault(value, []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size or None
    except OSError:
        return None


def _pieces(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest = hashlib.sha256()
            for start in (0, size // 2, max(0, size - _PIECE)):
                file.seek(start)
                digest.update(file.read(_PIECE))
        return digest.hexdigest()
    except OSError:
        return None


def _whole(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except DataError:
        return None

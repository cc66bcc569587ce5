"""Copies among photos that were given as different ones, and altered copies where there is only one photo."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Photo = NDArray[np.uint8]

# Pixels of a thumbnail's long side, and of the blocks whose means bound the difference of two thumbnails from below.
_EDGE, _BLOCK = 64, 8
# Root mean square difference of thumbnails below which a photo counts as another one's near copy: in grey levels, and as
# a share of the thumbnail's own contrast. Saved again as JPEG of quality 50, photos of six products differ by 0.4 to 2.0
# levels (0.01 to 0.08 of their contrast), different photos of one product by 4.0 or more.
_NEAR_LEVELS, _NEAR_SHARE = 2.0, 0.1


@dataclass(frozen=True)
class Copy:
    """That a photo repeats an earlier one: its index, and whether every pixel agrees."""

    of: int
    exact: bool


class CopyFinder:
    """Tells of photos, one after the other, whether they repeat an earlier one.

    Exact copies agree in every pixel after decoding, whatever their files; near copies are what is left when a photo is
    saved again, at another quality or size. Turned, mirrored or cropped copies are not found.
    """

    def __init__(self) -> None:
        self._digests: dict[str, int] = {}
        self._shapes: dict[tuple[int, ...], tuple[list[int], list[NDArray[np.float32]], list[NDArray[np.float32]]]] = {}
        self._count = 0

    def add(self, photo: Photo) -> Copy | None:
        """Takes the next photo, (H, W, 3) uint8 RGB; None where it repeats none. Copies count in the numbering too."""
        index, digest = self._count, pixel_digest(photo)
        self._count += 1
        if digest in self._digests:
            return Copy(self._digests[digest], exact=True)
        small = thumbnail(photo)
        coarse = _block_means(small)
        numbers, thumbnails, means = self._shapes.setdefault(small.shape, ([], [], []))
        original = _nearest(small, coarse, numbers, thumbnails, means)
        self._digests[digest] = index if original is None else original
        if original is not None:
            return Copy(original, exact=False)
        numbers.append(index)
        thumbnails.append(small)
        means.append(coarse)
        return None


def exact_groups(hashes: Sequence[Hashable]) -> list[list[int]]:
    """Indices of equal entries, groups and members in the order of their first; entries that are alone included."""
    groups: dict[Hashable, list[int]] = {}
    for index, value in enumerate(hashes):
        groups.setdefault(value, []).append(index)
    return list(groups.values())


def pixel_digest(photo: Photo) -> str:
    """SHA-256 of the decoded pixels and their shape, (H, W, 3) uint8 RGB: the same for the same content in any file."""
    return hashlib.sha256(repr(photo.shape).encode() + np.ascontiguousarray(photo).tobytes()).hexdigest()


def thumbnail(photo: Photo) -> NDArray[np.float32]:
    """(H, W, 3) uint8 -> grey levels (h, w) float32 with a long side of 64 pixels, every pixel the mean of its area."""
    height, width = photo.shape[:2]
    factor = _EDGE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(photo).convert("L").resize(size, Image.Resampling.BOX), dtype=np.float32)


def _block_means(small: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = (side // _BLOCK * _BLOCK for side in small.shape)
    blocks = small[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _nearest(
    small: NDArray[np.float32],
    coarse: NDArray[np.float32],
    numbers: Sequence[int],
    thumbnails: Sequence[NDArray[np.float32]],
    means: Sequence[NDArray[np.float32]],
) -> int | None:
    """The number of the first photo that this one is a near copy of, or None."""
    limit = min(_NEAR_LEVELS, _NEAR_SHARE * float(small.std()))
    if not numbers:
        return None
    # A sum of squares over all pixels is at least that of the block means times their size.
    squares = ((np.stack(means) - coarse) ** 2).sum(axis=(1, 2)) * _BLOCK**2
    for candidate in map(int, np.flatnonzero(squares <= limit**2 * small.size * (1 + 1e-4))):
        if float(((thumbnails[candidate] - small) ** 2).mean()) <= limit**2:
            return numbers[candidate]
    return None


def altered_copies(photo: Photo) -> list[Photo]:
    """Copies of a photo that a good part could also look like: mirrored, shifted by a twentieth, brighter, darker.

    (H, W, 3) uint8 RGB -> the same shape each. They stand in for further good photos when there is only one.
    """
    height, width = photo.shape[:2]
    dy, dx = max(1, height // 20), max(1, width // 20)
    padded = np.pad(photo, ((dy, dy), (dx, dx), (0, 0)), mode="edge")
    shifted = [padded[y : y + height, x : x + width] for y, x in ((0, 0), (2 * dy, 2 * dx))]
    scaled = [np.clip(photo.astype(np.float32) * f, 0, 255).astype(np.uint8) for f in (0.9, 1.1)]
    return [np.ascontiguousarray(copy) for copy in (photo[:, ::-1], photo[::-1], *shifted, *scaled)]

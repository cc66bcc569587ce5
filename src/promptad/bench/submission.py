"""The archive that the evaluation server of MVTec AD 2 takes: maps of the private photos, which have no labels.

::

    <folder>/anomaly_images/<object>/test_private/000_regular.tiff               16-bit floats, of the photo's size
    <folder>/anomaly_images/<object>/test_private_mixed/000_mixed.tiff
    <folder>/anomaly_images_thresholded/<object>/<split>/<same stem>.png         0 and 255, for the server's SegF1

All eight objects, every photo, and nothing else. Maps are stored in standard deviations above the mean of all pixels of the
object's validation maps: one scale an object, which keeps the order of its pixels, and puts the finest steps of 16-bit floats
where most normal pixels lie. The threshold is so many of these deviations, 3 in the publisher's baseline.

Heckler-Kram et al., "The MVTec AD 2 Dataset: Advanced Scenarios for Unsupervised Anomaly Detection", 2025.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptad.bench.tiff import float16_tiff
from promptad.data.datasets.ad2 import OBJECTS, PRIVATE
from promptad.data.files import TEMPORARY, one_line, shown
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

SUFFIX = ".tar.gz"
MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"
_LARGEST = float(np.finfo(np.float16).max)

MapOf = Callable[[Record], NDArray[np.float32]]
"""The anomaly map of a photo, (H, W) at its own size."""


@dataclass(frozen=True)
class Scale:
    """How an object's maps are stored: (value - mean) / deviation, from its validation maps."""

    mean: float
    deviation: float

    def stored(self, values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
        """An (H, W) map as it is stored; values beyond what 16 bits hold get the largest, with a notice."""
        scaled = (values.astype(np.float64) - self.mean) / self.deviation
        if np.abs(scaled).max() > _LARGEST:
            notice(f"{name}: has values beyond {_LARGEST:g} deviations, which become {_LARGEST:g}")
        return np.clip(scaled, -_LARGEST, _LARGEST).astype(np.float16)


def private_photos(records: Sequence[Record]) -> dict[str, dict[str, list[Record]]]:
    """Object -> split -> its photos in the order of their numbers.

    Raises:
        DataError: an object or split is missing, or the numbers of its photos have gaps; the server would refuse it.
    """
    photos: dict[str, dict[str, list[Record]]] = {}
    for name in OBJECTS:
        for split in PRIVATE:
            photos_of_split = [record for record in records if (record.class_name, record.split) == (name, split)]
            if not photos_of_split:
                raise DataError(f"{name}/{split}: no photos; the server takes all of {', '.join(OBJECTS)}; unpack them")
            photos_of_split.sort(key=lambda record: record.path.stem)
            ending = "mixed" if split == "test_private_mixed" else "regular"
            for number, record in enumerate(photos_of_split):
                if record.path.stem != f"{number:03}_{ending}":
                    raise DataError(
                        f"{shown(record.path)}: expected {number:03}_{ending}; the server takes every photo by its published "
                        "name: unpack the set again"
                    )
            photos.setdefault(name, {})[split] = photos_of_split
    return photos


def scale_of(maps: Iterator[NDArray[np.float32]], name: str) -> Scale:
    """The scale from validation maps, taken one by one.

    Raises:
        DataError: there is none, or all their pixels are equal.
    """
    count, mean, squares = 0, 0.0, 0.0
    for values in maps:
        own = values.astype(np.float64)
        own_mean, total = float(own.mean()), count + own.size
        step = own_mean - mean
        squares += float(np.square(own - own_mean).sum()) + step**2 * count * own.size / total
        mean += step * own.size / total
        count = total
    deviation = math.sqrt(squares / count) if count else 0.0
    if not deviation > 0:
        why = "all pixels of its validation maps are equal" if count else "it has no validation photos"
        raise DataError(
            f"{name}: {why}, so its maps have no scale; " + ("take another method" if count else "unpack them")
        )
    return Scale(mean, deviation)


def write_object(
    archive: Archive,
    name: str,
    photos: Mapping[str, Sequence[Record]],
    map_of: MapOf,
    scale: Scale,
    deviations: float | None,
) -> int:
    """Writes the maps of an object's private photos; gives their number.

    Args:
        deviations: the threshold; None writes no thresholded maps.
    """
    written = 0
    for split, records in photos.items():
        for record in records:
            values = scale.stored(map_of(record), shown(record.path))
            if values.min() == values.max():
                notice(f"{shown(record.path)}: all pixels of its map are equal")
            archive.add(f"{MAPS}/{name}/{split}/{record.path.stem}.tiff", float16_tiff(values))
            if deviations is not None:
                mask = io.BytesIO()
                Image.fromarray(np.where(values >= deviations, 255, 0).astype(np.uint8)).save(mask, "PNG")
                archive.add(f"{MASKS}/{name}/{split}/{record.path.stem}.png", mask.getvalue())
            written += 1
    return written


class Archive:
    """A `<folder>.tar.gz` that is being written; times and owners are left out, so equal maps give equal files."""

    def __init__(self, file: tarfile.TarFile, folder: str) -> None:
        self._file, self._folder = file, folder

    def add(self, name: str, content: bytes) -> None:
        """Adds a file under the archive's folder."""
        member = tarfile.TarInfo(f"{self._folder}/{name}")
        member.size, member.mode = len(content), 0o644
        self._file.addfile(member, io.BytesIO(content))


@contextmanager
def archive_at(path: Path) -> Iterator[Archive]:
    """An archive that stands at `path` when all of it is written, and not before.

    Raises:
        DataError: it cannot be written.
    """
    temporary = path.parent / TEMPORARY.replace("*", secrets.token_hex(8))
    try:
        try:
            with (
                temporary.open("wb") as raw,
                gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as file,
            ):
                yield Archive(file, path.name.removesuffix(SUFFIX))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be written ({one_line(error)}); check the path and the disk") from error

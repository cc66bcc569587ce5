"""Whether a file holds all the pixels that its header promises.

Decoders report a file that simply ends, but several of them are content with a stream that is closed properly and too
short: the rest of the picture then is black (PNG, plain TIFF) or grey (JPEG), and a photo of which nine tenths are
missing would be judged. The checks cost next to nothing for ordinary photos: only one whose last rows, or last corner,
look like such a filling is decoded a second time, in a way that tells filling from content.
"""

from __future__ import annotations

import io
import re
from typing import IO

import numpy as np
from PIL import Image, TiffImagePlugin

from promptad.data.raw_modes import mend_raw_modes
from promptad.errors import PhotoError

# No deflate stream grows by more than this factor (zlib's technical notes: 1032 to 1).
_DEFLATE_MOST = 1032
# What lies behind a JPEG's last block is ignored; blocks that are missing take these bytes for their content.
_FILLER = b"\x55\xaa" * 256
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PLANES = 284  # TIFF's PlanarConfiguration, 2 where every channel has strips of its own
_GREY = 128  # what libjpeg gives where it had no data


def require_room(image: Image.Image, file: IO[bytes], name: str) -> None:
    """Refuse, before anything is decoded, a PNG that is too small for its own size even if all its pixels were equal.

    Args:
        image: opened, not decoded. file: what it was opened from; its position is kept. name: how an error names it.

    Raises:
        PhotoError: the file cannot hold that many pixels.
    """
    if image.format != "PNG":
        return
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    if image.width * image.height / 8 > size * _DEFLATE_MOST:  # one bit a pixel is the least that PNG knows
        raise _cut_off(name, f"{size} bytes cannot hold {image.width}x{image.height} pixels")


def require_complete(image: Image.Image, file: IO[bytes], name: str, formats: tuple[str, ...]) -> None:
    """Check a decoded image against its file.

    Args:
        image: decoded, not yet turned or converted, in the size of its file. file: what it was opened from.
        name: how an error names it. formats: Pillow's names of the formats that are tried.

    Raises:
        PhotoError: fewer pixels than the header says.
    """
    if image.format in ("JPEG", "MPO"):
        _require_jpeg(image, file, name)
    elif image.format in ("PNG", "TIFF") and _filled_by(image, 0):
        file.seek(0)
        with Image.open(file, formats=formats) as again:
            mend_raw_modes(again)
            # Memory that starts white instead of black: rows that the file does not hold come out white now.
            again.im = Image.new(again.mode, again.size, _white(again.mode)).im
            again.load()
            if not np.array_equal(_last_rows(image), _last_rows(again)):
                raise _cut_off(name, f"rows of its {image.width}x{image.height} pixels are missing")


def require_tiles(image: Image.Image, name: str) -> None:
    """Check that the strips or tiles of an opened TIFF cover its picture; not decoded yet.

    Raises:
        PhotoError: they do not.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    covered = {tuple(tile[1]) for tile in image.tile if tile[1]}
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in covered)
    if area < image.width * image.height:
        raise _cut_off(name, f"its strips cover {area} of {image.width * image.height} pixels")
    planes = len(image.getbands()) if image.tag_v2.get(_PLANES) == 2 and image.tile[0][0] != "libtiff" else 1
    if len(image.tile) < planes * len(covered):
        raise _cut_off(name, f"strips of its {planes} channels are missing")


def _require_jpeg(image: Image.Image, file: IO[bytes], name: str) -> None:
    progressive = bool(image.info.get("progressive"))
    corner = np.asarray(image.crop((max(0, image.width - 8), max(0, image.height - 8), *image.size)))
    suspicious = bool((np.abs(corner.astype(int) - _GREY) <= 1).all())
    if not progressive and not suspicious:
        return
    file.seek(0)
    data = file.read()
    ends, scans = _walk_jpeg(data)
    if progressive and not _all_bits(scans):
        raise _cut_off(name, "scans of a progressive JPEG are missing")
    if suspicious and ends:
        parts = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        with Image.open(io.BytesIO(_FILLER.join([*parts, b"\xff\xd9"])), formats=("JPEG",)) as again:
            box = (max(0, image.width - 8), max(0, image.height - 8), *image.size)
            if again.mode == image.mode and not np.array_equal(np.asarray(again.crop(box)), corner):
                raise _cut_off(name, f"blocks of its {image.width}x{image.height} pixels are missing")


def _walk_jpeg(data: bytes) -> tuple[list[int], list[tuple[bytes, int, int, int]]]:
    """Where the scans of the first picture end, and the scans: components, first and last coefficient, low bit."""
    ends: list[int] = []
    scans: list[tuple[bytes, int, int, int]] = []
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        kind = data[at + 1]
        if kind == 0xD9:
            break
        if kind in (0xFF, 0x00, 0x01) or 0xD0 <= kind <= 0xD8:
            at += 1 if kind == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:
            count = data[at + 4]
            body = data[at + 5 : at + 5 + 2 * count + 3]
            if len(body) == 2 * count + 3:
                scans.append((body[: 2 * count : 2], body[-3], body[-2], body[-1] & 15))
            marker = _NEXT_MARKER.search(data, at + 2 + length)
            at = marker.start() if marker is not None else len(data)
            ends.append(at)
        else:
            at += 2 + length
    return ends, scans


def _all_bits(scans: list[tuple[bytes, int, int, int]]) -> bool:
    """Whether every coefficient of every component arrives at its last bit (T.81, G.1)."""
    lowest: dict[int, list[int]] = {}
    for components, first, last, bit in scans:
        for component in components:
            bits = lowest.setdefault(component, [1] * 64)
            bits[first : last + 1] = [bit] * (min(last, 63) + 1 - first)
    return bool(lowest) and not any(any(bits) for bits in lowest.values())


def _filled_by(image: Image.Image, value: int) -> bool:
    return bool((_last_rows(image) == value).all(axis=tuple(range(1, image_dimensions(image)))).any())


def image_dimensions(image: Image.Image) -> int:
    """2 for images of one channel, 3 for others, as NumPy sees them."""
    return 2 if len(image.getbands()) == 1 else 3


def _last_rows(image: Image.Image) -> np.ndarray:
    # Two, because an interlaced picture ends with its last odd row.
    return np.asarray(image.crop((0, max(0, image.height - 2), *image.size)))


def _white(mode: str) -> float | tuple[int, ...]:
    if mode in ("F", "I"):
        return 1
    if mode.startswith("I;16"):
        return 65535
    bands = len(Image.new(mode, (1, 1)).getbands())
    return 255 if bands == 1 else (255,) * bands


def _cut_off(name: str, reason: str) -> PhotoError:
    return PhotoError(f"{name}: is cut off ({reason}); copy or save the photo again")

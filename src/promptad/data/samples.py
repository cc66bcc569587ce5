"""What a file says about its samples: how many bits, which value is white, whether zero is white.

Nothing here looks at how bright a photo is: a range that differed from photo to photo would look like an anomaly.
"""

from __future__ import annotations

import io
import mmap
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from promptad.data.raw_modes import LARGEST, mend_raw_modes, order_is_fixed

# TIFF 6.0: tags by number.
_BITS, _PHOTOMETRIC, _MAX, _FORMAT, _S_MAX = 258, 262, 281, 339, 341
_SHORT = 3
_WHITES = {1.0, *(float(2**bits - 1) for bits in range(8, 33))}


@dataclass(frozen=True)
class Samples:
    """How the samples of a file are stored.

    Attributes:
        bits: of one channel. white: the value that the file's own metadata calls white, None where they say nothing.
        white_is_zero: larger values are darker, and the decoder did not turn them.
        signed: integers with a sign. significant: PNG's sBIT, the bits that the camera gave; None where absent.
        unit: what a step of the file's own values has become; Pillow scales PGM to 16 bits.
    """

    bits: int = 8
    white: float | None = None
    white_is_zero: bool = False
    signed: bool = False
    significant: int | None = None
    unit: float = 1.0

    @property
    def full(self) -> float:
        """The white of integers of more than 8 bits of which nothing says another one."""
        return 32767.0 if self.signed and self.bits == 16 else 65535.0


def samples_of(image: Image.Image, file: IO[bytes] | None = None, zero_is_white: bool = False) -> Samples:
    """What the header of an opened image says.

    TIFF: BitsPerSample, SampleFormat, PhotometricInterpretation, and MaxSampleValue or SMaxSampleValue where it is 1
    or 2^n - 1; any other number there is a statistic of one photo (TIFF 6.0, section 8), not a range. PNG: the sBIT
    chunk (section 11.3.2.3 of its second edition). PGM and PPM state their largest value, and Pillow scales by it;
    65535 says no more than that the file has 16 bits, as the depth of a PNG does.

    Args:
        image: opened by Pillow. file: what it was opened from, for PNG; its position is kept.
        zero_is_white: the file said so, and :func:`black_is_zero` hid it from Pillow.
    """
    tags = getattr(image, "tag_v2", None)
    if isinstance(tags, TiffImagePlugin.ImageFileDirectory_v2):
        bits = int(_first(tags, _BITS, 1))
        kind = int(_first(tags, _FORMAT, 1))
        zero_is_white = zero_is_white or tags.get(_PHOTOMETRIC) == 0
        white = next((value for value in _stated(tags) if value in _WHITES), None)
        if white is None and kind != 3 and 8 < bits < 16:
            white = float(2**bits - 1)  # 12 bits in 12 bits
        # Pillow turns 8 bits and fewer itself.
        return Samples(bits, white, zero_is_white and bits > 8 and image.mode[0] in "IF", kind == 2)
    if image.format == "PNG" and _raw_mode(image).endswith(";16B"):
        return Samples(16, significant=_significant_bits(file) if file is not None else None)
    if image.format == "PPM" and image.mode[0] == "I" and not _raw_mode(image).endswith(";16B"):
        largest = _largest_of_pnm(image, 65535)
        return Samples(16, white=65535.0 if largest < 65535 else None, unit=65535 / largest)
    if LARGEST in image.info:
        largest = int(image.info[LARGEST])
        return Samples(16, white=float(largest) if largest < 65535 else None)
    return Samples(16 if image.mode.startswith("I") else 32 if image.mode == "F" else 8)


def low_bytes(file: IO[bytes], formats: tuple[str, ...]) -> Image.Image | None:
    """The low bytes of a photo with 16 bits in each of several channels, of which Pillow keeps the high ones.

    The same file is decoded with the byte order turned, so the decoder takes the other byte for the high one.
    None where Pillow has no decoder that does so (compressed TIFF in planes).
    """
    file.seek(0)
    image = Image.open(file, formats=formats)
    assert isinstance(image, ImageFile.ImageFile)
    mend_raw_modes(image)
    if order_is_fixed(image):
        image.close()
        return None
    if image.format == "PNG" and _raw_mode(image).startswith("LA;16"):
        return _low_grey_alpha(file, image.mode)
    tiles: list[Any] = []
    for tile in image.tile:
        args: Any = tile[3]
        raw = args if isinstance(args, str) else args[0]
        order = raw[-1]
        if order == "N":
            order = "L" if sys.byteorder == "little" else "B"
        raw = raw[:-1] + ("B" if order == "L" else "L")
        args = raw if isinstance(args, str) else (raw, *args[1:])
        # Older Pillow has plain tuples here.
        tiles.append(tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args))
    image.tile = tiles
    try:
        image.load()
    except ValueError:  # no such raw mode
        image.close()
        return None
    return image


def _low_grey_alpha(file: IO[bytes], mode: str) -> Image.Image:
    """The low bytes of a PNG of 16-bit grey with alpha, of which no decoder takes the other byte, as "LA" or "RGBA".

    Its pixels are four bytes, as those of 8-bit colour with alpha are: with that in its header, the decoder gives all four.
    """
    file.seek(0)
    content = bytearray(file.read())
    content[24:26] = 8, 6  # depth and colour type in IHDR (PNG, 2nd edition, section 11.2.2)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        grey, alpha = image.getchannel("G"), image.getchannel("A")
    return Image.merge(mode, (grey,) * (len(mode) - 1) + (alpha,))


def states_white(image: Image.Image) -> bool:
    """Whether the header of an opened image of several channels says which value is white, as PPM's does."""
    return image.format == "PPM" and _largest_of_pnm(image, 65535) < 65535


def has_deep_colour(image: Image.Image) -> bool:
    """Whether an opened, not yet decoded image has 16 bits in each of several channels."""
    if image.mode not in ("RGB", "RGBA", "RGBX", "LA", "CMYK"):
        return False
    return ";16" in _raw_mode(image) or (image.format == "PPM" and _largest_of_pnm(image, 255) > 255)


def black_is_zero(file: IO[bytes]) -> io.RawIOBase | None:
    """A view of a TIFF in which "white is zero" reads "black is zero", or None where there is nothing to change.

    Pillow turns such photos up to 8 bits, forgets to at 16, and refuses many others. With the tag changed it reads
    every depth the same way, and the values are turned here. Only greater depths than 8 bits are changed.
    The file itself is not: the view is a private copy-on-write map.
    """
    place = file.tell()
    file.seek(0)
    try:
        photometric = _deep_white_is_zero(file)
        if photometric is None:
            return None
        at, order = photometric
        try:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):
            return None
        view[at : at + 2] = struct.pack(f"{order}H", 1)
        return _ReadableMap(view)
    finally:
        file.seek(place)


class _ReadableMap(io.RawIOBase):
    """A map as a file that Pillow's decoders read through its methods and never by its descriptor."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._view.read(None if size < 0 else size)

    def seek(self, offset: int, whence: int = 0) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._view.tell(), io.SEEK_END: len(self._view)}[whence]
        self._view.seek(min(start + offset, len(self._view)))  # a map refuses what a file allows
        return self._view.tell()

    def tell(self) -> int:
        return self._view.tell()

    def close(self) -> None:
        if not self.closed:
            self._view.close()
        super().close()


def turned(values: npt.NDArray[Any], white: float) -> npt.NDArray[Any]:
    """Values of a photo in which zero is white, as ones in which zero is black."""
    if values.dtype.kind == "f":
        return white - values
    return int(white) - values.astype(np.int64)


def significant_white(values: npt.NDArray[Any], significant: int | None) -> float:
    """The white of 16-bit PNG values whose sBIT chunk names fewer bits.

    PNG asks that samples be scaled up to all 16 bits (shifted, repeated or multiplied), so white is 65535. Some
    programs write the chunk and leave the values as the camera gave them; such values are not scaled ones, and
    white is 2^n - 1. Which of the two holds shows in the low bits, not in the brightness.
    """
    if significant is None or not 8 < significant < 16:
        return 65535.0
    white = 2**significant - 1
    if not values.size or int(values.max()) > white:
        return 65535.0
    shift = 16 - significant
    wide = values.astype(np.int64)
    scaled = np.rint(np.rint(wide * (white / 65535)) * (65535 / white)).astype(np.int64)
    is_scaled = (np.abs(wide - scaled) <= 1) | (wide & (2**shift - 1) == 0)
    return 65535.0 if bool(is_scaled.all()) else float(white)


def is_lossy(image: Image.Image, file: IO[bytes]) -> bool:
    """Whether an opened image is stored in a form that changes its values: JPEG, also within TIFF, or WebP's lossy form."""
    if image.format == "WEBP":
        place = file.tell()
        file.seek(12)
        head = file.read(64)  # the chunk of the pixels, behind at most the few of an extended header
        file.seek(place)
        return b"VP8 " in head or b"ALPH" in head
    return image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"


def _first(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, default: float) -> float:
    value = tags.get(tag, default)
    return (value[0] if value else default) if isinstance(value, tuple) else value


def _stated(tags: TiffImagePlugin.ImageFileDirectory_v2) -> Iterator[float]:
    for tag in (_S_MAX, _MAX):
        try:
            yield float(_first(tags, tag, 0))
        except (TypeError, ValueError):
            continue


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0][3]
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _largest_of_pnm(image: Image.Image, default: int) -> int:
    """The largest value that the tile of an opened PGM or PPM states."""
    tiles: list[Any] = list(getattr(image, "tile", []))
    args = tiles[0][3] if tiles else ()
    return args[1] if isinstance(args, tuple) and len(args) > 1 and isinstance(args[1], int) else default


def _significant_bits(file: IO[bytes]) -> int | None:
    place = file.tell()
    try:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind == b"sBIT":
                content = file.read(length)
                return max(content[: 3 if length >= 3 else 1], default=None)
            if kind in (b"IDAT", b"IEND"):
                return None
            file.seek(length + 4, io.SEEK_CUR)
        return None
    finally:
        file.seek(place)


def _deep_white_is_zero(file: IO[bytes]) -> tuple[int, str] | None:
    """Where the first directory's photometric tag holds 0 beside more than 8 bits: offset of its value, byte order."""
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 8:
        return None
    version = struct.unpack(f"{order}H", start[2:4])[0]
    if version == 42:
        offset, count_form, entry_size, inline = struct.unpack(f"{order}I", start[4:8])[0], "H", 12, 4
    elif version == 43 and len(start) == 16:
        offset, count_form, entry_size, inline = struct.unpack(f"{order}Q", start[8:16])[0], "Q", 20, 8
    else:
        return None
    file.seek(offset)
    width = struct.calcsize(count_form)
    counted = file.read(width)
    if len(counted) < width:
        return None
    count = min(struct.unpack(order + count_form, counted)[0], 4096)
    directory = file.read(count * entry_size)
    photometric = bits = None
    for at in range(0, len(directory) - entry_size + 1, entry_size):
        tag, kind = struct.unpack(f"{order}HH", directory[at : at + 4])
        if kind != _SHORT or tag not in (_BITS, _PHOTOMETRIC):
            continue
        number = struct.unpack(order + ("I" if inline == 4 else "Q"), directory[at + 4 : at + 4 + inline])[0]
        value_at = at + 4 + inline
        value = struct.unpack(f"{order}H", directory[value_at : value_at + 2])[0]
        if tag == _BITS and number == 1:
            bits = value
        elif tag == _PHOTOMETRIC and value == 0:
            photometric = offset + width + value_at
    return (photometric, order) if photometric is not None and bits is not None and bits > 8 else None

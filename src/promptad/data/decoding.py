"""Opening photo files: what they must be, how large they may be, and Pillow's errors as one line each.

A file that holds fewer pixels than its header says is cut off (:mod:`promptad.data.complete`).
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

# The readers are imported by name, so that Image.open never has to load all of Pillow's other plugins.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from promptad.data.bitmaps import mend_grey_palette
from promptad.data.complete import require_complete, require_room, require_tiles
from promptad.data.files import one_line, shown
from promptad.data.pixels import Source, say_dark
from promptad.data.plain_pnm import binary_form
from promptad.data.raw_modes import mend_raw_modes
from promptad.data.samples import black_is_zero, low_bytes
from promptad.errors import ConfigError, PhotoError
from promptad.inputs import setting
from promptad.notices import notice

MAX_PIXELS = 100_000_000
"""Largest photo that is decoded by default, in pixels. Reading takes 6 to 12 bytes a pixel, WebP 17, 16-bit PPM as text 28: at most 1.2 GB for this many, WebP 1.7, such text 2.8."""

PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""File suffixes, in lower case, that count as photos."""

HEIF_SUFFIXES = (".heic", ".heif")
"""Suffixes of phone photos that Pillow reads only with the package pillow-heif."""

# Only these readers are tried: Pillow has others that start programs (EPS) or are not photos at all.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_FORMATS_SHOWN = "JPEG, PNG, BMP, TIFF, WebP, GIF, PPM/PGM"
ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides


def heif_available() -> bool:
    """Whether HEIC photos can be read, that is, the package pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def heif_way_out() -> str:
    """What is said of a HEIC photo that cannot be read here."""
    return "HEIC needs the package pillow-heif; pip install 'promptad[heif]', or convert the photo to JPEG"


@contextmanager
def opened(path: str | os.PathLike[str], max_pixels: int) -> Iterator[tuple[Image.Image, IO[bytes], bool]]:
    """The photo with header read and size checked, its file, and whether zero is white in it though Pillow reads black.

    Whatever fails in the block becomes a PhotoError.
    """
    name = shown(path)
    require_file(path, name)
    formats: tuple[str, ...] = _FORMATS
    if Path(path).suffix.lower() in HEIF_SUFFIXES:
        if not heif_available():
            raise PhotoError(f"{name}: {heif_way_out()}")
        import_module("pillow_heif").register_heif_opener()
        formats = (*_FORMATS, "HEIF")
    with decoding(name, path), pillow_limit_lifted(), open(path, "rb") as plain:
        view = black_is_zero(plain)
        file: IO[bytes] = plain if view is None else cast(IO[bytes], view)
        with ExitStack() as stack:
            if view is not None:
                stack.enter_context(view)
            image = stack.enter_context(Image.open(file, formats=formats))
            require_size(image.width, image.height, max_pixels, name)
            binary = binary_form(image, file)
            if binary is not None:
                file, image = binary, stack.enter_context(Image.open(binary, formats=formats))
            mend_grey_palette(image, file)
            mend_raw_modes(image)
            yield image, file, view is not None


def decode(image: Image.Image, file: IO[bytes], name: str, place: str) -> None:
    """Decodes an opened photo, if its file holds all of it."""
    require_room(image, file, name)
    require_tiles(image, name)
    if image.format != "MPO" and getattr(image, "is_animated", False):
        notice(f"{place}: files with several frames or pages; the first of each is the photo, the others are not used")
        image.seek(0)
    image.load()
    require_complete(image, file, name, (str(image.format),))


@contextmanager
def decoding(name: str, path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        if is_tiff(path):
            raise PhotoError(
                f"{name}: a TIFF of a kind that is not read here (its depth, colours or compression); "
                "save it as TIFF or PNG with 8 or 16 bits"
            ) from error
        raise PhotoError(
            f"{name}: not a photo that can be read; expected {_FORMATS_SHOWN}; convert it or leave it out"
        ) from error
    except PermissionError as error:
        raise PhotoError(f"{name}: may not be read (permission denied); change its rights or copy it") from error
    except MemoryError as error:
        raise PhotoError(f"{name}: does not fit into memory; scale the photo down or cut it into tiles") from error
    except Exception as error:  # Pillow's readers raise nearly every type on damaged data
        cut_off = "truncated" in str(error) or isinstance(error, EOFError)
        state = "is cut off" if cut_off else "is damaged"
        raise PhotoError(f"{name}: {state} ({one_line(error)}); copy or save the photo again") from error


def is_tiff(path: str | os.PathLike[str] | None) -> bool:
    if path is None:
        return False
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def require_file(path: str | os.PathLike[str], name: str) -> None:
    try:
        info = os.stat(path)
    except FileNotFoundError:
        raise PhotoError(f"{name}: there is no such file; check the path") from None
    except PermissionError:
        raise PhotoError(f"{name}: may not be read (permission denied); change the rights of its folder") from None
    except (OSError, ValueError) as error:
        raise PhotoError(f"{name}: cannot be opened ({one_line(error)}); check the path") from error
    if stat.S_ISDIR(info.st_mode):
        raise PhotoError(f"{name}: is a folder, one photo was expected; give a file inside it")
    if not stat.S_ISREG(info.st_mode):  # opening a pipe would wait for ever
        raise PhotoError(f"{name}: is not a regular file, one photo was expected; save it to a file first")
    if info.st_size == 0:
        raise PhotoError(f"{name}: is empty (0 bytes), a photo was expected; copy it again or leave it out")


def require_size(width: int, height: int, max_pixels: int, name: str) -> None:
    if width < 1 or height < 1:
        raise PhotoError(f"{name}: has no pixels ({width}x{height}); expected at least 1x1; save the photo again")
    if width * height > max_pixels:
        raise PhotoError(
            f"{name}: {width}x{height} is {width * height} pixels, the limit is {max_pixels}; "
            f"scale the photo down, cut it into tiles, or raise the limit ({setting('max_megapixels', '200')})"
        )


def require_range(input_range: float | None) -> None:
    if input_range is not None and not (math.isfinite(input_range) and input_range > 0):
        raise ConfigError(
            f"input range {input_range}: expected the value of white, such as 4095; leave it out for 8 bits"
        )


def low_half(image: Image.Image, file: IO[bytes], source: Source) -> Image.Image | None:
    """The low bytes of a 16-bit colour photo where they count: where white is not 65535, or no value comes near it."""
    white = source.input_range or source.samples.white
    if white == 65535 or (white is None and not may_be_dark(image)):
        return None
    low = low_bytes(file, (str(image.format),)) if image.mode != "CMYK" else None
    if low is None and white is not None:
        raise PhotoError(
            f"{source.name}: a range of 16-bit {image.mode} stored like this cannot be applied; save it as 16-bit PNG in RGB"
        )
    if low is None:
        say_dark_by_high_bytes(image, source)
    return low


def say_dark_by_high_bytes(image: Image.Image, source: Source) -> None:
    """Says that 16-bit colours, of which the high bytes are known alone, end where a camera of fewer bits would end."""
    say_dark(256 * _largest_high_byte(image) + 255, source)


def may_be_dark(image: Image.Image) -> bool:
    """Whether no high byte of a colour photo says more than 14 bits."""
    return _largest_high_byte(image) < 64


def _largest_high_byte(image: Image.Image) -> int:
    extrema = image.getextrema()
    colours = [pair for pair in extrema if isinstance(pair, tuple)][: len(image.getbands()) - ("A" in image.mode)]
    return max(int(high) for _, high in colours)


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of a decoded image, 1 to 8; with damaged EXIF 1, as viewers do.

    Pillow turns some TIFFs itself while it decodes, and takes the number away.
    """
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # the pixels are decoded already, so only the EXIF can be at fault
        return 1


def png_without_pixels(file: Any) -> Image.Image:
    """The same PNG with empty pixel data at its end: opening it sees what is stored behind the pixels."""
    file.seek(0)
    kept = [file.read(8)]
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            file.seek(length + 4, os.SEEK_CUR)
        else:
            kept.append(start + file.read(length + 4))
    kept.append(struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT")))
    return Image.open(io.BytesIO(b"".join(kept)), formats=("PNG",))


# Pillow's own limit is one number for the whole process and would refuse some photos below max_pixels. It
# is lifted while a photo is open here, and a count, not a lock, lets several threads decode at once.
_limit_guard = threading.Lock()
_limit_users = 0
_limit_saved: int | None = None


@contextmanager
def pillow_limit_lifted() -> Iterator[None]:
    global _limit_users, _limit_saved
    with _limit_guard:
        if _limit_users == 0:
            _limit_saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _limit_users += 1
    try:
        yield
    finally:
        with _limit_guard:
            _limit_users -= 1
            if _limit_users == 0:
                Image.MAX_IMAGE_PIXELS = _limit_saved

"""Photos and masks from disk or memory to arrays: upright, 8-bit RGB, or a clear :class:`PhotoError`.

How depths, colour modes and transparency become 8-bit RGB is written in :mod:`promptad.data.pixels`. Every
photo is turned upright by its EXIF orientation. Of files with several frames (GIF, TIFF, WebP) the first
frame is the photo.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

# The readers are imported by name, so that Image.open never has to load all of Pillow's other plugins.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from promptad.data.files import one_line, shown
from promptad.data.pixels import Mask, Rgb, nonzero_from_image, rgb_from_array, rgb_from_image
from promptad.errors import PhotoError

MAX_PIXELS = 200_000_000
"""Largest photo that is decoded by default, in pixels (200 megapixels: about 0.6 GB as RGB)."""

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
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides


def read_photo(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Rgb:
    """One photo as ``(H, W, 3)`` uint8 RGB, 0..255, upright.

    Args:
        path: a JPEG, PNG, BMP, TIFF, WebP, GIF or PPM/PGM file (HEIC where pillow-heif is installed). What
            counts is the content, not the suffix.
        max_pixels: a photo with more pixels is refused before it is decoded.

    Raises:
        PhotoError: the file is missing, a folder, empty, unreadable, cut off, no photo, of another format,
            without pixels, larger than ``max_pixels``, or holds NaN or infinity.
    """
    with _opened(path, max_pixels) as image:
        return rgb_from_image(_upright(image), shown(path))


def as_photo(photo: object, max_pixels: int = MAX_PIXELS) -> Rgb:
    """A photo in any common form as ``(H, W, 3)`` uint8 RGB, 0..255.

    Args:
        photo: a path; a Pillow image (turned upright if it still carries an EXIF orientation); or a NumPy
            array: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA of uint8, uint16,
            bool, or float 0..1. An array that already has the right form is returned as it is, not copied.
        max_pixels: a photo with more pixels is refused.

    Raises:
        PhotoError: as :func:`read_photo`, or the object is of another type, shape, dtype or range.
    """
    if isinstance(photo, str | os.PathLike):
        return read_photo(photo, max_pixels)
    if isinstance(photo, np.ndarray):
        if photo.ndim in (2, 3):
            _require_size(photo.shape[1], photo.shape[0], max_pixels, "photo array")
        return rgb_from_array(photo, "photo array")
    if isinstance(photo, Image.Image):
        name = shown(getattr(photo, "filename", "") or "") or "Pillow image"
        _require_size(photo.width, photo.height, max_pixels, name)
        with _decoding(name), _pillow_limit_lifted():
            return rgb_from_image(_upright(photo), name)
    hint = "call .cpu().numpy() on it first" if hasattr(photo, "numpy") else "open the file with Pillow first"
    raise PhotoError(f"photo: found a {type(photo).__name__}; expected a path, a Pillow image or a NumPy array; {hint}")


def read_mask(path: str | os.PathLike[str], size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> Mask:
    """A ground-truth mask as ``(H, W)`` bool, True where there is defect.

    Any non-zero pixel is defect, whatever the depth (VisA stores small labels, MVTec 255). In JPEG masks,
    whose noise is non-zero as well, a pixel is defect above half of the mask's largest value.

    Args:
        path: the mask file.
        size: ``(H, W)`` of its photo, as :func:`photo_size` gives it; None accepts any size.
        max_pixels: a mask with more pixels is refused.

    Raises:
        PhotoError: as :func:`read_photo`, or the mask's size is not ``size``.
    """
    with _opened(path, max_pixels) as image:
        lossy = image.format in ("JPEG", "MPO")
        mask = nonzero_from_image(_upright(image), shown(path), lossy)
    if size is not None and mask.shape != tuple(size):
        (height, width), (mask_height, mask_width) = size, mask.shape
        way_out = "export the mask at the photo's size"
        if (mask_height, mask_width) == (width, height):
            way_out = (
                "their sides are swapped, as when EXIF orientation turns a photo but not its mask: "
                "turn the mask, or save the photo upright"
            )
        raise PhotoError(
            f"{shown(path)}: the photo is {width}x{height} (width x height), "
            f"its mask {mask_width}x{mask_height}; {way_out}"
        )
    return mask


def photo_size(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """``(H, W)`` of the upright photo in pixels, from the file's header; the pixels are not decoded.

    A damaged body therefore goes unseen here.

    Raises:
        PhotoError: as :func:`read_photo`, as far as the header tells.
    """
    with _opened(path, max_pixels) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # Newer Pillow turns TIFF sizes on opening, older does not: the tags say the same in both.
            width, height = (int(image.tag_v2.get(tag, side)) for tag, side in ((256, width), (257, height)))
            orientation = image.tag_v2.get(_ORIENTATION)
        else:
            try:
                header = image
                if isinstance(image, PngImagePlugin.PngImageFile):
                    header = _png_without_pixels(image.fp)
                # The method of the base class, because PngImageFile's own decodes the whole photo.
                orientation = Image.Image.getexif(header).get(_ORIENTATION)
            except Exception:  # damaged EXIF: the photo is taken as it lies, see _upright
                orientation = None
    return (width, height) if orientation in _TURNED else (height, width)


def heif_available() -> bool:
    """Whether HEIC photos can be read, that is, the package pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def heif_way_out() -> str:
    """What is said of a HEIC photo that cannot be read here."""
    return "HEIC needs the package pillow-heif; pip install 'promptad[heif]', or convert the photo to JPEG"


@contextmanager
def _opened(path: str | os.PathLike[str], max_pixels: int) -> Iterator[Image.Image]:
    """The photo with header read and size checked; whatever fails in the block becomes a PhotoError."""
    name = shown(path)
    _require_file(path, name)
    formats: tuple[str, ...] = _FORMATS
    if Path(path).suffix.lower() in HEIF_SUFFIXES:
        if not heif_available():
            raise PhotoError(f"{name}: {heif_way_out()}")
        import_module("pillow_heif").register_heif_opener()
        formats = (*_FORMATS, "HEIF")
    with (
        _decoding(name),
        _pillow_limit_lifted(),
        open(path, "rb") as file,
        Image.open(file, formats=formats) as image,
    ):
        _require_size(image.width, image.height, max_pixels, name)
        yield image


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(
            f"{name}: not a photo that can be read; expected {_FORMATS_SHOWN}; convert it or leave it out"
        ) from error
    except PermissionError as error:
        raise PhotoError(f"{name}: may not be read (permission denied); change its rights or copy it") from error
    except MemoryError as error:
        raise PhotoError(f"{name}: does not fit into memory; scale the photo down or cut it into tiles") from error
    except Exception as error:  # Pillow's readers raise nearly every type on damaged data
        cut_off = "truncated" in str(error) or isinstance(error, EOFError)
        found = "is cut off" if cut_off else "is damaged"
        raise PhotoError(f"{name}: {found} ({one_line(error)}); copy or save the photo again") from error


def _require_file(path: str | os.PathLike[str], name: str) -> None:
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


def _require_size(width: int, height: int, max_pixels: int, name: str) -> None:
    if width < 1 or height < 1:
        raise PhotoError(f"{name}: has no pixels ({width}x{height}); expected at least 1x1; save the photo again")
    if width * height > max_pixels:
        raise PhotoError(
            f"{name}: {width}x{height} is {width * height} pixels, the limit is {max_pixels}; "
            "scale the photo down, cut it into tiles, or raise max_pixels"
        )


def _upright(image: Image.Image) -> Image.Image:
    """The decoded image turned by its EXIF orientation; with damaged EXIF as it lies, as viewers do."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are decoded already, so only the EXIF can be at fault
        return image


def _png_without_pixels(file: Any) -> Image.Image:
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
def _pillow_limit_lifted() -> Iterator[None]:
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

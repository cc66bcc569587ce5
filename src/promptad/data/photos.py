"""Photos and masks from disk or memory to arrays: upright, 8-bit RGB, or a clear :class:`PhotoError`.

How depths, colour modes and transparency become 8-bit RGB is written in :mod:`promptad.data.pixels`, how masks are read
in :mod:`promptad.data.mask_values`. Every photo is turned upright by its EXIF orientation. Of files with several frames
(GIF, TIFF, WebP) the first frame is the photo, with a notice. A file that holds fewer pixels than its header says is cut
off (:mod:`promptad.data.complete`).
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

# The readers are imported by name, so that Image.open never has to load all of Pillow's other plugins.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from promptad.data.bitmaps import mend_grey_palette
from promptad.data.complete import require_complete, require_room, require_tiles
from promptad.data.files import one_line, shown
from promptad.data.mask_values import Reading, read_values
from promptad.data.parts import Crop, FilePart, FileRef, FileView, MaskView
from promptad.data.pixels import Mask, Rgb, Source, grey_values, rgb_from_array, rgb_from_image, upright
from promptad.data.samples import black_is_zero, has_deep_colour, low_bytes, samples_of
from promptad.errors import ConfigError, PhotoError
from promptad.inputs import setting
from promptad.notices import notice

MAX_PIXELS = 100_000_000
"""Largest photo that is decoded by default, in pixels. Reading takes 6 to 12 bytes a pixel, WebP 17: at most 1.2 GB for this many, WebP 1.7."""

FULL_SHARE = 0.9
"""A mask that marks more than this share of its photo gets a notice."""

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


def read_photo(path: FileRef, max_pixels: int = MAX_PIXELS, input_range: float | None = None) -> Rgb:
    """One photo as ``(H, W, 3)`` uint8 RGB, 0..255, upright.

    Args:
        path: a JPEG, PNG, BMP, TIFF, WebP, GIF or PPM/PGM file (HEIC where pillow-heif is installed). What
            counts is the content, not the suffix. Or a part of such a file, as `Record.photo` gives it.
        max_pixels: a photo with more pixels is refused before it is decoded. It bounds the memory that a photo takes:
            6 to 12 bytes a pixel while it is read (WebP 17), 3 afterwards.
        input_range: the value that is white in photos of more than 8 bits, such as 4095 for a 12-bit camera whose
            files have 16; None takes it from the file's metadata, and else assumes the full range, with a notice
            where no value comes near it.

    Raises:
        PhotoError: the file is missing, a folder, empty, unreadable, cut off, no photo, of another format,
            without pixels, larger than ``max_pixels``, holds NaN, infinity or values above its white, or is smaller than
            the part that is asked for.
    """
    if isinstance(path, FileView):
        if not isinstance(path, FilePart):
            raise PhotoError(f"{shown(path)}: is a mask, a photo was expected; give the photo")
        whole = read_photo(path.path, max_pixels, input_range)
        return whole if path.crop is None else np.ascontiguousarray(whole[_spans(path, path.crop, whole.shape)])
    _require_range(input_range)
    with _opened(path, max_pixels) as (image, file, zero_is_white):
        name, place = shown(path), shown(Path(path).parent)
        source = Source(name, place, samples_of(image, file, zero_is_white), input_range)
        deep = has_deep_colour(image)
        _decode(image, file, name, place)
        low = _low_bytes(image, file, source) if deep else None
        if deep and low is None:  # its high bytes are all that counts
            source = replace(source, input_range=None)
        return rgb_from_image(image, source, _orientation(image), low)


def as_photo(photo: object, max_pixels: int = MAX_PIXELS, input_range: float | None = None) -> Rgb:
    """A photo in any common form as ``(H, W, 3)`` uint8 RGB, 0..255.

    Args:
        photo: a path; a Pillow image (turned upright if it still carries an EXIF orientation); or a NumPy
            array: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA of uint8, uint16,
            bool, or float 0..1. An array that already has the right form is returned as it is, not copied.
        max_pixels: a photo with more pixels is refused.
        input_range: as for :func:`read_photo`; of a Pillow image with 16 bits in each of several channels, only the
            high bytes are left, so it is refused there.

    Raises:
        PhotoError: as :func:`read_photo`, or the object is of another type, shape, dtype or range.
    """
    _require_range(input_range)
    if isinstance(photo, str | os.PathLike | FileView):
        return read_photo(photo, max_pixels, input_range)
    if isinstance(photo, np.ndarray):
        if photo.ndim in (2, 3):
            _require_size(photo.shape[1], photo.shape[0], max_pixels, "photo array")
        return rgb_from_array(photo, Source("photo array", "photo arrays", input_range=input_range))
    if isinstance(photo, Image.Image):
        name = shown(getattr(photo, "filename", "") or "") or "Pillow image"
        _require_size(photo.width, photo.height, max_pixels, name)
        with _decoding(name), _pillow_limit_lifted():
            if input_range is not None and has_deep_colour(photo):
                raise PhotoError(f"{name}: Pillow keeps 8 of its 16 bits; give the path instead of the image")
            source = Source(name, "Pillow images", samples_of(photo), input_range)
            photo.load()
            return rgb_from_image(photo, source, _orientation(photo))
    hint = "call .cpu().numpy() on it first" if hasattr(photo, "numpy") else "open the file with Pillow first"
    raise PhotoError(f"photo: found a {type(photo).__name__}; expected a path, a Pillow image or a NumPy array; {hint}")


MaskFiles = FileRef | Sequence[FileRef]
"""One mask file, or several whose union is the mask of one photo; views of files (`data.parts`) stand for files."""

ASPECT_SLACK = 0.02
"""How much the aspect ratios of a photo and its mask may differ where the mask is brought to the photo's size."""


def read_mask(path: MaskFiles, size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> Mask:
    """A ground-truth mask as ``(H, W)`` bool, True where there is defect.

    What counts as defect follows from the mask's values alone (:mod:`promptad.data.mask_values`): everything above the
    lower of two levels, every label number but 0, and of soft masks what lies above half of the largest value. Soft
    masks, masks that mark nothing or nearly everything, and masks without any 0 get a notice.

    Args:
        path: the mask file, or several files of one photo, whose union is taken.
        size: ``(H, W)`` of its photo, as :func:`photo_size` gives it; None accepts any size. A mask of another size and the
            same aspect ratio (within 2 %) is brought to it by nearest neighbour, with a notice.
        max_pixels: a mask with more pixels is refused.

    Raises:
        PhotoError: as :func:`read_photo`, the mask's shape is not that of ``size``, or several masks differ in shape.
    """
    paths: list[FileRef] = [path] if isinstance(path, str | os.PathLike | FileView) else list(path)
    if not paths:
        raise PhotoError("mask: no file was given; expected at least one; pass None where a photo has no mask")
    union: Mask | None = None
    for file in paths:
        mask = _one_mask(file, size if union is None else union.shape, max_pixels)
        union = mask if union is None else union | mask
    assert union is not None
    name = shown(paths[0]) if len(paths) == 1 else _place(paths[0])
    if not union.any():
        notice(f"{name}: the mask is empty, it marks no defect; draw the defect white, or leave the mask out")
    elif union.mean() > FULL_SHARE:
        notice(
            f"{_place(paths[0])}: holds masks that mark more than {FULL_SHARE:.0%} of their photo; "
            "defects must be white: turn the masks if they are black"
        )
    return union


def _place(ref: FileRef) -> str:
    """The folder of a file, for lines that hold for all of it."""
    return shown(Path(ref.path if isinstance(ref, FileView) else ref).parent)


def read_colours(path: Path) -> Rgb:
    """The colours of a mask image as ``(H, W, 3)`` uint8 RGB: palettes mapped, transparency dropped, upright.

    Raises:
        PhotoError: as :func:`read_photo`.
    """
    with _opened(path, MAX_PIXELS) as (image, file, _):
        _decode(image, file, shown(path), shown(path.parent))
        pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))[..., :3]
        return np.ascontiguousarray(upright(pixels, _orientation(image)))


def read_mask_pixels(path: FileRef) -> Mask:
    """One mask file as :func:`read_mask` gives it, without a notice on how much it marks."""
    return _one_mask(path, None, MAX_PIXELS)


def _one_mask(ref: FileRef, size: tuple[int, ...] | None, max_pixels: int) -> Mask:
    part = ref if isinstance(ref, FilePart) else FilePart(ref.path if isinstance(ref, FileView) else Path(ref))
    if isinstance(ref, MaskView):
        mask = ref.draw(None if size is None else (size[0], size[1]))
    else:
        mask = _mask_of_file(part.path, part.above, max_pixels)
    if part.crop is not None:
        mask = np.ascontiguousarray(mask[_spans(part, part.crop, mask.shape)])
    if size is None or mask.shape == tuple(size):
        return mask
    (height, width), (mask_height, mask_width) = size, mask.shape
    if abs(mask_width * height / (mask_height * width) - 1) <= ASPECT_SLACK:
        notice(
            f"{_place(ref)}: masks of another size than their photos (first: {mask_width}x{mask_height} for {width}x{height}) "
            "are brought to it by nearest neighbour"
        )
        rows = np.arange(height) * mask_height // height
        return np.ascontiguousarray(mask[np.ix_(rows, np.arange(width) * mask_width // width)])
    way_out = "export the mask at the photo's size"
    if (mask_height, mask_width) == (width, height):
        way_out = (
            "their sides are swapped, as when EXIF orientation turns a photo but not its mask: "
            "turn the mask, or save the photo upright"
        )
    raise PhotoError(
        f"{shown(ref)}: the photo is {width}x{height} (width x height), its mask {mask_width}x{mask_height}; {way_out}"
    )


def _mask_of_file(path: Path, above: float | None, max_pixels: int) -> Mask:
    with _opened(path, max_pixels) as (image, file, zero_is_white):
        source = Source(shown(path), shown(path.parent), samples_of(image, file, zero_is_white))
        _decode(image, file, source.name, source.place)
        values = grey_values(image, source)
        reading = read_values(values) if above is None else Reading(values > above, "levels")
        mask = np.ascontiguousarray(upright(reading.mask, _orientation(image)))
    if reading.edges_matter:
        notice(
            f"{source.place}: masks are soft, with greys between black and white; a pixel counts as defect above half "
            "of its mask's largest value; save them with two values to decide it"
        )
    if reading.kind == "raised":
        notice(f"{source.place}: masks without any 0; the larger of their two values is taken as defect")
    return mask


def _spans(ref: FilePart, crop: Crop, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a part, if the file has them. Raises PhotoError."""
    left, top, right, bottom = crop
    if not (0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]):
        raise PhotoError(
            f"{shown(ref)}: the part lies outside the file's {shape[1]}x{shape[0]} (width x height); unpack the set again"
        )
    return slice(top, bottom), slice(left, right)


def photo_size(path: FileRef, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """``(H, W)`` of the upright photo in pixels, from the file's header; the pixels are not decoded.

    A damaged body therefore goes unseen here.

    Raises:
        PhotoError: as :func:`read_photo`, as far as the header tells.
    """
    if isinstance(path, FileView):
        whole = photo_size(path.path, max_pixels)
        if not isinstance(path, FilePart) or path.crop is None:
            return whole
        rows, columns = _spans(path, path.crop, whole)
        return rows.stop - rows.start, columns.stop - columns.start
    with _opened(path, max_pixels) as (image, _, _):
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
def _opened(path: str | os.PathLike[str], max_pixels: int) -> Iterator[tuple[Image.Image, IO[bytes], bool]]:
    """The photo with header read and size checked, its file, and whether zero is white in it though Pillow reads black.

    Whatever fails in the block becomes a PhotoError.
    """
    name = shown(path)
    _require_file(path, name)
    formats: tuple[str, ...] = _FORMATS
    if Path(path).suffix.lower() in HEIF_SUFFIXES:
        if not heif_available():
            raise PhotoError(f"{name}: {heif_way_out()}")
        import_module("pillow_heif").register_heif_opener()
        formats = (*_FORMATS, "HEIF")
    with _decoding(name, path), _pillow_limit_lifted(), open(path, "rb") as plain:
        view = black_is_zero(plain)
        file: IO[bytes] = plain if view is None else cast(IO[bytes], view)
        with nullcontext() if view is None else view, Image.open(file, formats=formats) as image:
            _require_size(image.width, image.height, max_pixels, name)
            mend_grey_palette(image, file)
            yield image, file, view is not None


def _decode(image: Image.Image, file: IO[bytes], name: str, place: str) -> None:
    """Decodes an opened photo, if its file holds all of it."""
    require_room(image, file, name)
    require_tiles(image, name)
    if image.format != "MPO" and getattr(image, "is_animated", False):
        notice(f"{place}: files with several frames or pages; the first of each is the photo, the others are not used")
        image.seek(0)
    image.load()
    require_complete(image, file, name, (str(image.format),))


@contextmanager
def _decoding(name: str, path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        if _is_tiff(path):
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
        found = "is cut off" if cut_off else "is damaged"
        raise PhotoError(f"{name}: {found} ({one_line(error)}); copy or save the photo again") from error


def _is_tiff(path: str | os.PathLike[str] | None) -> bool:
    if path is None:
        return False
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
            f"scale the photo down, cut it into tiles, or raise the limit ({setting('max_megapixels', '200')})"
        )


def _require_range(input_range: float | None) -> None:
    if input_range is not None and not (math.isfinite(input_range) and input_range > 0):
        raise ConfigError(
            f"input range {input_range}: expected the value of white, such as 4095; leave it out for 8 bits"
        )


def _low_bytes(image: Image.Image, file: IO[bytes], source: Source) -> Image.Image | None:
    """The low bytes of a 16-bit colour photo where they count: where white is not 65535, or no value comes near it."""
    white = source.input_range or source.samples.white
    if white == 65535 or (white is None and not _may_be_dark(image)):
        return None
    low = low_bytes(file, (str(image.format),)) if image.mode != "CMYK" else None
    if low is None and white is not None:
        raise PhotoError(f"{source.name}: 16-bit {image.mode} has no input range here; save the photo as RGB or grey")
    return low


def _may_be_dark(image: Image.Image) -> bool:
    """Whether no high byte of a colour photo says more than 14 bits."""
    extrema = image.getextrema()
    colours = [pair for pair in extrema if isinstance(pair, tuple)][: len(image.getbands()) - ("A" in image.mode)]
    return max(int(high) for _, high in colours) < 64


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation of a decoded image, 1 to 8; with damaged EXIF 1, as viewers do.

    Pillow turns some TIFFs itself while it decodes, and takes the number away.
    """
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # the pixels are decoded already, so only the EXIF can be at fault
        return 1


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

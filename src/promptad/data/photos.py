"""Photos and masks from disk or memory to arrays: upright, 8-bit RGB, or a clear :class:`PhotoError`.

How depths, colour modes and transparency become 8-bit RGB is written in :mod:`promptad.data.pixels`, how masks are read
in :mod:`promptad.data.mask_values`. Every photo is turned upright by its EXIF orientation. Of files with several frames
(GIF, TIFF, WebP) the first frame is the photo, with a notice. A file that holds fewer pixels than its header says is cut
off (:mod:`promptad.data.complete`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, TiffImagePlugin

from promptad.data.decoding import (
    MAX_PIXELS,
    ORIENTATION,
    TURNED,
    decode,
    decoding,
    low_half,
    may_be_dark,
    opened,
    orientation,
    pillow_limit_lifted,
    png_without_pixels,
    require_range,
    require_size,
    say_dark_by_high_bytes,
)
from promptad.data.files import shown
from promptad.data.mask_values import LABELS_UP_TO, Reading, read_values
from promptad.data.parts import Crop, FilePart, FileRef, FileView, MaskView
from promptad.data.pixels import Mask, Rgb, Source, grey_values, rgb_from_array, rgb_from_image, upright
from promptad.data.raw_modes import mend_raw_modes
from promptad.data.samples import has_deep_colour, is_lossy, low_bytes, samples_of, states_white
from promptad.errors import PhotoError
from promptad.notices import notice

FULL_SHARE = 0.9
"""A mask that marks more than this share of its photo gets a notice."""


def read_photo(path: FileRef, max_pixels: int = MAX_PIXELS, input_range: float | None = None) -> Rgb:
    """One photo as ``(H, W, 3)`` uint8 RGB, 0..255, upright.

    Args:
        path: a JPEG, PNG, BMP, TIFF, WebP, GIF or PPM/PGM file (HEIC where pillow-heif is installed). What
            counts is the content, not the suffix. Or a part of such a file, as `Record.photo` gives it.
        max_pixels: a photo with more pixels is refused before it is decoded. It bounds the memory that a photo takes:
            6 to 12 bytes a pixel while it is read (WebP 17, 16-bit PPM as text 28), 3 afterwards.
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
    require_range(input_range)
    with opened(path, max_pixels) as (image, file, zero_is_white):
        name, place = shown(path), shown(Path(path).parent)
        source = Source(name, place, samples_of(image, file, zero_is_white), input_range)
        deep = has_deep_colour(image)
        decode(image, file, name, place)
        low = low_half(image, file, source) if deep else None
        if deep and low is None:  # its high bytes are all that counts
            source = replace(source, input_range=None)
        return rgb_from_image(image, source, orientation(image), low)


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
    require_range(input_range)
    if isinstance(photo, str | os.PathLike | FileView):
        return read_photo(photo, max_pixels, input_range)
    if isinstance(photo, np.ndarray):
        if photo.ndim in (2, 3):
            require_size(photo.shape[1], photo.shape[0], max_pixels, "photo array")
        return rgb_from_array(photo, Source("photo array", "photo arrays", input_range=input_range))
    if isinstance(photo, Image.Image):
        name = shown(getattr(photo, "filename", "") or "") or "Pillow image"
        require_size(photo.width, photo.height, max_pixels, name)
        with decoding(name), pillow_limit_lifted():
            if photo.format == "TIFF":
                mend_raw_modes(photo)
            deep = has_deep_colour(photo)  # of an image that is decoded already nobody can tell
            if input_range is not None and deep:
                raise PhotoError(f"{name}: Pillow keeps 8 of its 16 bits; give the path instead of the image")
            source = Source(name, "Pillow images", samples_of(photo), input_range)
            stated = states_white(photo)
            photo.load()
            if deep and not stated and may_be_dark(photo):
                say_dark_by_high_bytes(photo, source)
            return rgb_from_image(photo, source, orientation(photo))
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
    elif _marks_ground(union):
        notice(
            f"{_place(paths[0])}: holds masks that mark the edge of their photo all around, and more than half of it; "
            "defects must be white: turn the masks if they are black"
        )
    return union


def _marks_ground(mask: Mask) -> bool:
    """Whether a mask marks what usually is the ground around a defect, as one does that is drawn black on white."""
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(mask.mean() > 0.5 and edge.mean() > FULL_SHARE)


def _place(ref: FileRef) -> str:
    """The folder of a file, for lines that hold for all of it."""
    return shown(Path(ref.path if isinstance(ref, FileView) else ref).parent)


def read_colours(path: Path) -> Rgb:
    """The colours of a mask image as ``(H, W, 3)`` uint8 RGB: palettes mapped, transparency dropped, upright.

    Raises:
        PhotoError: as :func:`read_photo`.
    """
    with opened(path, MAX_PIXELS) as (image, file, _):
        decode(image, file, shown(path), shown(path.parent))
        pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))[..., :3]
        return np.ascontiguousarray(upright(pixels, orientation(image)))


def read_mask_pixels(path: FileRef) -> Mask:
    """One mask file as :func:`read_mask` gives it, without a notice on how much it marks."""
    return _one_mask(path, None, MAX_PIXELS)


def read_marks(path: Path) -> Reading:
    """What is white in a mask of any purpose, upright, and how it was read; without a notice.

    Raises:
        PhotoError: as :func:`read_photo`.
    """
    with opened(path, MAX_PIXELS) as (image, file, zero_is_white):
        reading = read_values(_decoded_values(path, image, file, zero_is_white)[0])
        return replace(reading, mask=np.ascontiguousarray(upright(reading.mask, orientation(image))))


def read_mask_value(path: Path) -> float:
    """The largest grey value in a mask file: the number of its defect's kind in MVTec LOCO AD.

    Raises:
        PhotoError: as :func:`read_photo`.
    """
    with opened(path, MAX_PIXELS) as (image, file, zero_is_white):
        values, _ = _decoded_values(path, image, file, zero_is_white)
        return float(values.max())


def _decoded_values(
    path: Path, image: Image.Image, file: IO[bytes], zero_is_white: bool
) -> tuple[npt.NDArray[Any], Source]:
    """How strongly each pixel of an opened mask is marked, ``(H, W)``, with all of its bits; and where it comes from."""
    source = Source(shown(path), shown(path.parent), samples_of(image, file, zero_is_white))
    deep = has_deep_colour(image)
    decode(image, file, source.name, source.place)
    low = low_bytes(file, (str(image.format),)) if deep and image.mode != "CMYK" else None
    if deep and low is None:  # small numbers are in the low bytes alone
        raise PhotoError(
            f"{source.name}: a mask of 16-bit {image.mode} stored like this cannot be read; save it as PNG"
        )
    return grey_values(image, source, low), source


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
    with opened(path, max_pixels) as (image, file, zero_is_white):
        values, source = _decoded_values(path, image, file, zero_is_white)
        reading = read_values(values) if above is None else Reading(values > above, "levels")
        mask = np.ascontiguousarray(upright(reading.mask, orientation(image)))
        small = values.dtype.kind != "f" and 0 < float(values.max()) <= LABELS_UP_TO
        doubtful = reading.is_noise or (small and above is None and is_lossy(image, file))
    if reading.edges_matter:
        notice(
            f"{source.place}: masks are soft, with greys between black and white; a pixel counts as defect above half "
            "of its mask's largest value; save them with two values to decide it"
        )
    if doubtful:
        notice(
            f"{source.place}: masks of small numbers that look like noise, or lie in lossy files, which change them; every "
            "pixel above 0 counts as defect; save them with 0 and 255, as PNG"
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
    with opened(path, max_pixels) as (image, _, _):
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # Newer Pillow turns TIFF sizes on opening, older does not: the tags say the same in both.
            width, height = (int(image.tag_v2.get(tag, side)) for tag, side in ((256, width), (257, height)))
            orientation = image.tag_v2.get(ORIENTATION)
        else:
            try:
                header = image
                if isinstance(image, PngImagePlugin.PngImageFile):
                    header = png_without_pixels(image.fp)
                # The method of the base class, because PngImageFile's own decodes the whole photo.
                orientation = Image.Image.getexif(header).get(ORIENTATION)
            except Exception:  # damaged EXIF: the photo is taken as it lies, see _upright
                orientation = None
    return (width, height) if orientation in TURNED else (height, width)

"""Pixel values of any depth and colour mode to 8-bit RGB, by fixed rules.

The rules never look at how bright one photo happens to be, because a gain that differs from photo to photo would itself
look like an anomaly:

* 8 bit: as it is. 1 bit and bool: 0 and 255. Grey is repeated over the three channels.
* Deeper: ``round(v * 255 / white)``. White is `input_range` where it is given, else what the file's own metadata state
  (:mod:`promptad.data.samples`), else 65535 for integers (32767 for signed 16 bits, 127 for signed 8) and 1 for floats within 0..1, 255 for floats within 0..255.
  Where nothing states it and no value comes near it, as with a 12-bit camera in a 16-bit file, a notice says so.
  Values above white, negative ones, NaN and infinity are errors.
* 16-bit colour files with white 65535: Pillow keeps the high byte of each channel, which differs from the rule above by 1
  at most. With another white both bytes are read.
* Transparency is composited on white, the usual ground of product photos, with a notice; a fully opaque alpha channel
  just goes.
* CMYK, YCbCr, LAB and HSV are converted by Pillow's formulas, with a notice for CMYK and LAB; embedded colour profiles are
  not applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from promptad.data.samples import Samples, significant_white, turned
from promptad.errors import PhotoError
from promptad.inputs import argument
from promptad.notices import notice

Rgb = npt.NDArray[np.uint8]  # (H, W, 3), R first
Mask = npt.NDArray[np.bool_]  # (H, W), True is defect

# Rows are converted in bands of about this many pixels, so that only the result and one band lie beside the file's pixels.
_BAND = 1 << 20
# Whites of cameras with fewer bits than their files.
_CAMERA_WHITES = (255, 1023, 4095, 16383)


@dataclass(frozen=True)
class Source:
    """Where pixels come from.

    Attributes:
        name: how an error names the photo. place: how a notice names all photos of its folder.
        samples: what the file says of them. input_range: the value that is white, given by the user, or None.
    """

    name: str
    place: str
    samples: Samples = field(default_factory=Samples)
    input_range: float | None = None


def rgb_from_image(image: Image.Image, source: Source, orientation: int = 1, low: Image.Image | None = None) -> Rgb:
    """Pixels of a decoded Pillow image of any mode as ``(H, W, 3)`` uint8 RGB, by the rules of this module.

    Args:
        image: the image, as it lies in its file.
        orientation: EXIF's number, 1 to 8; the result is turned by it.
        low: the low bytes of a colour image with 16 bits a channel, where they count.

    Raises:
        PhotoError: values out of range, NaN or infinity, or a colour mode that Pillow cannot convert.
    """
    width, height = image.size
    out = np.empty((width, height, 3) if orientation in (5, 6, 7, 8) else (height, width, 3), np.uint8)
    target = _as_stored(out, orientation)
    if low is not None or image.mode.startswith("I") or image.mode == "F":
        white = _white(image, low, source)
        for rows, band in _deep_bands(image, low):
            target[rows] = _eight_bits(_checked(band, white, source), white)
        if low is not None and "A" in image.getbands():
            _composite(target, image, low, white, source.place)
        return out
    if source.input_range is not None:
        notice(f"{source.place}: photos of 8 bits are taken as they are; the input range does not apply to them")
    if image.mode in ("CMYK", "LAB"):
        notice(f"{source.place}: {image.mode} photos are converted without their colour profile; save them as RGB")
    if source.samples.signed and image.mode == "L" and image.getextrema()[1] > 127:  # type: ignore[operator]
        raise PhotoError(f"{source.name}: signed 8-bit values below 0; expected 0..255; save the photo unsigned")
    if source.samples.signed and image.mode == "L":
        image = image.point([min(255, round(value * 255 / 127)) for value in range(256)])
    clear = image.has_transparency_data
    try:
        for rows in _bands(height, width):
            strip = image.crop((0, rows.start, width, rows.stop))
            if clear:
                target[rows] = on_white(strip.convert("RGBA"), source.place)
            else:
                target[rows] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    except ValueError as error:
        raise PhotoError(f"{source.name}: colour mode {image.mode} cannot be converted; save it as RGB") from error
    return out


def rgb_from_array(array: npt.NDArray[Any], source: Source) -> Rgb:
    """Pixels of a NumPy array as ``(H, W, 3)`` uint8 RGB; an array that already is that comes back uncopied.

    Args:
        array: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA; uint8 0..255, uint16 0..65535 (or
            0..`input_range`), bool, or float 0..1 (or 0..`input_range`). Channels in BGR order (OpenCV) cannot be told
            apart: turn them with ``x[..., ::-1]``.

    Raises:
        PhotoError: any other shape, dtype or range, no pixels, NaN or infinity.
    """
    name = source.name
    shape = "x".join(str(side) for side in array.shape) or "scalar"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        way_out = "convert it to one photo"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            way_out = "channels come last, so turn it with numpy.moveaxis(x, 0, -1)"
        elif array.ndim == 4:
            way_out = "pass the photos of a batch one by one"
        raise PhotoError(f"{name}: shape {shape}; expected HxW, HxWx1, HxWx3 (RGB) or HxWx4 (RGBA); {way_out}")
    if array.size == 0:
        raise PhotoError(f"{name}: shape {shape} holds no pixels; expected at least 1x1; check how it was cut")
    values = _bytes_from_array(array, source)
    if values.ndim == 2 or values.shape[2] == 1:
        return np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
    if values.shape[2] == 4:
        return on_white(Image.fromarray(np.ascontiguousarray(values)), source.place)
    return np.ascontiguousarray(values)


def grey_values(image: Image.Image, source: Source, low: Image.Image | None = None) -> npt.NDArray[Any]:
    """How strongly each pixel of a decoded mask image is marked, ``(H, W)``: 0 black or transparent, larger is brighter.

    Of several channels the largest counts; palette images are judged by colour, not by index; partial transparency
    weakens. `low` holds the low bytes of a colour image with 16 bits a channel.

    Raises:
        PhotoError: NaN or infinity, or a colour mode that has no conversion.
    """
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        values: npt.NDArray[Any] = np.asarray(image)
        if image.mode == "F":
            _require_finite(values, source.name)
        if source.samples.white_is_zero:
            white = source.samples.white or _assumed_white(values, source)
            values = turned(values, white)
        return values
    try:
        colours = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except ValueError as error:
        raise PhotoError(f"{source.name}: colour mode {image.mode} of a mask; save it as 8-bit grey") from error
    if low is not None:
        low_colours = np.asarray(low if low.mode == image.mode else low.convert(image.mode))
        colours = np.asarray(image).astype(np.uint16) * 256 + low_colours
    alpha = "A" in image.getbands() or (low is None and colours.shape[2] == 4)
    kinds = min(3, colours.shape[2] - alpha)
    brightest: npt.NDArray[Any] = colours[..., :kinds].max(axis=2)
    if alpha:
        brightest = np.rint(brightest * (colours[..., kinds] / np.iinfo(colours.dtype).max)).astype(colours.dtype)
    return brightest


def on_white(image: Image.Image, place: str) -> Rgb:
    """An RGBA image composited on white, as ``(H, W, 3)`` uint8, with a notice where something shines through."""
    if image.getchannel("A").getextrema()[0] == 255:
        return np.array(image.convert("RGB"))
    notice(
        f"{place}: transparent parts of photos are shown on white; save the photos without transparency to decide it"
    )
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(ground, image).convert("RGB"))


def upright(stored: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A picture ``(H, W[, C])`` as its file stores it, turned by EXIF's number 1 to 8."""
    if orientation not in range(2, 9):
        return stored
    height, width = stored.shape[:2]
    out = np.empty(((width, height) if orientation >= 5 else (height, width)) + stored.shape[2:], stored.dtype)
    _as_stored(out, orientation)[...] = stored
    return out


def _as_stored(picture: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A view of the upright picture in the order in which its file stores it (EXIF 2.3, Orientation)."""
    turn = picture.swapaxes(0, 1)
    return {
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: turn,
        6: turn[::-1],
        7: turn[::-1, ::-1],
        8: turn[:, ::-1],
    }.get(orientation, picture)


def _bands(height: int, width: int) -> Iterator[slice]:
    step = max(1, _BAND // max(1, width))
    for top in range(0, height, step):
        yield slice(top, min(height, top + step))


def _deep_bands(image: Image.Image, low: Image.Image | None) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Values of an image of more than 8 bits, band by band, without alpha: (rows, W, 1 or 3)."""
    width, height = image.size
    colours = len(image.getbands()) - ("A" in image.getbands())
    for rows in _bands(height, width):
        box = (0, rows.start, width, rows.stop)
        values: npt.NDArray[Any] = np.asarray(image.crop(box))
        if low is not None:
            values = values[..., :colours].astype(np.uint16) * 256 + np.asarray(low.crop(box))[..., :colours]
        yield rows, values if values.ndim == 3 else values[..., None]


def _composite(target: Rgb, image: Image.Image, low: Image.Image, white: float, place: str) -> None:
    """Lays deep colours that are converted already on white, by their alpha of 16 bits or of as many as the colours."""
    alpha, alpha_low = image.getchannel("A"), low.getchannel("A")
    deepest = alpha.getextrema()[1]
    full = white if isinstance(deepest, int) and deepest * 256 <= white else 65535.0
    for rows in _bands(image.height, image.width):
        box = (0, rows.start, image.width, rows.stop)
        values = np.asarray(alpha.crop(box)).astype(np.uint16) * 256 + np.asarray(alpha_low.crop(box))
        eight = _eight_bits(np.minimum(values, int(full)), full)
        target[rows] = on_white(Image.fromarray(np.dstack([target[rows], eight])), place)


def _white(image: Image.Image, low: Image.Image | None, source: Source) -> float:
    """The value that is white, with a notice where it is assumed and no value comes near it."""
    if source.input_range is not None:
        unit = source.samples.unit
        return source.input_range if unit == 1 else float(np.ceil(source.input_range * unit))
    if source.samples.white is not None:
        return source.samples.white
    full = source.samples.full
    whites = [full]
    lowest, highest = np.inf, -np.inf
    for _, band in _deep_bands(image, low):
        if band.dtype.kind == "f":
            _require_finite(band, source.name)
        lowest, highest = min(lowest, float(band.min())), max(highest, float(band.max()))
        if band.dtype.kind != "f" and source.samples.significant is not None:
            whites.append(significant_white(band, source.samples.significant))
    if image.mode == "F":
        return float_white(lowest, highest, source)
    white = min(whites) if highest <= min(whites) else full
    if white == full:
        say_dark(int(highest), source)
    return white


def float_white(lowest: float, highest: float, source: Source) -> float:
    """1 or 255, the usual whites of floats; the second with a notice.

    Raises:
        PhotoError: neither fits.
    """
    if lowest < 0 or highest > 255:
        raise PhotoError(
            f"{source.name}: float values {lowest:g}..{highest:g}; expected 0..1 or 0..255; "
            f"say which value is white, the same for all photos (as {argument('input_range', '4095')} does), or scale them"
        )
    if highest <= 1:
        return 1.0
    notice(
        f"{source.place}: float photos with values above 1 are taken as 0..255; say another white as "
        f"{argument('input_range', '4095')} does"
    )
    return 255.0


def say_dark(highest: int, source: Source) -> None:
    """Says that 16-bit values end where a camera of fewer bits would end."""
    camera = next((white for white in _CAMERA_WHITES if highest <= white), None)
    if camera is not None and highest > 0:
        notice(
            f"{source.place}: photos of 16 bits with no value above {camera} are taken as 0..{source.samples.full:.0f}, so they are dark; "
            f"if the camera gives {camera.bit_length()} bits, say so with {argument('input_range', str(camera))}"
        )


def _assumed_white(values: npt.NDArray[Any], source: Source) -> float:
    if values.dtype.kind == "f":
        return 1.0 if float(values.max()) <= 1 else 255.0
    return source.samples.full


def _checked(values: npt.NDArray[Any], white: float, source: Source) -> npt.NDArray[Any]:
    """The values, with black at zero, if all lie within 0..white.

    Raises:
        PhotoError: they do not.
    """
    if values.dtype.kind == "f":
        _require_finite(values, source.name)
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > white:
        kind = "float" if values.dtype.kind == "f" else "integer"
        raise PhotoError(
            f"{source.name}: {kind} values {lowest:g}..{highest:g}; expected 0..{white:g}; "
            f"say which value is white (as {argument('input_range', '4095')} does), or save the photo with 8 or 16 bits"
        )
    return turned(values, white) if source.samples.white_is_zero else values


def _eight_bits(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.uint8]:
    scaled: npt.NDArray[np.uint8]
    if values.dtype.kind == "f":
        scaled = np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8)
    elif white <= 65535:
        scaled = np.rint(np.arange(int(white) + 1) * (255 / white)).astype(np.uint8)[values]
    else:
        scaled = np.rint(values * (255 / white)).astype(np.uint8)
    return scaled


def _bytes_from_array(array: npt.NDArray[Any], source: Source) -> npt.NDArray[np.uint8]:
    name = source.name
    if array.dtype == np.uint8:
        if source.input_range is not None:
            notice(f"{source.place}: photos of 8 bits are taken as they are; the input range does not apply to them")
        return array
    if array.dtype == np.bool_:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # either byte order
        white = source.input_range or 65535.0
        if source.input_range is None:
            say_dark(int(array.max()), source)
        return _eight_bits(_checked(array, white, source), white)
    if not np.issubdtype(array.dtype, np.floating):
        raise PhotoError(
            f"{name}: dtype {array.dtype}; expected uint8, uint16, bool or float in 0..1; "
            "convert it, for values 0..255 with x.astype(numpy.uint8)"
        )
    if source.input_range is not None:
        return _eight_bits(_checked(array, source.input_range, source), source.input_range)
    _require_finite(array, name)
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise PhotoError(
            f"{name}: float values {low:g}..{high:g}; expected 0..1; "
            f"say which value is white (as {argument('input_range', '4095')} does), or pass 0..255 as uint8, without any CLIP normalisation"
        )
    return _eight_bits(array, 1.0)


def _require_finite(values: npt.NDArray[Any], name: str) -> None:
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise PhotoError(
            f"{name}: {bad} of {values.size} values are NaN or infinite; expected finite ones; replace them"
        )

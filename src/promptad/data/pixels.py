"""Pixel values of any depth and colour mode to 8-bit RGB, by fixed rules.

The rules never look at how bright one photo happens to be (with one marked exception for floats), because a
gain that differs from photo to photo would itself look like an anomaly:

* 8 bit: as it is. 1 bit and bool: 0 and 255. Grey is repeated over the three channels.
* 16-bit grey: ``round(v * 255 / 65535)``, the true range of 16 bits. A 10- or 12-bit camera that does not
  fill its 16 bits therefore gives a dark photo: scale such data once, by one factor for all photos, before
  it comes here.
* 16-bit colour files: Pillow keeps the high byte of each channel, which differs from the rule above by 1 at
  most.
* 32-bit integer files: taken as 16-bit values; anything outside 0..65535 is an error.
* 32-bit float files: values within 0..1 are scaled by 255, else values within 0..255 are rounded, else (the
  exception) the photo's own minimum..maximum is stretched over 0..255. NaN and infinity are errors.
* Transparency is composited on white, the usual ground of product photos; a fully opaque alpha channel just
  goes.
* CMYK, YCbCr, LAB and HSV are converted by Pillow's formulas; embedded colour profiles are not applied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from promptad.errors import PhotoError

Rgb = npt.NDArray[np.uint8]  # (H, W, 3), R first
Grey = npt.NDArray[np.uint8]  # (H, W)
Mask = npt.NDArray[np.bool_]  # (H, W), True is defect

_TO_8_BIT: npt.NDArray[np.uint8] = np.rint(np.arange(65536) * (255 / 65535)).astype(np.uint8)


def rgb_from_image(image: Image.Image, name: str) -> Rgb:
    """Pixels of a decoded Pillow image of any mode as ``(H, W, 3)`` uint8 RGB, by the rules of this module.

    Args:
        image: the image; EXIF orientation is not looked at here.
        name: how an error names it.

    Raises:
        PhotoError: values out of range, NaN or infinity, or a colour mode that Pillow cannot convert.
    """
    if image.mode.startswith("I"):
        return _three_channels(_grey_from_integers(np.asarray(image), name))
    if image.mode == "F":
        return _three_channels(_grey_from_floats(np.asarray(image), name))
    try:
        if image.has_transparency_data:
            return _on_white(image.convert("RGBA"))
        return np.array(image.convert("RGB"))
    except ValueError as error:
        raise PhotoError(f"{name}: colour mode {image.mode} cannot be converted to RGB; save it as RGB") from error


def rgb_from_array(array: npt.NDArray[Any], name: str) -> Rgb:
    """Pixels of a NumPy array as ``(H, W, 3)`` uint8 RGB; an array that already is that comes back uncopied.

    Args:
        array: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA; uint8 0..255, uint16
            0..65535, bool, or float 0..1. Channels in BGR order (OpenCV) cannot be told apart: turn them
            with ``x[..., ::-1]``.
        name: how an error names it.

    Raises:
        PhotoError: any other shape, dtype or range, no pixels, NaN or infinity.
    """
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
    values = _bytes_from_array(array, name)
    if values.ndim == 2 or values.shape[2] == 1:
        return _three_channels(values.reshape(values.shape[:2]))
    if values.shape[2] == 4:
        return _on_white(Image.fromarray(np.ascontiguousarray(values)))
    return np.ascontiguousarray(values)


def nonzero_from_image(image: Image.Image, name: str, lossy: bool) -> Mask:
    """Where a decoded mask image is not black (and not fully transparent), as ``(H, W)`` bool.

    Args:
        image: the mask in any mode; palette masks are judged by colour, not by index.
        name: how an error names it.
        lossy: the mask was stored as JPEG, whose noise around edges is non-zero too; then a pixel counts
            from half of the mask's largest value on.

    Raises:
        PhotoError: NaN or infinity in a float mask, or a colour mode that has no conversion.
    """
    strength: npt.NDArray[Any]
    if image.mode == "F":
        strength = np.asarray(image)
        _require_finite(strength, name)
    elif image.mode in ("1", "L") or image.mode.startswith("I"):
        strength = np.asarray(image)
    else:
        try:
            rgba = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
        except ValueError as error:
            raise PhotoError(f"{name}: colour mode {image.mode} of a mask; save it as 8-bit grey") from error
        strength = rgba[..., :3].max(axis=2)
        if rgba.shape[2] == 4:
            strength = np.where(rgba[..., 3] > 0, strength, 0)
    largest = float(strength.max())
    mask: Mask = strength > largest / 2 if lossy else strength != 0
    return mask


def _bytes_from_array(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # either byte order
        return _eight_bits(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise PhotoError(
            f"{name}: dtype {array.dtype}; expected uint8, uint16, bool or float in 0..1; "
            "convert it, for values 0..255 with x.astype(numpy.uint8)"
        )
    _require_finite(array, name)
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise PhotoError(
            f"{name}: float values {low:g}..{high:g}; expected 0..1; "
            "scale or clip them, or pass 0..255 as uint8, without any CLIP normalisation"
        )
    scaled: npt.NDArray[np.uint8] = np.rint(array.astype(np.float32) * np.float32(255)).astype(np.uint8)
    return scaled


def _grey_from_integers(values: npt.NDArray[Any], name: str) -> Grey:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise PhotoError(
            f"{name}: integer grey values {low}..{high}; expected 0..65535; save the photo with 8 or 16 bits"
        )
    return _eight_bits(values)


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    scaled: npt.NDArray[np.uint8] = _TO_8_BIT[values]
    return scaled


def _grey_from_floats(values: npt.NDArray[Any], name: str) -> Grey:
    _require_finite(values, name)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    span = high - low  # 0 only where one constant lies outside 0..255; it becomes black
    scaled = (values.astype(np.float64) - low) * (255 / span) if span else np.zeros(values.shape)
    return np.rint(scaled).astype(np.uint8)


def _require_finite(values: npt.NDArray[Any], name: str) -> None:
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise PhotoError(
            f"{name}: {bad} of {values.size} values are NaN or infinite; expected finite ones; replace them"
        )


def _on_white(image: Image.Image) -> Rgb:
    if image.getchannel("A").getextrema()[0] == 255:
        return np.array(image.convert("RGB"))
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(ground, image).convert("RGB"))


def _three_channels(grey: Grey) -> Rgb:
    return np.repeat(grey[:, :, None], 3, axis=2)

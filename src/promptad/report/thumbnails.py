"""Small pictures for the page, as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from promptad.data.photos import read_photo


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG as data URI with its size in pixels."""

    uri: str
    width: int
    height: int


def small(picture: NDArray[np.uint8], edge: int = 360) -> NDArray[np.uint8]:
    """A picture scaled down so that its long edge is at most ``edge`` pixels; never scaled up.

    Args:
        picture: (H, W, 3) uint8 RGB.

    Returns:
        (h, w, 3) uint8 RGB; ``picture`` itself when it is small enough.
    """
    if max(picture.shape[:2]) <= edge:
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(image)


def thumbnail(
    source: str | os.PathLike[str] | NDArray[np.uint8],
    edge: int = 360,
    quality: int = 80,
    *,
    crop: tuple[int, int] | None = None,
    input_range: float | None = None,
) -> Thumbnail:
    """A photo file or array as a small JPEG.

    Args:
        source: a path, or (H, W, 3) uint8 RGB.
        edge: largest long edge in pixels.
        quality: of the JPEG, 1 to 95.
        input_range: as for `data.photos.read_photo`.
        crop: (H, W) of what is shown, from the top left; for heat maps, whose legend lies below.

    Raises:
        PhotoError: the file cannot be read as a photo.
    """
    picture = source if isinstance(source, np.ndarray) else _read_reduced(source, edge, input_range)
    if crop is not None:  # the file may have been read at reduced size
        picture = picture[: max(1, round(crop[0] * picture.shape[1] / max(1, crop[1])))]
    picture = small(picture, edge)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{code}", picture.shape[1], picture.shape[0])


def _read_reduced(path: str | os.PathLike[str], edge: int, input_range: float | None) -> NDArray[np.uint8]:
    """A photo at reduced size where its file allows it, which spares most of the decoding of large JPEGs."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.mode in ("RGB", "L") and min(image.size) > 4 * edge:
                image.draft(image.mode, (2 * edge, 2 * edge))
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:  # not a plain JPEG: the careful reader finds out what it is, and raises if it must
        pass
    return read_photo(path, input_range=input_range)

"""Copies of a good photo: altered ones where there is only one, and turned ones for a memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Photo = NDArray[np.uint8]


COPIES = 5
"""How many :func:`altered_copies` gives."""


def altered_copies(photo: Photo) -> list[Photo]:
    """Copies of a photo that another good part could look like, for a threshold where there is no second photo.

    (H, W, 3) uint8 RGB -> five of the same shape: turned by half, shifted, turned a little, magnified, and a magnified
    quarter. Each is far off for some product (a weave must not be turned), so their scores are to be summed up by the
    median. Changes of brightness are left out: how far they move scores differs between products by a factor of five.
    """
    return [
        np.ascontiguousarray(photo[::-1, ::-1]),
        _moved(photo, shift=(-0.05, -0.05)),
        _moved(photo, degrees=8),
        _moved(photo, zoom=1.08),
        _moved(photo, zoom=1.25, shift=(0.1, 0.1)),
    ]


def turned_copies(photo: Photo, turns: int, mirrored: bool = False) -> list[Photo]:
    """The photo in other orientations: turned to the left by 1 / n, 2 / n, ... of 360 degrees, then, mirrored, by 0, 1 / n, ...

    On the same canvas, about its middle; what comes in from outside is the photo reflected at its edges. Cubic interpolation:
    a softer copy would be another texture.

    Args:
        photo: (H, W, 3) uint8 RGB. turns: n, at least 1. mirrored: each orientation mirrored (left and right) too.

    Returns:
        n - 1 photos, or 2 n - 1, of the same shape.
    """
    mirror = np.ascontiguousarray(photo[:, ::-1]) if mirrored else photo
    angles = [360 * number / turns for number in range(turns)]
    return [_turned(photo, angle) for angle in angles[1:]] + [_turned(mirror, angle) for angle in angles if mirrored]


def _turned(photo: Photo, degrees: float) -> Photo:
    if degrees % 360 == 0:
        return photo
    height, width = photo.shape[:2]
    # Corners of the canvas come from as far out as half the diagonal; two pixels more for the interpolation.
    reach = math.hypot(height, width) / 2 + 2
    margins = [(math.ceil(max(0.0, reach - side / 2)),) * 2 for side in (height, width)]
    padded = np.pad(photo, (*margins, (0, 0)), mode="symmetric")
    image = Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC)
    (top, _), (left, _) = margins
    return np.ascontiguousarray(np.asarray(image)[top : top + height, left : left + width])


def _moved(photo: Photo, degrees: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Photo:
    """Turned about the middle (clockwise), magnified, then shifted by shares of height and width; edges are drawn out."""
    height, width = photo.shape[:2]
    margin = max(2, round(0.15 * max(height, width)))  # more than any pixel moves
    padded = np.pad(photo, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    cos, sin = math.cos(math.radians(degrees)) / zoom, -math.sin(math.radians(degrees)) / zoom
    middle_x, middle_y = width / 2, height / 2
    to_x, to_y = middle_x + shift[1] * width, middle_y + shift[0] * height
    # Where each pixel of the result lies in the padded photo.
    affine = (
        *(cos, -sin, middle_x - cos * to_x + sin * to_y + margin),
        *(sin, cos, middle_y - sin * to_x - cos * to_y + margin),
    )
    image = Image.fromarray(np.ascontiguousarray(padded))
    return np.asarray(image.transform((width, height), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR))

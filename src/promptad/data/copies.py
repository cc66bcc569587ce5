"""Altered copies of a good photo, where there is only one."""

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

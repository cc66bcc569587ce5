"""What a photo says of its camera and light: brightness, colour, sharpness, size. A defect barely moves these.

The photo is looked at through windows at its own resolution, one in the middle of each cell of a grid, and the middle of the windows'
values counts: a defect lies in a few of them. Sharpness compares differences of neighbours with those of pixels further apart, so
that neither light nor contrast moves it much (the ratio of fine to coarse variation, as in measures of focus; Pertuz, Puig and Garcia,
Analysis of focus measure operators for shape-from-focus, 2013, section 3).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

NAMES = ("brightness", "sharpness", "warmth", "tint", "size")
"""The statistics of a photo, in the order in which they are told."""

_GRID, _WINDOW, _FAR = 8, 96, 4
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def camera_statistics(photo: NDArray[np.uint8]) -> dict[str, float]:
    """The statistics of a photo, all finite, to five decimals.

    Args:
        photo: (H, W, 3) uint8 RGB.

    Returns:
        ``brightness``: 0 to 255. ``sharpness``: log of the ratio of fine to coarse variation, smaller = softer. ``warmth``: log of red over blue.
        ``tint``: log of green over the geometric mean of the others. ``size``: pixels.
    """
    windows = _windows(photo)
    colours = np.median([window.reshape(-1, 3).mean(axis=0) for window in windows], axis=0)
    red, green, blue = (float(value) + 1 for value in colours)
    ratios = [_sharpness(window @ _LUMINANCE) for window in windows]
    known = [ratio for ratio in ratios if ratio is not None]
    values = {
        "brightness": float(colours @ _LUMINANCE),
        "sharpness": float(np.median(known)) if known else 0.0,
        "warmth": float(np.log(red / blue)),
        "tint": float(np.log(green) - np.log(red * blue) / 2),
        "size": float(photo.shape[0] * photo.shape[1]),
    }
    return {name: round(value, 5) + 0.0 for name, value in values.items()}  # the last digits of grey photos are noise


def _windows(photo: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The middle of each cell, at most `_WINDOW` pixels wide and high."""
    rows, columns = (_spans(side) for side in photo.shape[:2])
    return [photo[top:bottom, left:right].astype(np.float32) for top, bottom in rows for left, right in columns]


def _spans(side: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, side, min(_GRID, max(1, side // 8)) + 1).astype(int)
    spans = []
    for low, high in pairwise(edges):
        cut = max(0, int(high - low) - _WINDOW) // 2
        spans.append((int(low) + cut, int(high) - cut))
    return spans


def _sharpness(grey: NDArray[np.float32]) -> float | None:
    """Log of the ratio; None for a window too small or without any variation."""
    if min(grey.shape) <= _FAR:
        return None
    fine, coarse = (_variation(grey, step) for step in (1, _FAR))
    return float(np.log((fine + 1e-3) / coarse)) if coarse > 0.05 else None


def _variation(grey: NDArray[np.float32], step: int) -> float:
    return float(np.square(grey[step:] - grey[:-step]).mean() + np.square(grey[:, step:] - grey[:, :-step]).mean())

"""Where the object is in a photo, told from its background by colour alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from promptad.data.pixels import Mask, Rgb


def object_region(photo: Rgb) -> Mask:
    """Where the object is, (H, W) bool, by its difference from the colour of the photo's border.

    All True where the border does not look like a background: on a texture, or an object that fills the photo.
    """
    small = ndimage.gaussian_filter(photo.astype(np.float32), (max(1.0, min(photo.shape[:2]) / 150),) * 2 + (0,))
    width = max(2, min(photo.shape[:2]) // 40)
    border = np.ones(photo.shape[:2], bool)
    border[width:-width, width:-width] = False
    # Clipped, so that the object's bright parts do not make its dark ones look like background.
    distance = np.minimum(np.abs(small - np.median(small[border], 0)).max(2), 128)
    level, separation = _otsu(distance)
    region = distance > level
    # Measured separations: 0.83 to 0.98 for cookies, bottles and small parts on their grounds, 0.57 to 0.76 for tiles,
    # cork, bricks and cloth. A border free of the object is a sign of its own, and thin parts need it.
    touching = region[border].mean()
    if touching > 0.2 or separation < (0.65 if touching < 0.02 else 0.8):
        return np.ones(photo.shape[:2], bool)
    region = ndimage.binary_closing(region, iterations=2)
    labels, sizes = _parts(region)
    region = np.isin(labels, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max(initial=0)))
    labels, sizes = _parts(~region)  # dark spots are filled, the hole of a nut is not
    region |= np.isin(labels, 1 + np.flatnonzero(sizes < 0.01 * region.size))
    if not 0.03 < region.mean() < 0.97:
        return np.ones(photo.shape[:2], bool)
    return np.asarray(region)


def _parts(region: Mask) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The connected parts of a region: their labels from 1 on (H, W), and their sizes in pixels."""
    labels, count = ndimage.label(region)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _otsu(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The value that parts a histogram into the two most compact halves (Otsu, 1979), and how well it does, 0..1."""
    counts, edges = np.histogram(values, 128)
    middle = (edges[:-1] + edges[1:]) / 2
    share, mass = np.cumsum(counts) / counts.sum(), np.cumsum(counts * middle) / counts.sum()
    between = (mass[-1] * share - mass) ** 2 / np.maximum(share * (1 - share), 1e-9)
    best = int(np.argmax(between))
    return float(middle[best]), float(between[best] / max(values.var(), 1e-9))

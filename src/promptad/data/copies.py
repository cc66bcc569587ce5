"""Altered copies of a good photo, where there is only one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Photo = NDArray[np.uint8]


def altered_copies(photo: Photo) -> list[Photo]:
    """Copies of a photo that a good part could also look like: mirrored, shifted by a twentieth, brighter, darker.

    (H, W, 3) uint8 RGB -> the same shape each. They stand in for further good photos when there is only one.
    """
    height, width = photo.shape[:2]
    dy, dx = max(1, height // 20), max(1, width // 20)
    padded = np.pad(photo, ((dy, dy), (dx, dx), (0, 0)), mode="edge")
    shifted = [padded[y : y + height, x : x + width] for y, x in ((0, 0), (2 * dy, 2 * dx))]
    scaled = [np.clip(photo.astype(np.float32) * f, 0, 255).astype(np.uint8) for f in (0.9, 1.1)]
    return [np.ascontiguousarray(copy) for copy in (photo[:, ::-1], photo[::-1], *shifted, *scaled)]

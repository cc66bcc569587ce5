"""Anomaly maps as TIFF files of 16-bit floats, which Pillow does not write.

Baseline TIFF, little-endian, one strip, not compressed, with SampleFormat 3 (floating point).
Adobe, "TIFF, Revision 6.0", 1992.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_SHORT, _LONG = 3, 4
_BLACK_IS_ZERO, _IEEE_FLOAT = 1, 3


def float16_tiff(values: NDArray[np.float16]) -> bytes:
    """The file of an (H, W) array.

    Raises:
        ValueError: not two-dimensional, empty, or too large for the format (4 GiB).
    """
    if values.ndim != 2 or not values.size or values.nbytes > 2**32 - 1024:
        raise ValueError(f"a map has shape {values.shape}; expected (height, width) of at most 4 GiB")
    height, width = values.shape
    tags = (
        (256, _LONG, width),
        (257, _LONG, height),
        (258, _SHORT, 16),  # bits per sample
        (259, _SHORT, 1),  # no compression
        (262, _SHORT, _BLACK_IS_ZERO),
        (273, _LONG, 0),  # where the strip begins; set below
        (277, _SHORT, 1),  # samples per pixel
        (278, _LONG, height),  # rows per strip
        (279, _LONG, values.nbytes),
        (339, _SHORT, _IEEE_FLOAT),
    )
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        # A value stands at the left of its four bytes, which in this byte order are those of the number itself.
        struct.pack("<HHII", tag, kind, 1, start if tag == 273 else value)
        for tag, kind, value in tags
    )
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return head + values.astype("<f2", copy=False).tobytes()

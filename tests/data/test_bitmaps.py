"""BMP files with grey palettes, written here byte by byte: what Pillow reads of them depends on how many colours they name."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from promptad.data.photos import read_mask, read_photo


def bmp(path: Path, indices: np.ndarray, bits: int, greys: list[int]) -> Path:
    """A BMP, bottom row first, rows padded to 4 bytes (Microsoft's BITMAPINFOHEADER)."""
    height, width = indices.shape
    rows = b""
    for row in indices[::-1]:
        if bits == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            padded = np.append(row, 0)[: width + width % 2].astype(np.uint8)
            packed = (padded[::2] << 4 | padded[1::2]).tobytes()
        rows += packed + b"\0" * (-len(packed) % 4)
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in greys)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(rows), 3780, 3780, len(greys), len(greys))
    start = 14 + len(header) + len(palette)
    path.write_bytes(struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + header + palette + rows)
    return path


@pytest.mark.parametrize("width", [8, 9, 31])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    "greys", [[0, 255], [255, 0], [0, 85, 255], [0, 255] + [0] * 10, list(range(16)), [0, 17, 34, 51]]
)
def test_the_palette_decides(tmp_path: Path, greys: list[int], bits: int, width: int) -> None:
    indices = np.random.default_rng(0).integers(0, len(greys), (5, width))
    path = bmp(tmp_path / "m.bmp", indices, bits, greys)
    assert np.array_equal(read_photo(path)[..., 0], np.array(greys)[indices])


@pytest.mark.parametrize("bits", [4, 8])
def test_a_two_coloured_mask_is_not_lost(tmp_path: Path, bits: int) -> None:
    indices = np.zeros((6, 10), int)
    indices[2:4, 3:8] = 1
    path = bmp(tmp_path / "m.bmp", indices, bits, [0, 255])
    assert np.array_equal(read_mask(path), indices > 0)

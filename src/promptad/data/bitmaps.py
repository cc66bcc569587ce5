"""BMP files whose palette is black and white, or 16 even greys, with 4 or 8 bits a pixel.

Pillow takes such a palette for a picture of 1 bit (or 8) and then reads the file's pixels in that depth, which gives rubbish
or an empty mask without an error. KolektorSDD's label images are of this kind.
"""

from __future__ import annotations

import struct
from typing import IO, Any

from PIL import Image, ImagePalette


def mend_grey_palette(image: Image.Image, file: IO[bytes]) -> None:
    """Makes an opened, not yet decoded BMP of that kind one with a palette; changes no other image."""
    if image.format != "BMP" or image.mode not in ("1", "L"):
        return
    bits = _bits(file)
    if bits not in (4, 8) or (image.mode == "L" and bits == 8):
        return
    tiles: list[Any] = getattr(image, "tile", [])
    if len(tiles) != 1 or tiles[0][0] != "raw":
        return
    greys = (0, 255) if image.mode == "1" else range(16)
    image._mode = "P"  # type: ignore[attr-defined]
    image.palette = ImagePalette.raw("RGB", bytes(grey for value in greys for grey in (value,) * 3))
    args = ("P" if bits == 8 else "P;4", *tiles[0][3][1:])
    tile = tiles[0]
    # Older Pillow has plain tuples here.
    image.tile = [tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)]  # type: ignore[attr-defined]


def _bits(file: IO[bytes]) -> int:
    """Bits a pixel from the header; 0 where it is of another form."""
    place = file.tell()
    try:
        file.seek(0)
        start = file.read(30)
        return int(struct.unpack("<H", start[28:30])[0]) if start[:2] == b"BM" and len(start) == 30 else 0
    finally:
        file.seek(place)

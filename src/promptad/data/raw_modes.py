"""Raw modes in which Pillow reads deep photos wrongly: other bytes, or 8 of 16 bits, without an error.

A tile of an opened image names how its bytes are laid out. Three kinds are named wrongly: compressed TIFF of the other byte
order than this machine's, because libtiff has turned the bytes already and only unsigned 16 bits are known to be so; TIFF of 16
bits whose channels lie in planes of their own, uncompressed, of which the bytes are read as if they were 8 bits; and PPM of
more than 8 bits, of which only 8 arrive. What such a PPM says is its largest value is kept in `info` under :data:`LARGEST`.
"""

from __future__ import annotations

from typing import Any

from PIL import Image, TiffImagePlugin

# Raw modes of the file's byte order -> of this machine's, as libtiff gives them.
_NATIVE = {
    **dict.fromkeys(("F;32F", "F;32BF"), "F;32NF"),
    **dict.fromkeys(("I;16S", "I;16BS"), "I;16NS"),
    **dict.fromkeys(("I;32S", "I;32BS"), "I;32NS"),
}
_BITS, _PLANES = 258, 284  # TIFF 6.0

LARGEST = "largest value"
"""Where the largest value that a PPM of more than 8 bits states is kept in the image's `info`."""


def mend_raw_modes(image: Image.Image) -> None:
    """Corrects the raw modes of an opened, not yet decoded image; changes no other image."""
    tiles: list[Any] = list(getattr(image, "tile", []))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.tile = [_tiff_tile(image, tile) for tile in tiles]
    elif image.format == "PPM" and len(tiles) == 1 and tiles[0][0] == "ppm" and tiles[0][3][0] == "RGB":
        _, box, offset, (_, largest) = tiles[0]
        if largest > 255:
            image.tile = [_like(tiles[0], ("raw", box, offset, ("RGB;16B", 0, 1)))]  # type: ignore[attr-defined]
            image.info[LARGEST] = largest


def order_is_fixed(image: Image.Image) -> bool:
    """Whether the decoder pays no heed to the byte order that the tiles of an opened image name."""
    tags, tiles = getattr(image, "tag_v2", {}), getattr(image, "tile", [])
    return bool(tiles) and tiles[0][0] == "libtiff" and tags.get(_PLANES) == 2


def _tiff_tile(image: TiffImagePlugin.TiffImageFile, tile: Any) -> Any:
    codec, box, offset, args = tile
    raw = args[0] if isinstance(args, tuple) and args else None
    if codec == "libtiff" and raw in _NATIVE:
        return _like(tile, (codec, box, offset, (_NATIVE[raw], *args[1:])))
    bits = image.tag_v2.get(_BITS, 8)
    if codec == "raw" and raw in ("R", "G", "B", "A") and (max(bits) if isinstance(bits, tuple) else bits) == 16:
        return _like(tile, (codec, box, offset, (f"{raw};16{'B' if image.tag_v2.prefix == b'MM' else 'L'}", *args[1:])))
    return tile


def _like(tile: Any, parts: tuple[Any, ...]) -> Any:
    """The parts in the form of a tile; older Pillow has plain tuples here."""
    return type(tile)(*parts) if hasattr(tile, "_replace") else parts

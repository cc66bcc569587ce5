"""Colour photos of more than 8 bits that are stored as text (PPM's plain form, P3), of which Pillow keeps 8 bits.

They are brought to the binary form (P6) with every value kept, so that what holds for 16-bit colours holds for them too.
"""

from __future__ import annotations

import io
import re
from typing import IO, Any

import numpy as np
from PIL import Image

_BLOCK = 1 << 20
_COMMENT = re.compile(rb"#[^\r\n]*")


def binary_form(image: Image.Image, file: IO[bytes]) -> io.BytesIO | None:
    """The binary form of an opened, not yet decoded plain PPM whose largest value is above 255; None for all other images.

    Raises:
        ValueError: a value is no number, negative or above the largest that the file states.
    """
    tiles: list[Any] = list(getattr(image, "tile", []))
    if image.format != "PPM" or len(tiles) != 1 or tiles[0][0] != "ppm_plain" or image.mode != "RGB":
        return None
    offset, largest = tiles[0][2], int(tiles[0][3][1])
    if largest <= 255:
        return None
    out = io.BytesIO()
    out.write(b"P6 %d %d %d\n" % (*image.size, largest))
    missing = 3 * image.width * image.height
    file.seek(offset)
    left = b""
    while missing:
        block = file.read(_BLOCK)
        # A value or a comment may go on in the next block, so what follows the last line or blank waits for it.
        words, left = _whole_words(left + block, last=not block)
        values = np.array(words[:missing], dtype=np.int64) if words else np.empty(0, np.int64)
        if values.size and (values.min() < 0 or values.max() > largest):
            raise ValueError(f"values {values.min()}..{values.max()}; its header says 0..{largest}")
        out.write(values.astype(">u2").tobytes())
        missing -= values.size
        if not block:
            break
    out.seek(0)
    return out


def _whole_words(text: bytes, *, last: bool) -> tuple[list[bytes], bytes]:
    """Words that are whole, without comments, and the rest of the text, which may go on."""
    rest = b""
    if not last:
        comment = text.rfind(b"#")
        open_comment = comment >= 0 and not re.search(rb"[\r\n]", text[comment:])
        end = comment if open_comment else max(text.rfind(blank) for blank in (b" ", b"\n", b"\r", b"\t")) + 1
        text, rest = text[:end], text[end:]
    return _COMMENT.sub(b" ", text).split(), rest

"""Photos as people really have them: odd ones that must be read, and broken ones that must be reported."""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

Expected = Literal["ok", "error"]

UNICODE_NAME = "Größe naïve 写真 фото.png"
ORIENTATION = 0x0112


def gradient(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth (H, W, 3) uint8 RGB picture in which every corner and every channel is different."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 255 * columns / max(width - 1, 1)
    green = 255 * rows / max(height - 1, 1)
    blue = np.full((height, width), 90.0)
    return np.rint(np.stack([red, green, blue], axis=2)).astype(np.uint8)


def jpeg_bytes(pixels: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    """The pixels as a JPEG of high quality."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


def file_bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The image as a file of a lossless kind."""
    buffer = io.BytesIO()
    image.copy().save(buffer, kind, **options)  # a saved image remembers settings of its last format
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG from its parts, for forms that Pillow cannot write; rows carry their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def turned_exif(orientation: int) -> bytes:
    """EXIF bytes that carry one orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def make_odd_photos(folder: Path) -> dict[str, Expected]:
    """Write odd and broken photos into ``folder``; returns for each name whether it must be read or reported.

    Three broken ones show it by name or kind: ``notes.txt``, ``photo.heic`` and the folder ``folder.jpg``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Expected] = {}
    for name, content in _readable().items():
        (folder / name).write_bytes(content)
        made[name] = "ok"
    for name, content in _broken().items():
        (folder / name).write_bytes(content)
        made[name] = "error"
    (folder / "folder.jpg").mkdir(exist_ok=True)
    made["folder.jpg"] = "error"
    return made


def _readable() -> dict[str, bytes]:
    rgb = gradient()
    image = Image.fromarray(rgb)
    grey = image.convert("L")
    alpha = Image.fromarray(np.where(np.arange(64) < 32, 0, 255).astype(np.uint8)[None].repeat(48, 0))
    rgba, grey_alpha = image.copy(), grey.copy()
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    ramp = np.linspace(0, 1, rgb.shape[0] * rgb.shape[1]).reshape(rgb.shape[:2])
    levels = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in (0, 128, 255)]
    return {
        "plain.jpg": jpeg_bytes(rgb),
        "UPPER.JPG": jpeg_bytes(rgb),
        "png-named.jpg": file_bytes(image),
        UNICODE_NAME: file_bytes(image),
        "grey8.png": file_bytes(grey),
        "grey16.png": file_bytes(Image.fromarray(np.rint(ramp * 65535).astype(np.uint16))),
        "bit1.png": file_bytes(grey.point(lambda value: 255 * (value > 127)).convert("1")),
        "palette-clear.png": file_bytes(image.quantize(16), transparency=0),
        "rgba.png": file_bytes(rgba),
        "grey-alpha.png": file_bytes(grey_alpha),
        "cmyk.jpg": jpeg_bytes(rgb, "CMYK"),
        "turned.jpg": jpeg_bytes(rgb, exif=turned_exif(6)),
        "bad-exif.jpg": jpeg_bytes(rgb, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff"),
        "one-pixel.png": file_bytes(image.crop((0, 0, 1, 1))),
        "strip.png": file_bytes(Image.fromarray(gradient(40, 3000))),
        "moving.gif": file_bytes(levels[0], "GIF", save_all=True, append_images=levels[1:], duration=50),
        "float.tif": file_bytes(Image.fromarray(ramp.astype(np.float32)), "TIFF"),
    }


def _broken() -> dict[str, bytes]:
    rgb = gradient()
    jpeg, png = jpeg_bytes(rgb), file_bytes(Image.fromarray(rgb))
    floats = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    floats[3, 5] = np.nan
    return {
        "empty.jpg": b"",
        "cut-off.jpg": jpeg[: len(jpeg) // 2],
        "cut-off.png": png[: len(png) // 2],
        "text.jpg": b"this is no photo\n",
        "bomb.png": raw_png(60000, 50000, 8, 0, b"\x00" * 100),
        "float-nan.tif": file_bytes(Image.fromarray(floats), "TIFF"),
        "notes.txt": b"batch 7, second shift\n",
        "photo.heic": b"\x00\x00\x00\x18ftypheic",
    }


def make_odder_photos(folder: Path) -> dict[str, Expected]:
    """More kinds in the same manner: further formats, odd names and shapes, other damage, links and pipes.

    Names that this file system does not take are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Expected] = {}
    image = file_bytes(Image.fromarray(gradient()))
    contents = {
        **{name: (content, "ok") for name, content in _more_formats().items()},
        **dict.fromkeys(_odd_names(), (image, "ok")),
        **{name: (content, "error") for name, content in _more_damage().items()},
    }
    for name, (content, expected) in contents.items():
        with suppress(OSError):
            (folder / name).write_bytes(content)
            made[name] = expected
    (folder / "linked.png").symlink_to("grey8.tif")
    made["linked.png"] = "ok"
    (folder / "dead link.jpg").symlink_to("gone.jpg")
    (folder / "round link.jpg").symlink_to("round link.jpg")
    os.mkfifo(folder / "pipe.jpg")
    made |= {"dead link.jpg": "error", "round link.jpg": "error", "pipe.jpg": "error"}
    return made


def _more_formats() -> dict[str, bytes]:
    rgb = gradient()
    image = Image.fromarray(rgb)
    grey, second = image.convert("L"), Image.fromarray(255 - rgb)
    wide16 = np.repeat(rgb.astype(">u2") * 257, 1, axis=0)
    rows16 = b"".join(b"\x00" + row.tobytes() for row in wide16)
    return {
        "grey.jpg": jpeg_bytes(rgb, "L"),
        "progressive.jpg": jpeg_bytes(rgb, progressive=True),
        "profile.jpg": jpeg_bytes(rgb, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        "trailing.jpg": jpeg_bytes(rgb) + b"\x00rubbish" * 50,
        "camera.jpg": file_bytes(image, "MPO", save_all=True, append_images=[second.copy()]),
        "lossy.webp": file_bytes(image, "WEBP"),
        "lossless.webp": file_bytes(image, "WEBP", lossless=True),
        "moving.webp": file_bytes(image, "WEBP", save_all=True, append_images=[second.copy()]),
        "plain.bmp": file_bytes(image, "BMP"),
        "bit1.bmp": file_bytes(grey.convert("1"), "BMP"),
        "plain.ppm": file_bytes(image, "PPM"),
        "plain.pgm": file_bytes(grey, "PPM"),
        "clear.gif": file_bytes(image.quantize(16), "GIF", transparency=3),
        "grey8.tif": file_bytes(grey, "TIFF"),
        "lzw.tif": file_bytes(image, "TIFF", compression="tiff_lzw"),
        "jpeg-in.tif": file_bytes(image, "TIFF", compression="jpeg"),
        "cmyk.tif": file_bytes(image.convert("CMYK"), "TIFF"),
        "pages.tif": file_bytes(image, "TIFF", save_all=True, append_images=[second.copy()]),
        "rgb16.png": raw_png(64, 48, 16, 2, rows16),
        "grey2.png": raw_png(4, 2, 2, 0, b"\x00\x1b\x00\xe4"),
        "black.png": file_bytes(Image.new("RGB", (64, 48))),
        "white.png": file_bytes(Image.new("L", (64, 48), 255)),
        "column.png": file_bytes(Image.new("RGB", (1, 500), (9, 99, 9))),
        "longest jpeg edge.png": file_bytes(Image.new("L", (65500, 2), 90)),
        "beyond jpeg.png": file_bytes(Image.new("L", (65501, 2), 90)),
        "end of jpeg.png": file_bytes(Image.new("L", (2, 65535), 90)),
        "beyond any jpeg.png": file_bytes(Image.new("L", (70000, 1), 90)),
    }


def _odd_names() -> list[str]:
    return [
        "n" * 240 + ".png",
        "n" * 248 + ".png",
        "n" * 251 + ".png",
        "ü" * 125 + ".png",
        " space.png",
        "two\nlines.png",
        "tab\t.png",
        "quote'\".png",
        "percent%41#?&.png",
        "<b>html</b>.png",
        "-rf.png",
        "=1+1.png",
        "$(false).png",
        "back\\slash.png",
        "colon:c.png",
        "CON.png",
        "twin.png",
        "TWIN.png",
        "caf\u00e9.png",
        "cafe\u0301.png",
        "😀.png",
        os.fsdecode(b"bytes\xff\xfe.png"),
        "http:..png",
        "dots...png",
    ]


def _more_damage() -> dict[str, bytes]:
    rgb = gradient()
    image = Image.fromarray(rgb)
    png, jpeg = file_bytes(image), jpeg_bytes(rgb)
    infinite = np.full((48, 64), np.inf, np.float32)
    return {
        "zeros.png": b"\x00" * 1000,
        "page.jpg": b"<!doctype html><title>404</title>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "archive.png": b"PK\x03\x04" + b"\x00" * 100,
        "head.jpg": jpeg[:20],
        "no-rows.png": raw_png(64, 48, 8, 2, b""),
        "few-rows.png": raw_png(64, 4000, 8, 0, b"\x00" * 65 * 3),
        "no-data.png": png[: png.index(b"IDAT") - 4] + png_chunk(b"IEND", b""),
        "wrong-sum.png": png[:29] + b"\x00\x00\x00\x00" + png[33:],
        "no-width.png": raw_png(0, 48, 8, 0, b""),
        "cut.gif": file_bytes(image.quantize(16), "GIF")[:60],
        "cut.webp": file_bytes(image, "WEBP")[:40],
        "cut.tif": file_bytes(image, "TIFF")[:30],
        "loop.tif": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "cut.bmp": file_bytes(image, "BMP")[:80],
        "infinite.tif": file_bytes(Image.fromarray(infinite), "TIFF"),
        "raw.CR2": b"II*\x00\x10\x00\x00\x00CR\x02\x00",
        "layers.psd": b"8BPS\x00\x01",
        "without suffix": png,
        "table.csv": b"photo,verdict\n",
    }

"""Files that hold fewer pixels than their header says are cut off, in every format; whole ones never are."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odd_photos import raw_png
from promptad.data.photos import read_mask, read_photo
from promptad.errors import PhotoError

NOISE = np.random.default_rng(0).integers(1, 256, (64, 80, 3), dtype=np.uint8)


def saved(kind: str, pixels: np.ndarray = NOISE, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def taller_png(**options: object) -> bytes:
    content = bytearray(saved("PNG", **options))
    content[20:24] = struct.pack(">I", 128)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return bytes(content)


def taller_tiff(compression: str | None) -> bytes:
    content = bytearray(saved("TIFF", **({"compression": compression} if compression else {})))
    at = struct.unpack("<I", content[4:8])[0]
    for number in range(struct.unpack("<H", content[at : at + 2])[0]):
        entry = at + 2 + 12 * number
        if struct.unpack("<H", content[entry : entry + 2])[0] == 257:
            content[entry + 8 : entry + 12] = struct.pack("<I", 128)
    return bytes(content)


def taller_jpeg(progressive: bool) -> bytes:
    content = bytearray(saved("JPEG", quality=90, progressive=progressive))
    at = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[at + 5 : at + 7] = struct.pack(">H", 128)
    return bytes(content)


def half_jpeg(progressive: bool) -> bytes:
    content = saved("JPEG", quality=90, progressive=progressive)
    return content[: len(content) // 2] + b"\xff\xd9"


def taller_bmp() -> bytes:
    content = bytearray(saved("BMP"))
    content[22:26] = struct.pack("<i", 128)
    return bytes(content)


def taller_gif() -> bytes:
    content = bytearray(saved("GIF"))
    content[8:10] = struct.pack("<H", 128)
    at = content.index(b"\x2c\x00\x00\x00\x00")
    content[at + 7 : at + 9] = struct.pack("<H", 128)
    return bytes(content)


SHORT = {
    "png": taller_png(),
    "png-one-row": raw_png(80, 64, 8, 0, b"\0" + b"\x55" * 80),
    "png-16-bit": raw_png(80, 64, 16, 2, (b"\0" + b"\x55" * 480) * 63),
    "tiff": taller_tiff(None),
    "tiff-lzw": taller_tiff("tiff_lzw"),
    "tiff-packbits": taller_tiff("packbits"),
    "jpeg": taller_jpeg(False),
    "jpeg-progressive": taller_jpeg(True),
    "jpeg-half": half_jpeg(False),
    "jpeg-progressive-half": half_jpeg(True),
    "bmp": taller_bmp(),
    "gif": taller_gif(),
    "ppm": saved("PPM").replace(b"80 64", b"80 99"),
    "webp": saved("WEBP", lossless=True)[:-400],
}


@pytest.mark.parametrize("name", SHORT)
def test_fewer_pixels_than_the_header_says_is_cut_off(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"photo.{name.split('-')[0]}"
    path.write_bytes(SHORT[name])
    for read in (read_photo, read_mask):
        with pytest.raises(PhotoError, match=r"is cut off|is damaged"):
            read(path)


def whole_files() -> dict[str, bytes]:
    """Whole photos that end in rows or corners like those of files that are cut off."""
    black = NOISE.copy()
    black[-9:] = 0
    grey = NOISE.copy()
    grey[-24:] = 128
    files = {}
    for shade, pixels in (("black", black), ("grey", grey), ("all-black", np.zeros_like(NOISE))):
        for kind, options in (
            ("PNG", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("JPEG", {"quality": 95}),
            ("JPEG", {"quality": 95, "progressive": True}),
            ("JPEG", {"quality": 95, "restart_marker_blocks": 2}),
            ("BMP", {}),
            ("GIF", {}),
            ("WEBP", {"lossless": True}),
        ):
            files[f"{shade}-{kind}-{'-'.join(map(str, options))}.{kind.lower()}"] = saved(kind, pixels, **options)
        cmyk = io.BytesIO()
        Image.fromarray(pixels).convert("CMYK").save(cmyk, "JPEG")
        files[f"{shade}-cmyk.jpeg"] = cmyk.getvalue()
        one_channel = pixels[..., 0]
        files[f"{shade}-1bit.png"] = saved("PNG", one_channel > 127)
        files[f"{shade}-16bit.png"] = saved("PNG", one_channel.astype(np.uint16) * 257)
        files[f"{shade}-float.tif"] = saved("TIFF", one_channel.astype(np.float32) / 255)
        files[f"{shade}-palette.png"] = saved("PNG", np.asarray(one_channel // 16))
        files[f"{shade}-alpha.png"] = saved("PNG", np.dstack([pixels, one_channel]))
    return files


@pytest.mark.parametrize("name", whole_files())
def test_whole_photos_with_black_or_grey_ends_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(whole_files()[name])
    assert read_photo(path).shape == (64, 80, 3)


def test_a_phone_photo_with_a_second_picture_is_whole_or_cut_off_by_its_first(tmp_path: Path) -> None:
    grey = np.full_like(NOISE, 128)
    grey[:16] = NOISE[:16]
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(NOISE)], quality=95)
    path = tmp_path / "phone.jpg"
    path.write_bytes(buffer.getvalue())
    assert Image.open(path).format == "MPO"
    assert read_photo(path).shape == (64, 80, 3)
    content = bytearray(buffer.getvalue())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 7] = struct.pack(">H", 128)
    path.write_bytes(content)
    with pytest.raises(PhotoError, match="is cut off"):
        read_photo(path)


@pytest.mark.parametrize("height", [1, 2, 3, 5, 8])
def test_short_files_of_any_height(tmp_path: Path, height: int) -> None:
    """One missing row is enough, for every small height."""
    rows = (b"\0" + b"\x77" * 10) * (height - 1)
    (tmp_path / "photo.png").write_bytes(raw_png(10, height, 8, 0, rows))
    with pytest.raises(PhotoError):
        read_photo(tmp_path / "photo.png")
    (tmp_path / "photo.png").write_bytes(raw_png(10, height, 8, 0, rows + b"\0" + b"\0" * 10))
    assert read_photo(tmp_path / "photo.png").shape == (height, 10, 3)


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(raw_png(14142, 14142, 8, 0, b"\0" + b"\x55" * 14142))
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(PhotoError, match="cannot hold 14142x14142 pixels"):
        read_photo(tmp_path / "photo.png", max_pixels=300_000_000)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    assert time.perf_counter() - began < 1
    tracemalloc.stop()
    with pytest.raises(PhotoError, match="the limit is 100000000"):
        read_photo(tmp_path / "photo.png")


def test_a_tiff_of_which_whole_channels_are_missing_is_cut_off(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, np.moveaxis(NOISE, 2, 0), photometric="rgb", planarconfig="separate")
    assert (read_photo(path) == NOISE).all()
    content = bytearray(path.read_bytes())
    at = struct.unpack("<I", content[4:8])[0]
    for number in range(struct.unpack("<H", content[at : at + 2])[0]):
        entry = at + 2 + 12 * number
        tag, _, count = struct.unpack("<HHI", content[entry : entry + 8])
        if tag in (273, 279) and count == 3:
            content[entry + 4 : entry + 8] = struct.pack("<I", 2)
    path.write_bytes(content)
    with pytest.raises(PhotoError, match="cut off"):
        read_photo(path)

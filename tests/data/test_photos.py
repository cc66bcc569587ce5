"""Reading files: which are read, which are reported, and that the pixels lie the right way round."""

from __future__ import annotations

import builtins
import io
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odd_photos import file_bytes, gradient, jpeg_bytes, make_odd_photos, png_chunk, raw_png, turned_exif
from promptad.data import decoding
from promptad.data.decoding import PHOTO_SUFFIXES
from promptad.data.photos import photo_size, read_mask, read_photo
from promptad.errors import PhotoError
from promptad.notices import PromptadNotice

# What each EXIF orientation does to an upright picture when it is stored, so that turning gives it back.
_STORE = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[:, ::-1].transpose(1, 0, 2)[:, :],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[::-1].transpose(1, 0, 2),
}


def error_of(path: Path, **options: int) -> str:
    with pytest.raises(PhotoError) as caught:
        read_photo(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(decoding.shown(path) + ": ")
    assert ";" in message, "every error ends with a way out"
    return message


def test_every_odd_photo_is_read_or_reported(tmp_path: Path) -> None:
    made = make_odd_photos(tmp_path / "odd")
    assert len(made) >= 20
    for name, expected in made.items():
        path = tmp_path / "odd" / name
        if expected == "error":
            error_of(path)
            continue
        photo = read_photo(path)
        assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3, name
        assert photo_size(path) == photo.shape[:2], name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty.jpg", "is empty (0 bytes)"),
        ("cut-off.jpg", "is cut off"),
        ("cut-off.png", "is cut off"),
        ("text.jpg", "not a photo that can be read"),
        ("notes.txt", "expected JPEG, PNG"),
        ("bomb.png", "60000x50000 is 3000000000 pixels, the limit is 100000000"),
        ("float-nan.tif", "1 of 3072 values are NaN or infinite"),
        ("folder.jpg", "is a folder"),
        ("gone.jpg", "there is no such file"),
    ],
)
def test_errors_say_what_was_found(tmp_path: Path, name: str, says: str) -> None:
    make_odd_photos(tmp_path)
    assert says in error_of(tmp_path / name)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".gif", ".ppm", ".pgm"])
def test_half_a_file_is_an_error_in_every_format(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    image = Image.fromarray(noise).convert("L" if suffix == ".pgm" else "RGB")
    whole = tmp_path / f"whole{suffix}"
    image.save(whole)
    assert read_photo(whole).shape == (60, 80, 3)
    half = tmp_path / f"half{suffix}"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    error_of(half)


def test_every_listed_suffix_is_readable(tmp_path: Path) -> None:
    for suffix in PHOTO_SUFFIXES:
        path = tmp_path / f"photo{suffix}"
        Image.fromarray(gradient()).convert("L" if suffix == ".pgm" else "RGB").save(path)
        assert read_photo(path).shape == (48, 64, 3)


def test_lossless_pixels_come_back_in_rgb_order(tmp_path: Path) -> None:
    rgb = gradient()
    for suffix in (".png", ".bmp", ".tif", ".ppm"):
        Image.fromarray(rgb).save(tmp_path / f"photo{suffix}")
        np.testing.assert_array_equal(read_photo(tmp_path / f"photo{suffix}"), rgb)


def test_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(file_bytes(Image.fromarray(gradient())))
    np.testing.assert_array_equal(read_photo(path), gradient())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = gradient(30, 50)
    stored = Image.fromarray(np.ascontiguousarray(_STORE[orientation](upright)))
    path = tmp_path / f"photo{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif, **options)
    assert photo_size(path) == (30, 50)
    np.testing.assert_array_equal(read_photo(path), upright)


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    upright = gradient(32, 64)
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg_bytes(np.ascontiguousarray(_STORE[6](upright)), exif=turned_exif(6)))
    assert photo_size(path) == (32, 64)
    assert np.abs(read_photo(path).astype(int) - upright).mean() < 2


def test_png_with_exif_behind_its_pixels(tmp_path: Path) -> None:
    upright = gradient(20, 30)
    png = file_bytes(Image.fromarray(np.ascontiguousarray(_STORE[8](upright))))
    exif = png_chunk(b"eXIf", turned_exif(8).removeprefix(b"Exif\x00\x00"))
    path = tmp_path / "photo.png"
    path.write_bytes(png[:-12] + exif + png[-12:])
    np.testing.assert_array_equal(read_photo(path), upright)
    assert photo_size(path) == (20, 30)


def test_photo_size_reads_only_the_header(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    path.write_bytes(jpeg_bytes(gradient(480, 640))[:3000])
    assert photo_size(path) == (480, 640)
    png = tmp_path / "no-pixels.png"
    no_pixels = raw_png(640, 480, 8, 2, b"")
    date = png_chunk(b"tEXt", b"date:create\x002019-01-01")  # as ImageMagick leaves it, in MVTec AD too
    for content in (no_pixels, no_pixels[:-12] + date + no_pixels[-12:]):
        png.write_bytes(content)
        assert photo_size(png) == (480, 640)
        error_of(png)
    with pytest.raises(PhotoError, match="there is no such file"):
        photo_size(tmp_path / "gone.png")


def test_first_frame_of_several(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 6), (10, 200, 30)), Image.new("RGB", (8, 6), (255, 0, 0))
    for name in ("frames.gif", "pages.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert (read_photo(tmp_path / name) == (10, 200, 30)).all()


def test_the_limit_is_a_parameter_and_states_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("L", (100, 50)).save(path)
    assert read_photo(path, max_pixels=5000).shape == (50, 100, 3)
    assert "100x50 is 5000 pixels, the limit is 4999" in error_of(path, max_pixels=4999)


def test_photos_between_pillows_limit_and_ours_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow would warn from 1000 and refuse from 2000
    for suffix in (".png", ".tif", ".gif", ".webp"):
        Image.new("L", (100, 50)).save(tmp_path / f"photo{suffix}")
    for suffix in (".png", ".tif", ".gif", ".webp"):
        assert read_photo(tmp_path / f"photo{suffix}").shape == (50, 100, 3)
    assert not [warning for warning in recwarn if "Image size" in str(warning.message)]
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_threads_leave_pillows_limit_as_it_was(tmp_path: Path) -> None:
    made = make_odd_photos(tmp_path)
    before = Image.MAX_IMAGE_PIXELS
    start = threading.Barrier(4)

    def read_all(worker: int) -> int:
        start.wait()
        read = 0
        for name in sorted(made, reverse=bool(worker % 2)):
            try:
                read_photo(tmp_path / name)
                read += 1
            except PhotoError:
                pass
        return read

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(read_all, range(4)))
    assert counts == [sum(expected == "ok" for expected in made.values())] * 4
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a regular file" in error_of(tmp_path / "pipe.jpg")


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"  # tests may run as root, for whom no file is locked
    path.write_bytes(file_bytes(Image.new("L", (2, 2))))

    def denied(*args: object, **kwargs: object) -> io.BytesIO:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(builtins, "open", denied)
    assert "permission denied" in error_of(path)


def test_names_with_line_breaks_stay_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.jpg"
    path.write_bytes(b"")
    error_of(path)
    error_of(tmp_path / ("n" * 300 + ".jpg"))
    error_of(Path("nul\x00byte.jpg"))


def test_zero_sized_and_damaged_headers(tmp_path: Path) -> None:
    (tmp_path / "none.png").write_bytes(raw_png(0, 0, 8, 0, b""))
    error_of(tmp_path / "none.png")
    (tmp_path / "none.ppm").write_bytes(b"P6\n0 5\n255\n")
    error_of(tmp_path / "none.ppm")
    (tmp_path / "crc.png").write_bytes(raw_png(4, 4, 8, 0, zlib.compress(b"")).replace(b"IDAT", b"IDAX"))
    error_of(tmp_path / "crc.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".gif", ".bmp", ".webp", ".ppm"])
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(gradient(24, 32)).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), 5):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        for read in (read_photo, photo_size, read_mask):
            try:
                read(path, max_pixels=1_000_000)
            except PhotoError as error:
                assert "\n" not in str(error)


def test_other_formats_that_pillow_knows_are_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "drawing.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert "not a photo that can be read" in error_of(path)


def test_heic_needs_pillow_heif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    (tmp_path / "phone.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic")
    assert "pip install 'promptad[heif]'" in error_of(tmp_path / "phone.HEIC")


def test_heic_is_read_upright(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    picture = gradient(64, 96)
    Image.fromarray(picture).save(tmp_path / "phone.heic", quality=90)
    photo = read_photo(tmp_path / "phone.heic")
    assert np.abs(photo.astype(int) - picture).mean() < 3
    assert photo_size(tmp_path / "phone.heic") == (64, 96)
    half = (tmp_path / "phone.heic").read_bytes()
    (tmp_path / "half.heic").write_bytes(half[: len(half) // 2])
    error_of(tmp_path / "half.heic")


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".webp"])
def test_further_frames_are_said_to_be_unused(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (8, 6), (10, 200, 30)), Image.new("RGB", (8, 6), (255, 0, 0))
    first.save(tmp_path / f"frames{suffix}", save_all=True, append_images=[second])
    with pytest.warns(PromptadNotice, match="the first of each is the photo, the others are not used"):
        read_photo(tmp_path / f"frames{suffix}")


def mask_file(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_any_nonzero_pixel_of_a_mask_is_defect(tmp_path: Path) -> None:
    truth = np.zeros((6, 9), bool)
    truth[2:4, 3:7] = True
    grey = {name: np.where(truth, value, 0) for name, value in (("one", 1), ("half", 128), ("full", 255))}
    images = {name: Image.fromarray(values.astype(np.uint8)) for name, values in grey.items()}
    images["bit"] = images["full"].convert("1")
    images["deep"] = Image.fromarray(np.where(truth, 7, 0).astype(np.uint16))
    images["red"] = Image.merge("RGB", (images["full"], Image.new("L", (9, 6)), Image.new("L", (9, 6))))
    images["palette"] = images["red"].quantize(4)
    rgba = Image.new("RGBA", (9, 6), (255, 255, 255, 0))
    rgba.paste((255, 255, 255, 255), (3, 2, 7, 4))
    images["cut-out"] = rgba
    for name, image in images.items():
        mask = read_mask(mask_file(tmp_path / f"{name}.png", image), size=(6, 9))
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, truth, err_msg=name)
    np.testing.assert_array_equal(
        read_mask(mask_file(tmp_path / "float.tif", Image.fromarray(truth.astype(np.float32) * 0.5))), truth
    )


def test_an_empty_mask_is_all_normal(tmp_path: Path) -> None:
    for name in ("black.png", "black.jpg"):
        assert not read_mask(mask_file(tmp_path / name, Image.new("L", (9, 6)))).any()


def test_jpeg_noise_is_no_defect(tmp_path: Path) -> None:
    truth = np.zeros((64, 64), bool)
    truth[18:43, 21:50] = True
    path = mask_file(tmp_path / "mask.jpg", Image.fromarray(truth.astype(np.uint8) * 255), quality=60)
    stored = np.asarray(Image.open(path))
    assert ((stored > 0) != truth).any(), "the file must hold noise, or this test says nothing"
    np.testing.assert_array_equal(read_mask(path), truth)


def test_mask_size_mismatch_names_both_sizes(tmp_path: Path) -> None:
    path = mask_file(tmp_path / "mask.png", Image.new("L", (450, 440)))
    with pytest.raises(PhotoError, match=r"the photo is 1000x880 .*its mask 450x440; export") as caught:
        read_mask(path, size=(880, 1000))
    assert "EXIF" not in str(caught.value)
    with pytest.raises(PhotoError, match=r"sides are swapped.*EXIF orientation"):
        read_mask(path, size=(450, 440))
    assert read_mask(path).shape == (440, 450)


def test_mask_errors_are_photo_errors(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="there is no such file"):
        read_mask(tmp_path / "gone.png")
    values = np.zeros((3, 3), np.float32)
    values[0, 0] = np.inf
    with pytest.raises(PhotoError, match="1 of 9 values"):
        read_mask(mask_file(tmp_path / "mask.tif", Image.fromarray(values)))


def test_png_chunk_helper_writes_valid_chunks() -> None:
    chunk = png_chunk(b"eXIf", b"abc")
    assert struct.unpack(">I", chunk[:4]) == (3,)
    assert struct.unpack(">I", chunk[-4:]) == (zlib.crc32(b"eXIfabc"),)

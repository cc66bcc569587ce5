"""Depths, colour modes and transparency, checked value by value."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from odd_photos import file_bytes, gradient, jpeg_bytes, make_odd_photos, raw_png, turned_exif
from promptad.data.photos import as_photo, read_photo
from promptad.errors import PhotoError

WHITE = (255, 255, 255)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def grey_of(photo: np.ndarray) -> np.ndarray:
    assert (photo == photo[..., :1]).all(), "the three channels of a grey photo are equal"
    return photo[..., 0]


def test_16_bit_grey_is_scaled_by_its_true_range(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257], [32767, 32896, 65406, 65535]], np.uint16)
    expected = [[0, 0, 1, 1], [127, 128, 254, 255]]
    image = Image.fromarray(values)
    for name in ("photo.png", "photo.tif"):
        np.testing.assert_array_equal(grey_of(read_photo(save(tmp_path / name, image))), expected)
    (tmp_path / "photo.pgm").write_bytes(b"P5 4 2 65535\n" + values.astype(">u2").tobytes())
    np.testing.assert_array_equal(grey_of(read_photo(tmp_path / "photo.pgm")), expected)
    np.testing.assert_array_equal(grey_of(as_photo(values)), expected)
    np.testing.assert_array_equal(grey_of(as_photo(values.astype(">u2"))), expected)


def test_a_dark_16_bit_photo_is_not_stretched(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)  # a 12-bit camera
    assert read_photo(save(tmp_path / "dark.png", Image.fromarray(values))).max() == 16


def test_16_bit_rgb_png(tmp_path: Path) -> None:
    row = np.array([[0, 32896, 65535], [65535, 257 * 90, 0]], ">u2").tobytes()
    path = tmp_path / "deep.png"
    path.write_bytes(raw_png(2, 1, 16, 2, b"\x00" + row))
    np.testing.assert_array_equal(read_photo(path), [[[0, 128, 255], [255, 90, 0]]])


def test_32_bit_integers_are_16_bit_values_or_an_error(tmp_path: Path) -> None:
    values = np.array([[0, 65535], [32896, 257]], np.int32)
    photo = read_photo(save(tmp_path / "int.tif", Image.fromarray(values)))
    np.testing.assert_array_equal(grey_of(photo), [[0, 255], [128, 1]])
    for wrong in (-1, 65536):
        values[0, 0] = wrong
        with pytest.raises(PhotoError, match=f"{wrong}.*expected 0..65535"):
            read_photo(save(tmp_path / "wrong.tif", Image.fromarray(values)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.2, 0.4, 0.6], [51, 102, 153]),
        ([0.0, 99.6, 255.0], [0, 100, 255]),
    ],
)
def test_float_tiff_ranges(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    photo = read_photo(save(tmp_path / "float.tif", Image.fromarray(np.array([values], np.float32))))
    np.testing.assert_array_equal(grey_of(photo), [expected])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float_tiff_with_nan_or_infinity(tmp_path: Path, bad: float) -> None:
    values = np.array([[0.0, bad, 1.0]], np.float32)
    with pytest.raises(PhotoError, match="1 of 3 values are NaN or infinite"):
        read_photo(save(tmp_path / "float.tif", Image.fromarray(values)))


def test_one_bit(tmp_path: Path) -> None:
    bits = np.array([[True, False, True]])
    assert grey_of(read_photo(save(tmp_path / "bits.png", Image.fromarray(bits)))).tolist() == [[255, 0, 255]]
    assert grey_of(as_photo(bits)).tolist() == [[255, 0, 255]]


def test_grey_and_palette(tmp_path: Path) -> None:
    grey = Image.fromarray(gradient()[..., 0])
    np.testing.assert_array_equal(grey_of(read_photo(save(tmp_path / "g.png", grey))), gradient()[..., 0])
    palette = Image.fromarray(gradient()).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_photo(save(tmp_path / "p.png", palette)), expected)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (3, 1))
    for column, pixel in enumerate([(200, 10, 30, 255), (200, 10, 30, 0), (200, 10, 30, 128)]):
        rgba.putpixel((column, 0), pixel)
    photo = read_photo(save(tmp_path / "rgba.png", rgba))
    assert photo[0, 0].tolist() == [200, 10, 30]
    assert photo[0, 1].tolist() == list(WHITE)
    expected = [c * 128 / 255 + 255 * 127 / 255 for c in (200, 10, 30)]
    np.testing.assert_allclose(photo[0, 2], expected, atol=1)
    np.testing.assert_array_equal(as_photo(np.asarray(rgba)), photo)


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    image = Image.fromarray(gradient())
    image.putalpha(255)
    np.testing.assert_array_equal(read_photo(save(tmp_path / "rgba.png", image)), gradient())


def test_clear_palette_entry_grey_alpha_and_clear_colour(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    palette.putpalette([1, 2, 3, 40, 50, 60])
    photo = read_photo(save(tmp_path / "p.png", palette, transparency=0))
    assert photo.tolist() == [[list(WHITE), [40, 50, 60], [40, 50, 60]]]

    grey_alpha = Image.new("LA", (2, 1), (70, 255))
    grey_alpha.putpixel((1, 0), (70, 0))
    assert read_photo(save(tmp_path / "la.png", grey_alpha)).tolist() == [[[70] * 3, list(WHITE)]]

    keyed = Image.fromarray(np.array([[[9, 9, 9], [8, 8, 8]]], np.uint8))
    photo = read_photo(save(tmp_path / "keyed.png", keyed, transparency=(9, 9, 9)))
    assert photo.tolist() == [[list(WHITE), [8, 8, 8]]]


def test_cmyk_jpeg_is_close_to_its_rgb_original(tmp_path: Path) -> None:
    rgb = gradient()
    path = tmp_path / "print.jpg"
    path.write_bytes(jpeg_bytes(rgb, "CMYK"))
    assert Image.open(path).mode == "CMYK"
    assert np.abs(read_photo(path).astype(int) - rgb).mean() < 2


def test_lab_and_hsv_give_red(tmp_path: Path) -> None:
    lab = save(tmp_path / "lab.tif", Image.new("LAB", (1, 1), (136, 208, 195)))  # L 53, a 80, b 67
    np.testing.assert_allclose(read_photo(lab)[0, 0], [255, 0, 0], atol=12)
    assert as_photo(Image.new("HSV", (1, 1), (0, 255, 255))).tolist() == [[[255, 0, 0]]]


def test_a_mode_without_conversion_is_an_error() -> None:
    with pytest.raises(PhotoError, match="Pillow image: colour mode La"):
        as_photo(Image.new("La", (2, 2)))


def test_as_photo_of_a_path_text_and_pillow_image_agree(tmp_path: Path) -> None:
    made = make_odd_photos(tmp_path)
    for name, expected in made.items():
        if expected == "ok":
            photo = read_photo(tmp_path / name)
            np.testing.assert_array_equal(as_photo(os.fspath(tmp_path / name)), photo)
            np.testing.assert_array_equal(as_photo(Image.open(tmp_path / name)), photo, err_msg=name)


def test_as_photo_turns_a_pillow_image_once(tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    path.write_bytes(file_bytes(Image.fromarray(gradient(20, 30)), exif=turned_exif(3)))
    expected = gradient(20, 30)[::-1, ::-1]
    image = Image.open(path)
    np.testing.assert_array_equal(as_photo(image), expected)
    np.testing.assert_array_equal(as_photo(Image.fromarray(as_photo(image))), expected)


def test_as_photo_accepts_every_array_form() -> None:
    rgb = gradient()
    assert as_photo(rgb) is rgb
    grey = rgb[..., 1]
    np.testing.assert_array_equal(grey_of(as_photo(grey)), grey)
    np.testing.assert_array_equal(grey_of(as_photo(grey[..., None])), grey)
    np.testing.assert_array_equal(as_photo(np.dstack([rgb, np.full(grey.shape, 255, np.uint8)])), rgb)
    np.testing.assert_array_equal(as_photo(rgb[::-1, ::2]), rgb[::-1, ::2])
    for kind in (np.float16, np.float32, np.float64):
        assert np.abs(as_photo((rgb / 255).astype(kind)).astype(int) - rgb).max() <= (kind == np.float16)
    np.testing.assert_array_equal(as_photo(rgb.astype(np.uint16) * 257), rgb)
    clear = np.zeros((2, 2, 4), np.float32)
    assert (as_photo(clear) == 255).all()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 20, 30), np.uint8), "channels come last"),
        (np.zeros((2, 20, 30, 3), np.uint8), "one by one"),
        (np.zeros((20, 30, 2), np.uint8), "shape 20x30x2"),
        (np.zeros(5, np.uint8), "shape 5;"),
        (np.zeros((), np.uint8), "shape scalar"),
        (np.zeros((0, 30, 3), np.uint8), "no pixels"),
        (np.zeros((20, 30, 3), np.int64), "dtype int64"),
        (np.zeros((20, 30), complex), "dtype complex128"),
        (np.zeros((20, 30), object), "dtype object"),
        (np.full((20, 30, 3), 200.0), "float values 200..200; expected 0..1"),
        (np.full((20, 30, 3), -0.5), "float values -0.5..-0.5"),
        (np.full((2, 2), np.nan), "4 of 4 values are NaN"),
    ],
)
def test_as_photo_refuses_other_arrays(array: np.ndarray, says: str) -> None:
    with pytest.raises(PhotoError) as caught:
        as_photo(array)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_as_photo_refuses_other_objects_and_huge_ones() -> None:
    class Tensor:
        def numpy(self) -> np.ndarray:
            return gradient()

    with pytest.raises(PhotoError, match=r"found a Tensor.*call \.cpu\(\)\.numpy\(\)"):
        as_photo(Tensor())
    for wrong in (None, 3, b"bytes", [[0]]):
        with pytest.raises(PhotoError, match=f"found a {type(wrong).__name__}"):
            as_photo(wrong)
    with pytest.raises(PhotoError, match="64x48 is 3072 pixels, the limit is 3000"):
        as_photo(gradient(), max_pixels=3000)
    with pytest.raises(PhotoError, match="64x48 is 3072 pixels, the limit is 3000"):
        as_photo(Image.fromarray(gradient()), max_pixels=3000)


def test_as_photo_reports_a_pillow_image_that_does_not_decode(tmp_path: Path) -> None:
    make_odd_photos(tmp_path)
    with pytest.raises(PhotoError, match=r"cut-off\.jpg: is cut off"):
        as_photo(Image.open(tmp_path / "cut-off.jpg"))


@given(arrays.arrays(np.float64, (2, 3), elements=st.floats(0, 1)))
def test_float_arrays_round_to_the_nearest_level(values: np.ndarray) -> None:
    assert np.abs(grey_of(as_photo(values)) - values * 255).max() <= 0.5 + 1e-4


@given(st.integers(0, 65535))
def test_16_bit_rule_is_monotone_and_exact_at_multiples(value: int) -> None:
    level = int(as_photo(np.array([[value]], np.uint16))[0, 0, 0])
    assert abs(level - value * 255 / 65535) <= 0.5
    assert as_photo(np.array([[level * 257]], np.uint16))[0, 0, 0] == level

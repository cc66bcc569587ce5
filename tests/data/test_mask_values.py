"""Masks are read by their values: two levels, label numbers, or soft; the file's format decides nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, label

from promptad.data.mask_values import read_values
from promptad.data.photos import read_mask
from promptad.notices import PromptadNotice, collected_notices


def ellipse(height: int = 160, width: int = 200) -> np.ndarray:
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).ellipse((50, 40, 120, 110), fill=255)
    return np.asarray(image)


TRUE = ellipse() > 0


def same_area(mask: np.ndarray, share: float) -> bool:
    return bool((mask != TRUE).sum() <= share * TRUE.sum()) and label(mask, np.ones((3, 3)))[1] == 1


@pytest.mark.parametrize("quality", [20, 60, 90, 100])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_the_noise_of_a_lossy_file_is_no_defect_in_any_format(tmp_path: Path, quality: int, kind: str) -> None:
    noisy = io.BytesIO()
    Image.fromarray(ellipse()).save(noisy, "JPEG", quality=quality)
    noisy.seek(0)
    path = tmp_path / f"mask.{kind.lower()}"
    image = Image.open(noisy).convert("L")
    image.save(path, kind, **({"quality": quality} if kind == "WEBP" else {}))
    assert same_area(read_mask(path), 0.01 if quality > 20 else 0.03)


@pytest.mark.parametrize("sigma", [0.8, 1, 2, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_soft_edges_count_from_half_and_are_said(tmp_path: Path, sigma: float, dtype: str) -> None:
    full = 1 if dtype == "f4" else np.iinfo(dtype).max
    soft = (gaussian_filter(TRUE.astype(float), sigma) * full).astype(dtype)
    path = tmp_path / "mask.tif"
    Image.fromarray(soft).save(path)
    with pytest.warns(PromptadNotice, match="masks are soft"):
        mask = read_mask(path)
    assert same_area(mask, 0.05)


@pytest.mark.parametrize("numbers", [(1,), (255,), (7,), (1, 2), (1, 2, 9), (60, 120), (85, 255), (40, 90, 140, 200)])
def test_label_numbers_are_all_defects(numbers: tuple[int, ...]) -> None:
    values = np.zeros((60, 90), np.uint8)
    for place, number in enumerate(numbers):
        values[5 + 12 * place : 13 + 12 * place, 10:50] = number
        values[5 + 12 * place, 60:80] = number  # a scratch one pixel wide
    reading = read_values(values)
    assert reading.kind == ("levels" if len(numbers) == 1 else "labels")
    np.testing.assert_array_equal(reading.mask, values > 0)


def test_colours_of_a_palette_are_labels(tmp_path: Path) -> None:
    image = Image.new("P", (40, 30))
    image.putpalette([0, 0, 0, 0, 128, 0, 200, 0, 0])
    draw = ImageDraw.Draw(image)
    draw.rectangle((5, 5, 12, 12), fill=1)
    draw.rectangle((20, 5, 30, 20), fill=2)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), np.asarray(image) > 0)


def test_levels_without_any_zero(tmp_path: Path) -> None:
    Image.fromarray(np.where(TRUE, 200, 20).astype(np.uint8)).save(tmp_path / "mask.png")
    with pytest.warns(PromptadNotice, match="without any 0; the larger"):
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), TRUE)


def test_antialiased_drawings_on_nothing(tmp_path: Path) -> None:
    """White on transparent, with soft alpha, is as soft as its alpha."""
    alpha = (gaussian_filter(TRUE.astype(float), 1) * 255).astype(np.uint8)
    image = Image.new("RGBA", (200, 160), (255, 255, 255, 0))
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "mask.png")
    with pytest.warns(PromptadNotice, match="masks are soft"):
        assert same_area(read_mask(tmp_path / "mask.png"), 0.05)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((8, 9), np.uint8), "the mask is empty, it marks no defect"),
        (np.full((8, 9), 255, np.uint8), "more than 90% of their photo"),
        (np.where(TRUE[:20, :60], 0, 255).astype(np.uint8), "more than 90% of their photo"),
        (np.where(TRUE, 0, 255).astype(np.uint8), "mark the edge of their photo all around"),
        (np.where(TRUE, 0, 7).astype(np.uint8), "mark the edge of their photo all around"),
    ],
)
def test_implausible_masks_get_a_line(tmp_path: Path, values: np.ndarray, says: str) -> None:
    Image.fromarray(values).save(tmp_path / "mask.png")
    with pytest.warns(PromptadNotice, match=says):
        read_mask(tmp_path / "mask.png")


def test_plain_masks_say_nothing(tmp_path: Path) -> None:
    Image.fromarray(ellipse()).save(tmp_path / "mask.png")
    with collected_notices() as lines:
        read_mask(tmp_path / "mask.png")
    assert lines == []


def test_several_masks_of_a_photo_are_united(tmp_path: Path) -> None:
    parts = []
    for name, columns in (("a", slice(0, 80)), ("b", slice(80, None))):
        part = np.zeros_like(ellipse())
        part[:, columns] = ellipse()[:, columns]
        parts.append(tmp_path / f"{name}.png")
        Image.fromarray(part).save(parts[-1])
    np.testing.assert_array_equal(read_mask(parts, TRUE.shape), TRUE)


NOISE = "masks of small numbers that look like noise"


@pytest.mark.parametrize("number", [1, 5, 20])
@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {"quality": 75}), ("webp", {"quality": 60}), ("tif", {"compression": "jpeg"})]
)
def test_small_numbers_in_lossy_files_are_said(
    tmp_path: Path, number: int, suffix: str, options: dict[str, object]
) -> None:
    Image.fromarray((TRUE * number).astype(np.uint8)).save(tmp_path / f"mask.{suffix}", **options)
    with pytest.warns(PromptadNotice, match=NOISE):
        read_mask(tmp_path / f"mask.{suffix}")


def test_faint_soft_masks_and_noise_are_said_in_lossless_files(tmp_path: Path) -> None:
    faint = (gaussian_filter(TRUE.astype(float), 4) * 12).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 4, TRUE.shape).astype(np.uint8)
    for values in (noise, faint * (faint < 8)):
        Image.fromarray(values).save(tmp_path / "mask.png")
        with pytest.warns(PromptadNotice, match=NOISE):
            read_mask(tmp_path / "mask.png")


def test_touching_label_numbers_and_lossless_webp_say_nothing(tmp_path: Path) -> None:
    values = np.zeros((60, 90), np.uint8)
    values[5:30, 5:40], values[30:50, 5:40], values[10:14, 60:64] = 1, 2, 3
    for suffix, options in (("png", {}), ("webp", {"lossless": True})):
        Image.fromarray(values).save(tmp_path / f"mask.{suffix}", **options)
        with collected_notices() as lines:
            np.testing.assert_array_equal(read_mask(tmp_path / f"mask.{suffix}"), values > 0)
        assert lines == []

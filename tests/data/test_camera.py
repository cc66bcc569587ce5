"""What a photo says of its camera: each statistic moves with its cause, and hardly with anything else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from promptad.data.camera import NAMES, camera_statistics


def photo(seed: int = 0, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Smooth colours with fine noise on top."""
    rng = np.random.default_rng(seed)
    small = rng.integers(90, 130, (6, 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def moved(change) -> dict[str, float]:
    """How much each statistic moves."""
    before, after = camera_statistics(photo()), camera_statistics(change(photo()))
    return {name: after[name] - before[name] for name in NAMES}


def test_light_moves_brightness_alone():
    by = moved(lambda p: (p * 0.85).astype(np.uint8))
    assert by["brightness"] == pytest.approx(-0.15 * camera_statistics(photo())["brightness"], rel=0.05)
    assert abs(by["sharpness"]) < 0.03 and abs(by["warmth"]) < 0.01 and abs(by["tint"]) < 0.01 and by["size"] == 0


def test_the_lights_colour_moves_warmth_or_tint_alone():
    warm = moved(lambda p: np.clip(p * [1.06, 1, 0.94], 0, 255).astype(np.uint8))
    assert warm["warmth"] == pytest.approx(math.log(1.06 / 0.94), abs=0.01)
    assert abs(warm["tint"]) < 0.01 and abs(warm["sharpness"]) < 0.05 and abs(warm["brightness"]) < 2
    green = moved(lambda p: np.clip(p * [1, 1.06, 1], 0, 255).astype(np.uint8))
    assert green["tint"] == pytest.approx(math.log(1.06), abs=0.01) and abs(green["warmth"]) < 0.01


def test_focus_moves_sharpness_alone():
    by = moved(lambda p: np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(1.5))))
    assert (
        by["sharpness"] < -0.5 and abs(by["brightness"]) < 0.7 and abs(by["warmth"]) < 0.01 and abs(by["tint"]) < 0.01
    )


def test_a_defect_barely_moves_anything():
    def scratched(p: np.ndarray) -> np.ndarray:
        image = Image.fromarray(p)
        draw = ImageDraw.Draw(image)
        draw.line((30, 40, 130, 110), fill=(10, 10, 10), width=6)
        draw.ellipse((60, 120, 110, 170), fill=(250, 240, 230))
        return np.asarray(image)

    by = moved(scratched)
    assert (
        abs(by["brightness"]) < 3 and abs(by["sharpness"]) < 0.1 and abs(by["warmth"]) < 0.03 and abs(by["tint"]) < 0.03
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 9), (8, 8), (33, 2000)])
def test_photos_of_every_shape_have_finite_statistics(size):
    values = camera_statistics(photo(1, size))
    assert tuple(values) == NAMES and all(math.isfinite(value) for value in values.values())
    assert values["size"] == size[0] * size[1]


def test_grey_photos_have_no_colour_and_flat_ones_no_sharpness():
    grey = np.repeat(photo()[..., :1], 3, axis=2)
    values = camera_statistics(grey)
    assert values["warmth"] == 0 and values["tint"] == 0
    assert camera_statistics(np.full((50, 50, 3), 128, np.uint8))["sharpness"] == 0

"""Views, the way back to photo pixels, and resampling."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from promptad.clip.preprocess import Preprocess, View, bilinear_resize, crop_boxes, normalise, tile_boxes
from promptad.errors import ConfigError, PhotoError
from promptad.scoring.maps import photo_map

FITS = ("auto", "letterbox", "area", "squash", "crop", "tiles", "multicrop")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("fit", "shape", "expected"),
    [
        ("squash", (300, 400), [View((0, 0, 400, 300), (240, 240), (0, 0, 240, 240))]),
        ("letterbox", (300, 400), [View((0, 0, 400, 300), (176, 240), (0, 0, 176, 240))]),
        ("letterbox", (900, 300), [View((0, 0, 300, 900), (240, 80), (0, 0, 240, 80))]),
        ("area", (300, 400), [View((0, 0, 400, 300), (208, 272), (0, 0, 208, 272))]),
        ("area", (500, 500), [View((0, 0, 500, 500), (240, 240), (0, 0, 240, 240))]),
        ("crop", (300, 400), [View((0, 0, 400, 300), (240, 320), (0, 40, 240, 240))]),
        ("crop", (601, 300), [View((0, 0, 300, 601), (480, 240), (120, 0, 240, 240))]),
        ("auto", (300, 600), [View((0, 0, 600, 300), (128, 240), (0, 0, 128, 240))]),
        (
            "auto",
            (100, 201),
            [View((x, 0, x + 100, 100), (240, 240), (0, 0, 240, 240)) for x in (0, 80, 101)],
        ),
        (
            "tiles",
            (400, 300),
            [View((0, y, 300, y + 300), (240, 240), (0, 0, 240, 240)) for y in (0, 100)],
        ),
    ],
)
def test_views_of_every_fit(fit, shape, expected):
    assert Preprocess(240, 16, fit).views(*shape) == expected


@settings(deadline=None)
@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.sampled_from([f for f in FITS if f not in ("auto", "tiles", "multicrop")]),
)
def test_one_view_lies_inside_the_photo_and_on_whole_patches(height, width, fit):
    (view,) = Preprocess(240, 16, fit).views(height, width)
    assert view.size[0] % 16 == view.size[1] % 16 == 0 and min(view.size) >= 16
    top, left, high, wide = view.crop
    assert top >= 0 and left >= 0
    assert top + high <= view.resized[0] and left + wide <= view.resized[1]
    left_, top_, right_, bottom_ = view.region
    assert -1e-6 <= left_ < right_ <= width + 1e-6 and -1e-6 <= top_ < bottom_ <= height + 1e-6
    if fit == "letterbox":
        assert max(view.size) == 240
    if fit in ("letterbox", "area") and max(height, width) <= 4 * min(height, width):
        assert abs(view.size[0] / view.size[1] / (height / width) - 1) < 0.25  # half a patch on the short side
    if fit == "area" and max(height, width) <= 4 * min(height, width):
        assert 0.85 < view.size[0] * view.size[1] / 240**2 < 1.15
    if fit != "crop":
        assert view.region == pytest.approx((0, 0, width, height))


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 3000))
@example(1, 36)  # a stride of 2.4 pixels rounds to 2
def test_tiles_cover_every_pixel_and_end_flush(height, width):
    boxes, side, long = tile_boxes(height, width), min(height, width), max(height, width)
    axis = 0 if width >= height else 1
    length = boxes[0][2 + axis] - boxes[0][axis]
    assert all(box[1 - axis] == 0 and box[3 - axis] == side and box[2 + axis] - box[axis] == length for box in boxes)
    # Squares, unless they would be more than 16.
    assert length == side or (length > side and long > side * (1 + 0.8 * 14))
    assert len(boxes) <= 16
    starts = [box[axis] for box in boxes]
    assert starts[0] == 0 and starts[-1] == long - length
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= max(1, round(0.8 * length))).all()
    assert len(boxes) == 1 if height == width else len(boxes) >= 2


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 100), [(0, 0), (0, 20), (20, 0), (20, 20), (10, 10)]),
        ((300, 400), [(0, 0), (0, 60), (160, 0), (160, 60), (80, 30)]),
        ((500, 100), [(0, y) for y in (0, 64, 128, 192, 256, 320, 384, 420)]),
    ],
)
def test_crops_of_usual_photos(shape, expected):
    side = 0.8 * min(shape)
    boxes = crop_boxes(*shape)
    assert all((right - left, bottom - top) == (side, side) for left, top, right, bottom in boxes)
    corners = [(left, top) for left, top, _, _ in boxes]
    if shape == (500, 100):  # every crop also at the right edge, and the centre
        expected = [(x, y) for _, y in expected for x in (0, 20)] + [(10, 210)]
    assert corners == expected


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 9000))
def test_crops_cover_the_photo_overlap_and_are_few(height, width):
    boxes, short, long = crop_boxes(height, width), min(height, width), max(height, width)
    axis = 0 if width >= height else 1
    side = max(1, round(0.8 * short))
    length = boxes[0][2 + axis] - boxes[0][axis]
    assert {(b[2 + axis] - b[axis], b[3 - axis] - b[1 - axis]) for b in boxes} == {(length, side)}
    assert length == side or (length > side and long > side * (1 + 0.8 * 6))
    assert len(set(boxes)) == len(boxes) <= 19
    across = {b[1 - axis] for b in boxes}
    starts = sorted({b[axis] for b in boxes if b[1 - axis] in (0, short - side)})
    assert starts[0] == 0 and starts[-1] == long - length and {0, short - side} <= across
    assert np.diff([*starts, starts[-1] + 1]).max() <= max(1, round(0.8 * length))
    assert all(0 <= b[0] < b[2] <= width and 0 <= b[1] < b[3] <= height for b in boxes)
    # The same photo turned by a quarter has the same crops, turned.
    assert sorted(crop_boxes(width, height)) == sorted((b[1], b[0], b[3], b[2]) for b in boxes)


def test_multicrop_is_the_whole_photo_squashed_and_the_crops():
    views = Preprocess(48, 8, "multicrop").views(60, 90)
    assert [view.box for view in views] == [(0, 0, 90, 60), *crop_boxes(60, 90)]
    assert {(view.resized, view.crop) for view in views} == {((48, 48), (0, 0, 48, 48))}


def ramps(height: int, width: int) -> np.ndarray:
    """Red grows from left to right, green from top to bottom, over the whole range."""
    y, x = np.mgrid[:height, :width]
    flat = [(x + 0.5) * 255 / width, (y + 0.5) * 255 / height, np.zeros_like(x)]
    return np.rint(np.stack(flat, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(300, 400), (517, 333), (200, 900), (900, 200), (64, 64)])
@pytest.mark.parametrize("pre_resize", [0, 512])
def test_regions_say_which_part_of_the_photo_was_seen(fit, shape, pre_resize):
    photo, preprocess = ramps(*shape), Preprocess(96, 8, fit, pre_resize)
    for view in preprocess.views(*shape):
        pixels = preprocess.pixels(photo, view).astype(float)
        assert pixels.shape == (*view.size, 3)
        left, top, right, bottom = view.region
        x = left + (np.arange(view.size[1]) + 0.5) * (right - left) / view.size[1]
        y = top + (np.arange(view.size[0]) + 0.5) * (bottom - top) / view.size[0]
        inner = slice(3, -3)  # at the border the cubic kernel leans inwards
        np.testing.assert_allclose(pixels[5, inner, 0], x[inner] * 255 / shape[1], atol=2)
        np.testing.assert_allclose(pixels[inner, 5, 1], y[inner] * 255 / shape[0], atol=2)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(40, 3000), (3000, 40), (1, 1), (1, 7), (2, 1)])
def test_extreme_photos_give_pixels_of_the_promised_size(fit, shape):
    photo, preprocess = noise(*shape), Preprocess(48, 8, fit)
    views = preprocess.views(*shape)
    assert len(views) == (16 if fit in ("auto", "tiles") and max(shape) == 3000 else len(views)) >= 1
    for view in views[:3] + views[-1:]:
        pixels = preprocess.pixels(photo, view)
        assert pixels.shape == (*view.size, 3) and pixels.dtype == np.uint8
        left, top, right, bottom = view.region
        assert 0 <= left < right <= shape[1] + 1e-6 and 0 <= top < bottom <= shape[0] + 1e-6


def test_a_photo_of_the_right_size_is_not_resampled():
    photo = noise(48, 48)
    for fit in FITS:
        preprocess = Preprocess(48, 8, fit)
        assert np.array_equal(preprocess.pixels(photo, preprocess.views(48, 48)[0]), photo)


def test_a_tile_is_its_part_of_the_photo_resized():
    photo, preprocess = noise(60, 150), Preprocess(48, 8, "tiles")
    for view in preprocess.views(60, 150):
        left = int(view.box[0])
        part = Image.fromarray(photo[:, left : left + 60])
        expected = np.asarray(part.resize((48, 48), Image.Resampling.BICUBIC)).astype(int)
        ours = preprocess.pixels(photo, view).astype(int)
        assert np.abs(ours - expected)[:, 3:-3].max() <= 1  # the cubic kernel may look past the tile's border


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_bilinear_resize_equals_torch_up_to_rounding(height, width, new_height, new_width, seed):
    photo = noise(height, width, seed)
    exact = F.interpolate(
        torch.from_numpy(photo).permute(2, 0, 1)[None].double(),
        size=(new_height, new_width),
        mode="bilinear",
        align_corners=False,
        antialias=False,
    )[0].permute(1, 2, 0)
    ours = bilinear_resize(photo, (new_height, new_width))
    assert ours.shape == (new_height, new_width, 3) and ours.dtype == np.uint8
    assert np.abs(ours - exact.numpy()).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("width", [49, 98, 103, 107, 161, 640])
def test_resizing_first_is_bilinear_to_a_square_and_then_bicubic(width):
    """The widths are those for which width * (1024 / width) is not exactly 1024 in floating point."""
    photo, preprocess = noise(70, width), Preprocess(48, 8, "squash", pre_resize=1024)
    square = Image.fromarray(bilinear_resize(photo, (1024, 1024)))
    expected = np.asarray(square.resize((48, 48), Image.Resampling.BICUBIC))
    assert np.array_equal(preprocess.pixels(photo, preprocess.views(70, width)[0]), expected)


def test_bgr_swaps_red_and_blue_of_test_photos_only():
    photo, preprocess = noise(60, 80), Preprocess(48, 8, "squash", channels="bgr")
    view = preprocess.views(60, 80)[0]
    rgb = Preprocess(48, 8, "squash").pixels(photo, view)
    assert np.array_equal(preprocess.pixels(photo, view), rgb[..., ::-1])
    assert np.array_equal(preprocess.pixels(photo, view, reference=True), rgb)


def test_normalise_is_channels_first_float32():
    photo, mean, std = noise(5, 7), (0.5, 0.25, 0.125), (0.5, 0.2, 0.1)
    ours = normalise(photo[..., ::-1], mean, std)  # a view with a negative stride, as "bgr" gives it
    assert ours.shape == (3, 5, 7) and ours.dtype == np.float32 and ours.flags.c_contiguous
    for channel in range(3):
        expected = (photo[..., 2 - channel] / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(ours[channel], expected, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": -16},
        {"size": 250},
        {"size": 8, "patch": 16},
        {"fit": "stretch"},
        {"channels": "brg"},
        {"pre_resize": -1},
    ],
)
def test_settings_that_make_no_sense_are_config_errors(options):
    with pytest.raises(ConfigError) as caught:
        Preprocess(**options)
    assert "\n" not in str(caught.value)


# The finest defect --------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(6, 60))
def test_a_finest_defect_is_as_large_as_a_patch_everywhere_in_photos_of_every_shape(height, width, finest):
    preprocess = Preprocess(96, 16, finest=finest)
    try:
        views = preprocess.views(height, width)
    except PhotoError as error:
        least = int(re.search(r"at least finest_defect=(\d+)", str(error))[1])
        assert least > finest and Preprocess(96, 16, finest=least).views(height, width)
        with pytest.raises(PhotoError):
            Preprocess(96, 16, finest=least - 1).views(height, width)
        return
    seen = np.zeros((height, width), bool)
    for view in views:
        left, top, right, bottom = view.region
        assert 0 <= left < right <= width + 1e-6 and 0 <= top < bottom <= height + 1e-6
        seen[math.floor(top + 1e-6) : math.ceil(bottom - 1e-6), math.floor(left + 1e-6) : math.ceil(right - 1e-6)] = (
            True
        )
        for pixels, edge in zip(view.size, (bottom - top, right - left), strict=True):
            assert pixels % 16 == 0 and pixels <= 96
            # One scale for all photos, but for the rounding to whole patches.
            assert abs(pixels - edge * 16 / finest) <= 8 + 1e-6 or pixels == 16
    assert seen.all()


def test_tiles_for_a_finest_defect_lie_in_both_directions_and_share_a_fifth():
    views = Preprocess(96, 16, finest=10).views(150, 200)
    assert [view.box for view in views] == [
        (x, y, x + 60, y + 60) for y in (0.0, 45.0, 90.0) for x in (0.0, 140 / 3, 280 / 3, 140.0)
    ]
    assert all(view.size == (96, 96) for view in views)


def test_a_small_photo_is_not_cut_for_a_coarse_defect():
    (view,) = Preprocess(96, 16, finest=40).views(200, 240)
    assert view.box == (0, 0, 240, 200) and view.size == (80, 96)


@pytest.mark.parametrize("other", [{"fit": fit} for fit in FITS if fit != "auto"] + [{"pre_resize": 1024}], ids=str)
def test_a_finest_defect_plans_the_views_alone(other):
    with pytest.raises(ConfigError, match="plans the views itself"):
        Preprocess(96, 16, finest=10, **other)


def test_a_defect_of_a_few_pixels_in_a_large_photo_reaches_the_map_where_it_lies():
    """Brightness stands in for the score of a patch: what the plan of views alone does to a small spot."""

    def hottest(preprocess: Preprocess, photo: np.ndarray) -> tuple[int, int, float]:
        views = preprocess.views(*photo.shape[:2])
        maps = []
        for view in views:
            pixels = torch.from_numpy(preprocess.pixels(photo, view)[..., 0].astype(np.float32))
            maps.append(F.avg_pool2d(pixels[None, None], preprocess.patch)[0, 0])
        whole = photo_map(views, maps, photo.shape[:2], square=preprocess.size // preprocess.patch, sigma=0.0)
        row, column = divmod(int(whole.argmax()), photo.shape[1])
        return row, column, float(whole.max())

    photo = np.zeros((600, 800, 3), np.uint8)
    photo[411:419, 633:641] = 255
    fine, coarse = hottest(Preprocess(192, 16, finest=8), photo), hottest(Preprocess(192, 16), photo)
    assert abs(fine[0] - 415) <= 8 and abs(fine[1] - 637) <= 8
    assert fine[2] > 60 > 10 * coarse[2]  # at least a quarter of a patch is the spot, wherever the patches' borders lie

"""Maps at photo size: sizes, constants, smoothing, and that a hot patch lands where it was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import Tensor

from promptad.clip.preprocess import Preprocess, View
from promptad.scoring.maps import enlarged, inspected_pixels, photo_map, smooth_map, top_mean, upsample

PATCH, SQUARE = 8, 6  # a square input of 48 pixels has 6 x 6 patches
FITS = ("squash", "area", "letterbox", "crop", "tiles", "auto")
SHAPES = [(300, 400), (517, 333), (150, 500), (500, 150), (48, 48), (30, 40)]


def views_of(fit: str, shape: tuple[int, int]) -> list[View]:
    return Preprocess(SQUARE * PATCH, PATCH, fit).views(*shape)


def grid(view: View) -> tuple[int, int]:
    return view.size[0] // PATCH, view.size[1] // PATCH


def slow_upsample(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    def along(lines: np.ndarray, count: int) -> np.ndarray:
        at = (np.arange(count) + 0.5) * lines.shape[1] / count - 0.5
        return np.stack([np.interp(at, np.arange(lines.shape[1]), line) for line in lines])

    return along(along(values, size[1]).T, size[0]).T


def slow_gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for _ in range(2):  # one axis, then the other; the border is mirrored
        lines = np.pad(values, ((0, 0), (radius, radius)), mode="symmetric")
        values = np.stack([np.convolve(line, kernel, mode="valid") for line in lines]).T
    return values


@pytest.mark.parametrize("size", [(9, 13), (4, 3), (1, 1), (60, 7)])
def test_upsampling_is_linear_between_patch_centres(size):
    values = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    ours = upsample(values, size)
    assert ours.shape == size
    np.testing.assert_allclose(ours.numpy(), slow_upsample(values.numpy(), size), atol=1e-6)


def test_the_papers_smoothing_is_a_gaussian_of_four_pixels_on_a_square_of_400():
    values = torch.rand(15, 15, generator=torch.Generator().manual_seed(1))
    ours = smooth_map(values, square=15, map_size=400, sigma=4.0)
    expected = slow_gaussian(slow_upsample(values.double().numpy(), (400, 400)), 4.0)
    assert ours.shape == (400, 400)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


def test_other_grids_keep_the_same_pixels_for_each_patch():
    wide = torch.rand(3, 12)
    assert smooth_map(wide, square=6, map_size=60, sigma=2.0).shape == (30, 120)
    plain = smooth_map(wide, square=6, map_size=60, sigma=0)
    np.testing.assert_allclose(plain.numpy(), slow_upsample(wide.numpy(), (30, 120)), atol=1e-6)
    assert smooth_map(torch.rand(1, 1), square=400, map_size=60, sigma=1.0).shape == (1, 1)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(FITS), st.integers(1, 90), st.integers(1, 160), st.floats(0, 1, width=32), st.floats(0, 6))
def test_a_constant_stays_constant_and_the_size_is_always_the_photos(fit, height, width, value, sigma):
    views = views_of(fit, (height, width))
    maps = [torch.full(grid(view), value) for view in views]
    ours = photo_map(views, maps, (height, width), square=SQUARE, map_size=60, sigma=sigma)
    assert ours.shape == (height, width) and ours.dtype == np.float32 and ours.flags.c_contiguous
    np.testing.assert_allclose(ours, value, atol=1e-5)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (40, 3000), (3000, 40)])
def test_extreme_photos_get_maps_of_their_size(fit, shape):
    views = views_of(fit, shape)
    maps = [torch.rand(grid(view)) for view in views]
    ours = photo_map(views, maps, shape, square=SQUARE, map_size=60, sigma=2.0)
    assert ours.shape == shape and np.isfinite(ours).all() and 0 <= ours.min() <= ours.max() <= 1


def hot_maps(views: list[View], at: tuple[float, float]) -> tuple[list[Tensor], bool]:
    """Maps with a one in every patch that covers the photo point `at` (y, x)."""
    maps, covered = [], False
    for view in views:
        rows, columns = grid(view)
        left, top, right, bottom = view.region
        y, x = (at[0] - top) / (bottom - top) * rows, (at[1] - left) / (right - left) * columns
        values = torch.zeros(rows, columns)
        if 0 <= y < rows and 0 <= x < columns:
            values[int(y), int(x)] = 1
            covered = True
        maps.append(values)
    return maps, covered


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_a_hot_patch_lands_within_one_patch_of_the_right_pixel(fit, shape, sigma):
    views, seen = views_of(fit, shape), 0
    for share_y in (0.02, 0.51, 0.9):
        for share_x in (0.45, 0.7, 0.98):
            at = (share_y * shape[0], share_x * shape[1])
            maps, covered = hot_maps(views, at)
            if not covered:
                assert fit == "crop"
                continue
            seen += 1
            ours = photo_map(views, maps, shape, square=SQUARE, map_size=120, sigma=sigma)
            peak = np.unravel_index(ours.argmax(), shape)
            left, top, right, bottom = views[0].region
            patch = ((bottom - top) / grid(views[0])[0], (right - left) / grid(views[0])[1])
            assert abs(peak[0] + 0.5 - at[0]) <= patch[0] + 1, (peak, at)
            assert abs(peak[1] + 0.5 - at[1]) <= patch[1] + 1, (peak, at)
            assert ours.max() > 0.2
    assert seen >= 2


def test_what_a_centre_crop_does_not_see_gets_the_smallest_score():
    (view,) = views = views_of("crop", (100, 300))
    values = torch.linspace(0.2, 0.9, 36).view(6, 6)
    ours = photo_map(views, [values], (100, 300), square=SQUARE, map_size=60, sigma=1.0)
    left, _, right, _ = view.region
    assert (round(left), round(right)) == (100, 200)
    outside = np.concatenate([ours[:, :100].ravel(), ours[:, 200:].ravel()])
    assert set(outside) == {ours[:, 100:200].min()} and ours[:, 100:200].std() > 0.05


def test_where_tiles_overlap_their_mean_counts():
    views = views_of("tiles", (100, 130))
    assert [view.box[0] for view in views] == [0, 30]
    maps = [torch.full((6, 6), 0.2), torch.full((6, 6), 0.8)]
    ours = photo_map(views, maps, (100, 130), square=SQUARE, map_size=60, sigma=2.0)
    np.testing.assert_allclose(ours[:, :30], 0.2, atol=1e-6)
    np.testing.assert_allclose(ours[:, 30:100], 0.5, atol=1e-6)
    np.testing.assert_allclose(ours[:, 100:], 0.8, atol=1e-6)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("shape", "out"), [((300, 400), (45, 60)), ((500, 150), (100, 30)), ((30, 80), (60, 160))])
def test_another_size_can_be_asked_for(fit, shape, out):
    views = views_of(fit, shape)
    maps, covered = hot_maps(views, (0.55 * shape[0], 0.45 * shape[1]))
    ours = photo_map(views, maps, shape, square=SQUARE, map_size=120, sigma=2.0, out_size=out)
    peak = np.unravel_index(ours.argmax(), out)
    assert covered and ours.shape == out and ours.dtype == np.float32
    left, top, right, bottom = views[0].region
    patch = ((bottom - top) / grid(views[0])[0], (right - left) / grid(views[0])[1])
    assert abs(peak[0] + 0.5 - 0.55 * out[0]) <= patch[0] * out[0] / shape[0] + 1
    assert abs(peak[1] + 0.5 - 0.45 * out[1]) <= patch[1] * out[1] / shape[1] + 1
    full = photo_map(views, maps, shape, square=SQUARE, map_size=120, sigma=2.0)
    rows = (np.arange(out[0]) + 0.5) * shape[0] / out[0]
    columns = (np.arange(out[1]) + 0.5) * shape[1] / out[1]
    same_places = full[np.ix_(rows.astype(int), columns.astype(int))]
    assert np.corrcoef(ours.ravel(), same_places.ravel())[0, 1] > 0.95


def test_views_and_maps_must_be_as_many():
    views = views_of("tiles", (100, 130))
    with pytest.raises(ValueError):
        photo_map(views, [torch.zeros(6, 6)], (100, 130), square=SQUARE)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(100, 300), (300, 100), (97, 131), (64, 64), (1, 500)])
def test_the_places_that_were_looked_at_are_those_that_the_map_was_made_of(fit, shape):
    views = views_of(fit, shape)
    seen = inspected_pixels(views, shape)
    if fit != "crop" or shape[0] == shape[1]:
        assert seen is None
        return
    # A falling map: only what no view reached can hold the smallest value more than once.
    maps = [torch.linspace(1, 2, grid(view)[0] * grid(view)[1]).view(grid(view)) for view in views]
    values = photo_map(views, maps, shape, square=SQUARE, map_size=60, sigma=0.0)
    assert seen.shape == shape and seen.dtype == np.bool_ and not seen.all()
    assert (values[~seen] == values.min()).all()
    assert seen.mean() == pytest.approx(min(shape) / max(shape), abs=0.02)
    half = inspected_pixels(views, shape, (max(1, shape[0] // 2), shape[1] // 2))
    assert half.mean() == pytest.approx(seen.mean(), abs=0.02)


# The maximum of an enlarged map -------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "square", "map_size"), [((15, 15), 15, 400), ((6, 4), 6, 37), ((3, 9), 5, 50)])
def test_the_maximum_of_the_enlarged_map_is_scipys(grid, square, map_size):
    maps = torch.rand(4, *grid, generator=torch.Generator().manual_seed(1))
    sizes = [max(1, round(side * map_size / square)) for side in grid]
    places = [(np.arange(size) + 0.5) * side / size - 0.5 for size, side in zip(sizes, grid, strict=True)]
    for ours, values in zip(enlarged(maps, square, map_size).amax((1, 2)), maps.double().numpy(), strict=True):
        large = map_coordinates(values, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
        assert float(ours) == pytest.approx(large.max(), abs=1e-6)


def test_on_the_papers_sizes_it_lies_below_that_of_the_grid_by_a_share_that_depends_on_the_photo():
    peak, flat = torch.zeros(1, 15, 15), torch.full((1, 15, 15), 0.3)
    peak[0, 7, 4] = 0.3
    assert float(enlarged(flat, 15, 400).amax()) == pytest.approx(0.3, abs=1e-6)
    assert 0.25 < float(enlarged(peak, 15, 400).amax()) < 0.2999  # ranks of photos can change


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.001, 1), (0.01, 2), (0.02, 4), (0.5, 112), (0.999, 224)])
def test_the_mean_of_the_top_share_is_that_of_the_sorted_values(share, count):
    maps = torch.rand(3, 15, 15, generator=torch.Generator().manual_seed(2))
    for ours, values in zip(top_mean(maps, share), maps.double().numpy(), strict=True):
        assert float(ours) == pytest.approx(np.sort(values.ravel())[::-1][:count].mean(), abs=1e-6)
    assert torch.equal(top_mean(maps, 0.0), maps.amax((1, 2)))

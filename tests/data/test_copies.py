"""Altered and turned copies of a good photo, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from promptad.data.copies import altered_copies, turned_copies


def drawn(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (size[0] // 10, size[1] // 10, 3), dtype=np.uint8))
    return np.asarray(small.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def moved(photo: np.ndarray, degrees: float, zoom: float, shift: tuple[float, float]) -> np.ndarray:
    """The same by SciPy: a point of the result lies at `matrix @ point + offset` of the photo."""
    height, width = photo.shape[:2]
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = middle - matrix @ (middle + np.array(shift) * [height, width])
    planes = [
        ndimage.affine_transform(photo[..., i].astype(np.float32), matrix, offset, order=1, mode="nearest")
        for i in range(3)
    ]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize("size", [(120, 160), (160, 120), (99, 99), (40, 300)])
def test_altered_copies_are_the_photo_turned_shifted_and_magnified(size):
    photo = drawn(0, size)
    turned, *others = altered_copies(photo)
    np.testing.assert_array_equal(turned, np.rot90(photo, 2))
    ways = [(0, 1, (-0.05, -0.05)), (8, 1, (0, 0)), (0, 1.08, (0, 0)), (0, 1.25, (0.1, 0.1))]
    for copy, (degrees, zoom, shift) in zip(others, ways, strict=True):
        expected = moved(photo, degrees, zoom, shift)
        assert copy.shape == photo.shape and copy.dtype == np.uint8
        assert np.abs(copy - expected).mean() < 1


def test_they_differ_from_each_other_also_for_tiny_photos():
    for size in ((120, 160), (20, 20)):
        photo = drawn(1, size)
        assert len({copy.tobytes() for copy in [photo, *altered_copies(photo)]}) == 6
    assert [copy.shape for copy in altered_copies(np.zeros((1, 1, 3), np.uint8))] == [(1, 1, 3)] * 5


@pytest.mark.parametrize("size", [(120, 160), (99, 99), (40, 200)])
def test_turned_copies_are_the_photo_turned_and_reflected_at_its_edges(size):
    photo = ndimage.gaussian_filter(drawn(2, size), (3, 3, 0))  # smooth, so that kernels agree
    copies = turned_copies(photo, 8, mirrored=True)
    angles = [(number * 45, False) for number in range(1, 8)] + [(number * 45, True) for number in range(8)]
    assert len(copies) == len(angles) == 15
    for copy, (angle, mirrored) in zip(copies, angles, strict=True):
        source = photo[:, ::-1] if mirrored else photo
        expected = ndimage.rotate(source, angle, axes=(1, 0), reshape=False, order=3, mode="reflect")
        assert copy.shape == photo.shape and copy.dtype == np.uint8
        assert np.abs(copy.astype(int) - expected.astype(int)).mean() < 1.5
        assert angle == 0 or np.abs(copy.astype(int) - source.astype(int)).mean() > 5


def test_one_orientation_has_no_copy_and_half_a_turn_is_exact():
    photo = drawn(3, (31, 50))
    assert turned_copies(photo, 1) == []
    np.testing.assert_array_equal(turned_copies(photo, 1, mirrored=True)[0], photo[:, ::-1])
    np.testing.assert_array_equal(turned_copies(photo, 2)[0], np.rot90(photo, 2))
    assert [copy.shape for copy in turned_copies(np.zeros((1, 1, 3), np.uint8), 8)] == [(1, 1, 3)] * 7

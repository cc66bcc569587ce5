"""Outlines of annotations against slow versions, and run lengths against strings that pycocotools 2.0 wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.data.outlines import ColourMask, Outlines, box_polygon, filled, read_counts
from promptad.data.photos import read_mask
from promptad.errors import DataError, PhotoError


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """The even-odd rule, edge by edge."""
    odd = False
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd


@pytest.mark.parametrize("seed", range(8))
def test_a_polygon_holds_the_pixels_whose_centres_lie_inside(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-4, 34, (int(rng.integers(3, 9)), 2)).round(2)  # it may cross itself and leave the photo
    slow = [[inside(x + 0.5, y + 0.5, [tuple(c) for c in corners]) for x in range(30)] for y in range(20)]
    assert np.array_equal(filled(corners, (20, 30)), np.array(slow))


def test_boxes_and_degenerate_polygons():
    mask = filled(np.reshape(box_polygon(3, 2, 5, 4), (-1, 2)), (10, 12))
    assert mask.sum() == 20 and mask[2:6, 3:8].all()
    assert not filled(np.array([[1.0, 1.0], [5.0, 5.0]]), (10, 12)).any()


# (H, W), pixels down the columns that are set, the compressed counts: written by pycocotools.mask.encode.
WRITTEN = [
    ((4, 5), [0, 9, 19], "018010"),
    ((20, 30), [20 * x + y for x in range(4, 20) for y in range(3, 11)], "c28<00000000000000000000000000000U6"),
    (
        (37, 41),
        [
            107,
            270,
            274,
            316,
            376,
            409,
            448,
            475,
            505,
            516,
            661,
            741,
            744,
            796,
            847,
            886,
            957,
            1102,
            1195,
            1277,
            1339,
            1350,
            1389,
            1430,
            1442,
            1464,
            1473,
        ],
        "[31R50QK0V10b00UO060D030]O0V40oM0cM0a10O0D0P10Z20\\N0E0\\O0]N0l0020SO0:0C0S1",
    ),
    ((300, 400), [300 * x + y for x in range(50, 60) for y in range(100, 250)], "lg>f4f400000000000000000\\`S3"),
]


@pytest.mark.parametrize(("size", "set_pixels", "counts"), WRITTEN)
def test_compressed_runs_are_those_of_pycocotools(size, set_pixels, counts):
    mask = np.zeros(size[0] * size[1], bool)
    mask[list(set_pixels)] = True
    runs = read_counts(counts, "here")
    assert sum(runs) == mask.size
    drawn = Outlines(Path("a.json"), name="x.jpg", size=size, runs=(runs,)).draw(None)
    assert np.array_equal(drawn, mask.reshape(size[::-1]).T)
    assert read_counts(list(runs), "here") == runs


@pytest.mark.parametrize("counts", ["P", "~", "0 1", [3, -1]])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(DataError, match="here: counts"):
        read_counts(counts, "here")


def test_sizes_are_checked_and_shares_are_of_the_photo():
    with pytest.raises(PhotoError, match="runs of 5 pixels, the photo has 3x2"):
        Outlines(Path("a.json"), name="x.jpg", size=(2, 3), runs=((5,),)).draw(None)
    with pytest.raises(PhotoError, match="how large"):
        Outlines(Path("a.json"), name="x.jpg", polygons=((0, 0, 1, 0, 1, 1),)).draw(None)
    half = Outlines(Path("a.txt"), name="x.jpg", polygons=((0, 0, 0.5, 0, 0.5, 1, 0, 1),), relative=True)
    assert half.draw((10, 20)).sum() == 100
    assert half.rule != Outlines(Path("a.txt"), name="x.jpg", polygons=half.polygons).rule


def test_a_mask_by_colours_marks_those_colours_alone(tmp_path):
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[1:3, 2:5] = (0x23, 0xA4, 0x36)
    pixels[4, 4] = (0x2B, 0xA4, 0x36)  # eight away
    pixels[5, 5] = (0x2C, 0xA4, 0x36)  # nine
    pixels[0] = 255
    Image.fromarray(pixels).save(tmp_path / "m.png")
    mask = read_mask(ColourMask(tmp_path / "m.png", ((0x23, 0xA4, 0x36),)), (6, 8))
    assert mask.sum() == 7 and mask[4, 4] and not mask[5, 5] and not mask[0].any()

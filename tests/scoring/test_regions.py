"""Regions against scikit-image-like labelling, COCO's own reader, and drawn masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from promptad.data.outlines import filled, read_counts, rings_of, write_counts
from promptad.errors import ConfigError
from promptad.scoring.regions import Region, RegionRule, by_rule, column_runs, find_regions

mask_tools = pytest.importorskip("pycocotools.mask")
EVERY = RegionRule()


def speckled(seed: int, size: tuple[int, int] = (23, 31)) -> np.ndarray:
    """A map of blobs and single pixels, some at the border."""
    noise = np.random.default_rng(seed).normal(size=size)
    return (ndimage.gaussian_filter(noise, 1.0 + seed % 2) + 0.1 * noise).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_regions_are_the_connected_components_of_scipy_with_their_areas_boxes_and_peaks(seed: int) -> None:
    values = speckled(seed)
    level = float(np.quantile(values, (0.5, 0.8, 0.95)[seed % 3]))
    labels, count = ndimage.label(values > level, np.ones((3, 3)))
    regions = find_regions(values, level, EVERY)
    assert len(regions) == count > 0
    assert [region.peak for region in regions] == sorted((region.peak for region in regions), reverse=True)
    for region in regions:
        own = labels == labels[region.at]
        assert np.array_equal(region.mask(values.shape), own)
        assert region.area == own.sum() and region.peak == values[own].max() == values[region.at]
        rows, columns = np.nonzero(own)
        left, top, width, height = region.box
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("seed", range(12))
def test_pixels_are_the_runs_that_coco_itself_writes(seed: int) -> None:
    values = speckled(seed)
    for region in find_regions(values, float(np.quantile(values, 0.6)), EVERY):
        own = np.asfortranarray(region.mask(values.shape).astype(np.uint8))
        theirs = mask_tools.encode(own)
        assert region.counts == theirs["counts"].decode()
        assert mask_tools.area(theirs) == region.area and tuple(mask_tools.toBbox(theirs)) == region.box


@pytest.mark.parametrize("seed", range(12))
def test_the_outline_gives_the_mask_again_holes_included(seed: int) -> None:
    values = speckled(seed)
    for region in find_regions(values, float(np.quantile(values, 0.4)), EVERY):
        drawn = np.zeros(values.shape, np.bool_)
        for ring in region.outline(values.shape):
            drawn ^= filled(ring.astype(float), values.shape)
        assert np.array_equal(drawn, region.mask(values.shape))


def test_a_hole_has_a_ring_of_its_own_and_straight_sides_have_no_corners() -> None:
    mask = np.ones((5, 6), np.bool_)
    mask[2, 2:4] = False
    outer, hole = sorted(rings_of(mask), key=len)
    assert sorted(map(tuple, outer.tolist())) == [(0, 0), (0, 5), (6, 0), (6, 5)]
    assert sorted(map(tuple, hole.tolist())) == [(2, 2), (2, 3), (4, 2), (4, 3)]
    touching = np.eye(3, dtype=np.bool_)
    assert len(rings_of(touching)) == 3  # one region, drawn as three squares


def test_what_fills_the_photo_or_its_corner_is_written_as_coco_does() -> None:
    for mask in (np.ones((4, 3), np.bool_), np.tri(4, 3, dtype=np.bool_), np.eye(4, 3, dtype=np.bool_)[::-1]):
        (region,) = find_regions(mask.astype(np.float32), 0.5, EVERY)
        assert region.counts == mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert np.array_equal(region.mask(mask.shape), mask)


def test_long_runs_and_falling_ones_survive_the_packed_form() -> None:
    for runs in ([0, 5], [3, 100_000, 2, 99_999, 7, 1, 40, 0, 12], [2**31, 1, 1, 2**31]):
        assert read_counts(write_counts(runs), "here") == tuple(runs)


def test_least_area_and_what_was_not_looked_at() -> None:
    values = np.zeros((8, 10), np.float32)
    values[1, 1], values[4:7, 2:5], values[2, 8] = 0.9, 0.6, 0.7
    assert [region.area for region in find_regions(values, 0.5, EVERY)] == [1, 1, 9]
    (large,) = find_regions(values, 0.5, RegionRule(2))
    assert (large.box, large.at) == ((2, 4, 3, 3), (4, 2))
    seen = np.ones(values.shape, np.bool_)
    seen[:, 3:] = False
    assert [region.area for region in find_regions(values, 0.5, EVERY, seen)] == [1, 3]
    assert find_regions(values, 0.6, RegionRule(2)) == ()  # strictly above
    assert all(len(part) == 0 for part in column_runs(np.zeros((3, 3), np.bool_)))


def test_millimetres_follow_the_scale() -> None:
    values = np.zeros((8, 10), np.float32)
    values[4:7, 2:6] = 1
    (region,) = find_regions(values, 0.5, RegionRule(1, 0.5))
    assert region.area_mm2 == 3.0 and region.box_mm == (2.0, 1.5)
    (other,) = by_rule((region,), RegionRule(12, 2.0))
    assert other.area_mm2 == 48.0 and by_rule((region,), RegionRule(13)) == ()
    assert by_rule((region,), RegionRule(1))[0].to_dict()["mm"] is None
    assert Region.from_dict(region.to_dict(), 0.5) == region


@pytest.mark.parametrize("wrong", [{"least_area": 0}, {"scale": 0.0}, {"scale": float("nan")}])
def test_a_rule_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        RegionRule(**wrong)

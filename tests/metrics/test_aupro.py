"""Exact AUPRO against an explicit curve, the 200-threshold variant against an explicit loop."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import auc, roc_auc_score

from promptad.errors import DataError
from promptad.metrics.aupro import aupro, aupro_200


def regions_of(mask):
    """Regions as boolean arrays, by flood fill over the 8 neighbours (independent of scipy.ndimage.label)."""
    left = {tuple(index) for index in np.argwhere(mask)}
    regions = []
    while left:
        region, edge = np.zeros(mask.shape, bool), [left.pop()]
        while edge:
            y, x = edge.pop()
            region[y, x] = True
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append(region)
    return regions


def curve(maps, masks, thresholds, reaches):
    """FPR and PRO at each threshold, by counting pixels."""
    regions = [(index, region) for index, mask in enumerate(masks) for region in regions_of(mask)]
    n_normal = sum(int((mask == 0).sum()) for mask in masks)
    fprs, pros = [], []
    for threshold in thresholds:
        hit = [reaches(anomaly_map, threshold) for anomaly_map in maps]
        false = sum(int((h & (mask == 0)).sum()) for h, mask in zip(hit, masks, strict=True))
        fprs.append(false / n_normal)
        pros.append(np.mean([hit[index][region].sum() / region.sum() for index, region in regions]))
    return np.array(fprs), np.array(pros)


def slow_aupro(maps, masks, limit):
    """Curve over all distinct scores from (0, 0), cut and interpolated at the limit, by trapezoids."""
    thresholds = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    fpr, pro = curve(maps, masks, thresholds, np.greater_equal)
    fpr, pro = np.append(0.0, fpr), np.append(0.0, pro)
    inside = fpr <= limit
    last = int(inside.sum()) - 1
    x, y = fpr[inside], pro[inside]
    if x[-1] < limit:
        slope = (pro[last + 1] - pro[last]) / (fpr[last + 1] - fpr[last])
        x, y = np.append(x, limit), np.append(y, y[-1] + slope * (limit - x[-1]))
    return auc(x, y) / limit


def slow_200(maps, masks, limit):
    """The released scripts' definition: a grid of thresholds, strict comparison, rescaled FPR.

    The thresholds are cast to the dtype of the maps because numpy 1, which the scripts ran on, compares so.
    """
    low, high = min(m.min() for m in maps), max(m.max() for m in maps)
    grid = np.arange(low, high, (high - low) / 200).astype(maps[0].dtype)
    fpr, pro = curve(maps, masks, grid, np.greater)
    keep = fpr < limit
    fpr = fpr[keep]
    fpr = (fpr - fpr.min()) / (fpr.max() - fpr.min())
    return auc(fpr, pro[keep])


def make(seed, shapes, dtype=np.float32, decimals=None, gain=1.5):
    """Noise maps with a few square or diagonal defects that score higher; the first photo has none."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for number, (height, width) in enumerate(shapes):
        mask = np.zeros((height, width), np.uint8)
        for _ in range(3 if number else 0):
            side = int(rng.integers(1, 6))
            y, x = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
            mask[y : y + side, x : x + side] |= np.eye(side, dtype=np.uint8) if side > 3 else np.uint8(1)
        scores = rng.normal(size=mask.shape) + gain * mask * rng.random()
        maps.append((scores if decimals is None else scores.round(decimals)).astype(dtype))
        masks.append(mask)
    return maps, masks


SHAPES = [(20, 31), (24, 24), (40, 17), (13, 29)]
TIES = [None, 1, 0]


@pytest.mark.parametrize("decimals", TIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0.3, 0.05, 0.01, 1.0])
def test_equals_explicit_curve(decimals, dtype, limit):
    for seed in range(3):
        maps, masks = make(seed, SHAPES, dtype, decimals)
        assert aupro(maps, masks, [limit])[limit] == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.integers(0, 4), min_size=36, max_size=36),
    truth=st.lists(st.booleans(), min_size=36, max_size=36),
    limit=st.floats(0.01, 1.0),
)
def test_heavily_tied_scores_equal_explicit_curve(scores, truth, limit):
    truth[0], truth[-1] = True, False
    maps = np.array(scores, np.float64).reshape(2, 3, 6)
    masks = np.array(truth, np.uint8).reshape(2, 3, 6)
    assert aupro(maps, masks, [limit])[limit] == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-9)


def test_several_limits_equal_one_at_a_time():
    maps, masks = make(5, SHAPES)
    both = aupro(maps, masks)
    assert list(both) == [0.3, 0.05]
    for limit, value in both.items():
        assert value == aupro(maps, masks, [limit])[limit]


@pytest.mark.parametrize("decimals", TIES)
def test_invariant_under_monotone_maps(decimals):
    maps, masks = make(7, SHAPES, np.float64, decimals)
    ranks = np.split(rankdata(np.concatenate([m.ravel() for m in maps])), np.cumsum([m.size for m in maps])[:-1])
    changed = {
        "exp": [np.exp(m) for m in maps],
        "cube": [m**3 for m in maps],
        "rank": [r.reshape(m.shape) for r, m in zip(ranks, maps, strict=True)],
    }
    for other in changed.values():
        for limit, value in aupro(maps, masks).items():
            assert aupro(other, masks, [limit])[limit] == pytest.approx(value, abs=1e-9)


def test_limit_cuts_a_tie_in_the_middle():
    # One region of 2 pixels: score 9 alone, then one defect pixel tied with 4 of the 8 normal ones.
    maps = [np.array([[9, 5, 5, 5, 5], [5, 1, 1, 1, 1]], np.float32)]
    masks = [np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]], np.uint8)]
    expected = (0.5 + 0.75) / 2  # mean height of the curve from FPR 0 to 0.25
    assert aupro(maps, masks, [0.25])[0.25] == pytest.approx(expected, abs=1e-12)


def test_single_pixel_regions_give_pixel_auroc():
    rng = np.random.default_rng(3)
    masks = np.zeros((3, 12, 12), np.uint8)
    masks[:, ::4, ::4] = 1  # no two touch, so the mean over regions is the recall
    maps = (rng.normal(size=masks.shape) + masks).round(1)
    value = aupro(maps, masks, [1.0])[1.0]
    assert value == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)


def test_diagonal_neighbours_are_one_region_and_each_region_counts_the_same():
    # Region A: 2 diagonal pixels, both found; region B: 1 pixel, missed. PRO 1/2, pixel recall 2/3.
    mask = np.zeros((6, 6), np.uint8)
    mask[0, 0] = mask[1, 1] = mask[4, 4] = 1
    scores = np.ones((6, 6))
    scores[0, 0] = scores[1, 1] = 2
    scores[4, 4] = 0
    # all normal pixels tie at 1, below A and above B: PRO stays at 1/2 until FPR 1
    assert aupro([scores], [mask], [0.3])[0.3] == pytest.approx(0.5, abs=1e-12)


def test_perfect_maps_score_one_and_inverted_ones_zero():
    _, masks = make(11, SHAPES)
    maps = [mask.astype(np.float32) for mask in masks]
    assert aupro(maps, masks) == pytest.approx({0.3: 1.0, 0.05: 1.0}, abs=1e-12)
    assert aupro([-m for m in maps], masks) == {0.3: 0.0, 0.05: 0.0}


def test_rounding_never_gives_more_than_one():
    mask = np.zeros((2, 500), np.uint8)
    mask[0, :10] = 1  # ten pixels with ten scores: 10 times 0.1 adds up to a little more than 1
    assert aupro([np.where(mask, 1.0 + np.arange(1000).reshape(2, 500), 0.0)], [mask], [0.3]) == {0.3: 1.0}


@pytest.mark.parametrize("decimals", TIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0.3, 0.1])
def test_200_equals_explicit_loop(decimals, dtype, limit):
    for seed in range(3):
        maps, masks = make(seed, SHAPES, dtype, decimals)
        assert aupro_200(maps, masks, limit) == pytest.approx(slow_200(maps, masks, limit), abs=1e-9)


def test_200_counts_scores_above_a_threshold_not_at_it():
    # whole scores from 0 to 200 put every threshold exactly on scores
    rng = np.random.default_rng(4)
    masks = [(rng.random((15, 15)) < 0.2).astype(np.uint8) for _ in range(3)]
    maps = [rng.integers(0, 201, mask.shape).astype(np.float32) for mask in masks]
    maps[0].flat[:2] = 0, 200
    assert aupro_200(maps, masks) == pytest.approx(slow_200(maps, masks, 0.3), abs=1e-9)


def test_200_equals_explicit_loop_where_float32_rounding_makes_201_thresholds():
    for seed in range(200):
        maps, masks = make(seed, SHAPES[:2])
        low, high = min(m.min() for m in maps), max(m.max() for m in maps)
        if len(np.arange(low, high, (high - low) / 200)) == 201:
            assert aupro_200(maps, masks) == pytest.approx(slow_200(maps, masks, 0.3), abs=1e-9)
            return
    pytest.fail("no seed gave 201 thresholds")


def test_200_depends_on_the_scale_of_the_scores_and_the_exact_value_does_not():
    maps, masks = make(2, [(64, 64)] * 4, np.float64, gain=6.0)
    heavy = [np.exp(m) for m in maps]
    exact, exact_heavy = aupro(maps, masks, [0.3])[0.3], aupro(heavy, masks, [0.3])[0.3]
    assert exact_heavy == pytest.approx(exact, abs=1e-9)
    assert abs(aupro_200(maps, masks) - exact) < 0.03
    assert abs(aupro_200(heavy, masks) - exact_heavy) > 0.1


def test_undefined_is_nan():
    scores = np.arange(12.0).reshape(3, 4)
    zeros, ones = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)
    for mask in (zeros, ones):
        assert all(math.isnan(value) for value in aupro([scores], [mask]).values())
        assert math.isnan(aupro_200([scores], [mask]))
    some = zeros.copy()
    some[0, 0] = 1
    assert math.isnan(aupro_200([np.ones((3, 4))], [some]))  # all scores equal: no grid
    assert math.isnan(aupro_200([10.0 * some], [some]))  # kept points all at FPR 0: nothing to rescale
    assert aupro([10.0 * some], [some], [0.3])[0.3] == 1.0


def test_inputs_stay_as_they_are():
    maps, masks = make(1, SHAPES)
    before = [m.copy() for m in maps]
    aupro(maps, masks)
    aupro_200(maps, masks)
    assert all((m == b).all() for m, b in zip(maps, before, strict=True))


@pytest.mark.parametrize(
    ("maps", "masks", "limits", "words"),
    [
        ([np.ones((2, 3))], [np.ones((3, 2))], [0.3], r"map 0 has shape \(2, 3\) and its mask \(3, 2\)"),
        ([np.ones(4)], [np.ones(4)], [0.3], r"must be \(height, width\)"),
        ([np.ones((2, 2))], [], [0.3], "1 anomaly maps but 0 masks"),
        ([], [], [0.3], "no anomaly maps"),
        ([np.full((2, 2), np.nan)], [np.ones((2, 2))], [0.3], "map 0: 4 of 4 scores are NaN"),
        ([np.ones((2, 2))], [np.ones((2, 2))], [0.0], "limit is 0.0"),
        ([np.ones((2, 2))], [np.ones((2, 2))], [30.0], "limit is 30.0"),
    ],
)
def test_bad_input_is_one_clear_line(maps, masks, limits, words):
    with pytest.raises(DataError, match=words) as error:
        aupro(maps, masks, limits)
    assert "\n" not in str(error.value)

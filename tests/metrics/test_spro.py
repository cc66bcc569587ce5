"""Exact AU-sPRO against an explicit curve, and against AUPRO where nothing saturates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc

from promptad.errors import DataError
from promptad.metrics.aupro import aupro
from promptad.metrics.spro import Region, SaturatedOverlap, au_spro


def slow_spro(maps, regions, limit):
    """The curve by counting pixels at every distinct score, from (0, 0), cut and interpolated at the limit."""
    free = [
        ~np.any([r.mask for r in of], axis=0) if of else np.ones(m.shape, bool)
        for m, of in zip(maps, regions, strict=True)
    ]
    xs, ys = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        hits = [m >= threshold for m in maps]
        xs.append(sum((h & f).sum() for h, f in zip(hits, free, strict=True)) / sum(f.sum() for f in free))
        shares = [min((h & r.mask).sum() / r.saturation, 1.0) for h, of in zip(hits, regions, strict=True) for r in of]
        ys.append(np.mean(shares))
    x, y = np.array(xs), np.array(ys)
    inside = x <= limit
    cut_x, cut_y = x[inside], y[inside]
    if cut_x[-1] < limit:
        last = int(inside.sum()) - 1
        slope = (y[last + 1] - y[last]) / (x[last + 1] - x[last])
        cut_x, cut_y = np.append(cut_x, limit), np.append(cut_y, y[last] + slope * (limit - x[last]))
    return auc(cut_x, cut_y) / limit


def make(seed, decimals):
    """Three photos, the first without defect; regions of several parts that overlap, with drawn saturations."""
    rng = np.random.default_rng(seed)
    maps, regions = [], []
    for number in range(3):
        scores, of = rng.normal(size=(9, 11)), []
        for _ in range(2 if number else 0):
            mask = rng.random((9, 11)) < 0.12
            mask[tuple(rng.integers(0, 9, 2))] = True
            scores[mask] += 1.2
            of.append(Region(mask, int(rng.integers(1, mask.sum() + 1))))
        maps.append(np.round(scores, decimals).astype(np.float32))
        regions.append(of)
    return maps, regions


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0, 1, 6]), st.sampled_from([0.05, 0.3, 1.0]))
def test_equals_the_counted_curve(seed, decimals, limit):
    maps, regions = make(seed, decimals)
    assert au_spro(maps, regions, [limit])[limit] == pytest.approx(slow_spro(maps, regions, limit), abs=1e-9)


def test_without_saturation_it_is_aupro():
    rng = np.random.default_rng(3)
    maps = [rng.random((20, 20)) for _ in range(3)]
    masks = [np.zeros((20, 20), bool) for _ in maps]
    masks[1][2:6, 3:9] = masks[2][10:12, 1:19] = True
    regions = [[], [Region(masks[1], 24)], [Region(masks[2], 36)]]
    assert au_spro(maps, regions) == pytest.approx(aupro(maps, masks))


def test_finding_the_saturation_area_is_finding_all():
    mask = np.zeros((10, 10), bool)
    mask[:5] = True
    scores = np.zeros((10, 10))
    scores[0, :5] = 1
    assert au_spro([scores], [[Region(mask, 5)]], [0.05])[0.05] == pytest.approx(1.0)
    # Half of the area above all normal pixels, the other half at the last threshold, where the FPR goes from 0 to 1.
    assert au_spro([scores], [[Region(mask, 10)]], [1.0])[1.0] == pytest.approx(0.75)


def test_undefined_and_refused():
    assert all(math.isnan(value) for value in au_spro([np.ones((3, 3))], [[]]).values())
    assert math.isnan(SaturatedOverlap().compute([0.3])[0.3])
    region = Region(np.ones((2, 2), bool), 4)
    with pytest.raises(DataError, match="shape"):
        au_spro([np.ones((3, 3))], [[region]])
    with pytest.raises(DataError, match="saturation 5"):
        au_spro([np.ones((2, 2))], [[Region(region.mask, 5)]])
    with pytest.raises(DataError, match="0 pixels"):
        au_spro([np.ones((2, 2))], [[Region(~region.mask, 0)]])
    with pytest.raises(DataError, match="regions of 1"):
        au_spro([], [[region]])
    with pytest.raises(DataError, match="limit is 2"):
        au_spro([np.ones((3, 3))], [[]], [2])

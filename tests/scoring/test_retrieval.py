"""Retrieval from labelled keys: shares, hidden keys, neighbourhoods and the two sides of a mask against slow versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad.scoring.maps import top_of_smoothed
from promptad.scoring.retrieval import neighbourhood_mean, retrieved, two_sides


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_the_share_is_a_softmax_over_the_keys_that_are_seen(temperature):
    queries, keys, labels = drawn(2, 3, 5), drawn(7, 5, seed=1), torch.tensor([0.0, 1, 1, 0, 1, 0, 0])
    hidden = drawn(2, 3, 7, seed=2) > 0.5
    hidden[1, 2] = True  # one that sees nothing gets the share over all keys
    ours = retrieved(queries, keys, labels, temperature, hidden)
    for a in range(2):
        for b in range(3):
            seen = [k for k in range(7) if not hidden[a, b, k] or hidden[a, b].all()]
            weights = np.array([np.exp(float(queries[a, b].double() @ keys[k].double()) / temperature) for k in seen])
            expected = (weights * labels[seen].numpy()).sum() / weights.sum()
            assert float(ours[a, b]) == pytest.approx(expected, abs=1e-5)
    everything = retrieved(queries, keys, labels, temperature)
    assert float(everything[1, 2]) == pytest.approx(float(ours[1, 2])) and not torch.equal(everything, ours)


def test_zeros_outside_of_the_grid_count_in_a_neighbourhood():
    rows = torch.ones(1, 12, 2)
    means = neighbourhood_mean(rows, (3, 4), (1, 3, 5))[0, :, 0].view(3, 4)
    assert float(means[1, 1]) == pytest.approx((1 + 1 + 3 * 4 / 25) / 3)
    assert float(means[0, 0]) == pytest.approx((1 + 4 / 9 + 9 / 25) / 3)
    assert torch.equal(neighbourhood_mean(rows, (3, 4), (1,)), rows)


def test_a_defect_that_misses_every_centre_has_a_key_by_area_alone():
    mask = torch.zeros(16, 16)
    mask[0:3, 0:3] = 1  # 9 of the 64 pixels of the first of four patches, none of its middle four
    rows = torch.eye(4)
    keys, labels = two_sides(rows, mask, (2, 2), "area")
    assert labels == [0.0, 1.0]
    torch.testing.assert_close(keys[1], torch.tensor([1.0, 0, 0, 0]))
    outside = 1 - 9 / 64
    torch.testing.assert_close(keys[0], torch.tensor([outside, 1, 1, 1]) / (outside + 3))
    keys, labels = two_sides(rows, mask, (2, 2), "centre")
    assert labels == [0.0]
    torch.testing.assert_close(keys[0], torch.full((4,), 0.25))
    mask[:8, 3:5] = 1  # half of the middle: neither inside nor outside
    mask[:8, :4] = 1
    mask[:8, 4] = 0
    torch.testing.assert_close(two_sides(rows, mask, (2, 2), "centre")[0][0], torch.tensor([0.0, 1, 1, 1]) / 3)
    assert two_sides(rows, torch.ones(16, 16), (2, 2), "centre")[1] == [1.0]


def test_the_top_is_the_mean_of_the_highest_pixels():
    maps = drawn(2, 3, 4)
    large = torch.nn.functional.interpolate(maps[:, None], size=(24, 32), mode="bilinear")[:, 0]
    for share, count in ((0.01, 7), (1e-6, 1), (1.0, 768)):
        expected = [np.sort(of_map.numpy().ravel())[-count:].mean() for of_map in large]
        assert top_of_smoothed(maps, (24, 32), 0.0, share).tolist() == pytest.approx(expected, abs=1e-5)
    smooth, sharp = (top_of_smoothed(maps, (24, 32), sigma, 0.01) for sigma in (3.0, 0.0))
    assert (smooth < sharp).all()
    # Photos of a batch do not reach into each other.
    torch.testing.assert_close(top_of_smoothed(maps[:1], (24, 32), 3.0, 0.01), smooth[:1])

"""Deviations from what good photos score, and distances that they raise, against slow versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from promptad.scoring.fusion import raised
from promptad.scoring.good_scores import GoodScores


def slow(photos: list[np.ndarray], spread: float, value: float) -> float:
    values = np.concatenate([photo.ravel() for photo in photos])
    k = len(photos)
    variance = (k * np.var(values) + 2 * spread**2) / (k + 1)
    return (value - values.mean()) / math.sqrt(variance * (1 + 1 / k))


@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1, 1), (225, 225), (3, 50, 7)], ids=str)
def test_deviations_equal_the_slow_version_with_and_without_a_photo(sizes):
    generator = np.random.default_rng(0)
    photos = [generator.normal(0.1, 0.02, size) for size in sizes]
    good = GoodScores.of([torch.tensor(photo) for photo in photos], 0.015)
    given = torch.tensor([[0.05, 0.1], [0.2, -0.3]])
    for left in (None, *range(len(sizes))):
        rest = photos if left is None or len(sizes) == 1 else photos[:left] + photos[left + 1 :]
        expected = [[slow(rest, 0.015, float(value)) for value in row] for row in given]
        got = good.deviations(given, leave_out=left)
        assert got.dtype == torch.float32 and got.shape == given.shape
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_equal_photos_have_the_usual_spread_beside_them_and_never_divide_by_zero():
    good = GoodScores.of([torch.full((1,), 0.3)] * 4, 0.02)
    assert good.deviations(torch.tensor([0.3]))[0] == 0
    expected = 0.02 / math.sqrt(2 * 0.02**2 / 5 * 1.25)
    assert good.deviations(torch.tensor([0.32]))[0].item() == pytest.approx(expected, rel=1e-5)


def test_a_distance_rises_only_beyond_the_margin_and_without_end():
    distance, z = torch.tensor([0.1, 0.1, 0.1, 0.0]), torch.tensor([-50.0, 2.0, 102.0, 102.0])
    got = raised(distance, z, 0.1, 2.0)
    torch.testing.assert_close(got, torch.tensor([0.1, 0.1 * 2**0.1, 0.1 * math.e**10, 0.0]))
    assert torch.equal(raised(distance, z, 0.0, 2.0), distance)
    many = torch.linspace(-10, 300, 500)
    assert (raised(torch.full((500,), 0.2), many, 0.1, 2.0).diff() > 0).sum() > 450  # rises with the deviation

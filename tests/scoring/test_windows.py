"""Windows of patches and their harmonic aggregation, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad.clip.features import window_patches
from promptad.errors import ConfigError
from promptad.scoring.windows import harmonic_aggregation


@pytest.mark.parametrize(("side", "count"), [(2, 196), (3, 169), (1, 225), (15, 1)])
def test_numbers_of_windows_on_the_papers_grid(side, count):
    assert window_patches((15, 15), side).shape == (count, side * side)


@pytest.mark.parametrize(("grid", "side"), [((4, 3), 2), ((3, 7), 3), ((5, 5), 4), ((1, 6), 1)])
def test_windows_are_row_major_squares_of_neighbours(grid, side):
    ours, number = window_patches(grid, side), 0
    assert ours.dtype == torch.int64
    for top in range(grid[0] - side + 1):
        for left in range(grid[1] - side + 1):
            expected = [(top + y) * grid[1] + left + x for y in range(side) for x in range(side)]
            assert ours[number].tolist() == expected
            number += 1
    assert number == len(ours)


@pytest.mark.parametrize(("grid", "side"), [((2, 9), 3), ((4, 4), 0), ((4, 4), 5), ((4, 4), -1)])
def test_windows_that_do_not_fit_are_config_errors(grid, side):
    with pytest.raises(ConfigError, match="do not fit"):
        window_patches(grid, side)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_constant_stays_that_constant(side):
    windows = window_patches((15, 15), side)
    for value in (1e-4, 0.3, 1.0):
        ours = harmonic_aggregation(torch.full((2, len(windows)), value), windows, (15, 15))
        torch.testing.assert_close(ours, torch.full((2, 15, 15), value))


@pytest.mark.parametrize(("grid", "side"), [((5, 4), 2), ((6, 6), 3)])
def test_it_is_the_harmonic_mean_of_the_windows_that_cover_a_patch(grid, side):
    windows = window_patches(grid, side)
    scores = torch.rand(3, len(windows), generator=torch.Generator().manual_seed(2)) + 1e-3
    ours = harmonic_aggregation(scores, windows, grid)
    assert ours.shape == (3, *grid)
    for row in range(3):
        for patch in range(grid[0] * grid[1]):
            covering = [float(scores[row, n]) for n, window in enumerate(windows) if patch in window]
            expected = len(covering) / np.sum(1 / np.array(covering))
            assert float(ours[row].flatten()[patch]) == pytest.approx(expected, rel=1e-5)


def test_a_window_of_score_zero_gives_zero_and_not_nan():
    windows = window_patches((3, 3), 2)
    ours = harmonic_aggregation(torch.tensor([[0.0, 0.5, 0.5, 0.5]]), windows, (3, 3))
    assert ours.isfinite().all() and ours[0, 0, 0] < 1e-9 and ours[0, 2, 2] == pytest.approx(0.5)

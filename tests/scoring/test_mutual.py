"""Mutual scores against slow NumPy versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from promptad.scoring.mutual import SAME, class_smoothed, mutual_scores, reference_distances
from promptad.scoring.retrieval import neighbourhood_mean


def unit(count: int, seed: int, width: int = 6) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_distances_to_each_reference_photo():
    patches, rows = unit(5, 0), unit(9, 1)
    owners = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    result = reference_distances(patches, rows, owners, 3)
    slow = [
        [(1 - max(float(p @ r) for r in rows.numpy()[owners.numpy() == photo])) / 2 for p in patches.numpy()]
        for photo in range(3)
    ]
    np.testing.assert_allclose(result.numpy(), slow, atol=1e-6)


def test_rounded_rows_are_no_distance_from_themselves():
    """Tokens of CLIP have one value that is most of their length, where half precision rounds most."""
    rows = F.normalize(
        torch.randn(500, 6, generator=torch.Generator().manual_seed(5)) + torch.tensor([9.0, 0, 0, 0, 0, 0]), dim=-1
    )
    result = reference_distances(rows, rows.half(), torch.zeros(500, dtype=torch.int64), 1)
    assert float(result.max()) < SAME / 10


@pytest.mark.parametrize(("share", "kept"), [(0.3, 3), (0.05, 1), (1.0, 10), (0.39, 3)])
def test_mean_of_the_nearest_references(share, kept):
    distances = torch.rand(10, 7, generator=torch.Generator().manual_seed(2))
    slow = np.sort(distances.numpy(), axis=0)[:kept].mean(axis=0)
    np.testing.assert_allclose(mutual_scores(distances, share).numpy(), slow, rtol=1e-6)


def test_windows_of_patches_count_zeros_beyond_the_edge():
    tokens = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(3))
    grid = tokens.view(2, 3, 4, 3).numpy()
    slow = np.zeros_like(grid)
    for row in range(3):
        for column in range(4):
            inside = grid[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            slow[:, row, column] = inside.sum(axis=(1, 2)) / 9
    np.testing.assert_allclose(neighbourhood_mean(tokens, (3, 4), (3,)).numpy(), slow.reshape(2, 12, 3), atol=1e-6)
    assert torch.equal(neighbourhood_mean(tokens, (3, 4), (1,)), tokens)


def test_scores_of_like_photos_smooth_a_score():
    image, classes, scores = torch.randn(1, 6) * 3, unit(5, 4), torch.rand(5)
    score = torch.tensor([0.7])
    own = (image / image.norm()).numpy()[0]
    slow = []
    for window in (1, 2, 4):
        order = np.argsort(-(classes.numpy() @ own))[: window - 1]
        weights = [1.0, *(float(classes.numpy()[number] @ own) for number in order)]
        values = [0.7, *(float(scores[number]) for number in order)]
        slow.append(np.dot(weights, values) / sum(weights))
    result = class_smoothed(score, image, classes, scores, (1, 2, 4))
    assert float(result[0]) == pytest.approx(float(np.mean(slow)), abs=1e-6)
    assert float(class_smoothed(score, image, classes, scores, (1,))[0]) == pytest.approx(0.7)

"""Two-class and many-state probabilities against the softmax written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from promptad.scoring.prototypes import anomalous_probability, ensemble_prototype, state_probabilities


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()))


def softmax(logits: list[float]) -> np.ndarray:
    weights = np.exp(np.array(logits) - max(logits))
    return weights / weights.sum()


@pytest.mark.parametrize("scale", [1.0, 4.6052, 100.0])
def test_the_anomalous_component_of_the_softmax(scale):
    queries, normal, anomalous = features(2, 3, 6) * 5, features(6, seed=1) * 2, features(6, seed=2) * 0.3
    ours = anomalous_probability(queries, normal, anomalous, scale)
    assert ours.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            logits = [scale * cosine(queries[i, j], prototype) for prototype in (normal, anomalous)]
            assert float(ours[i, j]) == pytest.approx(softmax(logits)[1], abs=1e-5)


def test_larger_means_more_anomalous():
    normal, anomalous = features(6, seed=1), features(6, seed=2)
    near_normal, near_anomalous = anomalous_probability(torch.stack([normal, anomalous]), normal, anomalous, 10)
    assert near_normal < 0.5 < near_anomalous
    assert float(anomalous_probability(features(6), normal, normal, 100)) == 0.5


def test_extreme_scales_stay_finite():
    ours = anomalous_probability(features(50, 6), features(6, seed=1), -features(6, seed=1), 1e4)
    assert ours.isfinite().all() and ours.min() >= 0 and ours.max() <= 1


@pytest.mark.parametrize("scale", [4.6052, 100.0])
def test_states_share_one_by_their_cosines(scale):
    queries, states = features(4, 6), features(5, 6, seed=2) * 2
    ours = state_probabilities(queries, states, scale)
    assert ours.shape == (4, 5)
    for row in range(4):
        logits = [scale * cosine(queries[row], state) for state in states]
        np.testing.assert_allclose(ours[row].numpy(), softmax(logits), atol=1e-5)
    assert state_probabilities(features(2, 7, 6), states, scale).shape == (2, 7, 5)


def test_an_ensemble_is_the_unit_mean_of_unit_vectors():
    sentences = features(9, 6) * torch.arange(1, 10)[:, None]
    rows = sentences.double().numpy()
    mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(ensemble_prototype(sentences).numpy(), mean / np.linalg.norm(mean), atol=1e-6)

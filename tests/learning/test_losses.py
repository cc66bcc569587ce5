"""Losses against slow NumPy references in float64, feature by feature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.learning.losses import (
    anchor_distance,
    attraction,
    explicit_anomaly_margin,
    mean_alignment,
    one_class_contrastive,
)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def raw(*shape: int, seed: int = 0) -> Tensor:
    scales = torch.arange(1, shape[0] + 1).view(-1, 1).float()  # lengths differ, so that normalising matters
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scales


def norm(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("scale", [1.0, 4.6052, 100.0])
def test_contrastive_is_the_mean_cross_entropy_against_every_single_negative(scale):
    features, positive, negatives = unit(6, 8, seed=1), unit(8, seed=2), unit(5, 8, seed=3)
    losses = []
    for z in features.double().numpy():
        good = scale * float(z @ positive.double().numpy())
        bad = [scale * float(z @ n) for n in negatives.double().numpy()]
        top = max(good, *bad)
        total = np.exp(good - top) + sum(np.exp(b - top) for b in bad)
        losses.append(-(good - top) + np.log(total))
    ours = one_class_contrastive(features, positive, negatives, scale)
    assert ours.ndim == 0 and ours.item() == pytest.approx(float(np.mean(losses)), rel=1e-4, abs=1e-5)


def test_contrastive_is_small_when_the_normal_prototype_is_near_and_all_anomalies_far():
    z = unit(1, 8)
    assert one_class_contrastive(z, z[0], -z.expand(4, 8), 100.0) < 1e-6
    assert one_class_contrastive(z, -z[0], z, 100.0) == pytest.approx(200, rel=1e-4)


def slow_margin(features: Tensor, normal: Tensor, anomalous: Tensor, distance: str, slip: bool) -> float:
    z, n, a = (tensor.double().numpy() for tensor in (features, normal, anomalous))
    terms = []
    for photo in z:
        if slip:  # one hinge a channel, of differences summed over the photo's patches
            pairs = [(((photo[:, c] - n[c]) ** 2).sum(), ((photo[:, c] - a[c]) ** 2).sum()) for c in range(z.shape[2])]
        else:
            pairs = [(((patch - n) ** 2).sum(), ((patch - a) ** 2).sum()) for patch in photo]
        for near, far in pairs:
            root = distance == "euclidean"
            terms.append(max(0.0, np.sqrt(near) - np.sqrt(far) if root else near - far))
    return float(np.mean(terms))


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
@pytest.mark.parametrize("slip", [False, True])
@pytest.mark.parametrize("shape", [(3, 7, 8), (4, 1, 8)])
def test_margin_equals_the_slow_reference(distance, slip, shape):
    features, normal, anomalous = unit(*shape, seed=5), unit(8, seed=2), unit(8, seed=3)
    ours = explicit_anomaly_margin(features, normal, anomalous, distance=distance, sum_over_patches=slip)
    expected = slow_margin(features, normal, anomalous, distance, slip)
    assert expected > 0.01
    assert ours.ndim == 0 and ours.item() == pytest.approx(expected, rel=1e-5)


def test_the_axis_slip_and_the_distances_are_different_losses():
    features, normal, anomalous = unit(3, 7, 8, seed=1), unit(8, seed=2), unit(8, seed=3)
    values = {
        round(float(explicit_anomaly_margin(features, normal, anomalous, distance=d, sum_over_patches=s)), 4)
        for d in ("squared", "euclidean")
        for s in (False, True)
    }
    assert len(values) == 4


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_margin_is_zero_with_zero_gradient_when_every_feature_is_closer_to_normal(distance):
    normal, anomalous = unit(8, seed=2), -unit(8, seed=2)
    features = F.normalize(normal + 0.1 * unit(2, 5, 8, seed=4), dim=-1)
    anomalous.requires_grad_()
    loss = explicit_anomaly_margin(features, normal, anomalous, distance=distance)
    loss.backward()
    assert loss.item() == 0 and anomalous.grad.abs().max() == 0
    assert explicit_anomaly_margin(-features, normal, anomalous.detach(), distance=distance) > 1


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_margin_has_a_finite_gradient_at_a_feature_that_equals_a_prototype(distance):
    normal, anomalous = unit(8, seed=2).requires_grad_(), unit(8, seed=3).requires_grad_()
    features = torch.stack([normal.detach(), anomalous.detach()]).unsqueeze(0)
    explicit_anomaly_margin(features, normal, anomalous, distance=distance).backward()
    assert normal.grad.isfinite().all() and anomalous.grad.isfinite().all()


@pytest.mark.parametrize("how", ["mean_of_normalised", "normalised_mean"])
def test_alignment_of_both_kinds_equals_the_slow_reference(how):
    manual, learnable = raw(5, 8, seed=1), raw(3, 8, seed=2)
    m, q = manual.double().numpy(), learnable.double().numpy()
    if how == "normalised_mean":
        difference = norm(m.mean(axis=0)) - norm(q.mean(axis=0))
    else:
        difference = norm(m).mean(axis=0) - norm(q).mean(axis=0)
    ours = mean_alignment(manual, learnable, how)
    assert ours.item() == pytest.approx(float((difference**2).sum()), rel=1e-5) and ours.item() > 0.01
    assert float(mean_alignment(manual, manual, how)) == 0


def test_the_two_alignments_differ_and_reach_all_prompts():
    manual, learnable = raw(5, 8, seed=1), raw(3, 8, seed=2).requires_grad_()
    first, second = (mean_alignment(manual, learnable, h) for h in ("mean_of_normalised", "normalised_mean"))
    assert abs(first.item() - second.item()) > 1e-2
    (first + second).backward()
    assert (learnable.grad.abs().amax(dim=-1) > 0).all()


def test_attraction_equals_the_slow_reference_and_anchor_is_a_squared_distance():
    features, normal, start = unit(6, 8, seed=1), unit(8, seed=2), unit(8, seed=3)
    z, w, w0 = (tensor.double().numpy() for tensor in (features, normal, start))
    assert attraction(features, normal).item() == pytest.approx(np.mean([1 - feature @ w for feature in z]), rel=1e-5)
    assert anchor_distance(normal, start).item() == pytest.approx(((w - w0) ** 2).sum(), rel=1e-5)
    assert attraction(normal.expand(3, -1), normal).item() == pytest.approx(0, abs=1e-6)
    assert anchor_distance(start, start) == 0


def test_attraction_goes_on_where_the_contrastive_loss_is_satisfied():
    features, negatives = unit(1, 8, seed=1), -unit(1, 8, seed=1)
    normal = F.normalize(features[0] + 0.5 * unit(8, seed=2), dim=-1).requires_grad_()
    (satisfied,) = torch.autograd.grad(one_class_contrastive(features, normal, negatives, 100.0), normal)
    (pulled,) = torch.autograd.grad(attraction(features, normal), normal)
    assert satisfied.norm() < 1e-6 and pulled.norm() > 0.9

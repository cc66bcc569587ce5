"""Losses of maps and image scores against slow NumPy loops in float64, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.learning.map_losses import binary_focal, dice, focal, map_loss, pairwise_cosine, prior_of_normal


def maps_and_masks(seed: int = 0, size: tuple[int, int, int] = (3, 5, 4)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps, masks = torch.rand(size, generator=generator), (torch.rand(size, generator=generator) > 0.7).float()
    masks[0] = 0  # a good photo
    return maps, masks


def slow_focal(maps: np.ndarray, masks: np.ndarray) -> float:
    """Both classes written out: channels [normal, anomalous] and a clamped one-hot target."""
    terms = []
    for s, g in zip(maps.ravel(), masks.ravel(), strict=True):
        channels, one_hot = np.array([1 - s, s]), np.array([1 - g, g]).clip(1e-5, 1 - 1e-5)
        p = (channels * one_hot).sum() + 1e-5
        terms.append(-((1 - p) ** 2) * np.log(p))
    return float(np.mean(terms))


def slow_dice(maps: np.ndarray, masks: np.ndarray) -> float:
    shares = []
    for p, g in zip(maps, masks, strict=True):
        both = sum(float(a * b) for a, b in zip(p.ravel(), g.ravel(), strict=True))
        shares.append((2 * both + 1) / (p.sum() + g.sum() + 1))
    return 1 - float(np.mean(shares))


@pytest.mark.parametrize("seed", [0, 1])
def test_focal_and_dice(seed):
    maps, masks = maps_and_masks(seed)
    p, g = maps.double().numpy(), masks.double().numpy()
    assert focal(maps, masks).item() == pytest.approx(slow_focal(p, g), rel=1e-5)
    assert dice(maps, masks).item() == pytest.approx(slow_dice(p, g), rel=1e-5)


def test_the_map_loss_upsamples_probabilities_and_reads_both_classes():
    maps, masks = maps_and_masks(2)[0], maps_and_masks(3, (3, 11, 9))[1]
    large = F.interpolate(maps[:, None].double(), size=(11, 9), mode="bilinear", align_corners=False)[:, 0].numpy()
    normal = F.interpolate(1 - maps[:, None].double(), size=(11, 9), mode="bilinear", align_corners=False)[:, 0].numpy()
    g = masks.double().numpy()
    expected = slow_focal(large, g) + slow_dice(large, g) + slow_dice(normal, 1 - g)
    assert map_loss(maps, masks).item() == pytest.approx(expected, rel=1e-5)


def test_a_perfect_map_costs_nothing_and_the_opposite_much():
    _, masks = maps_and_masks()
    masks[0, 0, 0] = 1
    assert map_loss(masks, masks).item() == pytest.approx(0, abs=1e-4)
    assert map_loss(1 - masks, masks) > 10
    for extreme in (masks, 1 - masks):  # probabilities of exactly 0 and 1
        leaf = extreme.clone().requires_grad_()
        map_loss(leaf, masks).backward()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("how", ["logits", "prob"])
def test_binary_focal(how):
    scores, labels = torch.tensor([0.02, 0.3, 0.9, 0.6]), torch.tensor([0, 1, 1, 0])
    terms = []
    for s, y in zip(scores.double().numpy(), labels.numpy(), strict=True):
        p = 1 / (1 + np.exp(-s)) if how == "logits" else s
        b = -np.log(p if y else 1 - p)
        terms.append((1 - np.exp(-b)) ** 2 * b)
    assert binary_focal(scores, labels, how).item() == pytest.approx(float(np.mean(terms)), rel=1e-5)


def test_read_as_a_logit_a_certain_score_still_costs():
    certain = torch.ones(1)
    assert binary_focal(certain, certain.long(), "prob") == 0
    assert binary_focal(certain, certain.long(), "logits").item() == pytest.approx(
        (1 - 0.731059) ** 2 * 0.313262, rel=1e-4
    )
    leaf = torch.tensor([0.0, 1.0], requires_grad=True)
    binary_focal(leaf, torch.tensor([1, 0]), "prob").backward()  # certain and wrong
    assert leaf.grad.isfinite().all() and leaf.grad[0] < 0 < leaf.grad[1]


def test_pairwise_cosine_sums_over_unordered_pairs():
    features = torch.randn(10, 7, generator=torch.Generator().manual_seed(5)) * torch.arange(1, 11)[:, None]
    rows, expected, pairs = features.double().numpy(), 0.0, 0
    for i in range(10):
        for j in range(i + 1, 10):
            expected += abs(rows[i] @ rows[j]) / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
            pairs += 1
    assert pairs == 45 and pairwise_cosine(features).item() == pytest.approx(expected, rel=1e-5)
    assert pairwise_cosine(features[:1]) == 0 and pairwise_cosine(torch.eye(4)) == 0


def test_the_prior_counts_for_normal_images_alone_and_is_summed_over_them():
    prior, labels = torch.randn(4, 6, generator=torch.Generator().manual_seed(6)), torch.tensor([0, 1, 0, 1])
    expected = sum(float((row.double() ** 2).mean()) for row, y in zip(prior, labels, strict=True) if y == 0)
    assert prior_of_normal(prior, labels).item() == pytest.approx(expected, rel=1e-5)
    assert prior_of_normal(prior, torch.ones(4)) == 0

"""The deviation loss and the mean of a map's hottest places, against slow references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad.learning.deviation import deviation_loss, top_count, top_mean


@pytest.mark.parametrize(
    ("places", "fraction", "count"),
    [
        (196, 0.1, 20),
        (225, 0.1, 23),
        (200, 0.1, 20),
        (70, 0.1, 7),
        (3, 0.1, 1),
        (1, 0.001, 1),
        (5, 1.0, 5),
        (3, 0.5, 2),
    ],
)
def test_the_number_of_places_is_rounded_up_and_never_zero(places, fraction, count):
    assert top_count(places, fraction) == count


@pytest.mark.parametrize("places", [1, 3, 9, 10, 70, 196, 200, 225])
def test_rounded_down_it_is_what_dra_takes(places):
    """The rule of DRA's code as `specs/methods.md` gives it: the whole part of a tenth, at least one."""
    assert top_count(places, 0.1, "down") == max(1, places // 10)
    maps = torch.randn(2, places, generator=torch.Generator().manual_seed(places))
    expected = [np.mean(sorted(row)[-max(1, places // 10) :]) for row in maps.double().tolist()]
    np.testing.assert_allclose(top_mean(maps, 0.1, "down").numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("places", [1, 7, 196])
def test_the_mean_of_the_largest_values(places):
    maps = torch.randn(3, places, generator=torch.Generator().manual_seed(places))
    expected = [sorted(row)[-top_count(places, 0.1) :] for row in maps.double().tolist()]
    assert torch.allclose(top_mean(maps, 0.1).double(), torch.tensor([np.mean(row) for row in expected]).double())
    assert torch.allclose(top_mean(maps, 1.0), maps.mean(dim=1), atol=1e-6)


def test_the_loss_is_the_mean_hinge_of_both_kinds():
    scores, labels = [-7.0, -2.0, 3.0, 8.0, -1.0, 4.0], [0, 0, 0, 1, 1, 1]
    expected = []
    for score, label in zip(scores, labels, strict=True):
        dev = (score - 0.5) / 2.0
        expected.append(max(0.0, 3.0 + dev) if label == 0 else max(0.0, 3.0 - dev))
    ours = deviation_loss(torch.tensor(scores), torch.tensor(labels), margin=3.0, mean=0.5, deviation=2.0)
    assert ours.ndim == 0 and ours.item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(("label", "sign"), [(0, -1.0), (1, 1.0)])
def test_the_loss_is_zero_only_beyond_the_margin(label, sign):
    def loss(score: float) -> float:
        return deviation_loss(torch.tensor([score]), torch.tensor([label])).item()

    assert loss(sign * 5.0) == loss(sign * 9.0) == 0
    assert loss(sign * 4.99) == pytest.approx(0.01, abs=1e-5)
    assert loss(0.0) == 5 and loss(-sign * 5.0) == 10


def test_only_scores_inside_the_margin_and_only_the_hottest_places_get_gradients():
    maps = torch.tensor([[-9.0, -6.0, -7.0, -8.0], [1.0, 4.0, 2.0, 3.0]], requires_grad=True)
    deviation_loss(top_mean(maps, 0.5), torch.tensor([0, 1])).backward()
    assert maps.grad.tolist() == [[0, 0, 0, 0], [0, -0.25, 0, -0.25]]

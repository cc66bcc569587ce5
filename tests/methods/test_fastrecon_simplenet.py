"""FastRecon against a direct solve and its gradient; SimpleNet's counts, loss and sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.methods.baselines.fastrecon import reconstruction, span
from promptad.methods.baselines.simplenet import Networks, discrimination
from promptad.methods.registry import find_method
from tiny import tiny_backbone

NAMES = ("fastrecon", "simplenet")


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def made(name: str, backbone, **settings):
    entry = find_method(name)
    return entry.build(backbone, entry.make_config("clean", layers=(2, 4), **settings), "nut")


@torch.no_grad()
def seen(backbone, method, seed: int, count: int = 1) -> Features:
    photos = torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed))
    return backbone.vision(photos, method.request)


def fitted(name: str, backbone, seeds=(1, 2, 3), **settings):
    method = made(name, backbone, **settings)
    references = [seen(backbone, method, seed) for seed in seeds]
    method.fit([[reference] for reference in references])
    return method, references


# FastRecon ----------------------------------------------------------------------------------------------------------


def problem(seed: int = 0, rows: int = 5, width: int = 12, patches: int = 7):
    random = np.random.default_rng(seed)
    return random.normal(size=(patches, width)), random.normal(size=(rows, width)), random.normal(size=(patches, width))


def rebuilt(q: np.ndarray, s: np.ndarray, mu: np.ndarray, weight: float) -> np.ndarray:
    basis = span(torch.from_numpy(s))
    return reconstruction(torch.from_numpy(q)[None], torch.from_numpy(mu), basis, weight)[0].numpy()


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0, 1e6])
def test_the_reconstruction_is_the_closed_form_with_an_inverse(weight):
    q, s, mu = problem()
    w = (q @ s.T + weight * mu @ s.T) @ np.linalg.inv((1 + weight) * s @ s.T)
    np.testing.assert_allclose(rebuilt(q, s, mu, weight), w @ s, atol=1e-9)


def test_the_gradient_of_the_objective_is_zero_there():
    q, s, mu = problem(1)
    values = torch.from_numpy(rebuilt(q, s, mu, 2.0) @ np.linalg.pinv(s)).requires_grad_()
    made_of = values @ torch.from_numpy(s)
    loss = (torch.from_numpy(q) - made_of).square().sum() + 2.0 * (made_of - torch.from_numpy(mu)).square().sum()
    loss.backward()
    assert values.grad is not None and float(values.grad.abs().max()) < 1e-9


def test_what_the_rows_span_is_rebuilt_and_a_large_lambda_gives_the_mean():
    q, s, mu = problem(2)
    inside = np.random.default_rng(3).normal(size=(7, 5)) @ s
    np.testing.assert_allclose(rebuilt(inside, s, mu, 0.0), inside, atol=1e-9)
    projector = np.linalg.pinv(s) @ s
    np.testing.assert_allclose(rebuilt(q, s, mu, 1e12), mu @ projector, atol=1e-8)


def test_copies_among_the_rows_change_nothing():
    q, s, mu = problem(4)
    np.testing.assert_allclose(rebuilt(q, np.concatenate([s, s[:2]]), mu, 2.0), rebuilt(q, s, mu, 2.0), atol=1e-9)


def test_fastrecon_scores_are_those_of_a_direct_solve(backbone):
    method, references = fitted("fastrecon", backbone, coreset=0.05)
    query = seen(backbone, method, 9)
    tokens = [
        np.concatenate([F.normalize(r.taps[layer][0], dim=-1).numpy() for layer in (2, 4)], axis=1).astype(np.float64)
        for r in (*references, query)
    ]
    s, mu, q = np.concatenate(tokens[:3])[method.state()["kept"].numpy()], np.mean(tokens[:3], axis=0), tokens[3]
    w = (q @ s.T + 2.0 * mu @ s.T) @ np.linalg.inv(3.0 * s @ s.T)
    expected = np.linalg.norm(q - w @ s, axis=1)
    scores = method.score(query)
    np.testing.assert_allclose(scores.map[0].flatten().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert float(scores.image[0]) == pytest.approx(expected.max(), rel=1e-5)


def test_fastrecon_keeps_no_more_rows_than_a_quarter_of_their_width_and_says_so(backbone):
    with pytest.warns(match="rebuilds patches from 16 of the 54"):
        method, _ = fitted("fastrecon", backbone, coreset=0.5)
    assert len(method.state()["kept"]) == 64 // 4


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_cannot_be(name, backbone):
    with pytest.raises(ConfigError, match="must be odd"):
        made(name, backbone, pooling=2)
    with pytest.raises(ConfigError, match="squash or crop"):
        made("fastrecon", backbone, fit="tiles")


# SimpleNet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "hidden", "count"), [(640, 1024, 1_069_696), (1536, 1024, 3_937_792), (1792, 1024, 5_052_160)]
)
def test_simplenets_trained_values(width, hidden, count):
    assert sum(parameter.numel() for parameter in Networks(width, hidden, 0).parameters()) == count


def test_the_loss_is_zero_exactly_beyond_both_margins():
    networks, real = Networks(2, 3, 0).eval(), torch.zeros(2, 2)
    for good, noisy, expected in ((0.5, -0.5, 0.0), (2.0, -3.0, 0.0), (0.4, -0.5, 0.1), (0.5, -0.2, 0.3)):
        networks.judge = lambda _, a=good, b=noisy: torch.tensor([a, a, b, b])
        assert float(discrimination(networks, real, torch.ones_like(real), 0.3)) == pytest.approx(expected, abs=1e-6)


def test_the_loss_against_a_loop_over_patches():
    networks = Networks(6, 5, 0).train()
    generator = torch.Generator().manual_seed(3)
    real, draw = torch.randn(9, 6, generator=generator), torch.randn(9, 6, generator=generator)
    noisy = real.numpy() + 0.3 * real.numpy().std(axis=0) * draw.numpy()
    both = np.concatenate([real.numpy(), noisy]).astype(np.float64)
    hidden = both @ networks.first.weight.detach().numpy().T.astype(np.float64) + networks.first.bias.detach().numpy()
    hidden = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + networks.norm.eps)
    judged = np.where(hidden > 0, hidden, 0.2 * hidden) @ networks.last.weight.detach().numpy()[0]
    expected = (
        sum(max(0.0, 0.5 - value) for value in judged[:9]) / 9 + sum(max(0.0, 0.5 + value) for value in judged[9:]) / 9
    )
    assert float(discrimination(networks, real, draw, 0.3).detach()) == pytest.approx(expected, rel=1e-5)


def test_without_noise_nothing_can_be_told_apart_and_the_loss_is_at_least_one():
    networks, real = Networks(6, 5, 1).train(), torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    assert float(discrimination(networks, real, torch.ones_like(real), 0.0)) >= 1.0


def test_a_patch_that_looks_more_normal_scores_less_and_noise_scores_more(backbone):
    method, references = fitted("simplenet", backbone, steps=60, lr=5e-3, noise=1.0)
    good = float(method.score(references[0]).map.mean())
    changed = Features(
        references[0].image,
        None,
        {
            k: v + 3 * v.std() * torch.randn(v.shape, generator=torch.Generator().manual_seed(5))
            for k, v in references[0].taps.items()
        },
        references[0].grid,
    )
    assert float(method.score(changed).map.mean()) > good
    tokens = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    judged = method.networks.judge(method.networks.adaptor(tokens))
    assert judged.shape == (4,)


# Both ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trip_and_the_same_seed_gives_the_same(name, backbone):
    settings = {"steps": 5} if name == "simplenet" else {}
    method, _ = fitted(name, backbone, **settings)
    again, _ = fitted(name, backbone, **settings)
    other = made(name, backbone, **settings)
    with pytest.raises(ConfigError, match="has not seen a good photo"):
        other.score(seen(backbone, method, 9))
    other.load_state(method.state())
    query = seen(backbone, method, 9, count=2)
    for scores in (again, other):
        torch.testing.assert_close(scores.score(query).map, method.score(query).map, rtol=0, atol=0)


def test_fastrecon_leaves_a_photo_out_of_rows_and_mean(backbone):
    method, references = fitted("fastrecon", backbone, coreset=0.05)
    own = float(method.score(references[0]).image)
    assert float(method.score(references[0], leave_out=0).image) > own

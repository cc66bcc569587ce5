"""Training that can be killed at any moment: what comes out, and that it does not depend on the interruptions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from promptad.errors import ConfigError, WeightsError
from promptad.learning.epochs import Checkpoint, Recipe, epoch_generator, train_epochs

DATA = torch.linspace(-1, 1, 24).reshape(12, 2)
TARGET = (DATA[:, :1] - 0.3 * DATA[:, 1:]).sign()


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1))


def plan(generator: torch.Generator) -> list[Tensor]:
    return list(torch.randperm(12, generator=generator).split(4))


def run(module: nn.Module, recipe: Recipe, **options) -> list[float]:
    return train_epochs(
        module, plan, lambda rows: (module(DATA[rows]) - TARGET[rows]).square().mean(), recipe, **options
    )


class Killed(Exception):
    pass


def kill_after(batches: int):
    def progress(done: int, _: int) -> None:
        if done == batches:
            raise Killed

    return progress


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("killed", [1, 3, 4, 8, 14])
def test_a_killed_training_ends_where_an_uninterrupted_one_does(tmp_path, optimiser, killed):
    recipe = Recipe(optimiser, epochs=5, lr=0.05, decay_every=2, weight_decay=1e-3)
    whole = network()
    history = run(whole, recipe)
    place = Checkpoint(tmp_path / "state.safetensors", {"seed": 1, "what": ["a", 2.5]})
    with pytest.raises(Killed):
        run(network(), recipe, checkpoint=place, progress=kill_after(killed))
    torch.manual_seed(killed)  # what the process drew before must not matter
    again = network()
    seen: list[int] = []
    resumed = run(again, recipe, checkpoint=place, progress=lambda done, _: seen.append(done))
    assert resumed == history
    assert seen[0] == 3 * (max(0, killed - 1) // 3) + 1  # only the epoch it was in is repeated
    for (name, value), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_training_learns_and_leaves_the_global_generator_alone():
    module = network()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    history = run(module, Recipe(epochs=30, lr=0.05))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert history[-1] < 0.6 * history[0]
    assert not module.training


def test_the_rate_falls_by_steps_of_epochs():
    rates = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            rates.append(self.weight.detach().clone())
            return super().forward(x)

    torch.manual_seed(0)
    module = Watched(2, 1)
    # Plain steps of a constant gradient: their size is the rate.
    train_epochs(
        module, lambda _: [0], lambda _: module(torch.ones(1, 2)).sum(),
        Recipe("sgd", epochs=6, lr=1.0, betas=(0.0, 0.0), decay_every=2, decay=0.5),
    )  # fmt: skip
    steps = [float((a - b).abs().max()) for a, b in pairwise(rates)]
    assert steps == pytest.approx([1, 1, 0.5, 0.5, 0.25], abs=1e-5)


@pytest.mark.parametrize("by_batch", [False, True])
def test_a_cosine_ends_at_its_lowest_rate_by_epochs_or_by_batches(by_batch):
    recipe = Recipe(epochs=4, lr=2.0, cosine=True, lowest=0.1, by_batch=by_batch)
    for epoch in (1, 2, 4):
        for passed in (0.0, 0.5):
            done = (epoch - 1 + (passed if by_batch else 0.0)) / 4
            expected = 0.2 + 1.8 * (1 + np.cos(np.pi * done)) / 2
            assert recipe.rate(epoch, passed) == pytest.approx(expected)
    assert Recipe(lr=2.0, by_batch=True).rate(1, 0.5) == 2.0
    torch.manual_seed(0)
    module, seen = nn.Linear(2, 1), []

    def loss(_: int) -> Tensor:
        seen.append(module.weight.detach().clone())
        return module(torch.ones(1, 2)).sum()

    steps = Recipe("sgd", epochs=1, lr=1.0, betas=(0.0, 0.0), cosine=True, by_batch=by_batch)
    train_epochs(module, lambda _: [0, 1, 2, 3], loss, steps)
    sizes = [float((a - b).abs().max()) for a, b in pairwise(seen)]
    assert sizes == pytest.approx([1, 0.854, 0.5] if by_batch else [1, 1, 1], abs=1e-3)


def test_epochs_draw_different_numbers_and_the_same_ones_again():
    draws = [torch.rand(3, generator=epoch_generator(5, epoch)) for epoch in (1, 2, 1)]
    assert torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[1])


def test_what_goes_wrong_is_said(tmp_path):
    with pytest.raises(ConfigError, match="diverged in epoch 1"):
        module = network()
        train_epochs(module, plan, lambda rows: module(DATA[rows]).mean() * float("nan"), Recipe())
    with pytest.raises(ConfigError, match="nothing to train on"):
        train_epochs(network(), lambda _: [], lambda _: torch.zeros(()), Recipe())
    place = Checkpoint(tmp_path / "state.safetensors", {"seed": 1})
    run(network(), Recipe(epochs=1), checkpoint=place)
    with pytest.raises(ConfigError, match=r"another training.*fresh=True"):
        run(network(), Recipe(epochs=1), checkpoint=Checkpoint(place.path, {"seed": 2}))
    with pytest.raises(WeightsError, match="start anew"):
        run(nn.Sequential(nn.Linear(2, 1)), Recipe(epochs=2), checkpoint=place)
    Path(place.path).write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="not a readable training state"):
        run(network(), Recipe(epochs=1), checkpoint=place)

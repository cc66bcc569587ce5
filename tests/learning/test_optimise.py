"""The training loop: SGD or Adam with a cosine, and what happens when it diverges."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from promptad.errors import ConfigError
from promptad.learning.optimise import Schedule, optimise


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def plain(epochs: int, lr: float, final_lr: float) -> Schedule:
    """SGD without momentum and decay: a step is the rate times the gradient."""
    return Schedule("sgd", epochs, lr, momentum=0.0, weight_decay=0.0, final_lr=final_lr)


def cosine(lr: float, final_lr: float, epochs: int) -> list[float]:
    return [final_lr + (lr - final_lr) * (1 + math.cos(math.pi * e / epochs)) / 2 for e in range(epochs)]


def test_step_sizes_follow_the_cosine_down_to_the_final_rate():
    p, seen = leaf(0.0), [0.0]
    optimise({"p": p}, lambda: p.sum(), plain(20, 0.5, 0.01), after_epoch=lambda e, loss: seen.append(p.item()))
    steps = [a - b for a, b in pairwise(seen)]  # the gradient is 1
    assert steps == pytest.approx(cosine(0.5, 0.01, 20), abs=1e-5)
    assert steps[0] == pytest.approx(0.5, abs=1e-5) and steps[-1] == pytest.approx(0.01, abs=0.005)


def test_single_parameters_can_have_their_own_rate_with_the_same_end():
    slow, fast = leaf(0.0), leaf(0.0)
    schedule = plain(10, 0.1, 0.01)
    optimise({"slow": slow, "fast": fast}, lambda: (slow + fast).sum(), schedule, rates={"fast": 0.7})
    assert slow.item() == pytest.approx(-sum(cosine(0.1, 0.01, 10)), abs=1e-5)
    assert fast.item() == pytest.approx(-sum(cosine(0.7, 0.01, 10)), abs=1e-5)


def test_momentum_and_weight_decay_are_those_of_sgd():
    p, schedule = leaf(2.0, -1.0), Schedule("sgd", 6, lr=0.1, momentum=0.9, weight_decay=0.05, final_lr=0.02)
    history = optimise({"p": p}, lambda: (p**2).sum(), schedule)
    x, velocity, losses = [2.0, -1.0], [0.0, 0.0], []
    for rate in cosine(0.1, 0.02, 6):
        losses.append(sum(value**2 for value in x))
        for i in range(2):
            velocity[i] = 0.9 * velocity[i] + 2 * x[i] + 0.05 * x[i]
            x[i] -= rate * velocity[i]
    assert history == pytest.approx(losses, rel=1e-4)
    assert p.tolist() == pytest.approx(x, rel=1e-4)


def test_adams_steps_do_not_depend_on_the_size_of_the_gradient():
    small, large = leaf(0.0), leaf(0.0)
    schedule = Schedule("adam", 5, lr=0.1, momentum=0.9, weight_decay=0.0, final_lr=0.1)
    optimise({"s": small, "l": large}, lambda: (1e-3 * small + 1e3 * large).sum(), schedule)
    assert small.item() == pytest.approx(-0.5, abs=1e-3) and large.item() == pytest.approx(-0.5, abs=1e-3)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_every_named_parameter_is_changed_in_place_and_the_loss_falls(optimiser):
    first, second = leaf(3.0), leaf(-4.0, 1.0)
    before = (first.data_ptr(), second.data_ptr())
    schedule = Schedule(optimiser, 50, lr=0.02 if optimiser == "sgd" else 0.3)
    history = optimise({"a": first, "b": second}, lambda: first.square().sum() + second.square().sum(), schedule)
    assert (first.data_ptr(), second.data_ptr()) == before
    assert len(history) == 50 and history[-1] < 0.1 * history[0] and all(isinstance(v, float) for v in history)


def test_the_hook_sees_every_epoch_after_its_step():
    p, seen = leaf(1.0), []

    def hook(epoch: int, loss: float) -> None:
        seen.append((epoch, loss, p.item()))

    history = optimise({"p": p}, lambda: p.sum(), plain(3, 0.1, 0.1), after_epoch=hook)
    assert [(e, loss) for e, loss, _ in seen] == list(zip((1, 2, 3), history, strict=True))
    assert [value for _, _, value in seen] == pytest.approx([0.9, 0.8, 0.7])


def test_no_epoch_changes_nothing():
    p = leaf(1.0)
    assert optimise({"p": p}, lambda: p.sum(), Schedule(epochs=0)) == [] and p.tolist() == [1.0]


def test_terms_one_after_the_other_are_their_sum_and_a_bad_one_ends_training_before_the_step():
    schedule, whole, parts = Schedule("sgd", 5, lr=0.1), leaf(2.0, -1.0), leaf(2.0, -1.0)
    expected = optimise({"p": whole}, lambda: (whole**2).sum() + whole.sum(), schedule)
    history = optimise({"p": parts}, lambda: (term for term in ((parts**2).sum(), parts.sum())), schedule)
    assert history == pytest.approx(expected) and parts.tolist() == pytest.approx(whole.tolist())
    with pytest.raises(ConfigError, match="diverged in epoch 1"):
        optimise({"p": whole}, lambda: iter((whole.sum(), whole.sum() * math.nan)), schedule)
    assert whole.tolist() == pytest.approx(parts.tolist())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_in_its_epoch_with_a_way_out(bad):
    p, calls = leaf(1.0), []

    def loss() -> torch.Tensor:
        calls.append(1)
        return p.sum() * (bad if len(calls) == 3 else 1.0)

    with pytest.raises(ConfigError, match=r"diverged in epoch 3.*smaller lr than 0\.5") as caught:
        optimise({"p": p}, loss, Schedule(epochs=10, lr=0.5))
    assert len(calls) == 3 and "\n" not in str(caught.value)


def test_a_rate_far_too_large_diverges_with_the_error():
    p = leaf(3.0)
    with pytest.raises(ConfigError, match="training diverged"):
        optimise({"p": p}, lambda: (p**4).sum(), Schedule(epochs=30, lr=10.0))


def test_parameters_that_become_infinite_in_the_last_step_are_an_error_too():
    """The loss of the last epoch is finite, the step after it is not: nobody looks at a loss again."""
    p = leaf(0.0)
    with pytest.raises(ConfigError, match="diverged"):
        optimise({"p": p}, lambda: p.sqrt().sum(), Schedule(epochs=1, lr=0.1))

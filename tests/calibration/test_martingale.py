"""Martingales against published test values, SciPy, slow references and what they promise."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from scipy import integrate, stats

from promptad.calibration.martingale import (
    EPSILONS,
    LEAST,
    Ranks,
    RestartMixture,
    coarse,
    simple_jumper,
    simple_mixture,
)


@pytest.mark.parametrize(
    ("p", "count", "value"),
    [(0.05, 3, 7.2001), (0.05, 5, 33.905), (0.05, 10, 2130.689), (0.1, 10, 37.544), (0.5, 10, 0.19627)],
)
def test_the_simple_mixture_has_the_test_values(p, count, value):
    assert math.exp(simple_mixture([p] * count)) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(("p", "to_20", "to_100"), [(0.05, 5, 7), (0.1, 9, 13), (0.2, 33, 46)])
def test_the_simple_mixture_takes_as_many_steps_as_the_test_values_say(p, to_20, to_100):
    steps = [next(n for n in range(1, 200) if simple_mixture([p] * n) >= math.log(level)) for level in (20, 100)]
    assert steps == [to_20, to_100]


def test_the_simple_mixture_is_the_integral_and_does_not_overflow():
    p = np.random.default_rng(0).uniform(size=30).tolist()
    whole, _ = integrate.quad(lambda e: np.prod([e * value ** (e - 1) for value in p]), 0, 1)
    assert math.exp(simple_mixture(p)) == pytest.approx(whole, rel=1e-6)
    assert simple_mixture([1e-9] * 1000) > 10_000 and simple_mixture([1.0]) == pytest.approx(-math.log(2))


def test_the_simple_jumper_is_that_of_its_definition():
    p = np.random.default_rng(1).uniform(size=40)
    capital = {-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}
    for value in p:
        whole = sum(capital.values())
        capital = {e: (0.99 * c + 0.01 * whole / 3) * (1 + e * (value - 0.5)) for e, c in capital.items()}
    assert simple_jumper(p) == pytest.approx(sum(capital.values()))


def test_ranks_are_those_of_all_values_so_far():
    rng = np.random.default_rng(2)
    values, ranks = rng.integers(0, 12, 200).astype(float).tolist(), Ranks()
    for number, value in enumerate(values):
        u = float(rng.uniform())
        seen = values[: number + 1]
        expected = (sum(v > value for v in seen) + u * sum(v == value for v in seen)) / len(seen)
        assert ranks.p_value(value, u) == pytest.approx(expected)
        ranks.add(value)
    for value in values[100:]:
        ranks.remove(value)
    again = Ranks()
    for value in values[:100]:
        again.add(value)
    assert ranks == again and len(ranks.values) <= 12


def test_p_values_of_exchangeable_values_are_uniform_and_independent_ties_or_not():
    rng = np.random.default_rng(3)
    for values in (rng.normal(size=3000), rng.integers(0, 5, 3000).astype(float)):
        ranks, p = Ranks(), []
        for value in values:
            p.append(ranks.p_value(coarse(float(value)), float(rng.uniform())))
            ranks.add(coarse(float(value)))
        assert stats.kstest(p, "uniform").pvalue > 0.01
        assert abs(np.corrcoef(p[:-1], p[1:])[0, 1]) < 0.06


def test_coarse_values_keep_their_order_and_are_few():
    values = np.sort(np.random.default_rng(4).normal(100, 10, 100_000))
    rounded = [coarse(float(value)) for value in values]
    assert rounded == sorted(rounded) and len(set(rounded)) < 2000
    assert all(abs(a - b) <= abs(a) / 1024 for a, b in zip(values, rounded, strict=True))
    assert coarse(0.0) == 0.0 and coarse(-3.0) == -3.0


def slow_restart_mixture(p: list[float]) -> float:
    """Every bet from every time on, one by one."""
    n, total = len(p), 0.0
    for start in range(1, n + 1):
        bets = [
            np.prod([e * v ** (e - 1) for v in side[start - 1 :]]) for side in (p, [1 - v for v in p]) for e in EPSILONS
        ]
        total += float(np.mean(bets)) / (start * (start + 1))
    return total + 1 / (n + 1)


def test_the_restart_mixture_is_that_of_its_definition():
    p = np.random.default_rng(5).uniform(size=25).tolist()
    bets = RestartMixture()
    for number, value in enumerate(p, start=1):
        assert bets.bet(value) == pytest.approx(slow_restart_mixture(p[:number]))


def test_the_restart_mixture_is_a_martingale_that_keeps_villes_bound():
    """The mean over the next p-value is the capital before it, whatever that is; and few paths of 300 ever reach 20."""
    bets = RestartMixture()
    for value in (0.3, 0.02, 0.9):
        bets.bet(value)

    def after(p: float) -> float:
        return copy.deepcopy(bets).bet(p)

    # p = s^40 takes the peaks at both ends away; below `LEAST` bets stay as they are there.
    ends = (LEAST ** (1 / 40), 0.5 ** (1 / 40))
    sides = (after, lambda q: after(1 - q))
    mean = sum(integrate.quad(lambda s, f=f: f(s**40) * 40 * s**39, *ends)[0] + LEAST * f(LEAST) for f in sides)
    lost = (1 - EPSILONS) * LEAST**EPSILONS * (bets.capital + 1 / 20)
    assert mean == pytest.approx(bets.value - lost.mean(), rel=1e-4)
    rng, reached = np.random.default_rng(6), 0
    for _ in range(400):
        path = RestartMixture()
        reached += any(path.bet(float(value)) >= 20 for value in rng.uniform(size=300))
    assert stats.binomtest(reached, 400, 1 / 20, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("side", [1, -1])
def test_a_late_change_is_found_with_its_side_and_its_time(side):
    rng, bets = np.random.default_rng(7), RestartMixture()
    for value in rng.uniform(size=1000):
        bets.bet(float(value))
    late = rng.uniform(0, 0.05, 20)
    assert max(bets.bet(float(p if side > 0 else 1 - p)) for p in late) >= 1000
    assert bets.direction == side and 990 <= bets.change <= 1004

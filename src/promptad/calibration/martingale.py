"""Exchangeability martingales: bets against the photos being of one kind, whatever their order.

p-values of a sequence are those of each new value among all so far (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005,
section 7.1): if the values are exchangeable they are independent and uniform, and capital that is bet on small (or large) ones is a
martingale that begins with 1. By Ville's inequality it ever reaches L with probability at most 1/L. Against a *fixed* set of values p-values are
not independent, and the inequality does not hold.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

EPSILONS = np.linspace(0.05, 1.0, 20)
"""Exponents of the bets: 1 bets nothing, small ones bet on p-values near 0."""


LEAST = 1e-12
"""Smaller ends than this count as this, so that no rounding decides; the bets then lose a little, and the inequality holds all the more."""


@dataclass
class Ranks:
    """Values in order, equal ones counted. Of a rounded value (:func:`coarse`) there are few different ones, so memory stays bounded."""

    values: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._total = sum(self.counts)

    def add(self, value: float) -> None:
        """One more."""
        self._total += 1
        at = bisect.bisect_left(self.values, value)
        if at < len(self.values) and self.values[at] == value:
            self.counts[at] += 1
        else:
            self.values.insert(at, value)
            self.counts.insert(at, 1)

    def remove(self, value: float) -> None:
        """One that was added is no longer there."""
        self._total -= 1
        at = bisect.bisect_left(self.values, value)
        self.counts[at] -= 1
        if not self.counts[at]:
            del self.values[at], self.counts[at]

    def p_value(self, value: float, uniform: float) -> float:
        """The p-value of a further value: small where it is larger than most.

        (#{larger} + u (1 + #{equal})) / (n + 1): with u uniform in (0, 1) exactly uniform, ties or not.
        """
        at = bisect.bisect_left(self.values, value)
        equal = self.counts[at] if at < len(self.values) and self.values[at] == value else 0
        larger = sum(self.counts[at:]) - equal
        return (larger + uniform * (1 + equal)) / (self._total + 1)


def coarse(value: float) -> float:
    """A value to 1 part in 1024 or better, the same for any order of values: where ties are broken at random, p-values stay exact."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2048), exponent - 11)


@dataclass
class RestartMixture:
    """The mean of bets that begin at every time: finds a change that comes late, at the price of its logarithm.

    Bet from time t on has the share 1/(t (t+1)); those to come lie still (newer.md 7.4; Shin, Ramdas and Rinaldo, E-detectors, 2023, section 3, weigh restarts alike).
    Bets are power bets e p^(e-1) on small p-values and on small 1 - p, the mean of both sides and of :data:`EPSILONS`.

    Attributes:
        time: p-values seen. capital: (2, E) of the bets that have begun. evidence: (2, E) log of the largest gain since any time.
            begin: (2, E) the time from which that is.
    """

    time: int = 0
    capital: np.ndarray = field(default_factory=lambda: np.zeros((2, len(EPSILONS))))
    evidence: np.ndarray = field(default_factory=lambda: np.zeros((2, len(EPSILONS))))
    begin: np.ndarray = field(default_factory=lambda: np.ones((2, len(EPSILONS)), dtype=np.int64))

    def bet(self, p_value: float) -> float:
        """Takes a p-value, above 0 and below 1, and gives the capital after it; it began as 1."""
        self.time += 1
        ends = np.array([[p_value], [1 - p_value]])
        gain = EPSILONS * np.maximum(ends, LEAST) ** (EPSILONS - 1)
        self.capital = np.minimum(gain * (self.capital + 1 / (self.time * (self.time + 1))), 1e300)
        over = self.evidence <= 0
        self.begin = np.where(over, self.time, self.begin)
        self.evidence = np.where(over, 0.0, self.evidence) + np.log(gain)
        return self.value

    @property
    def value(self) -> float:
        """The capital."""
        return float(self.capital.mean()) + 1 / (self.time + 1)

    @property
    def direction(self) -> int:
        """1 where small p-values (large values) made most of it, -1 where large ones did."""
        small, large = self.capital.mean(axis=1)
        return 1 if small >= large else -1

    @property
    def change(self) -> int:
        """The time from which the bet that gained most has gained: where the change probably was, from 1 on."""
        side = 0 if self.direction > 0 else 1
        return int(self.begin[side, int(np.argmax(self.capital[side]))])


def simple_mixture(p_values: Sequence[float]) -> float:
    """Log of the simple mixture: power bets with every exponent from 0 to 1 alike.

    In closed form e^S g(n+1, S) / S^(n+1) with S = -sum ln p and the lower incomplete gamma function g; summed here as the series
    sum_k S^k / ((n+1) ... (n+1+k)), which cannot overflow in logarithms.
    """
    n, total = len(p_values), -sum(map(math.log, p_values))
    if total == 0:
        return -math.log(n + 1)
    terms, term = [], -math.log(n + 1)
    for k in range(1, int(2 * total) + 200):
        terms.append(term)
        term += math.log(total) - math.log(n + 1 + k)
    top = max(terms)
    return top + math.log(sum(math.exp(value - top) for value in terms))


def simple_jumper(p_values: Iterable[float], jump: float = 0.01) -> float:
    """The simple jumper's capital: three bettors with slopes -1, 0 and 1 who share a part `jump` at each step (Vovk et al., Retrain or not retrain, 2021)."""
    slopes = np.array([-1.0, 0.0, 1.0])
    capital = np.full(3, 1 / 3)
    for p in p_values:
        capital = ((1 - jump) * capital + jump * capital.sum() / 3) * (1 + slopes * (p - 0.5))
    return float(capital.sum())

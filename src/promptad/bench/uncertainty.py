"""Intervals of image AUROCs, and differences between rows with their tests.

Test photos are drawn again with replacement, within each class and label, the same draw for every row and run; the good photos
and trained prompts of the runs stay. An interval therefore says how far the number hangs on these test photos, not on the
draw of the good ones (that is the standard deviation over runs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from promptad.metrics.intervals import Floats, bootstrap_weights, delong_test, weighted_aurocs

DRAWS = 1000
COVERAGE = 0.95


@dataclass(frozen=True)
class RunScores:
    """Image scores of one run on the labelled test photos of a class: names, labels 0 or 1, and scores."""

    photos: tuple[str, ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]


class RowScores:
    """Scores of one row: class -> run -> scores."""

    def __init__(self, classes: Mapping[str, Mapping[int, RunScores]]) -> None:
        self.classes = classes

    @cached_property
    def draws(self) -> Floats | None:
        """(DRAWS,) image AUROC, mean over runs of the mean over classes, under every draw of the test photos.

        None where there is nothing, or a class without photos of a kind.
        """
        per_class = []
        for name, runs in self.classes.items():
            weights, values = _weights(name, runs), []
            for run in runs.values():
                if len(set(run.labels)) < 2:
                    return None
                drawn = np.stack([weights[photo] for photo in run.photos], axis=1)
                values.append(weighted_aurocs(run.labels, run.scores, drawn))
            per_class.append(np.mean(values, axis=0))
        return np.asarray(np.mean(per_class, axis=0)) if per_class else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the middle 95 % of the draws lie; where all draws are 1 (or all 0), what the photos can prove.

        Drawing again cannot show what no photo showed. But the largest number of pairs of a normal and an anomalous photo
        that share no photo are independent trials, each right with a probability that is the AUROC; k of k right leave
        (1 - 0.95) / 2 to the power of 1 / k as lower end (Clopper and Pearson, Biometrika 26, 1934). Of several classes the
        smallest counts for each: the mean of their AUROCs is no smaller than its geometric mean.
        """
        if self.draws is None:
            return None
        low, high = _interval(self.draws)
        if low == high and low in (0.0, 1.0):
            margin = 1 - ((1 - COVERAGE) / 2) ** (1 / self._pairs)
            return (1 - margin, 1.0) if low else (0.0, margin)
        return low, high

    @property
    def _pairs(self) -> int:
        """Pairs of photos that share none, of all classes."""
        smallest = min(
            min(run.labels.count(0), run.labels.count(1)) for runs in self.classes.values() for run in runs.values()
        )
        return smallest * len(self.classes)

    @property
    def auroc(self) -> float:
        """Image AUROC, mean over runs and classes."""
        return float(np.mean([np.mean([_auroc(run) for run in runs.values()]) for runs in self.classes.values()]))

    @property
    def photos(self) -> dict[str, frozenset[str]]:
        """Class -> the photos of all its runs."""
        return {name: frozenset(p for run in runs.values() for p in run.photos) for name, runs in self.classes.items()}


@dataclass(frozen=True)
class Comparison:
    """Two rows on the same photos: image AUROC of the first minus the second, 95 % interval, two-sided p, and the test."""

    difference: float
    low: float
    high: float
    p: float
    test: str


def compare(first: RowScores, second: RowScores) -> Comparison | None:
    """Two rows with the same classes and photos; None where there is nothing to compare photo by photo.

    DeLong's test for one class and one run each, else the bootstrap's: twice the smaller share of draws on one side of 0.
    """
    if first.photos != second.photos or first.draws is None or second.draws is None:
        return None
    draws = first.draws - second.draws
    low, high = _interval(draws)
    ends = first.interval, second.interval
    if (
        np.ptp(first.draws) == np.ptp(second.draws) == 0 and ends[0] and ends[1]
    ):  # both without a mistake, or all mistaken
        low, high = ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]
    sides = int(min((draws <= 0).sum(), (draws >= 0).sum()))
    p, test = min(1.0, 2 * (sides + 1) / (len(draws) + 1)), "paired bootstrap"
    single = [run for row in (first, second) for runs in row.classes.values() for run in runs.values()]
    if len(single) == 2 and single[0].photos == single[1].photos and min(map(single[0].labels.count, (0, 1))) > 1:
        p, test = delong_test(single[0].labels, single[0].scores, single[1].scores).p, "DeLong"
    return Comparison(first.auroc - second.auroc, low, high, p, test)


def _weights(name: str, runs: Mapping[int, RunScores]) -> dict[str, Floats]:
    """Photo -> (DRAWS,) how often it is drawn; the same for every row of this class and these photos."""
    labels = {photo: label for run in runs.values() for photo, label in zip(run.photos, run.labels, strict=True)}
    weights: dict[str, Floats] = {}
    for label in (0, 1):
        photos = sorted(photo for photo, value in labels.items() if value == label)
        if photos:
            weights |= dict(zip(photos, _drawn(name, label, len(photos)).T, strict=True))
    return weights


@lru_cache(maxsize=64)
def _drawn(name: str, label: int, number: int) -> Floats:
    """(DRAWS, number): the draws of the photos of one class and label, which are the same in every row."""
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    return bootstrap_weights(number, DRAWS, np.random.default_rng([seed, label]))


def _auroc(run: RunScores) -> float:
    return float(weighted_aurocs(run.labels, run.scores, np.ones((1, len(run.scores))))[0])


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)

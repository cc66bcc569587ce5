"""What a paper prints in one table, and the rows of ours that belong to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from promptad.bench.published import ClassNumbers, Number, Ours, published
from promptad.data.datasets.facts import all_facts
from promptad.data.shots import shots_order
from promptad.suite.papers.experiments import Experiment, experiments

GROUPS = ("industrial", "medical")
"""Means over sets that a paper prints as if they were a set."""


@dataclass(frozen=True)
class Printed:
    """The numbers of a table: means with the key of their set, and columns of classes."""

    means: tuple[tuple[str, Number], ...]
    classes: tuple[ClassNumbers, ...]

    @property
    def sets(self) -> tuple[str, ...]:
        """Keys of the sets, and of groups of sets, that they are of."""
        return tuple(dict.fromkeys([*(key for key, _ in self.means), *(column.data_set for column in self.classes)]))

    def mean(self, key: str, method: str, metric: str, shots: int) -> Number | None:
        """One mean of a set; None where it is not printed."""
        means = (n for own, n in self.means if (own, n.method, n.metric, n.shots) == (key, method, metric, shots))
        return next(means, None)

    def column(self, key: str, method: str, metric: str, shots: int) -> ClassNumbers | None:
        """One column of classes; None where it is not printed."""
        wanted = (key, method, metric, shots)
        return next((c for c in self.classes if (c.data_set, c.method, c.metric, c.shots) == wanted), None)


def table_numbers(words: str) -> set[int]:
    """The tables that a published number names: "Tables 1, 4 and 15", "Tables 7 to 10"."""
    numbers = [int(word) for word in re.findall(r"\d+", words)]
    return set(range(numbers[0], numbers[1] + 1)) if re.search(r"\d to \d", words) else set(numbers)


def printed(experiment: Experiment) -> Printed:
    """What is printed in a table; nothing for figures."""
    return _printed_in(experiment.paper.source, experiment.name) if experiment.table is not None else Printed((), ())


@cache
def _printed_in(source: str, name: str) -> Printed:
    experiment = experiments()[name]
    classes = tuple(
        column
        for data_set in published()
        for column in data_set.class_numbers
        if column.source == source
        and experiment.table in table_numbers(column.table)
        and column.metric in experiment.metrics
    )
    means = [(d.key, n) for d in published() for n in d.numbers if n.source == source]
    own = [(key, n) for key, n in means if _belongs(experiment, key, n, classes)]
    return Printed(tuple(own), classes)


def _belongs(experiment: Experiment, key: str, number: Number, classes: tuple[ClassNumbers, ...]) -> bool:
    if number.metric not in experiment.metrics or (experiment.sets and key not in experiment.sets):
        return False
    if experiment.table in table_numbers(number.table):
        return True
    if any((c.data_set, c.method, c.shots) == (key, number.method, number.shots) for c in classes):
        return True
    return any(
        more.table in table_numbers(number.table)
        and number.method in more.methods
        and (not more.shots or number.shots in more.shots)
        and (not more.sets or key in more.sets)
        for more in experiment.also
    )


def measured_sets(experiment: Experiment) -> list[str]:
    """Keys of the data sets that an experiment looks at."""
    named = experiment.sets or printed(experiment).sets
    sets: list[str] = []
    for key in named:
        sets += _members(key, experiment) if key in GROUPS else [key]
    return list(dict.fromkeys(sets))


def _members(group: str, experiment: Experiment) -> Iterator[str]:
    levels = {metric.split("_")[0] for metric in experiment.metrics}
    for key, facts in all_facts().items():
        if facts.domain == group and levels & set(facts.means):
            yield key


@dataclass(frozen=True)
class PrintedRow:
    """A row of print with what of ours it belongs to: numbers of good photos, sets, and the printed backbone."""

    method: str
    ours: Ours
    shots: tuple[int, ...]
    sets: tuple[str, ...]
    backbone: str


def printed_rows(experiment: Experiment) -> list[PrintedRow]:
    """Rows of print that we can measure, in print's order."""
    by_row: dict[tuple[str, str], list[tuple[str, Number]]] = {}
    for key, number in printed(experiment).means:
        if number.ours is not None:
            by_row.setdefault((number.method, repr(number.ours)), []).append((key, number))
    rows = []
    for (method, _), members in by_row.items():
        number = members[0][1]
        assert number.ours is not None
        sets = [key for key, _ in members]
        expanded = [s for key in sets for s in (_members(key, experiment) if key in GROUPS else [key])]
        shots = tuple(sorted({own.shots for _, own in members}, key=shots_order))
        rows.append(PrintedRow(method, number.ours, shots, tuple(dict.fromkeys(expanded)), number.backbone))
    return rows

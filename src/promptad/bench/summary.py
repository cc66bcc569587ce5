"""From finished units to rows: means over classes, and their spread over runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptad.metrics.accumulator import METRICS

ALARM_COLUMNS = ("false_alarms", "found")
"""Share of normal test photos above the threshold from good photos, and share of anomalous ones."""
COLUMNS = (*METRICS, *ALARM_COLUMNS)
PART_WORDS = {
    "text": "prompts only",
    "memory": "memory only",
    "fused": "prompts + memory",
    "guided": "CLIP",
    "classifier": "ours",
    "sum": "CLIP + ours",
}


@dataclass(frozen=True)
class Cell:
    """A mean in [0, 1] and its sample standard deviation over runs (None for one run)."""

    mean: float
    std: float | None
    runs: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        method, preset, parts, shots, selection: what it is; selection is "last" or "oracle_test".
        name: of its trained prompts, where there are several for a method.
        cells: column -> cell, or None where it does not exist. class_name: "" for the mean over classes.
        classes: all classes that have units in this row.
    """

    method: str
    preset: str
    parts: str
    shots: int
    selection: str
    cells: Mapping[str, Cell | None]
    class_name: str = ""
    classes: tuple[str, ...] = ()
    name: str = ""

    @property
    def label(self) -> str:
        """The row's name: method, preset, trained prompts, parts."""
        words = (f"{self.method} {self.preset}", self.name, PART_WORDS.get(self.parts, self.parts))
        return ", ".join(one for one in words if one)

    @property
    def oracle(self) -> bool:
        """Whether the epoch was chosen on the test set."""
        return self.selection == "oracle_test"


@dataclass(frozen=True)
class _Value:
    key: tuple[int, int, str, str, str, str, str]  # shots, order of the variant, method, preset, parts, selection, name
    class_name: str
    run: int
    values: Mapping[str, float | None]


def summarise(units: Sequence[Mapping[str, Any]]) -> list[Line]:
    """One line a row, by shots: mean over runs of the mean over classes.

    A class counts in a column only if all runs have its value, so that the spread over runs is of one
    quantity.
    """
    return _lines(_values(units), lambda _: "")


def by_class(units: Sequence[Mapping[str, Any]]) -> list[Line]:
    """One line a row and class: mean and spread over runs."""
    return _lines(_values(units), lambda value: value.class_name)


def _values(units: Sequence[Mapping[str, Any]]) -> list[_Value]:
    variants = list(dict.fromkeys((unit["method"], unit["preset"], unit["name"]) for unit in units))
    out = []
    for unit in units:
        method, preset, name = unit["method"], unit["preset"], unit["name"]
        order = variants.index((method, preset, name))
        for row in unit["rows"]:
            key = (unit["shots"], order, method, preset, row["parts"], row["selection"], name)
            out.append(_Value(key, unit["class"], unit["run"], {**row["metrics"], **_rates(row["threshold"])}))
    return out


def _rates(threshold: Mapping[str, Any] | None) -> dict[str, float | None]:
    if threshold is None:
        return dict.fromkeys(ALARM_COLUMNS)
    shares = (("false_alarms", "normal"), ("found", "anomalous"))
    return {part: threshold[part] / threshold[whole] if threshold[whole] else None for part, whole in shares}


def _lines(values: Sequence[_Value], name_of: Callable[[_Value], str]) -> list[Line]:
    groups: dict[tuple[Any, str], list[_Value]] = {}
    for value in values:
        groups.setdefault((value.key, name_of(value)), []).append(value)
    parts = list(dict.fromkeys(value.key[4] for value in values))
    # By shots, then variants and parts in the order that was asked for, the last epoch before the oracle's.
    ordered = sorted(groups, key=lambda g: (g[0][0], g[0][1], parts.index(g[0][4]), g[0][5] != "last"))
    lines = []
    for key, name in ordered:
        members = groups[key, name]
        shots, _, method, preset, part, selection, trained = key
        cells = {column: _cell(members, column) for column in COLUMNS}
        classes = _once(one.class_name for one in members)
        lines.append(Line(method, preset, part, shots, selection, cells, name, classes, trained))
    return lines


def _cell(values: Sequence[_Value], column: str) -> Cell | None:
    runs = _once(value.run for value in values)
    found: dict[str, dict[int, float]] = {}
    for value in values:
        number = value.values[column]
        if number is not None:
            found.setdefault(value.class_name, {})[value.run] = number
    whole = {name: by_run for name, by_run in found.items() if len(by_run) == len(runs)}
    if not whole:
        return None
    means = [statistics.fmean(by_run[run] for by_run in whole.values()) for run in runs]
    std = statistics.stdev(means) if len(means) > 1 else None
    return Cell(statistics.fmean(means), std, len(means), tuple(whole))


def _once(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))

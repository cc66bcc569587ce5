"""From finished units to rows: means over classes, and their spread over runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptad.bench.saturated import SATURATED
from promptad.bench.uncertainty import RowScores, RunScores
from promptad.data.shots import shots_order
from promptad.metrics.accumulator import METRICS

ALARM_COLUMNS = ("false_alarms", "found")
"""Share of normal test photos above the threshold from good photos, and share of anomalous ones."""
COLUMNS = (*METRICS, *ALARM_COLUMNS, *SATURATED)
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
    """A mean in [0, 1], its sample standard deviation over runs (None for one run), and the mean of each run."""

    mean: float
    std: float | None
    runs: int
    classes: tuple[str, ...]
    by_run: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Line:
    """One row of a table.

    Attributes:
        method, preset, parts, shots, selection: what it is; selection is "last" or "oracle_test".
        name: of its trained prompts, where there are several for a method.
        cells: column -> cell, or None where it does not exist. class_name: "" for the mean over classes.
        classes: all classes that have units in this row. trained_on: those of them whose photos its prompts were trained
            on; no mean counts them.
        backbone: its name. seeds: of its runs. config: the method's, of one unit. scores: of every photo, for intervals and tests.
        conventions: how it was measured, of one unit; empty where that is not known.
        anomalies: how many labelled ones were learned from and how they were drawn, "10 anomalies (general)"; "" for none.
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
    trained_on: tuple[str, ...] = ()
    backbone: str = ""
    seeds: tuple[int, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    scores: RowScores = field(default_factory=lambda: RowScores({}))
    anomalies: str = ""
    conventions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The row's name: method, preset, trained prompts, labelled anomalies, parts."""
        words = (f"{self.method} {self.preset}", self.name, self.anomalies, PART_WORDS.get(self.parts, self.parts))
        return ", ".join(word for word in words if word)

    @property
    def oracle(self) -> bool:
        """Whether the epoch was chosen on the test set."""
        return self.selection == "oracle_test"


@dataclass(frozen=True)
class _Key:
    shots: int
    variant: int
    method: str
    preset: str
    name: str
    parts: str
    selection: str
    anomalies: int = 0
    labelled: str = ""


@dataclass(frozen=True)
class _Value:
    key: _Key
    unit: Mapping[str, Any]
    row: Mapping[str, Any]
    values: Mapping[str, float | None]

    @property
    def class_name(self) -> str:
        return str(self.unit["class"])

    @property
    def contaminated(self) -> bool:
        return bool(self.unit["seen_in_training"])


def summarise(units: Sequence[Mapping[str, Any]]) -> list[Line]:
    """One line a row, by shots: mean over runs of the mean over classes.

    A class counts in a column only if all runs have its value, so that the spread over runs is of one
    quantity. A class whose photos the prompts were trained on counts in no mean.
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
            drawn = unit["anomalies"]["number"] if "anomalies" in unit else 0, labelled_words(unit)
            key = _Key(unit["shots"], order, method, preset, name, row["parts"], row["selection"], *drawn)
            out.append(_Value(key, unit, row, {**row["metrics"], **_rates(row["threshold"])}))
    return out


def labelled_words(unit: Mapping[str, Any]) -> str:
    """How many labelled anomalies a unit learned from and how they were drawn, "10 anomalies (general)"; "" for none."""
    if "anomalies" not in unit:
        return ""
    number = unit["anomalies"]["number"]
    return f"{number} anomal{'y' if number == 1 else 'ies'} ({unit['anomalies']['draw']})"


def _rates(threshold: Mapping[str, Any] | None) -> dict[str, float | None]:
    if threshold is None:
        return dict.fromkeys(ALARM_COLUMNS)
    shares = (("false_alarms", "normal"), ("found", "anomalous"))
    return {part: threshold[part] / threshold[whole] if threshold[whole] else None for part, whole in shares}


def _lines(values: Sequence[_Value], name_of: Callable[[_Value], str]) -> list[Line]:
    groups: dict[tuple[_Key, str], list[_Value]] = {}
    for value in values:
        groups.setdefault((value.key, name_of(value)), []).append(value)
    parts = list(dict.fromkeys(value.key.parts for value in values))

    def order(group: tuple[_Key, str]) -> tuple[Any, ...]:
        # By shots, then variants and parts in the order that was asked for, the last epoch before the oracle's.
        key = group[0]
        return shots_order(key.shots), key.variant, key.anomalies, parts.index(key.parts), key.selection != "last"

    return [_line(key, name, groups[key, name]) for key, name in sorted(groups, key=order)]


def _line(key: _Key, class_name: str, members: Sequence[_Value]) -> Line:
    counted = members if class_name else [value for value in members if not value.contaminated]
    return Line(
        key.method,
        key.preset,
        key.parts,
        key.shots,
        key.selection,
        {column: _cell(counted, column) for column in COLUMNS},
        class_name,
        _once(value.class_name for value in members),
        key.name,
        _once(value.class_name for value in members if value.contaminated),
        str(members[0].unit.get("backbone", {}).get("name", "")),
        _once(value.unit["seed"] for value in members),
        members[0].unit["config"],
        _scores(counted),
        key.labelled,
        members[0].unit.get("conventions", {}),
    )


def _scores(values: Sequence[_Value]) -> RowScores:
    """The scores of the classes that every run has."""
    runs = {value.unit["run"] for value in values}
    classes: dict[str, dict[int, RunScores]] = {}
    for value in values:
        photos = value.unit["test"]
        known = [place for place, photo in enumerate(photos) if photo["label"] is not None]
        classes.setdefault(value.class_name, {})[value.unit["run"]] = RunScores(
            tuple(photos[place]["file"] for place in known),
            tuple(photos[place]["label"] for place in known),
            tuple(value.row["scores"][place] for place in known),
        )
    return RowScores({name: by_run for name, by_run in classes.items() if len(by_run) == len(runs)})


def _cell(values: Sequence[_Value], column: str) -> Cell | None:
    runs = _once(value.unit["run"] for value in values)
    by_class: dict[str, dict[int, float]] = {}
    for value in values:
        number = value.values.get(column)
        if number is not None:
            by_class.setdefault(value.class_name, {})[value.unit["run"]] = number
    whole = {name: by_run for name, by_run in by_class.items() if len(by_run) == len(runs)}
    if not whole:
        return None
    means = [statistics.fmean(by_run[run] for by_run in whole.values()) for run in runs]
    std = statistics.stdev(means) if len(means) > 1 else None
    return Cell(statistics.fmean(means), std, len(means), tuple(whole), tuple(means))


def _once(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))

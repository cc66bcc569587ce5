"""What a benchmark is made of: data sets, rows of its tables, and how they are measured; read from a TOML file.

    title = "Two methods on two sets"
    shots = [0, 1, 2, 4]
    seeds = 5

    [[sets]]
    path = "mvtec"                    # from the folder of this file
    groups = ["industrial"]

    [[rows]]
    method = "promptad"
    preset = "paper"
    name = "w/o EAM"
    settings = { margin = false }

    [[rows]]
    method = "faprompt"
    train = { on = ["visa"], seeds = 1 }  # names of sets; trained before anything is measured

Every key is a field of the dataclasses below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from promptad.annotations import Count, Positive, Seed, Shots, checked_value, field_types
from promptad.bench.anomalies import AnomalyDraw
from promptad.bench.variants import DEFAULT_SEED
from promptad.data.files import one_line, shown
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.methods.catalogue import method_facts, names_with_memory, require_memory
from promptad.parsing import parsed_toml

T = TypeVar("T")


@dataclass(frozen=True)
class SetPlan:
    """A data set."""

    # Its folder, or its list.
    path: Path
    # What tables call it; its folder's name where that is "".
    name: str = ""
    # How its photos lie; recognised where that is "auto".
    layout: str = "auto"
    # Its classes; all where none is named.
    classes: tuple[str, ...] = ()
    # Folders of good photos with another name than the known ones.
    normal: tuple[str, ...] = ()
    # Means that it counts in; those of the public set that it is (industrial, medical) where none is named.
    groups: tuple[str, ...] = ()
    # What the photos of a set of one class show.
    object: str = ""
    # Types of damage that are looked at, beside the good photos; all where none is named.
    types: tuple[str, ...] = ()
    # Of each class so many anomalous test photos, those with the smallest masks; 0 for all.
    smallest: Count = 0

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.name or Path(os.path.realpath(self.path)).name


@dataclass(frozen=True)
class TrainPlan:
    """What a row's prompts are trained on before they are measured."""

    # Names of sets; "auxiliary" stands for a set by rule (see `auxiliary`), none for words alone.
    on: tuple[str, ...] = ()
    # Measured set -> the set that prompts are trained on for it, "*" for all others, where `on` is "auxiliary".
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    # Classes that are trained on; all where none is named.
    classes: tuple[str, ...] = ()
    # Once for each class of the measured set, on its other classes.
    leave_class_out: bool = False
    # Trainings with seeds one apart, a run each.
    seeds: Positive = 1
    # Seed of the first.
    seed: Seed | None = None


@dataclass(frozen=True)
class RowPlan:
    """A row of the tables: a method with its settings."""

    method: str
    preset: str = "clean"
    # Tells rows of one method and preset apart.
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Rows from one fit, of methods that have parts.
    parts: tuple[str, ...] = ()
    # Instead of the benchmark's own.
    shots: tuple[Shots, ...] | None = None
    seeds: Positive | None = None
    backbone: str = ""
    # A second image tower, whose tokens the memory is made of; of a method that has one.
    memory_backbone: str = ""
    convention: Mapping[str, Any] = field(default_factory=dict)
    # Trained prompts instead of the package's; files that differ only in their seed are runs.
    weights: tuple[Path, ...] = ()
    # Trained first, instead of files.
    train: TrainPlan | None = None
    # Sets that the row is measured on; all where none is named.
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A benchmark.

    Attributes:
        title: of its pages. sets, rows: what is measured on what. shots, seeds, seed, limit, anomalies, anomaly_draw, backbone: as `promptad evaluate`
            has them. memory_backbone: the same, for the rows whose method has a memory. convention: how all rows are measured. source: the file that it is from, for messages.
    """

    title: str
    sets: tuple[SetPlan, ...]
    rows: tuple[RowPlan, ...]
    shots: tuple[Shots, ...] = (0, 1, 2, 4)
    seeds: Positive = 5
    seed: Seed = DEFAULT_SEED
    limit: Count = 0
    anomalies: tuple[Positive, ...] = ()
    anomaly_draw: AnomalyDraw = "general"
    backbone: str = "starter"
    memory_backbone: str = ""
    convention: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    pictures: Count = 4
    worst_pictures: bool = False

    def __post_init__(self) -> None:
        self._require_apart("data sets", [entry.title for entry in self.sets], "name")
        self._require_apart("rows", [row_label(row) for row in self.rows], "name")
        if self.memory_backbone and self.rows and not any(map(self.memory_backbone_of, self.rows)):
            raise ConfigError(
                f"{self.source or self.title}: {argument('memory_backbone', self.memory_backbone)} is for rows with a memory of good "
                f"photos, and there is none; methods that have one are {names_with_memory()}"
            )
        known = {entry.title for entry in self.sets}
        for row in self.rows:
            if row.memory_backbone:
                require_memory(row.method)
            named = [*row.sets, *self._trained_on(row)]
            for name in named:
                if name not in known:
                    raise ConfigError(
                        f"{self.source or self.title}: the row {row_label(row)} names the set {name!r}; the sets are "
                        f"{', '.join(sorted(known))}"
                    )

    @staticmethod
    def _trained_on(row: RowPlan) -> list[str]:
        if row.train is None:
            return []
        rule = row.train.auxiliary
        named = [*row.train.on, *rule.values(), *rule]
        return [name for name in named if name not in ("auxiliary", "*")]

    def _require_apart(self, what: str, labels: Sequence[str], key: str) -> None:
        twice = [label for number, label in enumerate(labels) if label in labels[:number]]
        if twice:
            raise ConfigError(
                f"{self.source or self.title}: two {what} are called {twice[0]!r}; give one another {key}"
            )

    def require_content(self) -> None:
        """Raises ConfigError where there is nothing to measure."""
        if not self.sets or not self.rows:
            what = "data set" if not self.sets else "method"
            raise ConfigError(f"{self.source or self.title}: names no {what}; a benchmark needs one")

    def backbone_of(self, row: RowPlan) -> str:
        """The backbone of a row."""
        return row.backbone or self.backbone

    def memory_backbone_of(self, row: RowPlan) -> str:
        """The second image tower of a row, "" without one."""
        shared = self.memory_backbone if method_facts(row.method).memory else ""
        return row.memory_backbone or shared


def taken_for(name: str, weights: Mapping[str, str]) -> str:
    """What is loaded for a backbone that a plan names: what is given for it, what is given for all ("*"), or itself."""
    return weights.get(name, weights.get("*", name))


def row_label(row: RowPlan) -> str:
    """What tables call a row without its parts: method, preset, name."""
    return f"{row.method} {row.preset}{f', {row.name}' if row.name else ''}"


def read_plan(path: Path) -> Plan:
    """A benchmark from its TOML file; paths in it count from the file's folder.

    Raises:
        ConfigError: unreadable, an unknown key (with the nearest known one), or a value that cannot be.
    """
    try:
        content = parsed_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read ({one_line(error)}); check the path") from error
    except ValueError as error:  # of TOML and of UTF-8
        raise ConfigError(f"{shown(path)}: is no TOML ({one_line(error)}); see the page on benchmarks") from error
    where, base = shown(path), Path(os.path.realpath(path)).parent
    sets = tuple(_set(entry, f"{where}: sets {number}", base) for number, entry in _tables(content, "sets", where))
    rows = tuple(_row(entry, f"{where}: rows {number}", base) for number, entry in _tables(content, "rows", where))
    plan = plan_record(Plan, {"title": path.stem, **content, "sets": sets, "rows": rows, "source": where}, where)
    plan.require_content()
    return plan


def _tables(content: Mapping[str, Any], key: str, where: str) -> list[tuple[int, Mapping[str, Any]]]:
    entries = content.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{where}: {key} must be a list of tables; write [[{key}]] before each")
    return list(enumerate(entries, 1))


def _set(entry: Mapping[str, Any], where: str, base: Path) -> SetPlan:
    made = plan_record(SetPlan, entry, where)
    return SetPlan(**{**_values(made), "path": base / made.path})


def _row(entry: Mapping[str, Any], where: str, base: Path) -> RowPlan:
    train = entry.get("train")
    if train is not None and not isinstance(train, dict):
        raise ConfigError(f"{where}: train must be a table such as {{ on = ['visa'] }}")
    plan = plan_record(TrainPlan, train, f"{where}, train") if train is not None else None
    made = plan_record(RowPlan, {**entry, "train": plan}, where)
    return RowPlan(**{**_values(made), "weights": tuple(base / path for path in made.weights)})


def _values(record: Any) -> dict[str, Any]:
    return {entry.name: getattr(record, entry.name) for entry in fields(record)}


def plan_record(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """A dataclass from a table of a file. Raises ConfigError that names the file, the table and the key."""
    types = field_types(cls)
    for key in content:
        if key not in types:
            near = get_close_matches(key, types, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(types)}"
            raise ConfigError(f"{where}: has no key {key!r}; {hint}")
    required = [entry for entry in ("path", "method") if entry in types and entry not in content]
    if required:
        raise ConfigError(f"{where}: {required[0]} is missing; give it")
    values = {}
    for key, value in content.items():
        try:
            values[key] = checked_value(key, types[key], value)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    return cls(**values)


def plan_of_flags(
    title: str, sets: Sequence[Path], methods: Sequence[str], presets: Sequence[str], **common: Any
) -> Plan:
    """A benchmark of every method with every preset on these sets."""
    rows = [RowPlan(method, preset) for method in methods for preset in presets or ("clean",)]
    return Plan(title, tuple(SetPlan(path) for path in sets), tuple(rows), source=argument("method"), **common)

"""The tables and figures of the papers by name, read from one TOML file a paper beside this one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from promptad.annotations import Count, Positive
from promptad.errors import ConfigError
from promptad.suite.plan import TrainPlan, plan_record

Kind = Literal["means", "classes", "sweep", "maps", "embedding", "attention", "costs", "counts"]
"""What is made of the measured rows: a table of means or of classes, a plot over settings, maps of photos, a plane of embeddings, attention
of every block, what methods cost, or how many photos sets have."""
Drawing = Literal["", "prompts", "prompt_maps", "photos", "sentences", "classifier", "qk", "vv"]
_PAPERS = ("cvpr24", "iccv25", "bmvc23", "wacv24")


@dataclass(frozen=True)
class Also:
    """Printed rows of another table of the paper that stand in this one too."""

    table: Positive
    methods: tuple[str, ...]
    # Only these numbers of good photos, and these sets; all where none is named.
    shots: tuple[Count, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Varied:
    """Settings that a figure varies together, and their values; a value of several settings is a list."""

    name: str
    settings: tuple[str, ...]
    values: tuple[Any, ...]

    def points(self) -> list[tuple[str, dict[str, Any]]]:
        """(the value in words, the settings) of each point."""
        made = []
        for value in self.values:
            each = value if isinstance(value, list) else [value] * len(self.settings)
            words = ", ".join(map(str, value)) if isinstance(value, list) else f"{value:g}"
            made.append((words, dict(zip(self.settings, each, strict=True))))
        return made


@dataclass(frozen=True)
class PaperRow:
    """A row that is not in the published numbers: those of figures."""

    method: str
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    shots: tuple[Count, ...] | None = None
    # The first is the x axis of the figure; the others make a curve each.
    vary: tuple[Varied, ...] = ()
    # Where a row that varies nothing stands on the x axis.
    at: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Paper:
    """What all tables and figures of a paper have in common.

    Attributes:
        key, title, source: "cvpr24", its name, and as the published numbers call it. backbone: of the zoo. seeds: runs of a draw. train: of
            methods that are trained once. differs: what differs from the paper in all of them.
    """

    key: str
    title: str
    source: str
    backbone: str
    seeds: Positive
    train: TrainPlan
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """One table or figure."""

    paper: Paper
    # "table1", "fig4".
    key: str
    # What it shows.
    says: str
    kind: Kind = "means"
    # Of `bench.published.METRICS`.
    metrics: tuple[str, ...] = ()
    # Keys of data sets, or "industrial" and "medical" for all that count in these means; those with printed numbers where none is named.
    sets: tuple[str, ...] = ()
    # Set -> its classes that are looked at, and the layout that it is read in where that is not the usual one.
    classes: Mapping[str, list[str]] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)
    # Of maps: types of damage, and which photos of each class.
    types: tuple[str, ...] = ()
    photos: Literal["first", "smallest", "worst"] = "first"
    shots: tuple[Count, ...] = (0,)
    # Labelled anomalies that methods learn from.
    anomalies: Count = 0
    rows: tuple[PaperRow, ...] = ()
    also: tuple[Also, ...] = ()
    # Printed row -> the backbone that it was measured with, where its name stands in full here alone.
    backbones: Mapping[str, str] = field(default_factory=dict)
    drawing: Drawing = ""
    # What differs from the paper.
    differs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As `promptad bench` takes it."""
        return f"{self.paper.key}-{self.key}"

    @property
    def scores(self) -> bool:
        """Whether methods are measured for it on photos."""
        return self.kind not in ("costs", "counts", "attention")

    @property
    def title(self) -> str:
        """For pages."""
        word = "Table" if self.key.startswith("table") else "Figure"
        return f"{self.paper.title}, {word} {self.number}: {self.says}"

    @property
    def number(self) -> int:
        """Of the table or figure."""
        return int("".join(mark for mark in self.key if mark.isdigit()))

    @property
    def table(self) -> int | None:
        """The number of the table whose printed rows it has; None for figures."""
        return self.number if self.key.startswith("table") else None


@cache
def experiments() -> dict[str, Experiment]:
    """All of them by name, in the papers' order."""
    made = [experiment for key in _PAPERS for experiment in _paper(key)]
    return {experiment.name: experiment for experiment in made}


def find_experiment(name: str) -> Experiment:
    """The one of this name. Raises ConfigError with the nearest ones."""
    known = experiments()
    if name not in known:
        near = get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`promptad bench --paper list` names them all"
        raise ConfigError(f"paper {name!r}: no such table or figure; {hint}")
    return known[name]


def _paper(key: str) -> list[Experiment]:
    content = tomllib.loads((files("promptad.suite.papers") / f"{key}.toml").read_text(encoding="utf-8"))
    entries = content.pop("experiments")
    train = plan_record(TrainPlan, content.pop("train", {}), f"{key}.toml, train")
    paper = Paper(key, train=train, **{**content, "differs": tuple(content["differs"])})
    return [_experiment(paper, name, entry) for name, entry in entries.items()]


def _experiment(paper: Paper, key: str, entry: Mapping[str, Any]) -> Experiment:
    where = f"{paper.key}.toml, {key}"
    rows = tuple(_row(row, where) for row in entry.get("rows", ()))
    also = tuple(plan_record(Also, more, where) for more in entry.get("also", ()))
    return plan_record(Experiment, {**entry, "paper": paper, "key": key, "rows": rows, "also": also}, where)


def _row(entry: Mapping[str, Any], where: str) -> PaperRow:
    vary = tuple(plan_record(Varied, {**v, "values": tuple(v["values"])}, where) for v in entry.get("vary", ()))
    return plan_record(PaperRow, {**entry, "vary": vary}, where)

"""Published numbers, and when an evaluation may be compared with them.

The numbers are data, one TOML file a paper beside this one: ``[[rows]]`` are means over all classes of a data set,
``[[classes]]`` single classes, ``[[contradictions]]`` what does not agree inside a paper. ``sets.toml`` says which classes and
how many photos a data set has; only an evaluation of just these stands beside its numbers.

A row with ``ours`` names the method, the part and the settings on top of the presets `paper` or `release` that it belongs to;
an evaluation with any other setting has no published number beside it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict

PAPERS = (
    "promptad",
    "promptad_classes",
    "faprompt",
    "faprompt_classes",
    "rwda",
    "rwda_classes",
    "promptad_zs",
)
METRICS = {
    "image_auroc": "image AUROC",
    "image_aupr": "image AUPR",
    "image_f1": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_aupr": "pixel AUPR",
    "pixel_f1": "pixel F1-max",
    "pixel_pro": "PRO",
}
"""Metrics as papers print them."""
COLUMNS = {
    "image_auroc": "image_auroc",
    "image_aupr": "image_ap",
    "image_f1": "image_f1_max",
    "pixel_auroc": "pixel_auroc",
    "pixel_aupr": "pixel_ap",
    "pixel_f1": "pixel_f1_max",
    "pixel_pro": "aupro_30",
}
"""The column of an evaluation that a printed metric is compared with, where a paper's file names no other."""
# What is no difference between a row of ours and the preset that it belongs to: the run's seed, and the part, which is a row of
# its own.
_FREE = ("seed", "parts")


@dataclass(frozen=True)
class Ours:
    """Whose row of an evaluation a number belongs to: method, part, and settings on top of one of the presets.

    `free` are settings that may be any, because they do not touch this row. `backbone` is how the name of a backbone begins that the
    number is of, where its paper varies it; "" for any.
    """

    method: str
    parts: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    presets: tuple[str, ...] = ("paper", "release")
    free: tuple[str, ...] = ()
    backbone: str = ""

    def configs(self) -> list[dict[str, Any]]:
        """The configs that belong to it. Raises ConfigError for settings that do not exist."""
        entry = find_method(self.method)
        return [self._compared(config_dict(entry.make_config(preset, **self.settings))) for preset in self.presets]

    def fits(self, method: str, parts: str, config: Mapping[str, Any]) -> bool:
        """Whether a row of `method` and `parts`, measured with `config`, is this one."""
        return (method, parts) == (self.method, self.parts) and self._compared(config) in self.configs()

    def _compared(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in config.items() if key not in (*_FREE, *self.free)}


@dataclass(frozen=True)
class Number:
    """One published number.

    Attributes:
        method: as the paper writes it. metric: one of :data:`METRICS`. column: of an evaluation that it is compared with.
        shots: k; 0 for none, -1 for all training photos. mean, std: in percent; std None where none is printed.
        table: where it is printed. source, backbone: in which paper, and what it was measured with.
        listed: whether it belongs to the paper's main tables; rows of ablations do not.
        ours: whose row it is compared with, or None. published_only: whether the system is in these tables alone and no method here.
        alone: why no row of ours can stand beside it, of systems that are methods here.
    """

    method: str
    metric: str
    column: str
    shots: int
    mean: float
    std: float | None
    table: str
    source: str
    backbone: str
    listed: bool
    ours: Ours | None
    published_only: bool = False
    alone: str = ""

    @property
    def mark(self) -> str:
        """What stands behind its method's name in tables: whether there is no row of ours."""
        return ", published only" if self.published_only else ", printed alone" if self.alone else ""


@dataclass(frozen=True)
class ClassNumbers:
    """A column of a printed table of classes: class -> (mean, std or None), in percent, and the mean and std below it."""

    data_set: str
    method: str
    metric: str
    shots: int
    table: str
    source: str
    values: Mapping[str, tuple[float, float | None]]
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class Contradiction:
    """What does not agree inside a paper: the methods it concerns, and words on it."""

    data_set: str
    methods: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Cost:
    """What a method costs as a paper measured it: parameters that are trained; milliseconds, mean and deviation."""

    method: str
    table: str
    source: str
    parameters: int
    training_ms_a_batch: tuple[float, float] | None
    inference_ms_a_photo: tuple[float, float]


@dataclass(frozen=True)
class Published:
    """What is published of one data set.

    Attributes:
        key: "mvtec", "visa", ... name: as people write it.
        classes: class -> photos of the full data set: (training, normal test, anomalous test); empty where unknown.
        numbers, class_numbers, contradictions: everything that is printed on it.
        test: normal and anomalous test photos in all, where a paper counts them.
    """

    key: str
    name: str
    classes: Mapping[str, tuple[int, int, int]]
    numbers: tuple[Number, ...]
    class_numbers: tuple[ClassNumbers, ...]
    contradictions: tuple[Contradiction, ...]
    test: tuple[int, int] | None = None

    def complete(self, evaluated: Collection[str]) -> bool:
        """Whether these are all its classes, so that means may be compared."""
        return set(evaluated) == set(self.classes)

    def lookup(self, metric: str, shots: int | None = None, method: str | None = None) -> tuple[Number, ...]:
        """The numbers of a metric, in the papers' order; of one k and one method if those are given."""
        return tuple(
            number
            for number in self.numbers
            if number.metric == metric and shots in (None, number.shots) and method in (None, number.method)
        )

    def counterparts(
        self, method: str, parts: str, shots: int, config: Mapping[str, Any], backbone: str = ""
    ) -> list[Number]:
        """The numbers, one or none a metric and paper, of the row of ours with this config; those of towers that a paper varies
        only where `backbone`, the name of ours, is that one."""
        fitting: dict[int, bool] = {}
        for number in self.numbers:
            if number.ours is not None and id(number.ours) not in fitting:
                same_tower = backbone.startswith(number.ours.backbone)
                fitting[id(number.ours)] = same_tower and number.ours.fits(method, parts, config)
        return [number for number in self.numbers if number.shots == shots and fitting.get(id(number.ours), False)]

    def differing_counts(self, counts: Mapping[str, tuple[int, int, int]]) -> list[str]:
        """A line for every class whose numbers of photos differ from the full data set's.

        Args:
            counts: class -> (training, normal test, anomalous test) photos here.
        """
        lines = []
        for name, here in counts.items():
            full = self.classes[name]
            words = zip(("training", "normal test", "anomalous test"), here, full, strict=True)
            parts = [f"{kind} {number} of {official}" for kind, number, official in words if number != official]
            if parts:
                lines.append(f"{name}: photos differ from the full {self.name}: {', '.join(parts)}")
        return lines


def recognise(classes: Collection[str]) -> Published | None:
    """The data set of which these are classes by name, or None. Whether its photos are all there, counts say."""
    names = set(classes)
    known = [data_set for data_set in published() if data_set.classes]
    return next((data_set for data_set in known if names and names <= set(data_set.classes)), None)


@cache
def published() -> tuple[Published, ...]:
    """All data sets of which something is published, MVTec AD and VisA first."""
    return tuple(_data_set(key, entry) for key, entry in _content("sets").items())


@cache
def costs() -> tuple[Cost, ...]:
    """What the papers print of parameters and times."""
    return tuple(
        Cost(
            entry["method"],
            entry["table"],
            paper["source"],
            entry["parameters"],
            _pair(entry.get("training_ms_a_batch")),
            (entry["inference_ms_a_photo"][0], entry["inference_ms_a_photo"][1]),
        )
        for paper in map(_content, PAPERS)
        for entry in paper.get("costs", ())
    )


@cache
def _content(name: str) -> dict[str, Any]:
    return tomllib.loads((files("promptad.bench.published") / f"{name}.toml").read_text(encoding="utf-8"))


def _pair(values: Any) -> tuple[Any, Any] | None:
    return None if values is None else (values[0], values[1])


def _data_set(key: str, entry: Mapping[str, Any]) -> Published:
    numbers: list[Number] = []
    classes: list[ClassNumbers] = []
    contradictions = []
    for paper in map(_content, PAPERS):
        for row in paper.get("rows", ()):
            if row["set"] == key:
                numbers += _numbers(row, paper)
        for column in paper.get("classes", ()):
            if column["set"] == key:
                classes.append(_class_numbers(column, paper))
        for note in paper.get("contradictions", ()):
            if note["set"] == key:
                contradictions.append(Contradiction(key, tuple(note["methods"]), note["words"]))
    counts = {name: (photos[0], photos[1], photos[2]) for name, photos in entry.get("classes", {}).items()}
    test = _pair(entry.get("test"))
    return Published(key, entry["name"], counts, tuple(numbers), tuple(classes), tuple(contradictions), test)


def _numbers(row: Mapping[str, Any], paper: Mapping[str, Any]) -> list[Number]:
    ours = _ours(row["ours"]) if "ours" in row else None
    columns = {**COLUMNS, **paper.get("columns", {})}
    numbers = []
    for metric in METRICS:
        if metric not in row:
            continue
        spreads = row[metric].get("std", [None] * len(row["shots"]))
        for k, mean, std in zip(row["shots"], row[metric]["mean"], spreads, strict=True):
            numbers.append(
                Number(
                    row["method"],
                    metric,
                    columns[metric],
                    k,
                    mean,
                    std,
                    row.get("table", ""),
                    paper["source"],
                    row.get("backbone", paper["backbone"]),
                    row.get("listed", True),
                    ours,
                    row.get("published_only", False),
                    row.get("alone", ""),
                )
            )
    return numbers


def _ours(entry: Mapping[str, Any]) -> Ours:
    presets = tuple(entry.get("presets", ("paper", "release")))
    return Ours(
        entry["method"],
        entry.get("parts", ""),
        entry.get("settings", {}),
        presets,
        tuple(entry.get("free", ())),
        entry.get("backbone", ""),
    )


def _class_numbers(column: Mapping[str, Any], paper: Mapping[str, Any]) -> ClassNumbers:
    values = {
        name: (value[0], value[1]) if isinstance(value, list) else (value, None)
        for name, value in column["values"].items()
    }
    return ClassNumbers(
        column["set"],
        column["method"],
        column["metric"],
        column["shots"],
        column["table"],
        paper["source"],
        values,
        column.get("mean"),
        column.get("std"),
    )

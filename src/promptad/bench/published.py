"""Published numbers, and when an evaluation may be compared with them.

The numbers are data, ``published.toml``. A data set is recognised by the names of its classes. All
numbers are means over *all* classes of a data set: a mean over some of them is another quantity, and is
never compared.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

PUBLISHED_METRICS = ("image_auroc", "pixel_auroc", "image_aupr", "pixel_pro")


@dataclass(frozen=True)
class Number:
    """One published number.

    Attributes:
        method: as the paper writes it. metric: one of :data:`PUBLISHED_METRICS`. shots: k; 0 for none.
        mean, std: in percent; std None where none is printed.
        ours: method and parts of the row that it is compared with, or None.
        source, backbone: where it is printed and what it was measured with.
    """

    method: str
    metric: str
    shots: int
    mean: float
    std: float | None
    ours: tuple[str, str] | None
    source: str
    backbone: str


@dataclass(frozen=True)
class Published:
    """What is published of one data set.

    Attributes:
        key: "mvtec" or "visa". name: as people write it.
        classes: class -> photos of the full data set: (training, normal test, anomalous test).
        numbers: all numbers. source, backbone, note: where they come from, and with what to read them.
    """

    key: str
    name: str
    classes: Mapping[str, tuple[int, int, int]]
    numbers: tuple[Number, ...]
    source: str
    backbone: str
    note: str

    def complete(self, evaluated: Collection[str]) -> bool:
        """Whether these are all its classes, so that means may be compared."""
        return set(evaluated) == set(self.classes)

    def scope(self, evaluated: Collection[str]) -> str:
        """What the published means are over, and whether a mean over these classes can be compared."""
        words = f"published, mean of all {len(self.classes)} classes"
        if self.complete(evaluated):
            return words
        here = f"{len(set(evaluated))} of them" if len(set(evaluated)) > 1 else f"one of them ({next(iter(evaluated))})"
        return f"{words}; not comparable with {here}"

    def lookup(self, metric: str, shots: int | None = None, method: str | None = None) -> tuple[Number, ...]:
        """The numbers of a metric, in the paper's order; of one k and one method if those are given."""
        return tuple(
            one
            for one in self.numbers
            if one.metric == metric and shots in (None, one.shots) and method in (None, one.method)
        )

    def counterpart(self, method: str, parts: str, shots: int, metric: str) -> Number | None:
        """The number that our row of `method` with `parts` aims at, or None."""
        found = (one for one in self.lookup(metric, shots) if one.ours == (method, parts))
        return next(found, None)

    def differing_counts(self, found: Mapping[str, tuple[int, int, int]]) -> list[str]:
        """A line for every class whose numbers of photos differ from the full data set's.

        Args:
            found: class -> (training, normal test, anomalous test) photos here.
        """
        lines = []
        for name, counts in found.items():
            full = self.classes[name]
            if counts != full:
                words = [
                    f"{kind} {here} of {there}"
                    for kind, here, there in zip(
                        ("training", "normal test", "anomalous test"), counts, full, strict=True
                    )
                    if here != there
                ]
                lines.append(f"{name}: photos differ from the full {self.name}: {', '.join(words)}")
        return lines


def recognise(classes: Collection[str]) -> Published | None:
    """The data set that all these classes belong to, or None (also for no class at all)."""
    for one in published():
        if classes and set(classes) <= set(one.classes):
            return one
    return None


@cache
def published() -> tuple[Published, ...]:
    """All data sets of ``published.toml``."""
    text = files("promptad.bench").joinpath("published.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    shared = {key: table.pop(key) for key in ("source", "backbone", "note")}
    return tuple(_data_set(key, entry, shared) for key, entry in table.items())


def _data_set(key: str, entry: Mapping[str, Any], shared: Mapping[str, str]) -> Published:
    numbers = []
    for row in entry["rows"]:
        ours = (row["ours"][0], row["ours"][1]) if "ours" in row else None
        for metric in PUBLISHED_METRICS:
            if metric not in row:
                continue
            spreads = row[metric].get("std", [None] * len(row["shots"]))
            for k, mean, std in zip(row["shots"], row[metric]["mean"], spreads, strict=True):
                source, backbone = row.get("source", shared["source"]), row.get("backbone", shared["backbone"])
                numbers.append(Number(row["method"], metric, k, mean, std, ours, source, backbone))
    classes = {name: (counts[0], counts[1], counts[2]) for name, counts in entry["classes"].items()}
    return Published(key, entry["name"], classes, tuple(numbers), **shared)

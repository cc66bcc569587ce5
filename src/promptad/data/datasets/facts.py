"""What is known of public data sets: the table `sets.toml`, and whether the photos that are here are all of a set.

The counts are those of the published archives, as this project's specification lists them with their sources. That a count
differs is said and is no error: people keep parts of sets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from promptad.data.records import Record

Domain = Literal["industrial", "medical", "other"]
Counts = Mapping[str, tuple[int, ...]]
"""Photos by split: (normal, anomalous), or (without label,)."""

WHOLE = "*"
"""The key under which the sum over all classes stands."""


@dataclass(frozen=True)
class SetFacts:
    """One public data set.

    Attributes:
        key: "mvtec", "aitex", ...; the one under which published numbers stand.
        title: its name. domain: what it shows.
        means: the group means of FAPrompt's tables in which it counts: "image", "pixel", both or none.
        masks, licence, source, where, remark: words for people; `source` says who states the licence.
        layouts: layouts that read it, the default one first.
        counts: layout -> class -> photos of the full set.
    """

    key: str
    title: str
    domain: Domain
    means: tuple[str, ...]
    masks: str
    licence: str
    source: str
    where: str
    layouts: tuple[str, ...]
    remark: str
    counts: Mapping[str, Mapping[str, Counts]]

    @property
    def stated_licence(self) -> str:
        """The licence, and who says so."""
        return f"{self.licence} ({self.source})" if self.source else self.licence

    def classes(self, layout: str) -> tuple[str, ...]:
        """Its classes as a layout names them; none where they are not listed."""
        return tuple(name for name in self.counts.get(layout, {}) if name != WHOLE)

    def total(self, layout: str) -> dict[str, tuple[int, ...]]:
        """Photos of the full set by split."""
        counts = self.counts.get(layout, {})
        return dict(counts[WHOLE]) if WHOLE in counts else _summed(counts.values())

    def differences(self, layout: str, records: Sequence[Record]) -> list[str]:
        """A line for every class and split whose photos differ in number from the full set's, and for classes that are missing.

        Only what the table counts is compared. "bottle test: 3 normal of 20, 12 anomalous of 63".
        """
        counts, here = self.counts.get(layout, {}), counted(records)
        missing = [name for name in self.classes(layout) if name not in here]
        lines = [f"missing: {', '.join(missing)}"] if missing else []
        present = {name: counts[name] for name in here if name in counts}
        if not missing and WHOLE in counts:
            present[WHOLE] = counts[WHOLE]
            here = {**here, WHOLE: _summed(here.values())}
        for name, splits in present.items():
            for split, full in splits.items():
                words = ("normal", "anomalous") if len(full) == 2 else ("without label",)
                present_photos = here[name].get(split, (0, 0, 0))
                pairs = zip(words, present_photos[:2] if len(full) == 2 else present_photos[2:], full, strict=True)
                parts = [f"{number} {word} of {official}" for word, number, official in pairs if number != official]
                if parts:
                    lines.append(f"{'all classes' if name == WHOLE else name} {split}: {', '.join(parts)}")
        return lines


def counted(records: Iterable[Record]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Class -> split -> photos that are (normal, anomalous, without label)."""
    out: dict[str, dict[str, tuple[int, ...]]] = {}
    for record in records:
        splits = out.setdefault(record.class_name, {})
        numbers = list(splits.get(record.split, (0, 0, 0)))
        numbers[2 if record.label is None else record.label] += 1
        splits[record.split] = tuple(numbers)
    return out


def _summed(classes: Iterable[Counts]) -> dict[str, tuple[int, ...]]:
    total: dict[str, tuple[int, ...]] = {}
    for splits in classes:
        for split, numbers in splits.items():
            before = total.get(split, (0,) * len(numbers))
            total[split] = tuple(a + b for a, b in zip(before, numbers, strict=True))
    return total


@cache
def all_facts() -> dict[str, SetFacts]:
    """Key -> facts, in the table's order."""
    text = files("promptad.data.datasets").joinpath("sets.toml").read_text(encoding="utf-8")
    return {key: _facts(key, entry) for key, entry in tomllib.loads(text).items()}


def _facts(key: str, entry: Mapping[str, Any]) -> SetFacts:
    counts = {
        layout: {name: {split: tuple(numbers) for split, numbers in splits.items()} for name, splits in rows.items()}
        for layout, rows in entry.get("counts", {}).items()
    }
    words = {name: entry.get(name, "") for name in ("title", "domain", "masks", "licence", "source", "where", "remark")}
    return SetFacts(key=key, means=tuple(entry["means"]), layouts=tuple(entry["layouts"]), counts=counts, **words)


def facts_of(layout: str, records: Sequence[Record]) -> SetFacts | None:
    """The public set that these records are, or are a part of; None where it is none, or could be several.

    Layouts of one set name it. Of the others the classes must all be the set's, whatever their number: :meth:`SetFacts.differences`
    says what is missing.
    """
    sets = [entry for entry in all_facts().values() if layout in entry.layouts]
    if len(sets) == 1:
        return sets[0]
    names = {record.class_name for record in records}
    fitting = [entry for entry in sets if names and names <= set(entry.classes(layout))]
    return fitting[0] if len(fitting) == 1 else None


def whole_of(layout: str, records: Sequence[Record]) -> SetFacts | None:
    """As :func:`facts_of`, where it is beyond doubt: by the layout, or because every class of the set is there."""
    facts = facts_of(layout, records)
    if facts is None or sum(layout in entry.layouts for entry in all_facts().values()) == 1:
        return facts
    return facts if set(facts.classes(layout)) <= {record.class_name for record in records} else None


def facts_table() -> str:
    """The sets as a Markdown table, for docs/data.md."""
    lines = ["| set | where | licence | masks | layout | FAPrompt's means |", "|---|---|---|---|---|---|"]
    for facts in all_facts().values():
        layouts = ", ".join(f"`{layout}`" for layout in facts.layouts)
        means = f"{facts.domain}: {', '.join(facts.means)}" if facts.means else "-"
        title = f"{facts.title}{f' ({facts.remark})' if facts.remark else ''}"
        lines.append(f"| {title} | {facts.where} | {facts.stated_licence} | {facts.masks} | {layouts} | {means} |")
    return "\n".join(lines) + "\n"

"""How many photos sets have, beside what their publishers count (tables of data statistics)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from promptad.bench.tables import Table
from promptad.data.datasets import open_dataset
from promptad.data.datasets.facts import all_facts, counted
from promptad.data.records import Record
from promptad.errors import PromptadError


def counts_table(title: str, keys: Sequence[str], places: Mapping[str, Path], problems: list[str]) -> Table:
    """One row a set. What cannot be read becomes a line of `problems`, and its row has the published counts alone."""
    rows = []
    for key in keys:
        facts, here = all_facts()[key], ("–",) * 5
        full = facts.total(facts.layouts[0])
        if key in places:
            try:
                here = _counts(open_dataset(places[key], compare=False).records)
            except PromptadError as error:
                problems.append(f"{key}: not counted: {error}")
        normal, anomalous = full.get("test", (0, 0))[:2]
        rows.append((facts.title, facts.domain, *here, str(full.get("train", (0,))[0]), str(normal), str(anomalous)))
    heads = ("classes", "good for training", "normal test", "anomalous test", "of these with mask")
    published = ("published: good for training", "normal test", "anomalous test")
    return Table(title, ("set", "domain", *heads, *published), tuple(rows))


def _counts(records: Sequence[Record]) -> tuple[str, str, str, str, str]:
    by_class = counted(records)
    sums = {
        split: [sum(own.get(split, (0, 0))[n] for own in by_class.values()) for n in (0, 1)]
        for split in ("train", "test")
    }
    masks = sum(record.mask is not None for record in records if record.label == 1 and record.split == "test")
    return str(len(by_class)), str(sums["train"][0]), str(sums["test"][0]), str(sums["test"][1]), str(masks)

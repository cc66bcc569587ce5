"""What a benchmark would do, said before anything is loaded: trainings, units, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from promptad.clip.zoo import locate, locate_memory
from promptad.data.datasets import open_dataset
from promptad.errors import PromptadError
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict
from promptad.suite.plan import Plan, RowPlan, row_label, taken_for
from promptad.suite.trainings import trained_on
from promptad.suite.variants import check_rows

Classes = Mapping[str, Sequence[str]]
"""Set -> its classes that are looked at."""


def dry_lines(plan: Plan, weights: Mapping[str, str] | None = None) -> list[str]:
    """Lines for a person: each set, each row, what is missing with the way out, and the sums.

    Args:
        weights: name of a backbone in the plan -> the name, file or folder to take for it; "*" for all others.

    Raises:
        ConfigError: settings that no row can have.
    """
    check_rows(plan)
    lines, classes = _sets(plan)
    lines += backbone_lines([plan.backbone_of(row) for row in plan.rows], weights)
    lines += memory_lines([plan.memory_backbone_of(row) for row in plan.rows], weights)
    return [*lines, *row_lines(plan, classes), f"in all     {sums(plan, classes)}"]


def _sets(plan: Plan) -> tuple[list[str], dict[str, list[str]]]:
    """A line for each set, and the classes of those that can be read."""
    lines: list[str] = []
    classes: dict[str, list[str]] = {}
    for entry in plan.sets:
        try:
            data = open_dataset(entry.path, entry.layout, entry.normal, compare=False)
        except PromptadError as error:
            lines.append(f"missing    {entry.title}: {error}")
            continue
        names = {record.class_name for record in data.records}
        classes[entry.title] = sorted(names & set(entry.classes)) if entry.classes else sorted(names)
        photos = sum(record.split == "test" for record in data.records)
        known = f", {data.facts.title}" if data.facts is not None else ""
        differs = f"; {data.differences[0]}" if data.differences else ""
        count = len(classes[entry.title])
        lines.append(f"set        {entry.title}: {count} classes, {photos} test photos{known}{differs}")
    return lines, classes


def backbone_lines(names: Sequence[str], weights: Mapping[str, str] | None = None) -> list[str]:
    """A line for each backbone: whether its weights are there, or how to get them."""
    lines = []
    for name in dict.fromkeys(names):
        place = taken_for(name, weights or {})
        try:
            locate(place)
            lines.append(f"backbone   {name}{f' from {place}' if place != name else ''}")
        except PromptadError as error:
            lines.append(f"missing    {error}")
    return lines


def memory_lines(names: Sequence[str], weights: Mapping[str, str] | None = None) -> list[str]:
    """The same for each second image tower; "" is none."""
    lines = []
    for name in dict.fromkeys(filter(None, names)):
        place = (weights or {}).get(name, name)
        try:
            locate_memory(place)
            lines.append(f"memory     {name}{f' from {place}' if place != name else ''}")
        except PromptadError as error:
            lines.append(f"missing    {error}")
    return lines


def row_lines(plan: Plan, classes: Classes) -> list[str]:
    """A line for each row with its units, and one for each choice of photos, or of words, that prompts are trained on."""
    lines = []
    for row in plan.rows:
        own = sum(units_of(plan, row) * len(classes[name]) for name in _measured(row, classes))
        lines.append(f"row        {row_label(row)}: {_number(own, 'unit')}")
    for (label, on, number), sets in _trainings(plan, classes):
        lines.append(f"train      {label}, on {on}: {_number(number, 'training')}; measured on {', '.join(sets)}")
    return lines


def sums(plan: Plan, classes: Classes) -> str:
    """Units and trainings of all rows."""
    units = sum(units_of(plan, row) * len(classes[name]) for row in plan.rows for name in _measured(row, classes))
    trainings = sum(number for (_, _, number), _ in _trainings(plan, classes))
    return f"{_number(units, 'unit')}, {_number(trainings, 'training')} at most (what is finished is not done again, and equal rows share units)"


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def units_of(plan: Plan, row: RowPlan) -> int:
    """Fits of a row on one class."""
    use = find_method(row.method).good_photos
    shots = dict.fromkeys((plan.shots if row.shots is None else row.shots) if use != "unused" else (0,))
    zero = row.train.seeds if row.train is not None else max(1, len(row.weights))
    counts = len(set(plan.anomalies)) if find_method(row.method).learns_anomalies else 1
    return counts * sum((row.seeds or plan.seeds) if k else zero for k in shots if k or use != "needed")


def _measured(row: RowPlan, classes: Classes) -> list[str]:
    return [name for name in classes if not row.sets or name in row.sets]


def _trainings(plan: Plan, classes: Classes) -> list[tuple[tuple[str, str, int], list[str]]]:
    """(row, what it is trained on, trainings) and the sets that are measured with them. Rows that differ only in what may be
    chosen after training share theirs, as do sets with the same source."""
    trainings: dict[tuple[str, ...], tuple[tuple[str, str, int], list[str]]] = {}
    for row in plan.rows:
        if row.train is None:
            continue
        entry = find_method(row.method)
        config = config_dict(entry.make_config(row.preset, **row.settings))
        learned = {key: value for key, value in config.items() if key not in entry.free}
        what = json.dumps([row.method, row.preset, learned, row.train.classes, plan.backbone_of(row)], sort_keys=True)
        for name in _measured(row, classes):
            sources, without = trained_on(row, name), row.train.leave_class_out
            on = " and ".join(sources) or (name if without else "words alone")
            number = row.train.seeds * (len(classes[name]) if without else 1)
            each = f"{on}, without each class in turn" if without else on
            key = (what, on, name if without else "", str(row.train.seed))
            _, sets = trainings.setdefault(key, ((row_label(row), each, number), []))
            if name not in sets:
                sets.append(name)
    return list(trainings.values())

"""What a benchmark would do, said before anything is loaded: trainings, units, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping

from promptad.clip.zoo import locate
from promptad.data.datasets import open_dataset
from promptad.errors import PromptadError
from promptad.methods.registry import find_method
from promptad.suite.plan import Plan, RowPlan, row_label, taken_for
from promptad.suite.variants import check_rows


def dry_lines(plan: Plan, weights: Mapping[str, str] | None = None) -> list[str]:
    """Lines for a person: each set, each row, what is missing with the way out, and the sums.

    Args:
        weights: name of a backbone in the plan -> the name, file or folder to take for it; "*" for all others.

    Raises:
        ConfigError: settings that no row can have.
    """
    check_rows(plan)
    lines, classes = [], {}
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
    for name in dict.fromkeys(plan.backbone_of(row) for row in plan.rows):
        place = taken_for(name, weights or {})
        try:
            locate(place)
            lines.append(f"backbone   {name}{f' from {place}' if place != name else ''}")
        except PromptadError as error:
            lines.append(f"missing    {error}")
    trainings = units = 0
    for row in plan.rows:
        of_row = [name for name in classes if not row.sets or name in row.sets]
        own = sum(units_of(plan, row) * len(classes[name]) for name in of_row)
        trained = sum(_trainings(row, len(classes[name])) for name in of_row)
        trainings, units = trainings + trained, units + own
        words = f", {trained} trainings at most" if trained else ""
        lines.append(f"row        {row_label(row)}: {own} units{words}")
    lines.append(
        f"in all     {units} units, {trainings} trainings at most (rows and sets share them where they are the same)"
    )
    return lines


def units_of(plan: Plan, row: RowPlan) -> int:
    """Fits of a row on one class."""
    use = find_method(row.method).good_photos
    shots = dict.fromkeys((plan.shots if row.shots is None else row.shots) if use != "unused" else (0,))
    zero = row.train.seeds if row.train is not None else max(1, len(row.weights))
    counts = len(set(plan.anomalies)) if find_method(row.method).learns_anomalies else 1
    return counts * sum((row.seeds or plan.seeds) if k else zero for k in shots if k or use != "needed")


def _trainings(row: RowPlan, classes: int) -> int:
    if row.train is None:
        return 0
    return row.train.seeds * (classes if row.train.leave_class_out else 1)

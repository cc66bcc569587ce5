"""Which photos of a data set a benchmark looks at: classes, types of damage, the smallest masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from promptad.data.datasets import DataSet
from promptad.data.photos import read_mask
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.suite.plan import SetPlan


def photos_of(data: DataSet, entry: SetPlan) -> DataSet:
    """A set with the classes that are asked for. Raises DataError for one that it has not."""
    known = {record.class_name for record in data.records}
    for name in entry.classes:
        if name not in known:
            raise DataError(f"the set has no class {name!r}; it has {', '.join(sorted(known))}")
    kept = [record for record in data.records if not entry.classes or record.class_name in entry.classes]
    if entry.types:
        kept = [record for record in kept if record.label != 1 or record.defect_type in entry.types]
    if entry.smallest:
        kept = _smallest(kept, entry.smallest)
    return replace(data, records=tuple(kept))


def _smallest(records: Sequence[Record], number: int) -> list[Record]:
    """Without the anomalous test photos of each class that have no mask, and those beyond `number` in the order of their masks."""
    areas: dict[str, list[tuple[float, int]]] = {}
    for place, record in enumerate(records):
        if record.label == 1 and record.split == "test" and record.mask is not None:
            areas.setdefault(record.class_name, []).append((float((read_mask(record.mask) > 0).mean()), place))
    chosen = {place for own in areas.values() for _, place in sorted(own)[:number]}
    return [r for place, r in enumerate(records) if r.label != 1 or r.split != "test" or place in chosen]

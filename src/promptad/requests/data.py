"""Which photos of a data set are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from promptad.data.records import Record
from promptad.errors import DataError
from promptad.inputs import argument


def chosen_classes(records: Sequence[Record], wanted: Sequence[str], left_out: Sequence[str] = ()) -> list[Record]:
    """The records of these classes, all if none is named, without those of the classes left out.

    Raises:
        DataError: a class that the data set does not have.
    """
    known = sorted({record.class_name for record in records})
    for option, given in (("classes", wanted), ("leave_out", left_out)):
        for name in given:
            if name not in known:
                raise DataError(f"{argument(option)} {name}: the data set has no such class; it has {', '.join(known)}")
    kept = set(wanted or known) - set(left_out)
    return [record for record in records if record.class_name in kept]

"""Which photos of a data set are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from promptad.data.records import Record
from promptad.errors import DataError
from promptad.inputs import argument
from promptad.notices import notice


def chosen_classes(
    records: Sequence[Record], wanted: Sequence[str], left_out: Sequence[str] = (), *, say: bool = True
) -> list[Record]:
    """The records of these classes, all if none is named, without those of the classes left out.

    Args:
        say: say which further splits of a set have no part in training and test.

    Raises:
        DataError: a class that the data set does not have.
    """
    known = sorted({record.class_name for record in records})
    for option, given in (("classes", wanted), ("leave_out", left_out)):
        for name in given:
            if name not in known:
                raise DataError(f"{argument(option)} {name}: the data set has no such class; it has {', '.join(known)}")
    kept = set(wanted or known) - set(left_out)
    chosen = [record for record in records if record.class_name in kept]
    for split in sorted({record.split for record in chosen} - {"train", "test"}) if say else ():
        photos = sum(record.split == split for record in chosen)
        notice(f"{photos} photos of the split {split} are not used: nothing here learns from it or is measured on it")
    return chosen

"""What an adapter is: how a layout is recognised and read; and what several adapters share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from promptad.data.datasets.names import entries_of, folders_in
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

T = TypeVar("T")

SPLIT_SEED = 42
"""The seed of all splits that a paper draws at random."""


@dataclass(frozen=True)
class Layout:
    """One way in which photos lie.

    Attributes:
        name: for `load_dataset(path, layout=name)`.
        load: the records in a folder, given further names of folders with normal photos. Raises DataError.
        evidence: what in a folder shows that it lies so ("train/10000_GT.png"); None where nothing does. Layouts that are
            another reading of the same files have none: they are asked for by name.
        expected: what `evidence` looks for, in words.
    """

    name: str
    load: Callable[[Path, Sequence[str]], list[Record]]
    evidence: Callable[[Path], str | None] | None
    expected: str


def unpacked(folder: Path) -> Path:
    """The folder inside, as long as the only one in it has its own name: `can/can`, as archives unpack."""
    while True:
        entries = [entry for entry in entries_of(folder) if not entry.name.startswith(".")]
        inner = folders_in(folder)
        if len(entries) != 1 or len(inner) != 1 or inner[0].name != Path(os.path.abspath(folder)).name:
            return folder
        folder = inner[0]


def child(folder: Path, *names: str) -> Path | None:
    """The folder inside that has one of these names, in any case and unpacked; None where there is none."""
    wanted = [name.casefold() for name in names]
    for inner in folders_in(folder):
        if inner.name.casefold() in wanted:
            return unpacked(inner)
    return None


def require_child(folder: Path, *names: str) -> Path:
    """As :func:`child`. Raises DataError where there is none."""
    inner = child(folder, *names)
    if inner is None:
        raise DataError(f"{shown(folder)}: has no folder {' or '.join(names)}; expected the set as it is published")
    return inner


def held_out(items: Sequence[T], share: float = 0.25, seed: int = SPLIT_SEED) -> tuple[list[T], list[T]]:
    """(train, test) of sorted items as scikit-learn's ``train_test_split(items, test_size=share, random_state=seed)`` draws them.

    The released conversions draw from the order in which a disk lists a folder, so their members cannot be had again, but
    their numbers can: ``ceil(share * n)`` items are for the test. Each part keeps the items' order.
    """
    order = np.random.RandomState(seed).permutation(len(items))
    chosen = set(order[: math.ceil(share * len(items))].tolist())
    return (
        [item for place, item in enumerate(items) if place not in chosen],
        [item for place, item in enumerate(items) if place in chosen],
    )


def with_test(records: list[Record], path: Path) -> list[Record]:
    """The records; where none is for the test, those of the validation are, with a line."""
    splits = {record.split for record in records}
    if "test" in splits or "validation" not in splits:
        return records
    notice(f"{shown(path)}: has no test photos; those of validation are the test")
    return [replace(record, split="test") if record.split == "validation" else record for record in records]

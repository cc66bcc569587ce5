"""ELPV, 2,624 solar cells with a probability of defect (the repository or the package `elpv-dataset`).

::

    src/elpv_dataset/data/labels.csv      no header, blanks between path, probability and type (mono, poly)
    src/elpv_dataset/data/images/cell0001.png

As FAPrompt and InCTRL use it, probability 0 is normal, a quarter of these for the test; 1 is anomalous; the cells of which the
experts were unsure (1/3 and 2/3) are left out, with a line.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery",
EU PVSEC 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from promptad.data.datasets.layout import Layout, held_out
from promptad.data.datasets.listed import path_inside, read_text, require_files
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

CLASS_NAME = "solar_cell"
_TABLE = "labels.csv"
_PLACES = ("", "data", "elpv_dataset/data", "src/elpv_dataset/data")


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """Normal and anomalous cells; the type of cell names the folder of the defect, and is the `condition` of every cell.

    Raises:
        DataError: there is no table, it is of another form, or cells that it lists are missing.
    """
    table = _table(root)
    if table is None:
        raise DataError(f"{shown(root)}: not ELPV; expected {_TABLE} with rows `images/cell0001.png 1.0 mono`")
    good: list[Record] = []
    defects: list[Record] = []
    unsure = 0
    for number, line in enumerate(read_text(table).splitlines(), 1):
        if not line.strip():
            continue
        name, probability, kind = _row(line, f"{shown(table)} line {number}")
        path = path_inside(table.parent, name, f"{shown(table)} line {number}")
        if probability in (0.0, 1.0):
            record = Record(path, int(probability), None, CLASS_NAME, kind if probability else "good", condition=kind)
            (defects if probability else good).append(record)
        else:
            unsure += 1
    require_files((record.path for record in (*good, *defects)), table)
    if unsure:
        notice(
            f"{shown(table)}: {unsure} cells have a probability between 0 and 1 and are left out, as FAPrompt counts them"
        )
    train, test = held_out(sorted(good, key=lambda record: record.path.as_posix()))
    return [replace(record, split="train") for record in train] + test + defects


def _row(line: str, where: str) -> tuple[str, float, str]:
    fields = line.split()
    try:
        name, probability, kind = fields[0], float(fields[1]), fields[2]
    except (IndexError, ValueError):
        raise DataError(f"{where}: {shown(line[:60])}; expected `path probability type` with blanks between") from None
    return name, probability, kind


def _table(root: Path) -> Path | None:
    """The table, where its first line is of this set."""
    for place in _PLACES:
        table = root / place / _TABLE
        if table.is_file():
            fields = table.read_bytes()[:200].decode("utf-8", "replace").split("\n")[0].split()
            if len(fields) == 3 and fields[2] in ("mono", "poly"):
                return table
    return None


def _evidence(root: Path) -> str | None:
    table = _table(root)
    return f"{table.relative_to(root).as_posix()} with mono and poly" if table is not None else None


LAYOUTS = (Layout("elpv", load, _evidence, "labels.csv with rows `images/cell0001.png 1.0 mono`"),)

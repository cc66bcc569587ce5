"""Sewer-ML: the validation photos, of which RWDA (BMVC 2023) prints numbers.

::

    SewerML_Val.csv         Filename, WaterLevel, seventeen codes of defects, VA, ND, Defect
    valid00/00000001.png    in as many folders as archives were unpacked; numbers run through all splits

A photo is anomalous where `Defect` is 1; the water level and the code VA are no defects. The test table holds names only, the
training table a million photos that nothing here learns from; neither is read.

Haurum and Moeslund, "Sewer-ML: A Multi-Label Sewer Defect Classification Dataset and Benchmark", CVPR 2021.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from promptad.data.datasets.layout import Layout
from promptad.data.datasets.listed import read_text
from promptad.data.datasets.names import photos_below
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import notice

CLASS_NAME = "sewer"
_TABLE = "SewerML_Val.csv"


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The validation photos that are there, in the table's order; `defect_type` lists the codes of a photo.

    Raises:
        DataError: there is no table, it has other columns or values, or none of its photos is there.
    """
    table = root / _TABLE
    reader = csv.DictReader(io.StringIO(read_text(table), newline=""))
    columns = reader.fieldnames or ()
    if "Filename" not in columns or "Defect" not in columns:
        raise DataError(f"{shown(table)}: columns {', '.join(columns)}; expected Filename and Defect; fetch it again")
    codes = [name for name in columns if len(name) == 2 and name.isupper() and name not in ("VA", "ND")]
    places = {photo.name.casefold(): photo for photo in photos_below(root, masks=True)}
    records, missing = [], []
    for row in reader:
        name, defect = (row["Filename"] or "").strip(), (row["Defect"] or "").strip()
        if defect not in ("0", "1"):
            raise DataError(f"{shown(table)} line {reader.line_num}: Defect is {defect!r}; expected 0 or 1")
        if name.casefold() not in places:
            missing.append(name)
            continue
        kinds = "+".join(code for code in codes if (row[code] or "").strip() == "1")
        kind = (kinds or "defect") if defect == "1" else "good"
        records.append(Record(places[name.casefold()], int(defect), None, CLASS_NAME, kind))
    if not records:
        raise DataError(
            f"{shown(table)}: none of its {len(missing)} photos is below {shown(root)}; unpack the archives"
        )
    if missing:
        notice(f"{shown(table)}: {len(missing)} of its photos are not there and left out (first: {shown(missing[0])})")
    unused = len(places) - len(records)
    if unused:
        notice(f"{shown(root)}: {unused} photos are not in {_TABLE} and not used (training and test photos)")
    return records


LAYOUTS = (Layout("sewerml", load, lambda root: _TABLE if (root / _TABLE).is_file() else None, _TABLE),)

"""Which photos PromptAD zero-shot (WACV 2024) and the systems that its tables compare with are trained on: good photos and a few
anomalies of one type of each seen class."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from promptad.data.records import Record
from promptad.data.shots import draw_shots
from promptad.errors import DataError


def drawn_photos(records: Sequence[Record], *, normals: int, anomalies: int, seed: int) -> list[Record]:
    """Per class its good *train* photos, and anomalies of one anomaly type of its *test* split, drawn by the seed.

    Args:
        normals: good photos of a class at most; 0 takes all. anomalies: of a class at most, at least 1.

    Raises:
        DataError: no good training photo or no anomaly at all.
    """
    classes: dict[str, list[Record]] = {}
    for record in records:
        classes.setdefault(record.class_name, []).append(record)
    good: list[Record] = []
    anomalous: list[Record] = []
    for name, group in sorted(classes.items()):
        # A class draws alike whatever other classes there are, so leave-one-out runs share their photos.
        own_seed = zlib.crc32(f"{seed} {name}".encode())
        normal = [record for record in group if record.label == 0 and record.split == "train"]
        if normal:
            good += draw_shots(normal, min(normals or len(normal), len(normal)), own_seed)
        faulty = [record for record in group if record.label == 1 and record.split == "test"]
        if faulty:
            types = sorted({record.defect_type for record in faulty})
            kind = types[int(np.random.default_rng(own_seed).integers(len(types)))]
            paths = {record.photo: record for record in faulty if record.defect_type == kind}
            anomalous += [paths[path] for path in draw_shots(list(paths), min(anomalies, len(paths)), own_seed)]
    if not good or not anomalous:
        lacking = "good training photos" if not good else "anomalous test photos"
        raise DataError(
            f"the training set: has no {lacking} among {len(records)} photos; expected <class>/train/good and "
            "<class>/test/<type>; give a labelled data set"
        )
    return sorted(good + anomalous, key=lambda record: (record.class_name, record.label))

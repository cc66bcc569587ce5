"""Maps of a few test photos that a page shows side by side: one of each kind of defect, and a good one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from promptad.bench.testset import TestSet, scoring_parts
from promptad.data.files import write_atomic
from promptad.data.records import Record
from promptad.detector import Detector

EDGE = 128
"""Long edge of a stored map in pixels."""


def shown_records(records: Sequence[Record], number: int) -> list[Record]:
    """The photos that are shown: the first of each kind of defect in turn, and the first good one, in the set's order."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        if record.label == 1:
            kinds.setdefault(record.defect_type, []).append(record)
    depth = max(map(len, kinds.values()), default=0)
    anomalous = [own[place] for place in range(depth) for own in kinds.values() if place < len(own)]
    good = [record for record in records if record.label == 0]
    chosen = {id(record) for record in [*anomalous[: max(1, number - 1)], *good[:1]][:number]}
    return [record for record in records if id(record) in chosen]


def save_pictures(path: Path, number: int, detector: Detector, tests: TestSet, parts: Sequence[str]) -> None:
    """Writes the maps of so many photos, in float16: `<parts>/<number of the photo among the test photos>` -> (h, w)."""
    chosen = {id(record) for record in shown_records(tests.records, number)}
    left_out = [record.photo for record in tests.records if id(record) not in chosen]
    few = tests.without(left_out)
    numbers = [place for place, record in enumerate(tests.records) if id(record) in chosen]
    arrays: dict[str, NDArray[np.float16]] = {}
    for part in parts:
        with scoring_parts(detector.method, part):
            for place, (_, _, anomaly_map) in zip(numbers, few.scores(detector), strict=True):
                if anomaly_map is not None:
                    arrays[f"{part}/{place}"] = _small(anomaly_map)
    write_atomic(path, save(arrays))


def _small(anomaly_map: NDArray[np.float32]) -> NDArray[np.float16]:
    scale = EDGE / max(anomaly_map.shape)
    size = tuple(max(1, round(side * min(1.0, scale))) for side in anomaly_map.shape)
    limits = np.finfo(np.float16)
    small = np.asarray(Image.fromarray(anomaly_map).resize(size[::-1], Image.Resampling.BOX))
    return small.clip(limits.min, limits.max).astype(np.float16)


def read_pictures(path: Path) -> dict[tuple[str, int], NDArray[np.float32]]:
    """(part, number of the photo) -> its map; nothing where there is no file, or a damaged one."""
    try:
        named = load_file(path)
        return {(key.rpartition("/")[0], int(key.rpartition("/")[2])): v.astype(np.float32) for key, v in named.items()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return {}

"""What MVTec LOCO AD is measured by besides every set: saturated overlaps, logical and structural anomalies apart.

Each kind of anomaly is measured against all good photos, and the mean of both kinds is the number of a class. Other sets of that
layout (AutoVI) name their kinds otherwise; there all anomalies are one.

Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 130, 2022.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptad.bench.conventions import Conventions
from promptad.data.datasets.loco import Saturation, config_of, read_saturations
from promptad.data.photos import read_mask, read_mask_value
from promptad.data.records import Record
from promptad.errors import DataError, PhotoError
from promptad.inputs import argument
from promptad.metrics.ranking import auroc
from promptad.metrics.spro import Region, SaturatedOverlap

KINDS = ("logical", "structural")
LIMITS = {"05": 0.05, "30": 0.3}
SATURATED = {
    **{
        f"spro_{key}{f'_{kind}' if kind else ''}": f"AU-sPRO@{limit}{f', {kind}' if kind else ''}"
        for key, limit in LIMITS.items()
        for kind in ("", *KINDS)
    },
    **{f"image_auroc_{kind}": f"image AUROC, {kind}" for kind in KINDS},
}
"""The columns, and what they are called."""


class SaturatedSet:
    """Collects the photos of one class; it stays empty where the set is not one with saturations.

    Args:
        records: all that will be added. conventions: by which maps are compared.

    Attributes:
        skipped: column -> why it cannot be computed.
    """

    def __init__(self, records: Sequence[Record], conventions: Conventions) -> None:
        self.skipped: dict[str, str] = {}
        self._kinds: dict[Path, Mapping[int, Saturation]] = {}
        configs = {config for record in records if (config := config_of(record)) is not None}
        self._active = bool(configs)
        split = {_kind(record) for record in records if record.label} <= set(KINDS)
        self._overlaps = {kind: SaturatedOverlap() for kind in (KINDS if split else ("",))}
        self._scores: dict[str, list[float]] = {"good": []}
        try:
            self._kinds = {config: read_saturations(config) for config in configs}
        except DataError as error:
            self._skip(str(error))
        if configs and (conventions.eval_size != "photo" or conventions.pixels != "photo"):
            ways = [argument("eval_size", "photo")] if conventions.eval_size != "photo" else []
            ways += [argument("convention", "pixels=photo")] if conventions.pixels != "photo" else []
            self._skip(f"saturation areas are pixels of whole photos; {' and '.join(ways)} measures it")

    def _skip(self, reason: str) -> None:
        for key in LIMITS:
            self.skipped.setdefault(f"spro_{key}", reason)

    def add(self, record: Record, score: float, anomaly_map: NDArray[np.float32] | None) -> None:
        """Adds one photo. One whose masks cannot be read, or have no saturation, stops AU-sPRO and nothing else."""
        if not self._active or record.label is None:
            return
        self._scores.setdefault(_kind(record) if record.label else "good", []).append(score)
        if anomaly_map is None:
            self._skip("no anomaly maps")
        if self.skipped or anomaly_map is None:
            self._overlaps = {kind: SaturatedOverlap() for kind in self._overlaps}
            return
        try:
            regions = self._regions(record, (anomaly_map.shape[0], anomaly_map.shape[1])) if record.label else []
        except (PhotoError, DataError) as error:
            self._skip(str(error))
            return
        for kind, overlap in self._overlaps.items():
            if not record.label or kind in ("", _kind(record)):
                overlap.add(anomaly_map, regions)

    def _regions(self, record: Record, size: tuple[int, int]) -> list[Region]:
        config = config_of(record)
        if config is None:
            raise DataError(f"{record.path}: no masks with saturations beside it; unpack the set again")
        regions = []
        for file in record.masks:
            assert isinstance(file, Path)
            mask, value = read_mask(file, size), read_mask_value(file)
            saturation = self._kinds[config].get(int(value))
            if saturation is None:
                raise DataError(f"{file}: has the value {value:g}, which {config} does not name; fetch the set again")
            if mask.any():  # an empty mask was named when it was read
                regions.append(Region(mask, max(1, saturation.area(int(mask.sum())))))
        return regions

    def compute(self) -> dict[str, float]:
        """Column -> value in [0, 1], those that exist."""
        values: dict[str, float] = {}
        if not self._active:
            return values
        if not self.skipped:
            reached = {kind: overlap.compute(tuple(LIMITS.values())) for kind, overlap in self._overlaps.items()}
            for key, limit in LIMITS.items():
                for kind, of_kind in reached.items():
                    values[f"spro_{key}{f'_{kind}' if kind else ''}"] = of_kind[limit]
                values[f"spro_{key}"] = statistics.fmean(of_kind[limit] for of_kind in reached.values())
        good = self._scores["good"]
        for kind in KINDS:
            bad = self._scores.get(kind, [])
            values[f"image_auroc_{kind}"] = auroc([0] * len(good) + [1] * len(bad), [*good, *bad])
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        if not self.skipped and "spro_05" not in known:
            missing = [kind for kind, overlap in self._overlaps.items() if not overlap.n_regions]
            self._skip(f"no {' and no '.join(missing)} anomaly, or no normal pixel")
        return known


def _kind(record: Record) -> str:
    """ "logical" or "structural", as the set's folders begin; else the folder's name."""
    return next((kind for kind in KINDS if record.defect_type.startswith(f"{kind}_")), record.defect_type)

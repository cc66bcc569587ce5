"""AU-sPRO, the area under the saturated per-region overlap curve: exact, over all thresholds.

A missing object has no place of its own: the mask of such a defect marks where it could lie, and finding a part of that as large as
the object is finding all of it. The saturated overlap (sPRO) of a defect at a threshold is its found area divided by its saturation
area, at most 1; it is averaged over defects and integrated over the false-positive rate up to a limit, as PRO is. With saturation
areas as large as the defects it is PRO. A defect is one region, whatever its number of connected parts.

Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 130, 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promptad.errors import DataError
from promptad.metrics.aupro import PooledRegions
from promptad.metrics.ranking import FloatArray, RankedScores, as_scores


@dataclass(frozen=True)
class Region:
    """One defect of a photo.

    Attributes:
        mask: (H, W) bool, True where the defect may be found; not empty.
        saturation: pixels of it that have to be found; at least 1 and at most all.
    """

    mask: NDArray[np.bool_]
    saturation: int


class SaturatedOverlap:
    """AU-sPRO of the photos added so far; mergeable by adding all photos to one.

    Memory: 4 bytes a pixel that no defect covers (float32), and 12 bytes for each pixel of a saturation area. A map without
    regions is kept as it is, not copied. :meth:`compute` takes as much again for a moment.
    """

    def __init__(self) -> None:
        self._normal: list[FloatArray] = []
        self._defect: list[FloatArray] = []
        self._weight: list[NDArray[np.float64]] = []
        self.n_regions = 0

    def add(self, anomaly_map: ArrayLike, regions: Sequence[Region] = ()) -> None:
        """Add one photo; without regions all of it is normal.

        Of each defect only the `saturation` highest scores matter: what lies below cannot raise its overlap any more.

        Args:
            anomaly_map: (H, W), finite, larger = more anomalous. regions: of masks of that size; they may overlap.

        Raises:
            DataError: sizes differ, a region is empty, or its saturation is out of range.
        """
        scores = as_scores(anomaly_map)
        free = np.ones(scores.shape, dtype=bool)
        highest: list[FloatArray] = []
        weights: list[NDArray[np.float64]] = []
        for region in regions:
            if scores.ndim != 2 or region.mask.shape != scores.shape:
                raise DataError(
                    f"a region has shape {region.mask.shape} and its anomaly map {scores.shape}; both must be (height, width) "
                    "and equal, resize one of them"
                )
            inside = scores[region.mask]
            if not 1 <= region.saturation <= inside.size:
                raise DataError(
                    f"a region of {inside.size} pixels has saturation {region.saturation}; it must be 1 to its number of pixels"
                )
            rest = inside.size - region.saturation
            highest.append((np.partition(inside, rest) if rest else inside)[rest:])
            weights.append(np.full(region.saturation, 1.0 / region.saturation))
            free &= ~region.mask
        self._normal.append(scores[free] if len(regions) else scores.ravel())
        self._defect += highest
        self._weight += weights
        self.n_regions += len(highest)

    def compute(self, limits: Sequence[float] = (0.3, 0.05)) -> dict[float, float]:
        """``{limit: AU-sPRO in [0, 1]}``, normalised by the limit; NaN without a defect or a normal pixel.

        Raises:
            DataError: a limit is not above 0 and at most 1.
        """
        floats = np.result_type(np.float32, *(part.dtype for part in (*self._normal, *self._defect)))
        normal, defect = (
            np.concatenate(parts).astype(floats, copy=False) if parts else np.empty(0, floats)
            for parts in (self._normal, self._defect)
        )
        weight = np.concatenate(self._weight) if self._weight else np.empty(0)
        pooled = PooledRegions(RankedScores.from_groups(normal, defect, weight), self.n_regions)
        return {limit: pooled.aupro(limit) for limit in limits}


def au_spro(
    maps: Sequence[ArrayLike], regions: Sequence[Sequence[Region]], limits: Sequence[float] = (0.3, 0.05)
) -> dict[float, float]:
    """AU-sPRO at several FPR limits: ``{limit: value in [0, 1]}``; see the module's docstring.

    Every distinct score is a threshold and the curve is interpolated linearly at the limit, as in
    :func:`promptad.metrics.aupro.aupro`. Saturation areas are pixels of the maps, which therefore have the photos' own size.

    Args:
        maps: (H, W) each. regions: the defects of each map, none for a normal photo.

    Raises:
        DataError: numbers or sizes differ, or a limit is out of range.
    """
    if len(maps) != len(regions):
        raise DataError(f"{len(maps)} anomaly maps but regions of {len(regions)}; give a list a map, empty if normal")
    overlap = SaturatedOverlap()
    for anomaly_map, of_photo in zip(maps, regions, strict=True):
        overlap.add(anomaly_map, of_photo)
    return overlap.compute(limits)

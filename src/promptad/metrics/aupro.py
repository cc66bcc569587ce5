"""AUPRO, the area under the per-region overlap curve: exact, and the 200-threshold variant of many papers.

The per-region overlap (PRO) at a threshold is the covered fraction of a ground-truth region, averaged over
all regions of all photos, so a region counts the same whatever its size. It is drawn against the
false-positive rate (FPR) over the normal pixels of all photos, photos without defect included, and integrated
from FPR 0 to a limit. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from promptad.errors import DataError
from promptad.metrics.ranking import FloatArray, RankedScores, as_scores

THRESHOLDS_200 = 200
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class SplitMap:
    """One anomaly map split by its mask.

    Attributes:
        normal: (N,) scores of the normal pixels, a copy.
        defect: (P,) scores of the defect pixels, a copy.
        area: (P,) int32, number of pixels of the region that each defect pixel belongs to.
        n_regions: number of 8-connected regions in the mask.
    """

    normal: FloatArray
    defect: FloatArray
    area: NDArray[np.int32]
    n_regions: int


def split_map(anomaly_map: FloatArray, mask: NDArray[Any]) -> SplitMap:
    """Split an (H, W) map by an (H, W) mask (non-zero = defect) and measure its 8-connected regions."""
    inside = mask != 0
    labelled, n_regions = ndimage.label(inside, structure=_EIGHT_NEIGHBOURS)
    region = labelled[inside]
    area = np.bincount(region, minlength=1).astype(np.int32)[region]
    return SplitMap(anomaly_map[~inside], anomaly_map[inside], area, int(n_regions))


@dataclass(frozen=True)
class PooledRegions:
    """All pixels of a test set, ranked once; every AUPRO value and every pixel metric is read from it.

    Attributes:
        ranked: the pixels, each defect pixel weighted with 1 / area of its region.
        n_regions: number of regions over all photos.
    """

    ranked: RankedScores
    n_regions: int

    @classmethod
    def from_pixels(
        cls, normal: FloatArray, defect: FloatArray, area: NDArray[np.int32], n_regions: int
    ) -> PooledRegions:
        """Rank pooled pixels: (N,) normal scores (sorted IN PLACE), (P,) defect scores, (P,) region areas."""
        return cls(RankedScores.from_groups(normal, defect, 1.0 / area), n_regions)

    def aupro(self, limit: float = 0.3) -> float:
        """Area under PRO over FPR from 0 to exactly ``limit``, divided by ``limit``; NaN if undefined.

        Closed form. When the threshold falls past one distinct score, the defect pixels of that score raise
        PRO by w = (sum of 1 / area) / regions while the FPR goes linearly from ``low`` (normal pixels above
        the score) to ``high`` (normal pixels at or above it; equal to ``low`` if none ties). The area that
        this rise adds up to L is w (L - (low + high) / 2) if high <= L, w (L - low)^2 / (2 (high - low)) if
        low < L < high, else 0.
        """
        _check_limit(limit)
        ranked = self.ranked
        if not ranked.defined:
            return float("nan")
        low = ranked.fp_above / ranked.n_normal
        high = ranked.fp / ranked.n_normal
        area = np.maximum(limit - (low + high) / 2, 0.0)
        cut = (low < limit) & (high > limit)  # the rise that the limit cuts: at most one distinct score
        area[cut] = (limit - low[cut]) ** 2 / (2 * (high[cut] - low[cut]))
        value = float(ranked.weight @ area) / (self.n_regions * limit)
        return min(value, 1.0)  # the weights sum to n_regions only up to rounding

    def curve(self, limit: float = 0.3, points: int = 61) -> tuple[tuple[float, float], ...]:
        """(FPR, PRO) at equal steps of the FPR from 0 to `limit`, of the curve whose area :meth:`aupro` is; () if undefined.

        Where PRO rises at one FPR, its upper end counts.
        """
        _check_limit(limit)
        ranked = self.ranked
        if not ranked.defined:
            return ()
        # From the largest score down: PRO after each distinct score, and the FPR at which its rise begins and ends.
        pro = np.cumsum(ranked.weight[::-1]) / self.n_regions
        low, high = ranked.fp_above[::-1] / ranked.n_normal, ranked.fp[::-1] / ranked.n_normal
        before = np.concatenate([[0.0], pro[:-1]])
        rates = np.linspace(0, limit, points)
        values = []
        for rate in rates:
            place = int(np.searchsorted(high, rate, "right")) - 1  # rises that are complete at this rate
            reached = float(pro[place]) if place >= 0 else 0.0
            following = place + 1
            if following < len(pro) and low[following] < rate < high[following]:
                part = (rate - low[following]) / (high[following] - low[following])
                reached = float(before[following] + part * (pro[following] - before[following]))
            values.append((float(rate), min(reached, 1.0)))
        return tuple(values)

    def aupro_200(self, limit: float = 0.3) -> float:
        """The 200-threshold variant, see :func:`aupro_200`."""
        _check_limit(limit)
        ranked = self.ranked
        if not ranked.defined:
            return float("nan")
        lowest = min(ranked.normal[0], ranked.thresholds[0])
        highest = max(ranked.normal[-1], ranked.thresholds[-1])
        step = (highest - lowest) / THRESHOLDS_200
        if not 0 < step < np.inf:
            return float("nan")
        # The grid of the released scripts. Its step is rounded to the dtype of the maps, so with float32 it
        # has sometimes 201 entries, which moves the value. The thresholds are compared in that dtype too, as
        # numpy 1 did when the numbers were published; it also spares a float64 copy of all pixels.
        grid = np.arange(lowest, highest, step).astype(ranked.normal.dtype)
        fpr = (ranked.n_normal - np.searchsorted(ranked.normal, grid, "right")) / ranked.n_normal
        covered = np.append(np.cumsum(ranked.weight[::-1])[::-1], 0.0)  # [i]: weight of score i and above
        pro = covered[np.searchsorted(ranked.thresholds, grid, "right")] / self.n_regions
        keep = fpr < limit
        fpr, pro = fpr[keep], pro[keep]
        if not fpr.size or fpr.max() == fpr.min():
            return float("nan")
        fpr = (fpr - fpr.min()) / (fpr.max() - fpr.min())
        return float(((pro[:-1] + pro[1:]) / 2 * (fpr[:-1] - fpr[1:])).sum())  # rates fall as thresholds rise


def aupro(
    maps: Sequence[ArrayLike], masks: Sequence[ArrayLike], limits: Sequence[float] = (0.3, 0.05)
) -> dict[float, float]:
    """Exact AUPRO at several FPR limits from one sort: ``{limit: value in [0, 1]}``.

    Every distinct score is a threshold, ties are one step of the curve, and the curve is interpolated
    linearly at the limit, so the value depends on the order of the scores alone, not on their scale. Regions
    have 8-connectivity. NaN where there is no defect pixel or no normal pixel.

    Args:
        maps: anomaly maps, each (H, W), finite, larger = more anomalous. Sizes may differ between photos.
        masks: one (H, W) mask a map, of the size of its map; non-zero = defect. All-zero for a normal photo.
        limits: upper ends of the FPR range, each in (0, 1].

    Memory: 8 bytes a pixel (float32: one split copy and its pooled form) and about 90 bytes a defect pixel.

    Raises:
        DataError: numbers or sizes of maps and masks differ, a map is not 2-D or not finite, a limit is out
            of range.
    """
    for limit in limits:
        _check_limit(limit)
    pooled = _pool(maps, masks)
    return {limit: pooled.aupro(limit) for limit in limits}


def aupro_200(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike], limit: float = 0.3) -> float:
    """AUPRO as the scripts of AnomalyCLIP, FAPrompt and APRIL-GAN compute it (after CFLOW-AD), for parity.

    Thresholds lowest + k (highest - lowest) / 200 over all maps, pixel anomalous if score > threshold; points
    with FPR < ``limit`` are kept, their FPRs rescaled from [smallest, largest] to [0, 1], and PRO integrated
    by trapezoids. **It depends on the scale of the scores**: thresholds are equally spaced in score, so
    ``exp(maps)`` gives another value, and on a heavy-tailed map only a few of them fall below the limit. Nor
    does it reach to the limit exactly. Use :func:`aupro` to compare methods and this one to compare with
    those papers' tables.

    NaN where there is no defect or no normal pixel, all scores are equal, or the kept points have one FPR
    only. Arguments, memory and errors as in :func:`aupro`; thresholds are rounded to the dtype of the maps
    (float32 or float64), as the scripts do. The 200 counts come from one sort and two binary searches.
    """
    _check_limit(limit)
    return _pool(maps, masks).aupro_200(limit)


def _pool(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> PooledRegions:
    if len(maps) != len(masks):
        raise DataError(f"{len(maps)} anomaly maps but {len(masks)} masks; give one mask a map, all-zero if normal")
    if not len(maps):
        raise DataError("no anomaly maps; give at least one map and its mask")
    parts = []
    for index, (given_map, given_mask) in enumerate(zip(maps, masks, strict=True)):
        try:
            anomaly_map = as_scores(given_map)
        except DataError as error:
            raise DataError(f"anomaly map {index}: {error}") from None
        mask = np.asarray(given_mask)
        if anomaly_map.ndim != 2 or mask.shape != anomaly_map.shape:
            raise DataError(
                f"anomaly map {index} has shape {anomaly_map.shape} and its mask {mask.shape}; "
                "both must be (height, width) and equal, resize one of them"
            )
        parts.append(split_map(anomaly_map, mask))
    return PooledRegions.from_pixels(
        np.concatenate([part.normal for part in parts]),
        np.concatenate([part.defect for part in parts]),
        np.concatenate([part.area for part in parts]),
        sum(part.n_regions for part in parts),
    )


def _check_limit(limit: float) -> None:
    if not 0.0 < limit <= 1.0:
        raise DataError(f"AUPRO limit is {limit}; it must be a false-positive rate above 0 and at most 1, such as 0.3")

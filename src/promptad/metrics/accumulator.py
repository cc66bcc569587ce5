"""Collect the scores, maps and masks of a test set photo by photo and compute every metric from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promptad.errors import DataError, PhotoError
from promptad.metrics.aupro import PooledRegions, split_map
from promptad.metrics.ranking import FloatArray, describe_not_finite, rank

METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro_30",
    "aupro_05",
    "aupro_200",
)
IMAGE_METRICS = METRICS[:3]
PIXEL_METRICS = METRICS[3:]


@dataclass(frozen=True)
class Result:
    """Metrics of one class or test set, each in [0, 1], or None with the reason in ``skipped``.

    Attributes:
        image_auroc, image_ap: ROC area and step-wise average precision of the image scores.
        image_f1_max: largest F1 of the image scores, reached at score >= ``image_f1_threshold``. Oracle
            numbers: the threshold is chosen on the test labels.
        pixel_auroc, pixel_ap, pixel_f1_max, pixel_f1_threshold: the same over all pixels of all maps pooled.
        aupro_30, aupro_05: exact AUPRO up to a false-positive rate of 0.3 and of 0.05.
        aupro_200: the 200-threshold AUPRO at 0.3 of several papers' scripts; depends on the scale of the
            scores.
        skipped: metric name -> why it could not be computed, in words.
        notes: sentences on photos that were left out of some metric, or whose mask is empty though labelled
            anomalous.
        n_normal, n_anomalous: photos behind the image metrics.
        n_maps, n_pixels, n_regions: maps, pixels and defect regions behind the pixel metrics.
        pro_curve: (FPR, PRO) at equal steps of the FPR up to 0.3; () where AUPRO does not exist.
        map_sizes: the distinct (height, width) of these maps, ascending: the evaluation size to report.
    """

    image_auroc: float | None
    image_ap: float | None
    image_f1_max: float | None
    image_f1_threshold: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_f1_max: float | None
    pixel_f1_threshold: float | None
    aupro_30: float | None
    aupro_05: float | None
    aupro_200: float | None
    skipped: dict[str, str]
    notes: tuple[str, ...]
    n_normal: int
    n_anomalous: int
    n_maps: int
    n_pixels: int
    n_regions: int
    map_sizes: tuple[tuple[int, int], ...]
    pro_curve: tuple[tuple[float, float], ...] = ()

    def values(self) -> dict[str, float | None]:
        """The nine metrics by name, in the order of :data:`METRICS`."""
        return {name: getattr(self, name) for name in METRICS}


@dataclass
class _Counts:
    """What was seen, for the words in ``skipped`` and ``notes``. Merging sums the fields."""

    photos: int = 0
    unlabelled: int = 0
    without_map: int = 0
    anomalous_without_mask: int = 0
    anomalous_empty_mask: int = 0
    unlabelled_without_mask: int = 0
    maps: int = 0
    masks: int = 0
    regions: int = 0

    def __iadd__(self, other: _Counts) -> _Counts:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self


class Accumulator:
    """Test-set metrics in one pass, exact and mergeable. Use one accumulator a class: pixels pool within it.

    Maps are ranked in the precision that they come in: float64 stays float64, whole numbers and float16 become what holds
    them, as in `ranking.as_scores`.

    Memory: 4 bytes a normal pixel (float32 score) and 8 bytes a defect pixel (float32 score, int32 region
    area) of each added map, 4 more each for float64; masks are not kept. :meth:`compute` sorts the pixels where they are
    and adds about 80 bytes a defect pixel for a moment.
    """

    def __init__(self) -> None:
        self._labels: list[int] = []
        self._scores: list[float] = []
        self._normal: list[FloatArray] = []
        self._defect: list[FloatArray] = []
        self._area: list[NDArray[np.int32]] = []
        self._sizes: set[tuple[int, int]] = set()
        self._counts = _Counts()

    def add(
        self,
        label: int | None,
        score: float,
        map: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        *,
        name: str = "",
    ) -> None:
        """Add one photo. An error leaves the accumulator as it was, so the caller may report it and go on.

        Args:
            label: 0 normal, 1 anomalous, None unknown (left out of the image metrics).
            score: image score, finite, larger = more anomalous.
            map: anomaly map, (H, W), finite, larger = more anomalous; copied in its precision. None: no
                pixel metrics.
            mask: ground truth, (H, W) like the map, non-zero = defect. None counts as no defect for a normal
                photo; an anomalous or unlabelled photo without mask is left out of the pixel metrics, and
                counted.
            name: photo name for error lines; default is its number, from 1.

        Raises:
            PhotoError: a score or map value is NaN or infinite, the map is not 2-D, the mask has another size
                than the map, or a photo labelled normal has defect pixels in its mask.
            DataError: the label is not 0, 1 or None.
        """
        photo = name or f"photo {self._counts.photos + 1}"
        if label is not None and label not in (0, 1):
            raise DataError(f"{photo}: label is {label!r}; it must be 0 (normal), 1 (anomalous) or None (unknown)")
        if not math.isfinite(score):
            raise PhotoError(f"{photo}: its image score is {score}; scores must be finite, leave this photo out")
        seen = _Counts(photos=1, unlabelled=int(label is None))
        if map is None:
            seen.without_map = 1
        elif mask is None and label != 0:
            _check_map(photo, map)
            seen.anomalous_without_mask = int(label == 1)
            seen.unlabelled_without_mask = int(label is None)
        else:
            self._add_pixels(photo, label, _check_map(photo, map), mask, seen)
        if label is not None:
            self._labels.append(int(label))
            self._scores.append(float(score))
        self._counts += seen

    def _add_pixels(
        self,
        photo: str,
        label: int | None,
        anomaly_map: FloatArray,
        mask: ArrayLike | None,
        seen: _Counts,
    ) -> None:
        if mask is None:
            self._normal.append(anomaly_map.flatten())
        else:
            truth = np.asarray(mask)
            if truth.shape != anomaly_map.shape:
                raise PhotoError(
                    f"{photo}: its mask is {_size(truth)} and its anomaly map {_size(anomaly_map)} "
                    "(height x width); resize one to the other before adding"
                )
            parts = split_map(anomaly_map, truth)
            if label == 0 and parts.defect.size:
                raise PhotoError(
                    f"{photo}: it is labelled normal but its mask marks {parts.defect.size} defect pixels; "
                    "correct the label or the mask"
                )
            self._normal.append(parts.normal)
            self._defect.append(parts.defect)
            self._area.append(parts.area)
            seen.masks, seen.regions = 1, parts.n_regions
            seen.anomalous_empty_mask = int(label == 1 and parts.n_regions == 0)
        seen.maps = 1
        self._sizes.add((anomaly_map.shape[0], anomaly_map.shape[1]))

    def merge(self, other: Accumulator) -> None:
        """Take in all photos of another accumulator, which stays usable. The order plays no part."""
        self._labels += other._labels
        self._scores += other._scores
        self._normal += other._normal
        self._defect += other._defect
        self._area += other._area
        self._sizes |= other._sizes
        self._counts += other._counts

    def compute(self) -> Result:
        """Metrics of all photos added so far. More photos may be added afterwards.

        One sort of the normal pixels and one of the defect pixels serve all six pixel metrics.
        """
        skipped: dict[str, str] = {}
        image = rank(np.array(self._labels, dtype=np.uint8), np.array(self._scores, dtype=np.float64))
        if not image.defined:
            skipped |= dict.fromkeys(IMAGE_METRICS, self._why_no_image_metrics(image.n_normal, image.n_anomalous))

        floats = np.result_type(np.float32, *(part.dtype for part in (*self._normal, *self._defect)))
        regions = PooledRegions.from_pixels(
            _join(self._normal, floats),
            _join(self._defect, floats),
            _join(self._area, np.dtype(np.int32)),
            self._counts.regions,
        )
        pixel = regions.ranked
        aupro_200 = regions.aupro_200()
        if not pixel.defined:
            skipped |= dict.fromkeys(PIXEL_METRICS, self._why_no_pixel_metrics(pixel.n_normal, pixel.n_anomalous))
        elif math.isnan(aupro_200):
            skipped["aupro_200"] = (
                "fewer than two distinct false-positive rates below 0.3 at the 200 equally spaced thresholds"
            )
        image_f1, pixel_f1 = image.f1_max(), pixel.f1_max()
        return Result(
            image_auroc=_or_none(image.auroc()),
            image_ap=_or_none(image.average_precision()),
            image_f1_max=_or_none(image_f1[0]),
            image_f1_threshold=_or_none(image_f1[1]),
            pixel_auroc=_or_none(pixel.auroc()),
            pixel_ap=_or_none(pixel.average_precision()),
            pixel_f1_max=_or_none(pixel_f1[0]),
            pixel_f1_threshold=_or_none(pixel_f1[1]),
            aupro_30=_or_none(regions.aupro(0.3)),
            aupro_05=_or_none(regions.aupro(0.05)),
            aupro_200=_or_none(aupro_200),
            skipped=skipped,
            notes=self._notes(),
            n_normal=image.n_normal,
            n_anomalous=image.n_anomalous,
            n_maps=self._counts.maps,
            n_pixels=pixel.n_normal + pixel.n_anomalous,
            n_regions=self._counts.regions,
            map_sizes=tuple(sorted(self._sizes)),
            pro_curve=regions.curve(),
        )

    def _why_no_image_metrics(self, n_normal: int, n_anomalous: int) -> str:
        if not self._counts.photos:
            return "no photos"
        if not n_normal + n_anomalous:
            return f"no labels ({_photos(self._counts.photos)} of unknown label)"
        if not n_anomalous:
            return f"only normal photos ({n_normal})"
        return f"only anomalous photos ({n_anomalous})"

    def _why_no_pixel_metrics(self, n_normal: int, n_defect: int) -> str:
        counts = self._counts
        if not counts.photos:
            return "no photos"
        if counts.without_map == counts.photos:
            return "no anomaly maps"
        if n_defect and not n_normal:
            return "no normal pixels: the masks mark every pixel as defect"
        left_out = counts.anomalous_without_mask + counts.unlabelled_without_mask
        if left_out and not counts.masks:
            return f"no masks ({_photos(left_out)} not labelled normal left out)"
        if 1 not in self._labels and not counts.unlabelled:
            return f"only normal photos ({len(self._labels)})"
        if not counts.masks:
            return "no anomaly map of a photo with a mask"
        return f"no defect pixels in {counts.masks} mask{'' if counts.masks == 1 else 's'}"

    def _notes(self) -> tuple[str, ...]:
        counts = self._counts
        sentences = (
            (counts.unlabelled, "without label left out of the image metrics"),
            (counts.without_map, "without anomaly map left out of the pixel metrics"),
            (counts.anomalous_without_mask, "labelled anomalous without mask left out of the pixel metrics"),
            (counts.unlabelled_without_mask, "without label and mask left out of the pixel metrics"),
            (
                counts.anomalous_empty_mask,
                "labelled anomalous with an empty mask: all pixels count as normal",
            ),
        )
        return tuple(f"{_photos(number)} {words}" for number, words in sentences if number)


def _check_map(photo: str, given: ArrayLike) -> FloatArray:
    """An anomaly map as (H, W) finite floats of at least 32 bits, without a copy where it is that already."""
    anomaly_map = np.asarray(given)
    anomaly_map = anomaly_map.astype(np.result_type(anomaly_map.dtype, np.float32), copy=False)
    if anomaly_map.ndim != 2 or not anomaly_map.size:
        raise PhotoError(
            f"{photo}: its anomaly map has shape {anomaly_map.shape}; it must be (height, width), not empty"
        )
    if not np.isfinite(anomaly_map).all():
        raise PhotoError(
            f"{photo}: in its anomaly map {describe_not_finite(anomaly_map)}; maps must be finite, leave this photo out"
        )
    return anomaly_map


def _join(parts: list[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Concatenate the parts in order and keep only the joined array in the list.

    Each part is released as soon as it is copied, the last one first so that the heap can shrink: pages of
    the joined array that are not written yet take no memory, so the pixels are hardly held twice.
    """
    if len(parts) == 1 and parts[0].dtype == dtype:
        return parts[0]
    end = sum(part.size for part in parts)
    joined: NDArray[Any] = np.empty(end, dtype)
    while parts:
        part = parts.pop()
        joined[end - part.size : end] = part
        end -= part.size
    parts.append(joined)
    return joined


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _photos(number: int) -> str:
    return f"{number} photo" if number == 1 else f"{number} photos"


def _size(array: NDArray[Any]) -> str:
    return " x ".join(str(side) for side in array.shape) or "a single number"

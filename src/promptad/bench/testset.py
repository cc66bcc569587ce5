"""The test photos of one class, encoded once, and the scores and metrics of a fitted detector on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from promptad.bench.protocol import EvalSize
from promptad.calibration.threshold import calibrate
from promptad.clip.vision import concatenate
from promptad.data.photos import read_mask
from promptad.data.records import Record
from promptad.detector import Detector
from promptad.errors import DataError, PhotoError, PromptadError
from promptad.learning.features import Encoder, PhotoFeatures
from promptad.methods.contract import Method, Scores
from promptad.metrics.accumulator import Accumulator, Result
from promptad.metrics.ranking import RankedScores, rank
from promptad.scoring.maps import photo_map

GIB = 1024**3
# Photos that are scored together: enough for the matrix products, few enough for their similarity matrices.
_BATCH = 16

Tick = Callable[[int], None]
Masks = dict[Path, NDArray[np.bool_] | PhotoError]
"""Masks at evaluation size by photo, shared by all test sets of a class; the error where one is unusable."""


def no_tick(_: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Alarms:
    """What a threshold from the good photos alone does on the test photos: counts, and the threshold."""

    threshold: float
    false_alarms: int
    normal: int
    found: int
    anomalous: int


class TestSet:
    """Test photos of one class, encoded for one layout and one request.

    Features are kept in memory up to `keep_bytes`; with a cache on disk the others are read from it again
    for every pass, without one they are all kept.

    Args:
        records: test photos of one class. encoder: of the detector that is evaluated.
        eval_size: side of the square that maps and masks are brought to, or "photo".
        masks: filled here, reused for other encoders of the same class.
        tick: told about every photo that is encoded.

    Attributes:
        problems: one line for every photo or mask that cannot be used. The rest is evaluated.

    Raises:
        DataError: no test photo at all, or none that can be read.
    """

    __test__ = False  # pytest takes the name for a test class

    def __init__(
        self,
        records: Sequence[Record],
        encoder: Encoder,
        eval_size: EvalSize,
        masks: Masks,
        *,
        keep_bytes: int = 2 * GIB,
        tick: Tick = no_tick,
    ) -> None:
        self.encoder, self.eval_size, self.masks = encoder, eval_size, masks
        self.records: list[Record] = []
        self.problems: list[str] = []
        self._kept: dict[Path, PhotoFeatures] = {}
        self.seconds = 0.0
        left = keep_bytes
        for record in records:
            tick(1)
            try:
                photo = encoder.encode_files([record.path])[0]
            except PromptadError as error:  # PhotoError, or DataError where the cache cannot hash the file
                self.problems.append(str(error))
                continue
            self.records.append(record)
            self.seconds += photo.seconds
            if left >= photo.nbytes or encoder.cache is None:
                self._kept[record.path] = photo.to("cpu")
                left -= photo.nbytes
            if record.mask is not None and record.path not in masks:
                masks[record.path] = _mask(record.mask, photo.size, eval_size)
            mask = masks.get(record.path)
            if isinstance(mask, PhotoError):
                self.problems.append(str(mask))
        if not self.records:
            name = records[0].class_name if records else "class"
            found = f"none of the {len(records)} test photos can be read" if records else "no test photos"
            first = f" (first: {self.problems[0]})" if self.problems else ""
            raise DataError(f"{name}: {found}{first}; expected some in test/<type>; add them or leave the class out")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def has_masks(self) -> bool:
        """Whether pixel metrics exist: some photo has a usable mask with defect pixels in it."""
        return any(mask is not None and bool(mask.any()) for mask in map(self.mask, self.records))

    def mask(self, record: Record) -> NDArray[np.bool_] | None:
        """The photo's mask at evaluation size, or None."""
        mask = self.masks.get(record.path)
        return None if isinstance(mask, PhotoError) else mask

    def photos(self) -> Iterator[PhotoFeatures]:
        """Features in the order of `records`."""
        for record in self.records:
            kept = self._kept.get(record.path)
            yield kept if kept is not None else self.encoder.encode_files([record.path])[0]

    def scores(
        self, detector: Detector, *, maps: bool = True, tick: Tick = no_tick
    ) -> Iterator[tuple[Record, float, NDArray[np.float32] | None]]:
        """Record, image score and (with `maps`) map at evaluation size of every photo."""
        size = None if self.eval_size == "photo" else (self.eval_size, self.eval_size)
        photos = self.photos()
        for start in range(0, len(self.records), _BATCH):
            batch = [next(photos) for _ in self.records[start : start + _BATCH]]
            judged = judge(detector, batch)
            for record, photo, (score, patch_maps) in zip(self.records[start:], batch, judged, strict=False):
                yield record, score, _map(detector, photo, patch_maps, size) if maps else None
                tick(1)

    def measure(
        self, detector: Detector, threshold: float | None = None, tick: Tick = no_tick
    ) -> tuple[Result, Alarms | None]:
        """All metrics of a fitted detector, and what a threshold does."""
        accumulator = Accumulator()
        normal: list[float] = []
        anomalous: list[float] = []
        for record, score, anomaly_map in self.scores(detector, tick=tick):
            accumulator.add(record.label, score, anomaly_map, self.mask(record), name=str(record.path))
            if record.label is not None:
                (anomalous if record.label else normal).append(score)
        alarms = None
        if threshold is not None:
            above = [sum(score > threshold for score in scores) for scores in (normal, anomalous)]
            alarms = Alarms(threshold, above[0], len(normal), above[1], len(anomalous))
        return accumulator.compute(), alarms

    def aurocs(self, detector: Detector) -> dict[str, float]:
        """Image and pixel AUROC only, as :meth:`measure` gives them; NaN where undefined."""
        labels: list[int] = []
        values: list[float] = []
        normal: list[NDArray[np.float32]] = []
        defect: list[NDArray[np.float32]] = []
        for record, score, anomaly_map in self.scores(detector, maps=self.has_masks):
            if record.label is not None:
                labels.append(record.label)
                values.append(score)
            if anomaly_map is None:
                continue
            mask = self.mask(record)
            if mask is not None:
                normal.append(anomaly_map[~mask])
                defect.append(anomaly_map[mask])
            elif record.label == 0:
                normal.append(anomaly_map.ravel())
        pixel = float("nan")
        if normal and defect:
            pixel = RankedScores.from_groups(np.concatenate(normal), np.concatenate(defect)).auroc()
        image = rank(np.array(labels, np.uint8), np.array(values, np.float64)).auroc()
        return {"image": image, "pixel": pixel}


# -- scoring -------------------------------------------------------------------------------------------------


def judge(
    detector: Detector, photos: Sequence[PhotoFeatures], *, leave_out: int | None = None
) -> list[tuple[float, list[torch.Tensor | None]]]:
    """Image score and patch maps (h, w) of the views of every photo, scored in batches of views of one shape.

    The same values as `Detector.predict_features` gives photo by photo.
    """
    device = detector.backbone.device
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, photo in enumerate(photos):
        for which, view in enumerate(photo.features):
            groups.setdefault(view.grid, []).append((number, which))
    found: dict[tuple[int, int], tuple[float, torch.Tensor | None]] = {}
    for members in groups.values():
        for start in range(0, len(members), _BATCH):
            batch = members[start : start + _BATCH]
            views = concatenate([photos[i].features[n].to(device) for i, n in batch])
            scores: Scores = detector.method.score(views, leave_out=leave_out)
            images = scores.image.tolist()
            maps = None if scores.map is None else scores.map.cpu()
            for row, key in enumerate(batch):
                found[key] = images[row], None if maps is None else maps[row]
    out = []
    for number, photo in enumerate(photos):
        views_found = [found[number, which] for which in range(len(photo.features))]
        values = [value for value, _ in views_found]
        score = max(values) if detector.config.view_score == "max" else sum(values) / len(values)
        out.append((score, [one for _, one in views_found]))
    return out


@contextmanager
def scoring_parts(method: Method, parts: str) -> Iterator[None]:
    """Inside, the method scores with these parts alone; what it learned is shared. "" changes nothing."""
    before = method.config
    method.config = replace(before, parts=parts) if parts else before
    try:
        yield
    finally:
        method.config = before


def threshold_from(detector: Detector, good: Sequence[PhotoFeatures]) -> float | None:
    """The threshold from the good photos alone, each compared with the others; None for fewer than two."""
    if len(good) < 2:
        return None
    scores = [judge(detector, [photo], leave_out=index)[0][0] for index, photo in enumerate(good)]
    # The image threshold does not depend on the maps; the scores stand in for their peaks.
    return calibrate(
        scores, scores, scores, "leave-one-out", kind=detector.entry.kind_of(detector.method.config)
    ).threshold


def _map(
    detector: Detector, photo: PhotoFeatures, maps: list[torch.Tensor | None], size: tuple[int, int] | None
) -> NDArray[np.float32] | None:
    known = [one for one in maps if one is not None]
    if len(known) < len(maps):
        return None
    return photo_map(
        photo.views,
        known,
        photo.size,
        square=detector.preprocess.size // detector.preprocess.patch,
        map_size=detector.config.map_size,
        sigma=detector.config.smoothing,
        out_size=size,
    )


def _mask(path: Path, photo_size: tuple[int, int], eval_size: EvalSize) -> NDArray[np.bool_] | PhotoError:
    """The mask at evaluation size, nearest neighbour as in the released codes, or why it cannot be used."""
    try:
        mask = read_mask(path, photo_size)
    except PhotoError as error:
        return error
    if eval_size == "photo":
        return mask
    # Nearest to the centre of each new pixel, in whole numbers so that no rounding decides on a tie.
    rows, columns = ((2 * np.arange(eval_size) + 1) * side // (2 * eval_size) for side in mask.shape)
    nearest: NDArray[np.bool_] = mask[np.ix_(rows, columns)]
    return nearest

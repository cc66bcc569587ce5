"""The test photos of one class, encoded once, and the scores and metrics of a fitted detector on them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from promptad.bench.conventions import Conventions
from promptad.bench.masks import Mask, Masks, evaluated_box, evaluated_mask, pixel_spans, seen_box
from promptad.bench.saturated import SaturatedSet
from promptad.calibration.threshold import calibrate
from promptad.clip.features import concatenate
from promptad.clip.preprocess import View
from promptad.data.parts import PhotoRef
from promptad.data.photos import read_photo
from promptad.data.records import Record
from promptad.detector import Detector
from promptad.errors import DataError, PhotoError, PromptadError
from promptad.inputs import argument
from promptad.learning.features import GIB, Encoder, PhotoFeatures
from promptad.methods.contract import Method, Scores
from promptad.metrics.accumulator import Accumulator, Result
from promptad.metrics.ranking import RankedScores, rank
from promptad.notices import notice
from promptad.scoring.maps import photo_map, smooth_map, upsample, values_a_patch

KEEP_BYTES = 2 * GIB
"""Features of one class that are kept in memory, unless more are asked for."""
# Photos that are scored together: enough for the matrix products, few enough for their similarity matrices.
_BATCH = 16

Tick = Callable[[int], None]


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


@dataclass(frozen=True)
class Measured:
    """What a fitted detector reached on a test set: metrics, what a threshold does, and (R,) scores in the records' order.

    `saturated`: of MVTec LOCO AD, the columns of `bench.saturated`; `skipped`: those of them that are missing, and why.
    """

    result: Result
    alarms: Alarms | None
    scores: list[float]
    notes: tuple[str, ...] = ()
    saturated: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


class TestSet:
    """Test photos of one class, encoded for one layout and one request, and compared as `conventions` say.

    Features are kept in memory up to `keep_bytes`; with a cache on disk the others are read from it again
    for every pass, without one they are all kept. Where that limit is reached, it is said.

    Args:
        records: test photos of one class. encoder: for the layout and the request.
        masks: filled here, reused for other test sets of the same class.
        tick: told about every photo that is encoded. first: the one that is encoded first.

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
        conventions: Conventions,
        masks: Masks,
        *,
        keep_bytes: int = KEEP_BYTES,
        tick: Tick = no_tick,
        first: int = 0,
    ) -> None:
        self.encoder, self.conventions, self.masks = encoder, conventions, masks
        self.records: list[Record] = []
        self.unreadable: list[str] = []
        self._kept: dict[PhotoRef, PhotoFeatures] = {}
        self._layouts: dict[PhotoRef, tuple[tuple[int, int], list[View]]] = {}
        self._whole: dict[PhotoRef, torch.Tensor] = {}
        self.seconds = 0.0
        left = keep_bytes
        readable, unreadable = set(), {}
        for record in [*records[first:], *records[:first]]:
            tick(1)
            try:
                photo = encoder.encode_files([record.photo])[0]
            except PromptadError as error:  # PhotoError, or DataError where the cache cannot hash the file
                unreadable[record.photo] = str(error)
                continue
            readable.add(record.photo)
            self.seconds += photo.seconds
            small = photo.to("cpu").narrowed()
            if left >= small.nbytes or encoder.cache is None:
                self._kept[record.photo] = small
                left -= small.nbytes
            self._layouts[record.photo] = photo.size, photo.views
            self._whole[record.photo] = _image_features(photo)
        self.records = [record for record in records if record.photo in readable]
        self.unreadable = [unreadable[record.photo] for record in records if record.photo in unreadable]
        if not self.records:
            name = records[0].class_name if records else "class"
            what = f"none of the {len(records)} test photos can be read" if records else "no test photos"
            example = f" (first: {self.unreadable[0]})" if self.unreadable else ""
            raise DataError(f"{name}: {what}{example}; expected some in test/<type>; add them or leave the class out")
        self._say_limit(keep_bytes)

    def _say_limit(self, keep_bytes: int) -> None:
        over, cache = len(self.records) - len(self._kept), self.encoder.cache
        if over and cache is not None:
            notice(
                f"{self.records[0].class_name}: the features of {over} of {len(self.records)} test photos are more than the "
                f"{keep_bytes / GIB:g} GiB kept in memory and are read again from {cache.folder} for every pass; "
                f"{argument('feature_memory')} keeps more"
            )

    def __len__(self) -> int:
        return len(self.records)

    def under(self, conventions: Conventions) -> TestSet:
        """The same photos and features, compared by other conventions."""
        other = copy.copy(self)
        other.conventions = conventions
        return other

    def without(self, paths: Collection[PhotoRef]) -> TestSet:
        """The same without some photos."""
        if not paths:
            return self
        other = copy.copy(self)
        other.records = [record for record in self.records if record.photo not in paths]
        if not other.records:
            raise DataError(
                f"{self.records[0].class_name}: every test photo is one of the good photos that are learned from"
            )
        return other

    def copies_of(self, path: PhotoRef, photo: PhotoFeatures) -> list[PhotoRef]:
        """Test photos whose pixels are those of another photo, whatever the files; `photo` is that one, encoded as they are.

        Features tell which photos may be equal, the pixels decide.
        """
        own, copies = _image_features(photo), []
        for record in self.records:
            other = self._whole[record.photo]
            if self._layouts[record.photo][0] != photo.size or not torch.allclose(own, other, rtol=1e-3, atol=1e-4):
                continue
            if record.photo == path or np.array_equal(read_photo(record.photo), read_photo(path)):
                copies.append(record.photo)
        return copies

    @property
    def problems(self) -> list[str]:
        """One line for every photo or mask that cannot be used."""
        masks = [self._loaded(record) for record in self.records]
        return [*self.unreadable, *(str(mask) for mask in masks if isinstance(mask, PhotoError))]

    @property
    def has_masks(self) -> bool:
        """Whether pixel metrics exist: some photo has a usable mask with defect pixels in it."""
        return any(mask is not None and bool(mask.any()) for mask in map(self.mask, self.records))

    def mask(self, record: Record) -> Mask | None:
        """The photo's mask at evaluation size, or None."""
        mask = self._loaded(record)
        return None if isinstance(mask, PhotoError) else mask

    def _loaded(self, record: Record) -> Mask | PhotoError | None:
        if record.mask is None:
            return None
        size, views = self._layouts[record.photo]
        box = evaluated_box(views, size, self.conventions)
        key = (record.photo, self.conventions.eval_size, self.conventions.masks, box)
        if key not in self.masks:
            self.masks[key] = evaluated_mask(record.mask, size, self.conventions, box)
        return self.masks[key]

    def photos(self) -> Iterator[PhotoFeatures]:
        """Features in the order of `records`."""
        for record in self.records:
            kept = self._kept.get(record.photo)
            yield kept.widened() if kept is not None else self.encoder.encode_files([record.photo])[0]

    def scores(
        self, detector: Detector, *, maps: bool = True, tick: Tick = no_tick
    ) -> Iterator[tuple[Record, float, NDArray[np.float32] | None]]:
        """Record, image score and (with `maps`) map at evaluation size of every photo."""
        photos = self.photos()
        for start in range(0, len(self.records), _BATCH):
            batch = [next(photos) for _ in self.records[start : start + _BATCH]]
            judged = judge(detector, batch)
            for record, photo, (score, patch_maps) in zip(self.records[start:], batch, judged, strict=False):
                yield record, score, evaluated_map(detector, photo, patch_maps, self.conventions) if maps else None
                tick(1)

    def measure(self, detector: Detector, threshold: float | None = None, tick: Tick = no_tick) -> Measured:
        """All metrics of a fitted detector, and what a threshold does."""
        accumulator, saturated = Accumulator(), SaturatedSet(self.records, self.conventions)
        normal: list[float] = []
        anomalous: list[float] = []
        scores: list[float] = []
        for record, score, anomaly_map in self.scores(detector, tick=tick):
            accumulator.add(record.label, score, anomaly_map, self.mask(record), name=str(record.photo))
            saturated.add(record, score, anomaly_map)
            scores.append(score)
            if record.label is not None:
                (anomalous if record.label else normal).append(score)
        alarms = None
        if threshold is not None:
            above = [sum(score > threshold for score in group) for group in (normal, anomalous)]
            alarms = Alarms(threshold, above[0], len(normal), above[1], len(anomalous))
        result = accumulator.compute()
        unseen = self._unseen() if result.n_maps else ()
        return Measured(result, alarms, scores, unseen, saturated.compute(), saturated.skipped)

    def _unseen(self) -> tuple[str, ...]:
        """What is counted though no view looked at it."""
        shares = []
        for record in self.records:
            size, views = self._layouts[record.photo]
            if len(views) == 1 and not evaluated_box(views, size, self.conventions):
                box = seen_box(views[0], size)
                shares.append(1 - (box[2] - box[0]) * (box[3] - box[1]) / (size[0] * size[1]) if box else 0.0)
        if not any(shares):
            return ()
        return (
            f"up to {max(shares):.0%} of a photo lies outside the centre crop and counts with its map's smallest value; "
            f"{argument('convention', 'pixels=inspected')} leaves it out",
        )

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
    judged: dict[tuple[int, int], tuple[float, torch.Tensor | None]] = {}
    for members in groups.values():
        for start in range(0, len(members), _BATCH):
            batch = members[start : start + _BATCH]
            views = concatenate([photos[i].features[n].to(device) for i, n in batch])
            scores: Scores = detector.method.score(views, leave_out=leave_out)
            images = scores.image.tolist()
            maps = None if scores.map is None else scores.map.cpu()
            for row, key in enumerate(batch):
                judged[key] = images[row], None if maps is None else maps[row]
    out = []
    for number, photo in enumerate(photos):
        of_views = [judged[number, which] for which in range(len(photo.features))]
        values = [value for value, _ in of_views]
        score = max(values) if detector.config.view_score == "max" else sum(values) / len(values)
        out.append((score, [patch_map for _, patch_map in of_views]))
    return out


def _image_features(photo: PhotoFeatures) -> torch.Tensor:
    return torch.cat([view.image.flatten() for view in photo.features]).cpu()


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
    kind = detector.entry.kind_of(detector.method.config)
    return calibrate(scores, scores, scores, "leave-one-out", kind=kind, method=detector.method.name).threshold


def evaluated_map(
    detector: Detector, photo: PhotoFeatures, maps: list[torch.Tensor | None], conventions: Conventions
) -> NDArray[np.float32] | None:
    """The map at evaluation size, of the part of the photo that counts; None for methods without maps."""
    known = [patch_map for patch_map in maps if patch_map is not None]
    if len(known) < len(maps):
        return None
    size = None if conventions.eval_size == "photo" else (conventions.eval_size, conventions.eval_size)
    config, side = detector.config, detector.preprocess.size // detector.backbone.sizes.vision.stride
    square = side * values_a_patch(known[0], photo.features[0].grid)
    box = evaluated_box(photo.views, photo.size, conventions)
    if box is not None:
        (top, bottom), (left, right) = pixel_spans(box)
        smooth = smooth_map(known[0], square, config.map_size, config.smoothing)
        inside = upsample(smooth, size or (bottom - top, right - left)).cpu().numpy()
        return np.ascontiguousarray(inside, dtype=np.float32)
    return photo_map(
        photo.views,
        known,
        photo.size,
        square=square,
        map_size=config.map_size,
        sigma=config.smoothing,
        out_size=size,
    )

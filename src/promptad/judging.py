"""One photo under a method: the scores of its views, and what they say of the whole photo."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from promptad.annotations import check_arguments, shortened
from promptad.calibration.ladder import Judged
from promptad.calibration.threshold import Calibration, by_hand
from promptad.clip.backbone import Backbone
from promptad.clip.preprocess import Preprocess
from promptad.data.files import shown
from promptad.data.folder import each_photo, is_folder
from promptad.data.inspected_area import InspectedArea
from promptad.errors import ConfigError, PromptadError
from promptad.inputs import setting
from promptad.learning.features import Encoder, PhotoFeatures
from promptad.methods.contract import Method, Scores, WordScores
from promptad.methods.registry import Entry
from promptad.methods.settings import ScoringConfig, config_words
from promptad.methods.state import require_learned
from promptad.notices import notice
from promptad.prediction import DefectWord, Prediction
from promptad.prompts.words import WordsInUse
from promptad.scoring.maps import inspected_pixels, photo_map, values_a_patch
from promptad.scoring.place_words import PlaceWords, ViewWords
from promptad.scoring.regions import RegionRule

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class JudgedViews:
    """A photo's features and, for each of its views, a batch of one in `scores`."""

    photo: PhotoFeatures
    scores: Sequence[Scores]

    @classmethod
    def of(cls, method: Method, photo: PhotoFeatures, *, leave_out: int | None = None) -> JudgedViews:
        """Scores every view; `leave_out` as in `Method.score`."""
        return cls(photo, [method.score(features, leave_out=leave_out) for features in photo.features])

    def score(self, view_score: Literal["max", "mean"]) -> float:
        """The anomaly score of the whole photo: the largest of its views', or their mean."""
        values = [float(scores.image[0]) for scores in self.scores]
        return max(values) if view_score == "max" else sum(values) / len(values)

    @property
    def deciding(self) -> Scores:
        """Those of the view with the highest score."""
        return self.scores[self._deciding]

    @property
    def _deciding(self) -> int:
        return max(range(len(self.scores)), key=lambda number: float(self.scores[number].image[0]))

    def inspected(self, size: tuple[int, int], area: InspectedArea | None) -> NDArray[np.bool_] | None:
        """Where at `size` (H, W) the photo was looked at: by some view, and in the area; None for everywhere."""
        seen = inspected_pixels(self.photo.views, self.photo.size, size)
        if area is None:
            return seen
        inside = area.at(size)
        # A view that was left out may hold slivers of the area; a photo of which nothing is looked at there is none.
        both = inside if seen is None or not (seen & inside).any() else seen & inside
        return None if both.all() else both

    def map(
        self, config: ScoringConfig, square: int, size: tuple[int, int], area: InspectedArea | None = None
    ) -> NDArray[np.float32] | None:
        """The anomaly map of the whole photo at `size` (H, W), float32; None for a method without maps.

        Args:
            config: says how it is smoothed. square: patches along the side of a square input. area: outside, the map holds its smallest value inside.
        """
        maps = [scores.map[0] for scores in self.scores if scores.map is not None]
        if len(maps) < len(self.scores):
            return None
        values = photo_map(
            self.photo.views,
            maps,
            self.photo.size,
            square=square * values_a_patch(maps[0], self.photo.features[0].grid),
            map_size=config.map_size,
            sigma=config.smoothing,
            out_size=size,
        )
        if area is not None and (inside := self.inspected(size, area)) is not None:
            values[~inside] = values.min(where=inside, initial=np.inf)
        return values

    def defects(self, method: Method) -> tuple[DefectWord, ...]:
        """Defect words of the deciding view and its hottest patch, most probable first; () for a method without words."""
        ranked = method.words(self.photo.features[self._deciding])
        if ranked is None:
            return ()
        names, whole, patches = _merged(ranked)
        region = None if patches is None else patches[self._hottest_patch()]
        order = np.argsort(-(whole if region is None else whole + region), kind="stable")
        return tuple(
            DefectWord(names[number], float(whole[number]), None if region is None else float(region[number]))
            for number in order
        )

    def place_words(self, method: Method) -> PlaceWords | None:
        """The words that fit each patch best, by the photo's probability and the patch's together as in :meth:`defects`; None for a
        method that compares no patches with words."""
        views, names = list[ViewWords](), tuple[str, ...]()
        decided = method.words(self.photo.features[self._deciding])
        if decided is None or decided.patches is None:
            return None
        whole = _merged(decided)[1]
        for number, (view, features) in enumerate(zip(self.photo.views, self.photo.features, strict=True)):
            ranked = decided if number == self._deciding else method.words(features)
            if ranked is None:
                return None
            names, _, patches = _merged(ranked)
            if patches is None:
                return None
            best = np.argmax(patches + whole, axis=1)
            share = np.take_along_axis(patches, best[:, None], axis=1)[:, 0]
            grid = features.grid
            views.append(ViewWords(view.region, best.astype(np.int16).reshape(grid), share.reshape(grid)))
        return PlaceWords(names, views)

    def _hottest_patch(self) -> int:
        """Index of the patch of the deciding view, on the grid of CLIP's tower, in which its map is largest; 0 without map."""
        values = self.deciding.map
        if values is None:
            return 0
        row, column = divmod(int(values[0].argmax()), values.shape[2])
        height, width = self.photo.features[self._deciding].grid
        # The middle of a value of the map, which may be finer than the grid, or that of another tower.
        row, column = int((row + 0.5) * height / values.shape[1]), int((column + 0.5) * width / values.shape[2])
        return row * width + column


def _merged(ranked: WordScores) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32] | None]:
    """Different words, their probabilities for the view (S,), and for its patches (T, S): a source may list the same words twice, and
    their probabilities belong together."""
    names = tuple(dict.fromkeys(ranked.words))
    place = {name: number for number, name in enumerate(names)}
    joined = np.zeros((len(ranked.words), len(names)), np.float32)
    joined[np.arange(len(ranked.words)), [place[name] for name in ranked.words]] = 1
    patches = None if ranked.patches is None else ranked.patches[0].float().cpu().numpy() @ joined
    return names, ranked.image[0].float().cpu().numpy() @ joined, patches


def judge_good(
    method: Method,
    photo: PhotoFeatures,
    leave_out: int | None,
    config: ScoringConfig,
    square: int,
    area: InspectedArea | None = None,
) -> Judged:
    """What a threshold needs of a photo: its score, and the peak and the 0.99 quantile of its map where it is looked at, at a coarse size."""
    views = JudgedViews.of(method, photo, leave_out=leave_out)
    size = _coarse(photo.size)
    values = views.map(config, square, size, area)
    score = views.score(config.view_score)
    if values is None:
        return Judged(score)
    inside = None if area is None else views.inspected(size, area)
    looked = values if inside is None else values[inside]
    return Judged(score, float(looked.max()), float(np.quantile(looked, 0.99)))


def _name(item: PhotoLike) -> str:
    """A photo's path for messages; "" for one that lies in no file."""
    return shown(item) if isinstance(item, str | Path) else ""


def _coarse(size: tuple[int, int], edge: int = 512) -> tuple[int, int]:
    """The photo's shape with a long edge of at most `edge` pixels: enough for peaks of a smooth map."""
    factor = min(1.0, edge / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


PhotoLike: TypeAlias = "str | Path | Image | NDArray[Any]"
"""A path, a Pillow image, or an array (H, W[, C]), RGB: what `data.photos.as_photo` takes."""


class Judge:
    """What judges photos: the half of `Detector` that needs no good photo and writes no file."""

    method: Method
    entry: Entry
    config: Any
    preset: str
    object: str
    backbone: Backbone
    encoder: Encoder
    preprocess: Preprocess
    calibration: Calibration | None
    region_rule: RegionRule
    _fitted: bool

    @overload
    def predict(self, photos: PhotoLike, *, maps: bool = True) -> Prediction: ...

    @overload
    def predict(self, photos: list[PhotoLike] | tuple[PhotoLike, ...], *, maps: bool = True) -> list[Prediction]: ...

    def predict(
        self, photos: PhotoLike | list[PhotoLike] | tuple[PhotoLike, ...], *, maps: bool = True
    ) -> Prediction | list[Prediction]:
        """Judges one photo (gives a :class:`Prediction`) or a list of photos and folders (gives a list of them).

        Args:
            photos: path, Pillow image, array (H, W, 3) uint8 RGB, or a list of these, in which a folder stands for its
                photos.
            maps: off leaves the anomaly maps out, which saves memory for large photos.

        Raises:
            PhotoError: a photo cannot be read; use :meth:`predict_each` to go on after one. ConfigError: a folder alone.
        """
        if isinstance(photos, list | tuple):
            return [self._predict_one(item, maps) for item in each_photo(photos)]
        if is_folder(photos):
            raise ConfigError(f"{shown(str(photos))}: is a folder; predict([folder]) gives a list with its photos")
        return self._predict_one(photos, maps)

    def predict_each(self, photos: Iterable[PhotoLike], *, maps: bool = True) -> Iterator[Prediction | PromptadError]:
        """Judges photos one after the other; a photo that cannot be judged gives its error instead of a prediction.

        Raises:
            ConfigError: one photo instead of several.
        """
        if isinstance(photos, str | Path) or not isinstance(photos, Iterable):
            raise ConfigError(
                f"predict_each takes several photos; got {shortened(photos)}; put it in a list, or use predict"
            )
        return self._each_prediction(photos, maps)

    def _each_prediction(self, photos: Iterable[PhotoLike], maps: bool) -> Iterator[Prediction | PromptadError]:
        for item in photos:
            try:
                yield self._predict_one(item, maps)
            except PromptadError as error:
                yield error

    def _predict_one(self, item: PhotoLike, maps: bool) -> Prediction:
        began = time.perf_counter()
        photo = self.encoder.read(item) if not (self.encoder.cache and isinstance(item, str | Path)) else None
        read = time.perf_counter()
        features = self.encoder.encode([photo], name=_name(item))[0] if photo is not None else self.encode(item)
        encoded = time.perf_counter()
        result = self.predict_features(features, path=Path(item) if isinstance(item, str | Path) else None, maps=maps)
        result.timings.update(read=read - began, encode=encoded - read, score=time.perf_counter() - encoded)
        return result

    def predict_features(
        self,
        photo: PhotoFeatures,
        *,
        path: Path | None = None,
        maps: bool = True,
        map_size: tuple[int, int] | None = None,
    ) -> Prediction:
        """The prediction for features that were encoded already.

        Args:
            map_size: (H, W) of the map instead of the photo's own; the prediction's size is then that one.
        """
        require_learned(self._fitted)
        views = JudgedViews.of(self.method, photo)
        size = map_size or photo.size
        calibration, score = self.calibration, views.score(self.config.view_score)
        inspected = views.inspected(size, self.area)
        if inspected is not None and self.area is None:
            notice(
                f"fit={self.config.fit} looks at the middle of photos that are not square; the rest is marked as not "
                f"inspected (Prediction.inspected); {setting('fit', 'letterbox')} or {setting('fit', 'tiles')} looks at everything"
            )
        return Prediction(
            path=path,
            score=score,
            p_value=calibration.p_value(score) if calibration else None,
            threshold=calibration.threshold if calibration else None,
            map=views.map(self.config, self._square, size, self.area) if maps else None,
            map_threshold=calibration.map_threshold if calibration else None,
            defects=views.defects(self.method),
            size=size,
            backbone=self.backbone.identity,
            method=f"{self.entry.title}, preset {self.preset}",
            parts={name: float(value[0]) for name, value in views.deciding.parts.items()},
            inspected=inspected,
            rule=self.region_rule,
            places=views.place_words(self.method) if maps else None,
        )

    def judged(self, photo: PhotoFeatures, leave_out: int | None = None) -> Judged:
        """What a threshold needs of a photo; `leave_out` is its number where it is a good photo that was learned from."""
        return judge_good(self.method, photo, leave_out, self.config, self._square, self.area)

    # -- the threshold, without scoring a photo again -----------------------------------------------------------------

    def set_false_alarms(self, rate: float) -> Self:
        """Moves the threshold to another rate of false alarms; scores stay as they are.

        Predictions that were made before follow with :meth:`Prediction.judged_by`.

        Raises:
            ConfigError: no good photo is known, or a rate that is none or smaller than the good photos allow.
        """
        check_arguments({"rate": float}, {"rate": rate})
        if self.calibration is None:
            raise ConfigError("there is no threshold to move; fit the detector with good photos first")
        self.calibration = self.calibration.at_rate(rate)
        return self

    def set_threshold(self, threshold: float) -> Self:
        """Sets the threshold by hand; scores stay as they are. Works without good photos too.

        Raises:
            ConfigError: no finite number.
        """
        check_arguments({"threshold": float}, {"threshold": threshold})
        known = self.calibration
        self.calibration = (
            known.with_threshold(threshold) if known else by_hand(threshold, self.entry.map_range_of(self.config))
        )
        return self

    def set_region_false_alarms(self, rate: float) -> Self:
        """Moves the pixel threshold, above which a place is a region; scores and verdicts stay as they are.

        Args:
            rate: share of further good photos that may have a region.

        Raises:
            ConfigError: no map of a good photo is known, or a rate that is none or smaller than the good photos allow.
        """
        check_arguments({"rate": float}, {"rate": rate})
        if self.calibration is None:
            raise ConfigError("there is no pixel threshold to move; fit the detector with good photos first")
        self.calibration = self.calibration.at_map_rate(rate)
        return self

    def set_map_threshold(self, level: float) -> Self:
        """Sets the pixel threshold by hand; scores and verdicts stay as they are.

        Raises:
            ConfigError: no finite number, or there is no calibration that holds it: set a threshold first.
        """
        check_arguments({"level": float}, {"level": level})
        if self.calibration is None:
            raise ConfigError("there is no threshold yet; fit the detector with good photos, or set one by hand first")
        self.calibration = self.calibration.with_map_threshold(level)
        return self

    def set_regions(self, *, least_area: int | None = None, scale: float | None = None) -> Self:
        """Says what counts as a region; scores and thresholds stay as they are. What is None stays as it is.

        Args:
            least_area: in photo pixels; smaller places above the pixel threshold are no regions. scale: millimetres that a photo pixel is wide.

        Raises:
            ConfigError: a least area below 1, or a scale that is not above 0.
        """
        known = self.region_rule
        self.region_rule = RegionRule(
            known.least_area if least_area is None else least_area, known.scale if scale is None else scale
        )
        return self

    # -- features -----------------------------------------------------------------------------------------------------

    def encode(self, item: PhotoLike, *, reference: bool = False) -> PhotoFeatures:
        """The frozen features of one photo, for :meth:`predict_features`; `reference` marks a good one for `fit_features`."""
        if self.encoder.cache and isinstance(item, str | Path):
            return self.encoder.encode_files([Path(item)], learned=reference)[0]
        return self.encoder.encode([self.encoder.read(item)], learned=reference, name=_name(item))[0]

    @property
    def area(self) -> InspectedArea | None:
        """Where photos are looked at; None for everywhere."""
        return self.encoder.area

    @property
    def words(self) -> WordsInUse:
        """The defect words that results are put in, and where each comes from."""
        return config_words(self.object, self.config)

    @property
    def _square(self) -> int:
        """Patches along the side of a square input."""
        return self.preprocess.size // self.backbone.sizes.vision.stride

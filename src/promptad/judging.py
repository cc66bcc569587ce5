"""One photo under a method: the scores of its views, and what they say of the whole photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from promptad.calibration.ladder import Judged
from promptad.learning.features import PhotoFeatures
from promptad.methods.contract import Method, Scores
from promptad.methods.settings import ScoringConfig
from promptad.prediction import DefectWord
from promptad.scoring.maps import photo_map


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

    def map(self, config: ScoringConfig, square: int, size: tuple[int, int]) -> NDArray[np.float32] | None:
        """The anomaly map of the whole photo at `size` (H, W), float32; None for a method without maps.

        Args:
            config: says how it is smoothed. square: patches along the side of a square input.
        """
        maps = [scores.map[0] for scores in self.scores if scores.map is not None]
        if len(maps) < len(self.scores):
            return None
        return photo_map(
            self.photo.views,
            maps,
            self.photo.size,
            square=square,
            map_size=config.map_size,
            sigma=config.smoothing,
            out_size=size,
        )

    def defects(self, method: Method) -> tuple[DefectWord, ...]:
        """Defect words of the deciding view and its hottest patch, most probable first; () for a method without words."""
        ranked = method.words(self.photo.features[self._deciding])
        if ranked is None:
            return ()
        values = self.deciding.map
        hottest = 0 if values is None else int(values[0].flatten().argmax())
        region = None if ranked.patches is None else ranked.patches[0, hottest].tolist()
        # A source may list the same words twice: their probabilities belong together.
        shares: dict[str, list[float]] = {}
        for number, words in enumerate(ranked.words):
            share = shares.setdefault(words, [0.0, 0.0])
            share[0] += float(ranked.image[0, number])
            share[1] += region[number] if region else 0.0
        ordered = sorted(shares.items(), key=lambda entry: sum(entry[1]), reverse=True)
        return tuple(DefectWord(words, whole, part if region else None) for words, (whole, part) in ordered)


def judge_good(
    method: Method, photo: PhotoFeatures, leave_out: int | None, config: ScoringConfig, square: int
) -> Judged:
    """What a threshold needs of a photo: its score, and the peak and the 0.99 quantile of its map, at a coarse size."""
    views = JudgedViews.of(method, photo, leave_out=leave_out)
    values = views.map(config, square, _coarse(photo.size))
    score = views.score(config.view_score)
    return Judged(score) if values is None else Judged(score, float(values.max()), float(np.quantile(values, 0.99)))


def _coarse(size: tuple[int, int], edge: int = 512) -> tuple[int, int]:
    """The photo's shape with a long edge of at most `edge` pixels: enough for peaks of a smooth map."""
    factor = min(1.0, edge / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

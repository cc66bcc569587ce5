"""What the detector says about one photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptad.data.files import shown
from promptad.errors import PhotoError
from promptad.scoring.place_words import PlaceWords
from promptad.scoring.regions import EVERY_PIXEL, Region, RegionRule, find_regions, joined_mask

if TYPE_CHECKING:
    from promptad.calibration.threshold import Calibration

Verdict = Literal["anomalous", "normal", "no threshold"]

RESULT_VERSION = 2
"""Version of the schema that :meth:`Prediction.to_dict` and the lines of a run's ``results.jsonl`` share."""


@dataclass(frozen=True, slots=True)
class DefectWord:
    """How well one defect description fits one photo.

    Attributes:
        words: the description as the user or the bank of words gave it ("deep scratch").
        image_probability: probability of the words for the whole photo, 0 to 1.
        region_probability: probability of the words for the hottest region of the photo, 0 to 1; None for methods that
            compare no regions with words.
    """

    words: str
    image_probability: float
    region_probability: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The result for one photo: score, verdict, anomaly map at photo size, and defect words.

    Two predictions are equal only when they are the same object, because comparing maps has no single answer.

    Attributes:
        path: the photo, or None when pixels were given.
        score: image-level anomaly score; larger = more anomalous. Its range depends on the method; finite.
        threshold: a score above it is anomalous; None when nothing was calibrated.
        map: anomaly map, (H, W) float32 at the photo's own size, larger = more anomalous; None when the
            method gives no map or none was asked for.
        map_threshold: the pixel level above which no good photo went; None when unknown.
        inspected: (H, W) bool, True where the photo was looked at; None when that is everywhere. Outside, the map holds
            its smallest value inside, which says nothing about the part.
        p_value: share of good photos that score so high, itself among them (`calibration.p_values`); None where no different good photos
            are known.
        defects: defect words, most probable first; empty when no words were given.
        size: (H, W) of the photo in pixels, as a person sees it (EXIF orientation applied).
        timings: seconds for each step ("read", "encode", "score"); an entry "total", if there, is the whole.
        backbone: name of the frozen image-text model.
        method: name of the method.
        parts: the terms that the score was made of, for example {"text": 0.31, "memory": 0.12}.
        rule: what counts as a region, and how large a pixel is. places: words by place, None for methods without them.

    Raises:
        PhotoError: the score, the map or a probability is not finite or a threshold is NaN (such a photo
            must not pass as normal), or the map or ``inspected`` is not of the photo's size.
    """

    path: Path | None
    score: float
    threshold: float | None = None
    map: NDArray[np.float32] | None = None
    map_threshold: float | None = None
    defects: tuple[DefectWord, ...] = ()
    size: tuple[int, int] = (0, 0)
    timings: dict[str, float] = field(default_factory=dict)
    backbone: str = ""
    method: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    inspected: NDArray[np.bool_] | None = field(default=None, repr=False)
    p_value: float | None = None
    rule: RegionRule = EVERY_PIXEL
    places: PlaceWords | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        name = "photo" if self.path is None else shown(self.path)
        if not math.isfinite(self.score):
            raise PhotoError(
                f"{name}: the anomaly score is {self.score}, expected a finite number; check the photo and run again"
            )
        if any(level is not None and math.isnan(level) for level in (self.threshold, self.map_threshold)):
            raise PhotoError(f"{name}: a threshold is NaN, expected a number or None; calibrate the detector again")
        for word in self.defects:
            if not all(math.isfinite(p) for p in (word.image_probability, word.region_probability) if p is not None):
                raise PhotoError(f"{name}: the probability of {word.words!r} is NaN; check the photo and run again")
        if self.inspected is not None and (self.inspected.shape != tuple(self.size) or not self.inspected.any()):
            raise PhotoError(
                f"{name}: inspected has shape {self.inspected.shape}, expected the photo's {tuple(self.size)} with at "
                "least one pixel that was looked at; give None for the whole photo"
            )
        if self.map is None:
            return
        if self.map.shape != tuple(self.size):
            raise PhotoError(
                f"{name}: the map has shape {self.map.shape}, expected the photo's {tuple(self.size)}; "
                "resize the map to (height, width) of the photo"
            )
        if not np.isfinite(self.map).all():
            raise PhotoError(f"{name}: the anomaly map holds values that are not finite; check the photo and run again")

    def __repr__(self) -> str:
        """One line without the map's numbers."""
        name = "photo" if self.path is None else shown(self.path)
        level = "" if self.threshold is None else f", threshold {self.threshold:.4g}"
        size = "no map" if self.map is None else f"map {self.size[0]}x{self.size[1]}"
        return f"<Prediction: {name} {self.verdict}, score {self.score:.4g}{level}, {size}>"

    @property
    def is_anomalous(self) -> bool | None:
        """True when the score is above the threshold, False when not, None without a threshold."""
        return None if self.threshold is None else bool(self.score > self.threshold)

    @property
    def verdict(self) -> Verdict:
        """'anomalous', 'normal', or 'no threshold' when no verdict can be given."""
        if self.is_anomalous is None:
            return "no threshold"
        return "anomalous" if self.is_anomalous else "normal"

    def judged_by(self, calibration: Calibration | None) -> Prediction:
        """The same score and map with the verdict of another threshold; nothing is scored again."""
        return replace(
            self,
            threshold=calibration.threshold if calibration else None,
            p_value=calibration.p_value(self.score) if calibration else None,
            map_threshold=calibration.map_threshold if calibration else None,
        )

    @property
    def hottest(self) -> tuple[int, int] | None:
        """(row, column) in photo pixels of the largest map value that was looked at, the first such; None without a map."""
        if self.map is None or self.map.size == 0:
            return None
        values = self.map if self.inspected is None else np.where(self.inspected, self.map, -np.inf)
        row, column = divmod(int(np.argmax(values)), self.map.shape[1])
        return row, column

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(H, W) bool, True where the map is above ``map_threshold`` in a region that is large enough; None without one of the two.

        False where the photo was not looked at: see ``inspected`` to tell that from a good place.
        """
        if self.map is None or self.map_threshold is None:
            return None
        above = np.asarray(self.map > self.map_threshold)
        if self.inspected is not None:
            above &= self.inspected
        if self.rule.least_area > 1 and above.any():
            return joined_mask(self.regions or (), self.size)
        return above

    @cached_property
    def regions(self) -> tuple[Region, ...] | None:
        """Each defect as a region: places of the map above ``map_threshold``, not smaller than the rule's least area, the highest peak
        first; None without a map or a pixel threshold. They do not depend on the verdict, see :func:`at_odds`."""
        if self.map is None or self.map_threshold is None:
            return None
        photo = self.defects[0].words if self.defects else ""
        out = []
        for region in find_regions(self.map, self.map_threshold, self.rule, self.inspected):
            words, probability = self.places.at(*region.at) if self.places is not None else (photo, None)
            out.append(replace(region, words=words, probability=probability))
        return tuple(out)

    @property
    def inspected_share(self) -> float:
        """Share of the photo's pixels that were looked at, above 0 to 1."""
        return 1.0 if self.inspected is None else float(self.inspected.mean())

    @property
    def seconds(self) -> float | None:
        """Seconds for the photo: the timing "total", else the sum of all steps; None without timings."""
        if not self.timings:
            return None
        return float(self.timings.get("total", sum(self.timings.values())))

    def to_dict(self) -> dict[str, Any]:
        """Everything except the map, as plain values that ``json.dumps(..., allow_nan=False)`` accepts.

        The keys are those of a line of ``results.jsonl`` (schema version :data:`RESULT_VERSION`, described in
        ``docs/results.md``); what only a run over a folder knows is None or empty here. ``hottest`` becomes
        {"x": column, "y": row}; a number that is not finite becomes None.
        """
        spot = self.hottest
        return {
            "photo": None if self.path is None else str(self.path),
            "root": None,
            "sha256": None,
            "run": None,
            "verdict": self.verdict,
            "is_anomalous": self.is_anomalous,
            "score": _number(self.score),
            "threshold": _number(self.threshold),
            "p_value": _number(self.p_value),
            "discovery": None,
            "map_threshold": _number(self.map_threshold),
            "defects": [
                {
                    "words": word.words,
                    "image_probability": float(word.image_probability),
                    "region_probability": _number(word.region_probability),
                }
                for word in self.defects
            ],
            "hottest": None if spot is None else {"x": spot[1], "y": spot[0]},
            "regions": None if self.regions is None else [region.to_dict() for region in self.regions],
            "region_rule": self.rule.to_dict(),
            "height": int(self.size[0]),
            "width": int(self.size[1]),
            "inspected": self.inspected_share,
            "parts": {name: _number(value) for name, value in self.parts.items()},
            "timings": {name: _number(value) for name, value in self.timings.items()},
            "backbone": self.backbone,
            "method": self.method,
            "label": None,
            "heatmap": None,
            "heatmap_scale": None,
            "map_file": None,
            "remarks": [],
            "error": "",
            "camera": {},
        }


AT_ODDS = ("Anomalous without a region", "Normal with ")
"""How what :func:`at_odds` says begins."""


def at_odds(verdict: str, regions: Sequence[Region] | None, level: float | None, least_area: int) -> str:
    """A line where the verdict and the regions of a photo say different things, else "".

    The verdict is that of the score, which sees the photo as a whole; regions are those of the map and its own threshold.
    """
    if regions is None or level is None:
        return ""
    if verdict == "anomalous" and not regions:
        large = f" on {least_area} pixels or more" if least_area > 1 else ""
        return f"{AT_ODDS[0]}: its score is above the threshold, but no place of its map is above {level:.4g}{large}; look at the whole photo."
    if verdict == "normal" and regions:
        count = "a region" if len(regions) == 1 else f"{len(regions)} regions"
        return f"{AT_ODDS[1]}{count}: places of its map are above {level:.4g}, but its score, which decides, is not above the threshold."
    return ""


def _number(value: float | None) -> float | None:
    """A plain float for JSON; None for None, NaN and infinities, which JSON cannot write."""
    return float(value) if value is not None and math.isfinite(value) else None

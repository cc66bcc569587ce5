"""Thresholds from good photos alone, and how far they can be trusted.

Every good photo is scored as if it had not been seen: against the memory of the others (leave one out), or, when it was
held out, against all. If a new good photo is drawn like the n good ones, its score exceeds their largest with
probability 1 / (n + 1): that bound needs no further assumption (split conformal prediction; Vovk et al., 2005). A few
photos can prove no small rate, so below that the threshold is an extrapolation (:mod:`promptad.calibration.bounds`), and
the words say which of the two it is.

A calibration keeps the scores that it came from: another rate or threshold never needs a photo scored again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Annotated, Any

import numpy as np

from promptad.annotations import Count, Range
from promptad.calibration.bounds import How, check_rate, threshold_at
from promptad.calibration.p_values import p_values
from promptad.calibration.pixels import pixel_threshold, pixel_words
from promptad.calibration.scales import usual_spread
from promptad.calibration.words import by_hand_words, missed_words, threshold_words
from promptad.errors import ConfigError
from promptad.methods.contract import ScoreKind

# Rate of false alarms aimed at when a person names none.
DEFAULT_RATE = 0.1


Rate = Annotated[float, Range(0, 1)]
"""A share, 0 and 1 among them."""


@dataclass(frozen=True)
class Calibration:
    """A threshold and where it came from.

    Attributes:
        threshold: photos that score higher are called anomalous.
        map_threshold: the pixel threshold: places of a map above it are regions. None where the method has no maps or nothing is known
            of good photos. map_rate: share of further good photos that may have a region, as a person asked for it; None for the least that
            the photos can say (:mod:`promptad.calibration.pixels`). map_by_hand: whether a person chose the level.
        map_low, map_high: map levels where the colours of heat maps begin and end, the same for all photos. They begin
            where only a hundredth of a good photo lies above; in their middle is the pixel threshold that nobody moved.
        rate: share of false alarms aimed at. bound: share that the good photos can prove, 1 / (n + 1).
        good: number n of different good photos. how: in what way they were scored.
        note: all that in words for people, with what is known of misses.
        scores, map_peaks, map_tops: of the good photos, or of the altered copies of the only one.
        kind, method: what the scores are and whose, which decides how few of them are extrapolated.
        unlike: in what the detector differs from those on which thresholds were measured.
        defective: scores of photos that a person knows to be defective, empty where none were given.
    """

    threshold: float
    map_threshold: float | None
    map_low: float
    map_high: float
    rate: Rate
    bound: Rate
    good: Count
    how: How
    note: str
    scores: tuple[float, ...] = ()
    map_peaks: tuple[float, ...] = ()
    map_tops: tuple[float, ...] = ()
    kind: ScoreKind = "deviation"
    defective: tuple[float, ...] = ()
    method: str = ""
    unlike: str = ""
    map_rate: Rate | None = None
    map_by_hand: bool = False

    def at_rate(self, rate: float) -> Calibration:
        """The same good photos with another rate of false alarms; the pixel threshold has its own and stays.

        Raises:
            ConfigError: a rate outside (0, 1) or smaller than the photos allow, or there were no good photos.
        """
        if not self.scores:
            raise ConfigError("this threshold was given by hand; a rate of false alarms needs good photos")
        moved = calibrate(
            self.scores,
            self.map_peaks,
            self.map_tops,
            self.how,
            rate,
            kind=self.kind,
            method=self.method,
            unlike=self.unlike,
            defective=self.defective,
        )
        return moved.with_pixels_of(self)

    def at_map_rate(self, rate: float | None) -> Calibration:
        """The same good photos with another pixel threshold: for a share of further good photos that may have a region.

        Raises:
            ConfigError: a rate outside (0, 1) or smaller than the photos allow, or no map of a good photo is known.
        """
        if not self.map_peaks:
            raise ConfigError(
                "no map of a good photo is known here; a rate of regions needs good photos and a method with maps"
            )
        level = pixel_threshold(self.map_peaks, self.how, rate, self.kind, self.method)[1]
        return replace(self, map_threshold=level, map_rate=rate, map_by_hand=False)

    def with_map_threshold(self, level: float) -> Calibration:
        """The same with a pixel threshold that a person chose. Raises ConfigError: no finite number."""
        return replace(self, map_threshold=check_threshold(level), map_rate=None, map_by_hand=True)

    def with_pixels_of(self, other: Calibration | None) -> Calibration:
        """The same with the pixel threshold that a person asked for in another calibration, where one did.

        Raises:
            ConfigError: the rate that was asked for is smaller than these photos allow.
        """
        if other is None or other.map_threshold is None:
            return self
        if other.map_by_hand:
            return self.with_map_threshold(other.map_threshold)
        return self if other.map_rate is None or not self.map_peaks else self.at_map_rate(other.map_rate)

    def with_threshold(self, threshold: float) -> Calibration:
        """The same colour scale with a threshold that a person chose.

        Raises:
            ConfigError: no finite number.
        """
        note = by_hand_words(check_threshold(threshold), self.scores if self.how != "altered copies" else ())
        return replace(self, threshold=float(threshold), note=note + missed_words(threshold, self.defective))

    @property
    def map_note(self) -> str:
        """What the pixel threshold is worth, in words for people; "" without one."""
        return pixel_words(self.map_peaks, self.how, self.map_rate, self.map_threshold, self.map_by_hand)

    @property
    def compared(self) -> tuple[float, ...]:
        """Scores of different good photos that others can be compared with; altered copies of one photo are none."""
        return () if self.how == "altered copies" else self.scores

    def p_value(self, score: float) -> float | None:
        """Share of good photos that score so high, see :mod:`promptad.calibration.p_values`; None where none are known."""
        return float(p_values([score], self.compared)[0]) if self.compared else None

    @property
    def scored_words(self) -> str:
        """What :attr:`scores` are of, in words."""
        if self.how == "altered copies":
            return "altered copies of the good photo"
        apart = ", each judged without itself" if self.how == "leave-one-out" else ""
        return f"the {len(self.scores)} good photos that set the threshold{apart}"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """What :meth:`to_dict` gave, also after JSON and in files of 0.1.0.

        Raises:
            TypeError, KeyError: other values.
        """
        known: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in values or field.default is MISSING:
                known[field.name] = values[field.name]
        if "kind" not in values and values.get("limit") == 1.0:  # as 0.1.0 named probabilities
            known["kind"] = "probability"
        if "kind" not in values and known["how"] == "altered copies":
            known["good"], known["bound"] = 1, 0.5  # 0.1.0 counted the copies
        for name, value in known.items():
            known[name] = tuple(value) if isinstance(value, list) else value
        return cls(**known)


def calibrate(
    scores: Sequence[float],
    map_peaks: Sequence[float],
    map_tops: Sequence[float],
    how: How,
    rate: float | None = None,
    *,
    kind: ScoreKind = "deviation",
    method: str = "",
    unlike: str = "",
    defective: Sequence[float] = (),
) -> Calibration:
    """Threshold and colour scale from the scores of n different good photos, or of altered copies of one.

    Args:
        scores: image scores. map_peaks, map_tops: largest value and 0.99 quantile of each photo's anomaly map; both
            empty for a method without maps.
        how: in what way the photos were scored.
        rate: share of good photos that may be called anomalous; None aims at 10 %.
        kind, method, unlike: what the scores are, whose, and in what that one differs from those measured. defective: scores of known defective photos; they set nothing, they tell of misses.

    Raises:
        ConfigError: no score, a rate outside (0, 1), or one smaller than the photos allow.
    """
    if not len(scores):
        raise ConfigError("a threshold needs the score of at least one good photo")
    n = 1 if how == "altered copies" else len(scores)
    aim = check_rate(DEFAULT_RATE if rate is None else rate, n)
    usual = usual_spread(kind, method)
    proved, threshold = threshold_at(np.asarray(scores, dtype=float), how, aim, kind, usual)
    peak, low = (
        (pixel_threshold(map_peaks, how, None, kind, method)[1], float(np.median(map_tops)))
        if len(map_peaks)
        else (1.0, 0.0)
    )
    # Maps may be flat; a scale must not be.
    low = min(low, peak - 1e-3 * max(abs(peak), 1e-6))
    return Calibration(
        threshold=threshold,
        map_threshold=peak if len(map_peaks) else None,
        map_low=low,
        map_high=2 * peak - low,
        rate=aim,
        bound=1 / (n + 1),
        good=n,
        how=how,
        note=threshold_words(n, how, aim, proved, kind, method, unlike) + missed_words(threshold, defective),
        scores=tuple(map(float, scores)),
        map_peaks=tuple(map(float, map_peaks)),
        map_tops=tuple(map(float, map_tops)),
        kind=kind,
        method=method,
        unlike=unlike,
        defective=tuple(map(float, defective)),
    )


def by_hand(threshold: float, map_range: tuple[float, float]) -> Calibration:
    """A threshold that a person chose where no good photo is known; `map_range` sets the colours of heat maps.

    Raises:
        ConfigError: no finite number.
    """
    low, high = map_range
    note = by_hand_words(check_threshold(threshold)) + missed_words(threshold)
    return Calibration(float(threshold), None, low, high, DEFAULT_RATE, 1.0, 0, "by hand", note)


def check_threshold(threshold: float) -> float:
    """The threshold, if it is a finite number. Raises ConfigError."""
    if not math.isfinite(threshold):
        raise ConfigError(f"the threshold must be a finite number, got {threshold}; for example 0.5")
    return threshold

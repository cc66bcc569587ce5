"""Thresholds from good photos alone, and how far they can be trusted, in words.

Every good photo is scored as if it had not been seen: against the memory of the others (leave one out), or, when it was
held out, against all. If a new good photo is drawn like the n good ones, its score exceeds their largest with
probability 1 / (n + 1): that bound needs no further assumption (split conformal prediction; Vovk et al., 2005). A few
photos can prove no small rate, so below that a normal prediction bound widens the threshold, and the words say which of
the two it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from promptad.errors import ConfigError

How = Literal["leave-one-out", "held-out", "altered copies", "by hand"]
# Rate of false alarms aimed at when a person names none.
DEFAULT_RATE = 0.1
_BY_HAND = "Threshold given by hand; nothing is known about its false alarms."


@dataclass(frozen=True)
class Calibration:
    """A threshold and where it came from.

    Attributes:
        threshold: photos that score higher are called anomalous.
        map_threshold: map level that no good photo reached; regions above it are outlined. None where the method has no
            maps or nothing is known of good photos.
        map_low, map_high: map levels where the colours of heat maps begin and end, the same for all photos. They begin
            where only a hundredth of a good photo lies above, and map_threshold is in their middle.
        rate: share of false alarms aimed at. bound: share that the good photos can prove, 1 / (n + 1).
        good: number of good photos n. how: in what way they were scored.
        note: all that in a sentence for people.
        scores, map_peaks, map_tops: of the good photos, kept so that another rate can be asked for later.
        limit: what no score can reach (1 for probabilities), or None.
    """

    threshold: float
    map_threshold: float | None
    map_low: float
    map_high: float
    rate: float
    bound: float
    good: int
    how: How
    note: str
    scores: tuple[float, ...] = ()
    map_peaks: tuple[float, ...] = ()
    map_tops: tuple[float, ...] = ()
    limit: float | None = None

    def at_rate(self, rate: float) -> Calibration:
        """The same good photos with another rate of false alarms.

        Raises:
            ConfigError: a rate outside (0, 1), or there were no good photos.
        """
        if not self.scores:
            raise ConfigError("this threshold was given by hand; a rate of false alarms needs good photos")
        return calibrate(self.scores, self.map_peaks, self.map_tops, self.how, rate, self.limit)

    def with_threshold(self, threshold: float) -> Calibration:
        """The same colour scale with a threshold that a person chose."""
        return replace(self, threshold=threshold, note=_BY_HAND)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """What :meth:`to_dict` gave, also after JSON. Raises TypeError or KeyError for other values."""
        known: dict[str, Any] = {field.name: values[field.name] for field in fields(cls) if field.name != "limit"}
        known["limit"] = values.get("limit")  # files of 0.1.0's first days lack it
        for name, value in known.items():
            known[name] = tuple(value) if isinstance(value, list) else value
        return cls(**known)


def calibrate(
    scores: Sequence[float],
    map_peaks: Sequence[float],
    map_tops: Sequence[float],
    how: How,
    rate: float | None = None,
    limit: float | None = None,
) -> Calibration:
    """Threshold and colour scale from the scores of n good photos.

    Args:
        scores: image scores. map_peaks, map_tops: largest value and 0.99 quantile of each photo's anomaly map; both
            empty for a method without maps.
        how: in what way the photos were scored.
        rate: share of good photos that may be called anomalous; None aims at 10 %.
        limit: scores lie between 0 and this; None for scores without a limit.

    Raises:
        ConfigError: no score, or a rate outside (0, 1).
    """
    values = np.sort(np.asarray(scores, dtype=float))
    aim = DEFAULT_RATE if rate is None else rate
    if not len(values):
        raise ConfigError("a threshold needs the score of at least one good photo")
    if not 0 < aim < 1:
        raise ConfigError(f"the rate of false alarms must lie between 0 and 1, got {aim:g}; 0.01 means 1 %")
    n = len(values)
    # Smallest rank whose exceedance the exchangeable bound covers; beyond n nothing is proved.
    rank = math.ceil((n + 1) * (1 - aim))
    proved = rank <= n
    threshold = float(values[rank - 1]) if proved else max(float(values[-1]), prediction_bound(values, aim, limit))
    peak, low = (max(map_peaks), float(np.median(map_tops))) if len(map_peaks) else (1.0, 0.0)
    # Maps may be flat; a scale must not be.
    low = min(low, peak - 1e-3 * max(abs(peak), 1e-6))
    return Calibration(
        threshold=threshold,
        map_threshold=float(peak) if len(map_peaks) else None,
        map_low=low,
        map_high=2 * peak - low,
        rate=aim,
        bound=1 / (n + 1),
        good=n,
        how=how,
        note=_words(n, how, aim, proved),
        scores=tuple(map(float, scores)),
        map_peaks=tuple(map(float, map_peaks)),
        map_tops=tuple(map(float, map_tops)),
        limit=limit,
    )


def by_hand(threshold: float, map_range: tuple[float, float]) -> Calibration:
    """A threshold that a person chose where no good photo is known; `map_range` sets the colours of heat maps."""
    low, high = map_range
    return Calibration(threshold, None, low, high, DEFAULT_RATE, 1.0, 0, "by hand", _BY_HAND)


def prediction_bound(values: np.ndarray, rate: float, limit: float | None = None) -> float:
    """Upper prediction bound at `rate` for one more value, were the values drawn from a normal distribution.

    With a single value the spread is unknown; a tenth of its size stands in for it. Values between 0 and `limit` are
    taken to the line by their logit first, or the bound could lie where no value ever will.
    """
    if limit is not None:
        share = np.clip(values / limit, 1e-9, 1 - 1e-9)
        bound = prediction_bound(np.log(share / (1 - share)), rate)
        return float(limit / (1 + math.exp(-bound)))
    n = len(values)
    if n == 1:
        return float(values[0] + 0.1 * abs(values[0]))
    spread = float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n)
    return float(np.mean(values) + stats.t.ppf(1 - rate, n - 1) * spread)


def _words(n: int, how: How, rate: float, proved: bool) -> str:
    photos = "1 good photo" if n == 1 else f"{n} good photos"
    ways = {
        "leave-one-out": f"{photos}, each compared with the others",
        "held-out": f"{photos} that the detector had not learned from",
        "altered copies": "altered copies (flipped, shifted, brighter, darker) of the only good photo",
    }
    needed = math.ceil(1 / rate) - 1
    if how == "altered copies":
        return (
            f"Threshold from {ways[how]}: a rough start, nothing is proved about false alarms. "
            f"Give at least {needed} good photos to prove {rate:.1%} or fewer."
        )
    if proved:
        return (
            f"Threshold from {ways[how]}: at most {rate:.1%} of further good photos are called anomalous on average, "
            "if they are taken like these."
        )
    return (
        f"Threshold from {ways[how]}: aims at {rate:.1%} false alarms by extrapolating their scores. "
        f"{photos} alone prove only 1 in {n + 1}; {needed} would be needed to prove {rate:.1%}."
    )

"""Whether photos still look like the good ones: a martingale for each statistic, and the sentence about a change.

What is watched are the statistics of the photo itself (:mod:`promptad.data.camera`), which a defect barely moves, and the anomaly score,
which more defects move as much as another light does. A change is said when the capital of a statistic reaches the number of
statistics over :data:`ERROR`: if photos and good photos are exchangeable, the chance that anything is ever said is at most `ERROR`, however long the stream. That
holds for the camera's statistics, and for scores only where the good photos' were held out; it does not hold after the first change.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from promptad.calibration.martingale import Ranks, RestartMixture, coarse
from promptad.data.camera import NAMES

ERROR = 0.01
"""Chance that a stream without a change is ever called changed, where that can be promised."""

SCORE = "score"
"""The statistic that is no camera's."""

STILL, CALM = 20.0, 50
"""After a change: the capital that says it is still there, and photos without that after which it is over."""

HELD = 20
"""Photos for which a change of scores is not said yet: the camera's statistics, which may be the reason, have so long to show theirs."""

_KEPT = 1000
"""Photos whose values can be taken out again when they turn out to be behind a change."""

_STEPS = {"brightness": 0.05, "sharpness": 0.002, "warmth": 0.0005, "tint": 0.0005}
"""To what statistics are rounded, far below what differs from photo to photo; others to a part of themselves."""

_WORDS = {
    ("brightness", 1): "brighter ({new:.0f} instead of {old:.0f} of 255; lighting? exposure?)",
    ("brightness", -1): "darker ({new:.0f} instead of {old:.0f} of 255; lighting? exposure?)",
    ("sharpness", 1): "sharper or noisier (fine detail x {ratio:.2f}; focus? gain? another camera?)",
    ("sharpness", -1): "softer (fine detail x {ratio:.2f}; focus? dirt on the lens? motion?)",
    ("warmth", 1): "redder (red over blue x {ratio:.2f}; colour of the light? white balance?)",
    ("warmth", -1): "bluer (red over blue x {ratio:.2f}; colour of the light? white balance?)",
    ("tint", 1): "greener (x {ratio:.2f}; colour of the light? white balance?)",
    ("tint", -1): "less green (x {ratio:.2f}; colour of the light? white balance?)",
    ("size", 1): "larger ({new:.0f} instead of {old:.0f} pixels; camera? its settings?)",
    ("size", -1): "smaller ({new:.0f} instead of {old:.0f} pixels; camera? its settings?)",
}


@dataclass(frozen=True)
class Change:
    """A change that was noticed.

    Attributes:
        statistic: one of `data.camera.NAMES`, or "score". direction: 1 for larger values, -1 for smaller ones, 0 where it is over.
        since: what was given as `when` of the photo at which it probably began. old, new: mean before, and since then.
        beside: camera statistics that are changed too, when scores are. good: whether good photos were compared with, not the first of the stream alone.
    """

    statistic: str
    direction: int
    since: str
    old: float
    new: float
    beside: tuple[str, ...] = ()
    good: bool = True

    @property
    def text(self) -> str:
        """The sentence for people."""
        if not self.direction:
            what = "scores are" if self.statistic == SCORE else f"{self.statistic} of the photos is"
            return f"since {self.since} the {what} again as before"
        if self.statistic == SCORE:
            return f"since {self.since} the scores are {'higher' if self.direction > 0 else 'lower'} ({self.new:.4g} instead of {self.old:.4g}): {self._why}"
        ratio = float(np.exp(min(self.new - self.old, 50.0)))
        words = _WORDS[self.statistic, self.direction].format(new=self.new, old=self.old, ratio=ratio)
        return f"since {self.since} the photos no longer look like {'the good ones' if self.good else 'those before'}: they are {words}"

    @property
    def _why(self) -> str:
        if self.beside:
            return f"{' and '.join(self.beside)} changed too, so verdicts may be those of the camera, not of the parts"
        if self.direction > 0:
            return "more defects, or other parts; brightness, colour, sharpness and size of the photos are as before"
        return "other parts, or fewer of those that are hard to tell; brightness, colour, sharpness and size of the photos are as before"


@dataclass
class _Watch:
    """One statistic: its values so far, and the bets."""

    ranks: Ranks = field(default_factory=Ranks)
    bets: RestartMixture = field(default_factory=RestartMixture)
    recent: deque[tuple[int, float, str]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    step: float = 0.0
    direction: int = 0
    calm: int = (
        0  # photos since a change without evidence of it; before, those for which a change of scores was held back
    )
    total: float = 0.0
    count: int = 0

    def learn(self, value: float) -> None:
        self.ranks.add(self.rounded(value))
        self.total, self.count = self.total + value, self.count + 1

    def forget(self, value: float) -> None:
        self.ranks.remove(self.rounded(value))
        self.total, self.count = self.total - value, self.count - 1

    def rounded(self, value: float) -> float:
        """The value among others: equal ones are broken at random, so p-values stay exact and memory bounded."""
        return round(value / self.step) * self.step if self.step else coarse(value)

    @property
    def mean(self) -> float:
        return self.total / max(1, self.count)


class Drift:
    """Watches a stream of photos.

    Args:
        good: camera statistics of good photos; with none, the first photos of the stream stand for them. scores: anomaly scores of good
            photos that the detector did not learn from.
    """

    def __init__(self, good: Sequence[Mapping[str, float]] = (), scores: Sequence[float] = ()) -> None:
        self._watches = {name: _Watch(step=_STEPS.get(name, 0.0)) for name in (*NAMES, SCORE)}
        self._good = bool(good)
        for statistics in good:
            for name in NAMES:
                if name in statistics:
                    self._watches[name].learn(statistics[name])
        for score in scores:
            self._watches[SCORE].learn(score)

    @property
    def limit(self) -> float:
        """The capital of one statistic at which a change is said."""
        return len(self._watches) / ERROR

    @property
    def changed(self) -> dict[str, int]:
        """Statistics that are changed now, and in which direction."""
        return {name: watch.direction for name, watch in self._watches.items() if watch.direction}

    def add(self, camera: Mapping[str, float], score: float | None, *, when: str, key: str) -> list[Change]:
        """One more photo; gives the changes that it shows.

        Args:
            score: None where it says nothing, as of a photo that was learned from. when: what `Change.since` calls this photo.
            key: of the photo's content: ties are broken by it, so that the same stream says the same.
        """
        values = {**camera, **({} if score is None else {SCORE: score})}
        changes = []
        for name, watch in self._watches.items():
            if name in values:
                change = self._step(name, watch, float(values[name]), when, _uniform(key, name))
                changes += [change] if change is not None else []
        return changes

    def _step(self, name: str, watch: _Watch, value: float, when: str, uniform: float) -> Change | None:
        watch.bets.bet(watch.ranks.p_value(watch.rounded(value), uniform))
        watch.recent.append((watch.bets.time, value, when))
        if watch.direction:
            return self._while_changed(name, watch)
        watch.learn(value)
        if watch.bets.value < self.limit and not watch.calm:
            return None
        if name == SCORE and watch.calm < HELD and not any(other != SCORE for other in self.changed):
            watch.calm += 1
            return None
        return self._begin(name, watch)

    def _begin(self, name: str, watch: _Watch) -> Change:
        """A change: what came since is taken out of what photos are compared with."""
        start = watch.bets.change
        behind = [entry for entry in watch.recent if entry[0] >= start] or [watch.recent[-1]]
        for _, value, _ in behind:
            watch.forget(value)
        watch.direction, watch.calm = watch.bets.direction, 0
        watch.bets = RestartMixture()
        watch.recent.clear()
        beside = tuple(other for other in self.changed if other != SCORE) if name == SCORE else ()
        new = float(np.mean([value for _, value, _ in behind]))
        return Change(name, watch.direction, behind[0][2], watch.mean, new, beside, self._good)

    def _while_changed(self, name: str, watch: _Watch) -> Change | None:
        """Whether it is over: photos without evidence of it, which then are what photos are compared with again."""
        watch.calm += 1
        if watch.bets.value >= STILL:
            watch.calm, watch.bets = 0, RestartMixture()
            watch.recent.clear()
        if watch.calm < CALM:
            return None
        back = list(watch.recent)[-CALM:]
        new, old = float(np.mean([value for _, value, _ in back])), watch.mean
        for _, value, _ in back:
            watch.learn(value)
        watch.direction, watch.calm, watch.bets = 0, 0, RestartMixture()
        watch.recent.clear()
        return Change(name, 0, back[0][2], old, new)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can write it."""
        return {"good": self._good, **{name: _as_dict(watch) for name, watch in self._watches.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Drift:
        """What :meth:`to_dict` gave. Raises ValueError, KeyError, TypeError for anything else."""
        drift = cls()
        drift._good = bool(values["good"])
        drift._watches = {name: _from_dict(values[name], watch.step) for name, watch in drift._watches.items()}
        return drift


def _uniform(key: str, name: str) -> float:
    """A number in (0, 1) that follows from a photo's content."""
    digest = hashlib.sha256(f"{key} {name}".encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / (1 << 48)


def _as_dict(watch: _Watch) -> dict[str, Any]:
    bets = watch.bets
    return {
        "ranks": [watch.ranks.values, watch.ranks.counts],
        "bets": [bets.time, bets.capital.tolist(), bets.evidence.tolist(), bets.begin.tolist()],
        "recent": [list(entry) for entry in watch.recent],
        "rest": [watch.direction, watch.calm, watch.total, watch.count],
    }


def _from_dict(values: Mapping[str, Any], step: float) -> _Watch:
    time, capital, evidence, begin = values["bets"]
    bets = RestartMixture(int(time), np.array(capital), np.array(evidence), np.array(begin))
    direction, calm, total, count = values["rest"]
    recent = deque(((int(at), float(value), str(when)) for at, value, when in values["recent"]), maxlen=_KEPT)
    ranks = Ranks(list(map(float, values["ranks"][0])), list(map(int, values["ranks"][1])))
    return _Watch(ranks, bets, recent, step, int(direction), int(calm), float(total), int(count))

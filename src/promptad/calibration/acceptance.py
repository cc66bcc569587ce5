"""What an acceptance test shows: counts of mistakes with exact intervals, by kind and size of the defect, and what they prove.

Everything here follows from the scores and labels of the photos, so another machine that has them gets the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from promptad.calibration.proportions import PROMISES, limits, photos_needed, upper_limit
from promptad.calibration.trade_off import Costs, Point, cheapest, points_at, trade_off

AreaFrom = Literal["box", "mask", "region"]
"""What the area of a defect is that of: of boxes in the labels, of the photo's masks, of the region that the detector found."""

AREAS: tuple[AreaFrom, ...] = get_args(AreaFrom)

AREA_WORDS: Mapping[str, str] = {
    "box": "of the boxes in the labels",
    "mask": "of the masks",
    "region": "of the region that the detector found, since neither box nor mask is known",
}
"""The same for people."""


@dataclass(frozen=True)
class Trial:
    """A photo of the test.

    Attributes:
        photo: its path, as people know it. sha256: of its content. defective: what people say. kind: of the defect, in words; "" of a
            good photo. score: as the detector gave it. area: of the defect in photo pixels, None of a good photo or where nothing is known.
        area_from: what the area is that of.
    """

    photo: str
    sha256: str
    defective: bool
    kind: str
    score: float
    area: int | None = None
    area_from: AreaFrom | None = None


@dataclass(frozen=True)
class Share:
    """So many mistakes among so many photos.

    Attributes:
        name: of the photos. low, high: two-sided limits of the share. at_most: its one-sided limit.
    """

    name: str
    mistakes: int
    photos: int
    low: float
    high: float
    at_most: float

    @classmethod
    def of(cls, name: str, mistakes: int, photos: int, confidence: float) -> Share:
        """With the limits of Clopper and Pearson."""
        return cls(
            name, mistakes, photos, *limits(mistakes, photos, confidence), upper_limit(mistakes, photos, confidence)
        )


@dataclass(frozen=True)
class Promise:
    """How many photos more a promise of at most `share` mistakes needs, all without a mistake: bad ones and good ones."""

    share: float
    bad: int
    good: int


@dataclass(frozen=True)
class Acceptance:
    """What a test showed.

    Attributes:
        threshold: photos that score higher are called anomalous. confidence: of all limits.
        missed, alarmed: of the defective and of the good photos. kinds: missed by kind of defect. sizes: missed by size, apart for each
            `AreaFrom` that areas are of.
        promises: how many more photos others need. points: all thresholds. costs: None where none were given. present, cheapest: the
            detector's threshold and the one of least cost (None without costs).
    """

    threshold: float
    confidence: float
    missed: Share
    alarmed: Share
    kinds: tuple[Share, ...]
    sizes: Mapping[AreaFrom, tuple[Share, ...]]
    promises: tuple[Promise, ...]
    points: tuple[Point, ...]
    costs: Costs | None
    present: Point
    cheapest: Point | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


def accept(
    tested: Sequence[Trial], threshold: float, *, costs: Costs | None = None, confidence: float = 0.95
) -> Acceptance:
    """What photos say of a threshold.

    Args:
        tested: at least one photo, each content once. confidence: above 0 and below 1.
    """
    good = [photo.score for photo in tested if not photo.defective]
    bad = [photo for photo in tested if photo.defective]
    bad_scores = [photo.score for photo in bad]

    def missed(name: str, photos: Sequence[Trial]) -> Share:
        return Share.of(name, sum(photo.score <= threshold for photo in photos), len(photos), confidence)

    misses = missed("defective", bad)
    alarms = Share.of("good", sum(score > threshold for score in good), len(good), confidence)
    [present] = points_at([threshold], good, bad_scores, costs)
    points = trade_off(good, bad_scores, costs)
    return Acceptance(
        threshold=threshold,
        confidence=confidence,
        missed=misses,
        alarmed=alarms,
        kinds=tuple(missed(kind, [p for p in bad if p.kind == kind]) for kind in sorted({p.kind for p in bad})),
        sizes={
            source: tuple(missed(size_words(k), photos) for k, photos in sorted(of_source.items()))
            for source in AREAS
            if (of_source := _by_size([p for p in bad if p.area_from == source]))
        },
        promises=tuple(
            Promise(
                share,
                max(0, photos_needed(misses.mistakes, share, confidence) - misses.photos),
                max(0, photos_needed(alarms.mistakes, share, confidence) - alarms.photos),
            )
            for share in PROMISES
        ),
        points=tuple(points),
        costs=costs,
        present=present,
        cheapest=cheapest(points, present) if costs is not None else None,
    )


def _by_size(photos: Sequence[Trial]) -> dict[int, list[Trial]]:
    """Photos by their class of size: k holds defects with sides above 2^(k-1) up to 2^k pixels, -1 those without a pixel."""
    classes: dict[int, list[Trial]] = {}
    for photo in photos:
        if photo.area is not None:
            classes.setdefault(size_class(photo.area), []).append(photo)
    return classes


def size_class(area: int) -> int:
    """The class of a defect by the side of the square of its area; see :func:`size_words`."""
    return -1 if area < 1 else max(3, math.ceil(math.log2(area) / 2 - 1e-12))


def size_words(size: int) -> str:
    """What a class of sizes is called."""
    if size < 0:
        return "no region found"
    return f"up to {2**size} px" if size == 3 else f"{2 ** (size - 1)} to {2**size} px"


def proved_words(share: Share, confidence: float, what: Literal["miss", "false alarm"]) -> str:
    """What a count proves, in a sentence."""
    kind, many = ("bad", "misses") if what == "miss" else ("good", "false alarms")
    at = f"at {100 * confidence:g} %"
    if not share.photos:
        return f"No {kind} photo was tested, so nothing is known of {many}."
    photos = f"{share.photos} {kind} photo{'' if share.photos == 1 else 's'}"
    verb = "proves" if share.photos == 1 else "prove"
    if not share.mistakes:
        return f"{photos} without a {what} {verb} at most {percent(share.at_most)} {many} {at}."
    mistakes = f"1 {what}" if share.mistakes == 1 else f"{share.mistakes} {many}"
    if share.mistakes == share.photos:
        return f"All of {photos} {'was' if share.photos == 1 else 'were'} judged wrong: nothing is proved of {many}."
    return f"{mistakes} in {photos} prove at most {percent(share.at_most)} {many} {at}."


def percent(share: float) -> str:
    """A share to three figures: "4.95 %", "12.4 %", "0.997 %"."""
    value = 100 * share
    if value >= 99.95 or value == 0:
        return f"{value:.0f} %"
    return f"{value:.3g} %"

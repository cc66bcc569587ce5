"""The pixel threshold: the map level above which a place is a region, set from the maps of good photos with a rate of its own.

What is bounded is the share of further good photos that have a region anywhere, so what counts of a good photo is the largest value of its
map. The photos are scored as they are for the image threshold, and the bounds are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from promptad.calibration.bounds import How, check_rate, counted, threshold_at
from promptad.calibration.scales import usual_spread
from promptad.methods.contract import ScoreKind

DEFAULT_MAP_RATE = 0.1
"""Share of good photos with a region that is aimed at where the photos are too few to prove a smaller one."""


def pixel_threshold(
    peaks: Sequence[float], how: How, rate: float | None, kind: ScoreKind, method: str
) -> tuple[bool, float]:
    """Whether the photos prove the rate, and the level for it.

    Args:
        peaks: largest value of each good photo's map, or of those of altered copies of the only one. rate: share of further good photos that may
            have a region; None for the least that so many photos can prove, or 10 % where that is less: no region in any of them.

    Raises:
        ConfigError: a rate that is none, or smaller than the photos allow.
    """
    photos = 1 if how == "altered copies" else len(peaks)
    aim = DEFAULT_MAP_RATE if rate is None else check_rate(rate, photos)
    values = np.asarray(peaks, dtype=float)
    proved, level = threshold_at(values, how, aim, kind, usual_spread(kind, method))
    return proved, level if rate is not None else max(level, float(values.max()))


def pixel_words(peaks: Sequence[float], how: How, rate: float | None, level: float | None, by_hand: bool) -> str:
    """What a pixel threshold is worth, in words for people; "" where there is none.

    Args:
        rate: as for :func:`pixel_threshold`. level: the threshold. by_hand: whether a person chose it.
    """
    if level is None:
        return ""
    photos = 1 if how == "altered copies" else len(peaks)
    if by_hand:
        if not peaks or how == "altered copies":
            return "Pixel threshold given by hand; nothing is known about regions of good photos."
        above = sum(peak > level for peak in peaks)
        return f"Pixel threshold given by hand; {above} of {counted(len(peaks))} {'has' if above == 1 else 'have'} a region above it."
    ways = {
        "leave-one-out": f"{counted(photos)}, each compared with the others",
        "held-out": f"{counted(photos)} that the detector had not learned from",
        "altered copies": "altered copies of the only good photo",
    }
    aim = DEFAULT_MAP_RATE if rate is None else rate
    needed = math.ceil(1 / aim - 1e-9) - 1
    if how != "altered copies" and photos >= needed:
        proved = 1 / (photos + 1) if rate is None else rate
        return (
            f"Pixel threshold from {ways[how]}: at most {proved:.1%} of further good photos have a region on average, if they are taken "
            "like these."
        )
    return (
        f"Pixel threshold from {ways[how]}: aims at {aim:.1%} of further good photos with a region by extrapolating the largest values of "
        f"their maps; {counted(photos)} alone prove{'s' if photos == 1 else ''} only 1 in {photos + 1}, {needed} would be needed."
    )

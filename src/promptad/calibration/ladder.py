"""Which photos set a threshold, and how each of them is scored.

From the best evidence down: photos that were held out; the good photos that were learned from, each compared with the
others; altered copies of the only good photo. Where nothing is learned from good photos, all of them are held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from promptad.calibration.bounds import How
from promptad.calibration.threshold import Calibration, calibrate
from promptad.data.copies import COPIES
from promptad.learning.features import PhotoFeatures
from promptad.methods.contract import ScoreKind
from promptad.methods.registry import Entry
from promptad.methods.settings import ScoringConfig

# What good photos are for a method, see `methods.registry.Entry`.
Role = Literal["needed", "optional", "unused"]


@dataclass(frozen=True)
class Judged:
    """Score of a photo, and the largest value and 0.99 quantile of its map; both None for a method without maps."""

    score: float
    map_peak: float | None = None
    map_top: float | None = None


# Scores a photo; the number is that of the good photo that it is, which must then not be compared with itself.
Judge = Callable[[PhotoFeatures, int | None], Judged]


@dataclass(frozen=True)
class Evidence:
    """Photos that set a threshold: in what way they are scored, and whether each is left out of what was learned."""

    how: How
    photos: Sequence[PhotoFeatures]
    leave_out: bool = False


def choose_evidence(
    learned: Sequence[PhotoFeatures],
    held_out: Sequence[PhotoFeatures],
    copies: Sequence[PhotoFeatures],
    role: Role,
) -> Evidence | None:
    """The best that there is; None where nothing is, as for one good photo without copies of it.

    Args:
        learned: good photos given to learn from, in the order that they were learned in. copies: altered copies of the
            only one. role: what good photos are for the method.
    """
    if role == "unused":
        photos = [*learned, *held_out]
        return Evidence("held-out", photos) if photos else None
    if held_out:
        return Evidence("held-out", held_out)
    if len(learned) > 1:
        return Evidence("leave-one-out", learned, leave_out=True)
    return Evidence("altered copies", copies) if copies else None


def fit_steps(entry: Entry, config: ScoringConfig, good: int, held_out: int, faulty: int) -> int:
    """Steps of a fit, about: photos read, epochs of training, and scores for the threshold and its note."""
    scored = scores_made(good, held_out, entry.good_photos) + (0 if entry.learns_anomalies else faulty)
    return good + held_out + int(config.fit_epochs) + scored


def scores_made(good: int, held_out: int, role: Role) -> int:
    """How many scores :func:`choose_evidence` leads to where that many photos are given and none is a copy."""
    if role == "unused":
        return good + held_out
    return held_out or (good if good > 1 else COPIES)


def calibrate_by(
    judge: Judge,
    evidence: Evidence,
    *,
    kind: ScoreKind,
    method: str,
    unlike: str = "",
    rate: float | None = None,
    defective: Sequence[PhotoFeatures] = (),
) -> Calibration:
    """Scores the photos of the evidence, and known defective ones, and calibrates.

    Raises:
        ConfigError: a rate of false alarms that is none or smaller than the photos allow.
    """
    judged = [judge(photo, number if evidence.leave_out else None) for number, photo in enumerate(evidence.photos)]
    return calibrate(
        [photo.score for photo in judged],
        [photo.map_peak for photo in judged if photo.map_peak is not None],
        [photo.map_top for photo in judged if photo.map_top is not None],
        evidence.how,
        rate,
        kind=kind,
        method=method,
        unlike=unlike,
        defective=[judge(photo, None).score for photo in defective],
    )

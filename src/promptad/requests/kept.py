"""What `inspect` learned from good photos, kept in its folder, so that the same request learns nothing twice.

Another threshold or rate of false alarms, further photos to judge, and a run that was stopped begin with what is there.
What is kept counts for the very same request alone: method, settings, weights, version, and the contents of all photos given.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptad.calibration.threshold import DEFAULT_RATE
from promptad.data.files import one_line, sha256_file, shown, write_atomic
from promptad.errors import ConfigError, DataError, WeightsError
from promptad.inputs import argument
from promptad.notices import collected_notices, notice
from promptad.report.log import run_key
from promptad.saved.detectors import SavedDetector, read_detector
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.requests.asked import Lines
    from promptad.requests.detecting import GivenPhotos

NAME = ".promptad.learned.safetensors"
"""File in the folder of a run: a saved detector, whose header also says for what it was learned and what was said."""

MOST_BYTES = 64 << 20
"""A larger detector, as SPADE's of many photos, is not kept: it would be most of the folder."""


def fit_or_take(
    detector: Detector,
    photos: GivenPhotos,
    folder: Path,
    *,
    rate: float | None,
    progress: Progress | None,
    lines: Lines,
    fresh: bool,
) -> None:
    """Gives a detector that has learned nothing yet what its good photos teach: from the folder where that lies there.

    Args:
        rate: of false alarms, None for the usual one. lines: hear of photos that cannot be read. fresh: take nothing.

    Raises:
        PromptadError: as `Detector.fit`.
    """
    key = _key(detector, photos)
    kept = None if fresh or key is None else _read(folder / NAME, key)
    if kept is not None and _taken(detector, kept, rate):
        for line in kept.said:
            notice(line)
        return
    unread: list[str] = []

    def fail(line: str) -> None:
        unread.append(line)
        lines.fail(line)

    with collected_notices() as said:
        detector.fit(
            photos.good,
            held_out=photos.held_out,
            defective=photos.defective,
            false_alarms=rate,
            progress=progress,
            unreadable=fail,
        )
    # A photo that cannot be read is told in every run, so it is tried again in every run.
    if key is None or unread:
        return
    content = detector.to_bytes(kept={"for": key, "said": list(said)})
    if len(content) <= MOST_BYTES:
        with suppress(DataError):  # a full disk: the results, which cannot be written either, say it
            write_atomic(folder / NAME, content)


def _key(detector: Detector, photos: GivenPhotos) -> str | None:
    """Names all that decides what is learned and with which threshold; None where a photo cannot be read."""
    groups: dict[str, Any] = {}
    try:
        for name in ("good", "held_out", "defective"):
            groups[name] = [[path.name, sha256_file(path)] for path in getattr(photos, name)]
    except DataError:
        return None
    # With the way in which inputs are called, since the lines that were said contain it.
    return run_key({"detector": detector.identity(), "spoken": argument("good"), **groups})


def _read(path: Path, key: str) -> SavedDetector | None:
    """What was kept for this key, or None."""
    if not path.exists():
        return None
    try:
        kept = read_detector(path)
    except WeightsError as error:
        notice(f"{shown(path)}: cannot be used ({one_line(error)[:200]}), so the good photos are learned from again")
        return None
    return kept if kept.kept_for == key else None


def _taken(detector: Detector, kept: SavedDetector, rate: float | None) -> bool:
    """Gives the detector what was kept, with the threshold of a rate; False where it does not fit after all."""
    try:
        detector.restore(kept)
    except (WeightsError, ConfigError, RuntimeError, MemoryError) as error:
        notice(f"{shown(kept.path)}: does not fit ({one_line(error)[:200]}), so the good photos are learned from again")
        return False
    if detector.calibration is not None:
        detector.set_false_alarms(DEFAULT_RATE if rate is None else rate)
    return True

"""`promptad inspect --unlabelled`: a folder of good and defective photos as the measure of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptad.errors import DataError
from promptad.methods.catalogue import FACTS
from promptad.notices import notice
from promptad.requests.asked import Lines
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.report.rows import Row

METHODS = tuple(name for name, facts in FACTS.items() if facts.unlabelled)
"""The methods that learn from photos of which nobody knows whether they are good; the first is taken where none is named."""


def fit_to_all(detector: Detector, photos: Sequence[Path], progress: Progress | None, lines: Lines) -> None:
    """Fits a detector to a bounded number of the photos themselves, drawn with its seed, each content once.

    Raises:
        DataError: fewer than two photos that differ.
    """
    from promptad.data.files import sha256_file
    from promptad.methods.musc.method import drawn_references

    contents: dict[str, Path] = {}
    for path in photos:
        try:
            contents.setdefault(sha256_file(path), path)
        except DataError:  # the run tells it of that photo
            continue
    paths = list(contents.values())
    if len(paths) < 2:
        raise DataError(f"unlabelled photos are compared with each other; {len(paths)} is not enough, give several")
    chosen = drawn_references(len(paths), detector.config.references, detector.config.seed)
    if len(chosen) < len(paths):
        notice(
            f"each photo is compared with {len(chosen)} of the {len(paths)}, drawn with seed {detector.config.seed} "
            f"(references={detector.config.references})"
        )
    detector.fit([paths[number] for number in chosen], progress=progress, unreadable=lines.fail)


def say_ranking(rows: Sequence[Row]) -> None:
    """One line on how far the ranking of judged photos can be trusted, and where its top ends."""
    from promptad.calibration.ranking import judge_ranking

    # Copies would agree with themselves.
    judged = list({row.sha256 or row.photo: row for row in rows if row.score is not None}.values())
    names = [name for name in judged[0].parts if name.startswith("layer ")] if judged else []
    values = [[float(row.parts[name] or 0) for row in judged] for name in ("half 1", "half 2", *names)]
    notice(judge_ranking([row.score or 0.0 for row in judged], values[:2], values[2:]).sentence)

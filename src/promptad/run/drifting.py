"""A run's photos against the good ones of its detector: what changed, and since when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptad.calibration.drift import Change, Drift
from promptad.data.files import shown, write_atomic
from promptad.detector import Detector
from promptad.errors import DataError
from promptad.notices import notice
from promptad.parsing import parsed_json
from promptad.report.audit import audit_lines
from promptad.report.rows import Row
from promptad.run.judging import learned_contents
from promptad.run.remarks import LEARNED

FILE = ".promptad.drift.json"
"""What a watch keeps between two runs; made anew from the audit log where it is missing."""

EVERY = 500
"""Photos after which it is written."""


def drift_of(detector: Detector) -> Drift:
    """A watch over the photos that this detector will judge.

    Detectors without statistics of their good photos (saved before there were any, or without good photos) are said.
    """
    known = [entry for entry in detector.good if "copy_of" not in entry]
    cameras = [entry["camera"] for entry in known if "camera" in entry]
    if known and not cameras:
        notice(
            "the detector was saved by an earlier promptad, without brightness, sharpness, colour and size of its good photos: the first "
            "photos that are judged stand for them; fit it again to compare with the good ones"
        )
    calibration = detector.calibration
    # Scores of altered copies of one photo are not those of other good photos.
    scores = calibration.scores if calibration is not None and calibration.how in ("leave-one-out", "held-out") else ()
    return Drift(cameras, scores)


def say_drift(detector: Detector, rows: Sequence[Row]) -> None:
    """Says what changed within a folder of photos, in the order in which they were judged, that of their names.

    Scores are left out: photos of a folder are often sorted by what is on them.
    """
    seen = [row for row in rows if row.camera and row.score is not None and LEARNED not in row.remarks]
    if not seen or detector.entry.facts.unlabelled:
        return
    drift = drift_of(detector)
    for number, row in enumerate(seen, start=1):
        when = f"{shown(row.photo)} (photo {number} of {len(seen)} by their names)"
        for change in drift.add(row.camera, None, when=when, key=str(row.sha256)):
            notice(change.text)


class StreamDrift:
    """The drift of a watch: everything that its detector judged in this folder, across kills and restarts.

    Args:
        detector: judges. digest: of its file. log: the audit log, to which nothing is added meanwhile.
    """

    def __init__(self, detector: Detector, digest: str, log: Path) -> None:
        self._path, self._log, self._digest = log.parent / FILE, log, digest
        self._learned = learned_contents(detector)
        self._fresh = drift_of(detector).to_dict()
        self.drift, self._unsaved = Drift.from_dict(self._fresh), 0
        self.unsaid = self._catch_up()

    def add(self, entry: Mapping[str, Any]) -> Iterator[Change]:
        """The changes that an entry of the audit log shows."""
        if not entry["camera"]:
            return
        when = f"{entry['time'][:10]} {entry['time'][11:16]}"
        score = None if entry["sha256"] in self._learned else entry["score"]
        yield from self.drift.add(entry["camera"], score, when=when, key=entry["sha256"])

    def keep(self, end: int, *, now: bool = False) -> None:
        """Writes down where it is, every `EVERY` entries. `end`: bytes of the log that it has seen."""
        self._unsaved += 1
        if now or self._unsaved >= EVERY:
            try:
                write_atomic(
                    self._path, json.dumps({"end": end, "detector": self._digest, "drift": self.drift.to_dict()})
                )
                self._unsaved = 0
            except DataError:  # a full disk: the audit log, which cannot be written either, says it
                return

    def _catch_up(self) -> list[Change]:
        """Reads what the file does not know yet; gives changes that no entry tells of, as after a kill in between."""
        end, unsaid = 0, list[Change]()
        try:
            kept = parsed_json(self._path.read_text())
            if kept["detector"] == self._digest and kept["end"] <= self._log.stat().st_size:
                end, self.drift = int(kept["end"]), Drift.from_dict(kept["drift"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            end = 0
        for line in audit_lines(self._log, end):
            if not line.values:
                continue
            kind = line.values["kind"]
            if kind == "begin" and line.values["detector"] != self._digest:  # another detector's photos and scores
                self.drift, unsaid = Drift.from_dict(self._fresh), []
            elif kind == "photo" and line.values["detector"] == self._digest:
                unsaid += self.add(line.values)
            elif kind == "drift":
                unsaid = [change for change in unsaid if change.text != line.values["text"]]
        return unsaid

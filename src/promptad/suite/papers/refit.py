"""Detectors as the units of a benchmark had them, for what is drawn of their insides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptad.bench.protocol import Protocol
from promptad.bench.variants import Variant
from promptad.clip.backbone import Backbone
from promptad.data.photos import read_photo
from promptad.data.records import Record
from promptad.detector import Detector
from promptad.learning.features import PhotoFeatures
from promptad.suite.run import SetResult, SuiteResult


@dataclass(frozen=True)
class Fitted:
    """A detector of one class, fitted anew as its unit of the first run was.

    Attributes:
        name: of its row. tests: the photos that its unit scored.
    """

    name: str
    of_set: SetResult
    unit: Mapping[str, Any]
    detector: Detector
    tests: list[Record]

    def features(self, record: Record) -> PhotoFeatures:
        """Features of a photo."""
        return self.detector.encoder.encode([read_photo(record.photo)])[0]


def fitted_detectors(result: SuiteResult) -> Iterator[Fitted]:
    """One for each row, set and class of the first run."""
    for of_set in result.sets:
        by_row = {(v.method, v.preset, v.name): (p, b, v) for p, b in of_set.protocols for v in p.variants}
        for unit in of_set.outcome.units:
            if unit["run"] == 0:
                yield _fitted(of_set, unit, *by_row[unit["method"], unit["preset"], unit["name"]])


def _fitted(of_set: SetResult, unit: Mapping[str, Any], protocol: Protocol, backbone: Backbone, row: Variant) -> Fitted:
    name = unit["class"]
    detector = Detector(
        row.method,
        object=protocol.object_of(name) if name else "object",
        preset=row.preset,
        backbone=backbone,
        weights=row.weights(0, name),
        **row.overrides(protocol.seed(0)),
    )
    root = of_set.data.root if of_set.data.root.is_dir() else of_set.data.root.parent
    known = {_place(record, root): record for record in of_set.data.records}
    good = [known[entry["file"]] for entry in unit["good_photos"] if entry["file"] in known]
    faulty = [known[file] for file in unit.get("anomalies", {}).get("learned", ()) if file in known]

    def encoded(records: list[Record]) -> list[PhotoFeatures]:
        return [detector.encoder.encode([read_photo(record.photo)], reference=True)[0] for record in records]

    if good:
        detector.fit_features(encoded(good), anomalies=encoded(faulty), set_threshold=False)
    tests = [known[photo["file"]] for photo in unit["test"] if photo["file"] in known]
    return Fitted(unit["name"] or detector.entry.title, of_set, unit, detector, tests)


def _place(record: Record, root: Path) -> str:
    from promptad.bench.work import photo_name

    return photo_name(record.photo, root.resolve())

"""Detectors as the units of a benchmark had them, for what is drawn of their insides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptad.bench.protocol import Protocol
from promptad.bench.units import shots_path
from promptad.bench.variants import Variant
from promptad.clip.backbone import Backbone
from promptad.data.parts import PhotoRef
from promptad.data.photos import read_photo
from promptad.data.records import Record
from promptad.data.shots import read_manifest
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


def fitted_detectors(result: SuiteResult, out: Path) -> Iterator[Fitted]:
    """One for each row, set and class of the first run; `out` is the benchmark's folder.

    Raises:
        DataError: good photos that a unit learned from are not there any more, or have changed.
    """
    for of_set in result.sets:
        by_row = {(v.method, v.preset, v.name): (p, b, v) for p, b in of_set.protocols for v in p.variants}
        for unit in of_set.outcome.units:
            if unit["run"] == 0:
                yield _fitted(of_set, unit, out, *by_row[unit["method"], unit["preset"], unit["name"]])


def _fitted(
    of_set: SetResult, unit: Mapping[str, Any], out: Path, protocol: Protocol, backbone: Backbone, row: Variant
) -> Fitted:
    name = unit["class"]
    detector = Detector(
        row.method,
        object=protocol.object_of(name) if name else "object",
        preset=row.preset,
        backbone=backbone,
        weights=row.weights(0, name),
        **row.overrides(protocol.seed(0)),
    )
    known = of_set.photos
    good = [shot.photo for shot in read_manifest(shots_path(out, unit["key"])).shots] if unit["good_photos"] else []
    faulty = [known[file].photo for file in unit.get("anomalies", {}).get("learned", ())]

    def encoded(photos: list[PhotoRef]) -> list[PhotoFeatures]:
        return [detector.encoder.encode([read_photo(photo)], learned=True)[0] for photo in photos]

    if good:
        detector.fit_features(encoded(good), anomalies=encoded(faulty), set_threshold=False)
    tests = [known[photo["file"]] for photo in unit["test"] if photo["file"] in known]
    return Fitted(unit["name"] or detector.entry.title, of_set, unit, detector, tests)

"""What there is to do for a class: its units, the good photos of each, and which of them lie finished on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptad.annotations import ALL
from promptad.bench.anomalies import DrawnAnomalies, draw_anomalies
from promptad.bench.draw import draw_order, take_shots
from promptad.bench.keys import fingerprint_of, unit_key
from promptad.bench.protocol import Protocol, Unit
from promptad.bench.units import read_unit, unit_path
from promptad.clip.backbone import Backbone
from promptad.data.files import sha256_file
from promptad.data.parts import PhotoRef
from promptad.data.photos import read_photo
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError, PromptadError
from promptad.inputs import argument


@dataclass(frozen=True)
class PlannedUnit:
    """One unit: its key, its good photos, a line for each that was passed over, and test photos that are among them.

    `learned_from` names test photos with the same content as a good photo of this unit: (test photo, good photo).
    `anomalies` are the labelled ones of methods that learn from them.
    """

    unit: Unit
    key: str
    shots: list[Record]
    problems: list[str]
    learned_from: tuple[tuple[PhotoRef, PhotoRef], ...]
    anomalies: DrawnAnomalies | None = None


@dataclass
class ClassPlan:
    """All units of a class, and the finished ones by key; `tests` are those of its test photos that are evaluated."""

    name: str
    records: list[Record]
    tests: list[Record]
    fingerprint: str
    planned: list[PlannedUnit] = field(default_factory=list)
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def pending(self) -> list[PlannedUnit]:
        """What is still to be computed."""
        return [planned for planned in self.planned if planned.key not in self.finished]


class PhotoFiles:
    """What is known of photo files, each looked at once."""

    def __init__(self) -> None:
        self._readable: dict[PhotoRef, str | None] = {}
        self._hashes: dict[PhotoRef, str] = {}

    def why_unreadable(self, path: PhotoRef) -> str | None:
        """The line of a photo that cannot be read, None for one that can."""
        if path not in self._readable:
            try:
                read_photo(path)
                self._readable[path] = None
            except PromptadError as error:
                self._readable[path] = str(error)
        return self._readable[path]

    def hash(self, path: PhotoRef) -> str:
        """SHA-256 of a file. Raises DataError where it cannot be read."""
        if path not in self._hashes:
            self._hashes[path] = sha256_file(path)
        return self._hashes[path]

    def hash_or_none(self, path: PhotoRef) -> str | None:
        """SHA-256 of a file, None where it cannot be read."""
        try:
            return self.hash(path)
        except DataError:
            return None


def plan_class(
    name: str,
    records: Sequence[Record],
    protocol: Protocol,
    backbone: Backbone,
    files: PhotoFiles,
    finished_in: Path | None,
) -> ClassPlan:
    """Draws the good photos of all units of a class, and looks which units are finished.

    Args:
        records: of this class. finished_in: folder of finished units, None to compute all again.

    Raises:
        DataError: no test photo.
    """
    tests = limited([record for record in records if record.split == "test"], protocol.limit)
    if not tests:
        raise DataError(f"{name}: no test photos; expected some in test/<type>; add them or leave the class out")
    plan = ClassPlan(name, list(records), tests, fingerprint_of(tests))
    for unit in protocol.units(name):
        try:
            shots, problems = _draw(unit, records, protocol, files)
            digests = [files.hash(shot.photo) for shot in shots]
            anomalies = _draw_anomalies(unit, records, protocol, files)
            described = anomalies.key(files.hash) if anomalies is not None else None
            key = unit_key(unit, protocol, backbone, digests, plan.fingerprint, described)
        except (ConfigError, DataError) as error:
            plan.failures.append(str(error))
            continue
        hashes = dict(zip(digests, (shot.photo for shot in shots), strict=True))
        twice = [(test.photo, hashes.get(files.hash_or_none(test.photo) or "")) for test in tests] if shots else []
        learned_from = tuple((test, shot) for test, shot in twice if shot is not None)
        problems = [*problems, *(anomalies.problems if anomalies is not None else ())]
        plan.planned.append(PlannedUnit(unit, key, shots, problems, learned_from, anomalies))
        content = read_unit(unit_path(finished_in, key), key) if finished_in is not None else None
        if content is not None:
            plan.finished[key] = content
    return plan


def limited(tests: Sequence[Record], limit: int) -> list[Record]:
    """At most `limit` normal and `limit` anomalous photos, evenly spread over their order; all where it is 0."""
    if not limit:
        return list(tests)
    kept: set[int] = set()
    for label in (0, 1, None):
        places = [place for place, record in enumerate(tests) if record.label == label]
        number = min(limit, len(places))
        kept.update(places[i * len(places) // number] for i in range(number))
    return [record for place, record in enumerate(tests) if place in kept]


def _draw_anomalies(
    unit: Unit, records: Sequence[Record], protocol: Protocol, files: PhotoFiles
) -> DrawnAnomalies | None:
    if not unit.anomalies:
        return None
    seed, most = protocol.seed(unit.run), max(protocol.anomalies)
    return draw_anomalies(records, unit.anomalies, most, protocol.anomaly_draw, seed, files.why_unreadable)


def _draw(
    unit: Unit, records: Sequence[Record], protocol: Protocol, files: PhotoFiles
) -> tuple[list[Record], list[str]]:
    if not unit.shots:
        return [], []
    if protocol.given is not None:
        ordered = protocol.given.ordered(unit.class_name, unit.run)
        number = len(ordered) if unit.shots == ALL else unit.shots
        if len(ordered) < number:
            raise DataError(
                f"{unit.class_name}: {protocol.given.source} names {len(ordered)} good photos for run {unit.run + 1}, "
                f"{unit.shots} were asked for; choose smaller {argument('shots')}"
            )
        unreadable = [why for shot in ordered[:number] if (why := files.why_unreadable(shot.photo))]
        if unreadable:  # another photo instead would not be what was given
            raise DataError(f"{unit.class_name}: a given good photo cannot be read ({unreadable[0]})")
        return list(ordered[:number]), []
    seed = protocol.seed(unit.run)
    order = protocol.measured_by(unit.variant).shot_order
    return take_shots(draw_order(records, seed, order), unit.shots, files.why_unreadable)

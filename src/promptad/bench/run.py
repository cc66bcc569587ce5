"""Runs a protocol on a data set, each unit into its own file, so that a stopped run goes on where it was.

Every photo is encoded once a layout; fits and scores work on these features. One unit gives a row for
each part that was asked for, all from one fit, and with an oracle selection a second row for each, beside
that of the last epoch.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from promptad import __version__
from promptad.bench.protocol import Protocol, Unit, draw_order, fingerprint_of, take_shots, unit_key
from promptad.bench.testset import Masks, TestSet
from promptad.bench.units import FORMAT, measure_unit, read_unit, trained_on
from promptad.clip.backbone import Backbone
from promptad.clip.preprocess import Preprocess
from promptad.clip.vision import FeatureRequest
from promptad.data.files import sha256_file, write_atomic
from promptad.data.photos import read_photo
from promptad.data.records import Record
from promptad.data.shots import write_manifest
from promptad.detector import Detector
from promptad.errors import DataError, PromptadError
from promptad.learning.features import FeatureStore, PhotoFeatures

Progress = Callable[[int, int], None]
_Layout = tuple[Preprocess, FeatureRequest]


@dataclass(frozen=True)
class Failure:
    """What could not be evaluated: a class, or some of its units, and why, on one line."""

    class_name: str
    reason: str


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        units: the finished units as their files hold them, class by class in the protocol's order.
        failures: classes or units that could not be evaluated.
        problems: one line for every photo or mask that could not be used.
        scored, reused: units computed now, and taken from an earlier run.
    """

    units: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    scored: int = 0
    reused: int = 0


@dataclass(frozen=True)
class _Planned:
    unit: Unit
    key: str
    shots: list[Record]
    problems: list[str]


@dataclass
class _ClassPlan:
    name: str
    records: list[Record]
    tests: list[Record]
    fingerprint: str
    planned: list[_Planned]
    finished: dict[str, dict[str, Any]]

    @property
    def pending(self) -> list[_Planned]:
        return [one for one in self.planned if one.key not in self.finished]


def run(
    protocol: Protocol,
    records: Sequence[Record],
    backbone: Backbone,
    out: Path,
    *,
    root: Path | None = None,
    cache: FeatureStore | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Evaluates every class of the records; finished units in ``out/units`` are reused.

    Ctrl-C may come at any time: what is finished lies on disk, and the next run with the same arguments
    goes on.

    Args:
        records: training and test photos, as `load_dataset` gives them.
        out: gets ``units/<key>.json`` (results) and ``shots/<key>.json`` (manifest of the good photos) of
            every unit.
        root: folder of the data set, for the manifests. cache: keeps features on disk between runs.
        fresh: compute every unit again. progress: called with photos done and photos in all.

    Raises:
        ConfigError, TextError: settings that no unit can be made with. DataError: `out` cannot be written, or
            there is no photo.
    """
    if not records:
        raise DataError("no photos to evaluate; name a data set that has some")
    classes = list(dict.fromkeys(record.class_name for record in records))
    return _Run(protocol, records, backbone, out, root, cache, fresh, progress).execute(classes)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        protocol: Protocol,
        records: Sequence[Record],
        backbone: Backbone,
        out: Path,
        root: Path | None,
        cache: FeatureStore | None,
        fresh: bool,
        progress: Progress | None,
    ) -> None:
        self.protocol, self.records, self.backbone = protocol, records, backbone
        self.out, self.root, self.cache, self.fresh, self.progress = out, root, cache, fresh, progress
        self.outcome = Outcome()
        self._readable: dict[Path, str | None] = {}
        self._hashes: dict[Path, str] = {}
        self._done = self._total = 0
        self._layouts: list[_Layout] = []

    def execute(self, classes: Sequence[str]) -> Outcome:
        # Settings that fail would fail in every unit: making the detectors says it once, before any work.
        made = [self._detector(Unit(variant, classes[0], 0, 0)) for variant in self.protocol.variants]
        self._layouts = _shared_layouts(made)
        plans = [plan for name in classes if (plan := self._plan(name))]
        self._total = sum(self._work(plan) for plan in plans)
        for plan in plans:
            self._evaluate(plan)
            self.outcome.units += [plan.finished[one.key] for one in plan.planned if one.key in plan.finished]
        lines = [line for unit in self.outcome.units for line in unit["problems"]]
        self.outcome.problems = list(dict.fromkeys([*self.outcome.problems, *lines]))
        return self.outcome

    def _fail(self, class_name: str, reason: object) -> None:
        failure = Failure(class_name, str(reason))
        if failure not in self.outcome.failures:
            self.outcome.failures.append(failure)

    # -- planning --------------------------------------------------------------------------------------------

    def _plan(self, name: str) -> _ClassPlan | None:
        """Draws the good photos of all units of a class, and looks which units are finished."""
        records = [one for one in self.records if one.class_name == name]
        tests = [one for one in records if one.split == "test"]
        if not tests:
            self._fail(name, f"{name}: no test photos; expected some in test/<type>; add them or leave the class out")
            return None
        plan = _ClassPlan(name, records, tests, fingerprint_of(tests), [], {})
        for unit in self.protocol.units(name):
            try:
                shots, problems = self._draw(unit, records)
                hashes = [self._hash(shot.path) for shot in shots]
            except DataError as error:
                self._fail(name, error)
                continue
            key = unit_key(unit, self.protocol, self.backbone, hashes, plan.fingerprint)
            plan.planned.append(_Planned(unit, key, shots, problems))
            found = None if self.fresh else read_unit(self._unit_path(key), key)
            if found is not None:
                plan.finished[key] = found
                self.outcome.reused += 1
        return plan

    def _draw(self, unit: Unit, records: Sequence[Record]) -> tuple[list[Record], list[str]]:
        if not unit.shots:
            return [], []
        seed = self.protocol.seed(unit.run)
        order = getattr(unit.variant.config(seed), "shot_order", "sorted")
        return take_shots(draw_order(records, seed, order), unit.shots, self._why_unreadable)

    def _why_unreadable(self, path: Path) -> str | None:
        if path not in self._readable:
            try:
                read_photo(path)
                self._readable[path] = None
            except PromptadError as error:
                self._readable[path] = str(error)
        return self._readable[path]

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = sha256_file(path)
        return self._hashes[path]

    def _work(self, plan: _ClassPlan) -> int:
        """Photos that are still to be encoded or scored, every pass counted."""
        passes = 0
        for one in plan.pending:
            variant = one.unit.variant
            passes += len(variant.parts)
            if variant.oracle:
                rows = [part for part in variant.parts if part != "memory"]
                passes += len(rows) * (1 + int(variant.config().epochs))
        layouts = {self._layout(one.unit) for one in plan.pending}
        return len(plan.tests) * (passes + len(layouts))

    def _tick(self, photos: int) -> None:
        self._done += photos
        if self.progress is not None:
            self.progress(min(self._done, self._total), self._total)

    # -- working ---------------------------------------------------------------------------------------------

    def _evaluate(self, plan: _ClassPlan) -> None:
        masks: Masks = {}
        good: dict[tuple[_Layout, Path], PhotoFeatures] = {}
        tests: TestSet | None = None
        made_for: _Layout | None = None
        for one in sorted(plan.pending, key=lambda one: self._layouts.index(self._layout(one.unit))):
            layout = self._layout(one.unit)
            try:
                detector = self._detector(one.unit)
                detector.encoder.request = layout[1]
                if tests is None or layout != made_for:
                    tests = None  # before the next set is made: two of them need not fit into memory
                    tests = TestSet(plan.tests, detector.encoder, self.protocol.eval_size, masks, tick=self._tick)
                    made_for = layout
                shots = []
                for shot in one.shots:
                    if (layout, shot.path) not in good:
                        [encoded] = detector.encoder.encode_files([shot.path], reference=True)
                        good[layout, shot.path] = encoded.to(self.backbone.device)
                    shots.append(good[layout, shot.path])
                content = measure_unit(detector, one.unit.variant, shots, tests, self._tick)
            except PromptadError as error:
                self._fail(plan.name, error if str(error).startswith(f"{plan.name}:") else f"{plan.name}: {error}")
                continue
            plan.finished[one.key] = self._write(plan, one, content, tests)
            self.outcome.scored += 1

    def _layout(self, unit: Unit) -> _Layout:
        return self._layouts[self.protocol.variants.index(unit.variant)]

    def _detector(self, unit: Unit) -> Detector:
        return Detector(
            unit.variant.method,
            object=self.protocol.object_of(unit.class_name),
            preset=unit.variant.preset,
            backbone=self.backbone,
            cache=self.cache,
            weights=unit.variant.weights(unit.run),
            **unit.variant.overrides(self.protocol.seed(unit.run)),
        )

    def _write(self, plan: _ClassPlan, one: _Planned, content: dict[str, Any], tests: TestSet) -> dict[str, Any]:
        unit, seed = one.unit, self.protocol.seed(one.unit.run)
        photos: list[dict[str, Any]] = []
        if one.shots:
            manifest = self.out / "shots" / f"{one.key}.json"
            paths = [Path(os.path.abspath(shot.path)) for shot in one.shots]
            root = Path(os.path.abspath(self.root)) if self.root is not None else None
            if root is not None and not all(path.is_relative_to(root) for path in paths):
                root = None  # a table of photos may name some outside its folder
            write_manifest(manifest, one.shots, seed=seed, k=unit.shots, root=root)
            photos = json.loads(manifest.read_text(encoding="utf-8", errors="surrogateescape"))["shots"]
        labels = [record.label for record in plan.tests]
        described: dict[str, Any] = {
            "format": FORMAT,
            "key": one.key,
            "method": unit.variant.method,
            "title": unit.variant.entry.title,
            "preset": unit.variant.preset,
            "name": unit.variant.name,
            "trained": trained_on(unit.variant.weights(unit.run)),
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in unit.variant.settings},
            "class": plan.name,
            "object": self.protocol.object_of(plan.name),
            "shots": unit.shots,
            "run": unit.run,
            "seed": seed,
            "eval_size": self.protocol.eval_size,
            "good_photos": photos,
            "photos": {
                "training": sum(r.split == "train" and r.label == 0 for r in plan.records),
                "normal": labels.count(0),
                "anomalous": labels.count(1),
                "test_sha256": plan.fingerprint,
            },
            "backbone": {
                "name": self.backbone.name,
                "sha256": self.backbone.sha256,
                "precision": self.backbone.precision,
            },
            **content,
            "problems": [*one.problems, *tests.problems],
            "seen_in_training": self._seen(unit, plan.records),
            "versions": {
                "promptad": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "device": str(self.backbone.device),
        }
        text = json.dumps(described, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(self._unit_path(one.key), text + "\n")
        found: dict[str, Any] = json.loads(text)  # as the next run will read it
        return found

    def _seen(self, unit: Unit, records: Sequence[Record]) -> int:
        """How many of a class's photos the trained prompts of a unit were trained on; any makes its numbers void."""
        learned = unit.variant.weights(unit.run)
        known = set(learned.photos) if learned else set()
        return sum(self._hash(one.path) in known for one in records if self._readable_file(one.path)) if known else 0

    @staticmethod
    def _readable_file(path: Path) -> bool:
        return os.access(path, os.R_OK)

    def _unit_path(self, key: str) -> Path:
        return self.out / "units" / f"{key}.json"


def _shared_layouts(detectors: Sequence[Detector]) -> list[_Layout]:
    """How each detector's photos are encoded, with the taps of all that else encode alike: one pass serves all."""
    taps: dict[_Layout, set[int]] = {}
    alike = []
    for detector in detectors:
        request = detector.encoder.request
        layout = (detector.preprocess, replace(request, taps=()))
        alike.append(layout)
        taps.setdefault(layout, set()).update(request.taps)
    return [(pixels, replace(request, taps=tuple(sorted(taps[pixels, request])))) for pixels, request in alike]

"""Computing the units of one class: what is still to be fitted and measured, each into its own file.

Every photo is encoded once a layout; fits and scores work on these features. One unit gives a row for
each part that was asked for, all from one fit, and with an oracle selection a second row for each, beside
that of the last epoch.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from promptad import __version__
from promptad.bench.anomalies import DrawnAnomalies
from promptad.bench.hardware import hardware
from promptad.bench.masks import Masks
from promptad.bench.near import near_copies
from promptad.bench.plan import ClassPlan, PhotoFiles, PlannedUnit
from promptad.bench.protocol import Protocol, Unit
from promptad.bench.testset import KEEP_BYTES, TestSet, Tick, no_tick
from promptad.bench.units import (
    FORMAT,
    measure_unit,
    picture_path,
    read_unit,
    shots_path,
    trained_on,
    unit_path,
    write_unit,
)
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest
from promptad.clip.preprocess import Preprocess
from promptad.data.parts import FilePart, PhotoRef
from promptad.data.records import Record
from promptad.data.shots import write_manifest
from promptad.detector import Detector
from promptad.errors import PromptadError
from promptad.learning.features import Encoder, FeatureStore, PhotoFeatures

Progress = Callable[[int, int], None]
Layout = tuple[Preprocess, FeatureRequest]


@dataclass(frozen=True)
class Evaluation:
    """A protocol on a data set, and where its results go.

    Attributes:
        records: training and test photos, as `load_dataset` gives them.
        out: gets ``units/<key>.json`` (results) and ``shots/<key>.json`` (manifest of the good photos) of
            every unit.
        root: folder of the data set, for the names in results. cache: keeps features on disk between runs.
        keep_bytes: features of one class that are kept in memory.
        fresh: compute every unit again. pictures: of how many photos a class the maps of every row's first run are kept, in ``maps/<key>.safetensors``. progress: called with photos done and photos in all.
    """

    protocol: Protocol
    records: Sequence[Record]
    backbone: Backbone
    out: Path
    root: Path | None = None
    cache: FeatureStore | None = None
    keep_bytes: int = KEEP_BYTES
    fresh: bool = False
    progress: Progress | None = None
    pictures: int = 0


@dataclass(frozen=True)
class Failure:
    """What could not be evaluated: a class, or some of its units, and why, on one line."""

    class_name: str
    reason: str


class _Encoded:
    """The photos of a class in one layout: test photos, and good ones as they are asked for, each encoded once."""

    def __init__(self, layout: Layout, encoder: Encoder, tests: TestSet) -> None:
        self.layout, self.encoder, self.tests = layout, encoder, tests
        self._good: dict[PhotoRef, PhotoFeatures] = {}
        self._copies: dict[PhotoRef, list[PhotoRef]] = {}

    def good(self, path: PhotoRef) -> PhotoFeatures:
        """A photo as one to learn from."""
        if path not in self._good:
            [photo] = self.encoder.encode_files([path], learned=True)
            self._good[path] = photo.to(self.encoder.backbone.device)
        return self._good[path]

    def copies(self, path: PhotoRef) -> list[PhotoRef]:
        """The test photos that have the pixels of a good one."""
        if path not in self._copies:
            photo = self.good(path)
            if (
                self.encoder.preprocess.channels != "rgb"
            ):  # good photos are then encoded in other colours than test photos
                [photo] = self.encoder.encode_files([path])
            self._copies[path] = self.tests.copies_of(path, photo)
        return self._copies[path]

    def anomalies(self, drawn: DrawnAnomalies | None) -> tuple[list[PhotoFeatures], dict[PhotoRef, PhotoRef]]:
        """Labelled anomalies as photos to learn from; and what the test set loses for them, copies of them too."""
        if drawn is None:
            return [], {}
        removed = {record.photo: record.photo for record in drawn.removed}
        for record in drawn.learned:
            removed |= dict.fromkeys(self.copies(record.photo), record.photo)
        return [self.good(record.photo) for record in drawn.learned], removed


class ClassWork:
    """What computes units, class by class.

    Args:
        evaluation: whose units they are. files: what is known of its photo files.
        tick: told how many photos more are encoded or scored. layouts: as another one found them.

    Attributes:
        layouts: how the photos of each variant of the protocol are encoded.

    Raises:
        ConfigError, TextError: settings that no unit can be made with.
    """

    def __init__(
        self, evaluation: Evaluation, files: PhotoFiles, tick: Tick = no_tick, *, layouts: Sequence[Layout] = ()
    ) -> None:
        self.evaluation, self.files, self.tick = evaluation, files, tick
        self.protocol, self.backbone = evaluation.protocol, evaluation.backbone
        # Settings that fail would fail in every unit: making the detectors says it once, before any work.
        self.layouts = list(layouts) or shared_layouts(
            [self._detector(Unit(variant, "", 0, 0)) for variant in self.protocol.variants]
        )

    def photos(self, plan: ClassPlan) -> int:
        """Photos of a class that are still to be encoded or scored, every pass counted."""
        passes = 0
        for planned in plan.pending:
            variant = planned.unit.variant
            passes += len(variant.parts)
            if self.protocol.oracle(variant):
                rows = [part for part in variant.parts if part != "memory"]
                passes += len(rows) * (1 + int(variant.config().epochs))
        layouts = {self.layout(planned.unit) for planned in plan.pending}
        return len(plan.tests) * (passes + len(layouts))

    def compute(self, plan: ClassPlan, *, first: int = 0) -> tuple[int, list[str]]:
        """Computes the pending units of a class; how many, and a line for each that could not be.

        Args:
            first: test photo that is encoded first: workers that share a store on disk and begin at different photos encode
                each of them once between them.
        """
        masks: Masks = {}
        encoded: _Encoded | None = None
        near: list[tuple[PhotoRef, PhotoRef]] | None = None
        scored, problems = 0, []
        for planned in sorted(plan.pending, key=lambda planned: self.layouts.index(self.layout(planned.unit))):
            layout, variant = self.layout(planned.unit), planned.unit.variant
            conventions = self.protocol.measured_by(variant)
            twin = (
                None if self.evaluation.fresh else read_unit(unit_path(self.evaluation.out, planned.key), planned.key)
            )
            if twin is not None:  # of a row with another name and the same settings
                plan.finished[planned.key] = twin
                continue
            try:
                detector = self._detector(planned.unit)
                if encoded is None or encoded.layout != layout:
                    encoded = None  # before the next set is made: two of them need not fit into memory
                    encoder = Encoder(self.backbone, *layout, cache=self.evaluation.cache)
                    keep = self.evaluation.keep_bytes
                    tests = TestSet(
                        plan.tests, encoder, conventions, masks, keep_bytes=keep, tick=self.tick, first=first
                    )
                    encoded = _Encoded(layout, encoder, tests)
                shots = [encoded.good(shot.photo) for shot in planned.shots]
                learned_from = dict(planned.learned_from)
                for shot in planned.shots:
                    learned_from |= {
                        test: shot.photo for test in encoded.copies(shot.photo) if test not in learned_from
                    }
                if near is None:
                    near = near_copies([shot.photo for other in plan.pending for shot in other.shots], plan.tests)
                faulty, removed = encoded.anomalies(planned.anomalies)
                left = encoded.tests.under(conventions).without({**learned_from, **removed})
                content = measure_unit(
                    detector,
                    variant,
                    shots,
                    left,
                    self.protocol.oracle(variant),
                    self.tick,
                    faulty,
                    self._pictures(planned),
                )
            except PromptadError as error:
                problems.append(str(error) if str(error).startswith(f"{plan.name}:") else f"{plan.name}: {error}")
                continue
            shown = {shot.photo for shot in planned.shots}
            content["near_copies"] = [
                pair for pair in near if pair[1] in shown and pair[0] not in {**learned_from, **removed}
            ]
            plan.finished[planned.key] = self._write(plan, planned, content, left, learned_from)
            scored += 1
        return scored, problems

    def _pictures(self, planned: PlannedUnit) -> tuple[Path, int] | None:
        """Where the maps of a few photos of a unit go, and of how many; None where none are kept."""
        number = self.evaluation.pictures
        keep = number and planned.unit.run == 0 and planned.unit.variant.entry.facts.maps
        return (picture_path(self.evaluation.out, planned.key), number) if keep else None

    def layout(self, unit: Unit) -> Layout:
        """How the photos of a unit are encoded."""
        return self.layouts[self.protocol.variants.index(unit.variant)]

    def _detector(self, unit: Unit) -> Detector:
        return Detector(
            unit.variant.method,
            object=self.protocol.object_of(unit.class_name) if unit.class_name else "object",
            preset=unit.variant.preset,
            backbone=self.backbone,
            weights=unit.variant.weights(unit.run, unit.class_name),
            **unit.variant.overrides(self.protocol.seed(unit.run)),
        )

    # -- writing ---------------------------------------------------------------------------------------------

    def _write(
        self,
        plan: ClassPlan,
        planned: PlannedUnit,
        content: dict[str, Any],
        tests: TestSet,
        learned_from: Mapping[PhotoRef, PhotoRef],
    ) -> dict[str, Any]:
        root = Path(os.path.abspath(self.evaluation.root)) if self.evaluation.root is not None else None
        described: dict[str, Any] = {
            "format": FORMAT,
            "key": planned.key,
            **self._what(planned.unit),
            "good_photos": self._manifest(planned, root),
            "photos": self._counts(plan),
            "limit": self.protocol.limit,
            "test": [{"file": photo_name(record.photo, root), "label": record.label} for record in tests.records],
            **content,
            "near_copies": [[photo_name(photo, root) for photo in pair] for pair in content["near_copies"]],
            "problems": [*planned.problems, *tests.problems],
            **({"anomalies": planned.anomalies.described(lambda p: photo_name(p, root))} if planned.anomalies else {}),
            "learned_from": [[photo_name(test, root), photo_name(shot, root)] for test, shot in learned_from.items()],
            "seen_in_training": self._seen(planned.unit, plan.records),
            **self._made_with(),
        }
        return write_unit(unit_path(self.evaluation.out, planned.key), described)

    def _what(self, unit: Unit) -> dict[str, Any]:
        variant = unit.variant
        return {
            "method": variant.method,
            "title": variant.entry.title,
            "preset": variant.preset,
            "name": variant.name,
            "trained": trained_on(variant.weights(unit.run, unit.class_name)),
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in variant.settings},
            "conventions": self.protocol.measured_by(variant).as_dict(),
            "class": unit.class_name,
            "object": self.protocol.object_of(unit.class_name),
            "shots": unit.shots,
            "run": unit.run,
            "seed": self.protocol.seed(unit.run),
            "given_shots": self.protocol.given.source if self.protocol.given is not None and unit.shots else "",
        }

    def _manifest(self, planned: PlannedUnit, root: Path | None) -> list[dict[str, Any]]:
        """Writes the manifest of a unit's good photos, and gives its entries."""
        if not planned.shots:
            return []
        manifest = shots_path(self.evaluation.out, planned.key)
        paths = [Path(os.path.abspath(shot.path)) for shot in planned.shots]
        if root is not None and not all(path.is_relative_to(root) for path in paths):
            root = None  # a table of photos may name some outside its folder
        seed = self.protocol.seed(planned.unit.run)
        write_manifest(manifest, planned.shots, seed=seed, k=len(planned.shots), root=root)
        entries: list[dict[str, Any]] = json.loads(manifest.read_text(encoding="utf-8", errors="surrogateescape"))[
            "shots"
        ]
        return entries

    def _counts(self, plan: ClassPlan) -> dict[str, Any]:
        labels = [record.label for record in plan.tests]
        training = sum(record.split == "train" and record.label == 0 for record in plan.records)
        return {
            "training": training,
            "normal": labels.count(0),
            "anomalous": labels.count(1),
            "test_sha256": plan.fingerprint,
        }

    def _made_with(self) -> dict[str, Any]:
        return {
            "backbone": {
                "name": self.backbone.title,
                "sha256": self.backbone.sha256,
                "precision": self.backbone.precision,
                **({} if self.backbone.memory is None else {"memory": self.backbone.memory.named}),
            },
            "versions": {
                "promptad": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "device": str(self.backbone.device),
            "hardware": hardware(self.backbone.device),
        }

    def _seen(self, unit: Unit, records: Sequence[Record]) -> int:
        """How many of a class's photos the trained prompts of a unit were trained on; any makes its numbers void."""
        learned = unit.variant.weights(unit.run, unit.class_name)
        known = set(learned.photos) if learned else set()
        return sum(self.files.hash_or_none(record.photo) in known for record in records) if known else 0


def photo_name(photo: PhotoRef, root: Path | None) -> str:
    """A photo's name in results: inside the data set's folder, else its whole path; of a part with ``#`` and its rule."""
    if isinstance(photo, FilePart):
        return f"{photo_name(photo.path, root)}#{photo.rule}"
    absolute = Path(os.path.abspath(photo))
    return (absolute.relative_to(root) if root is not None and absolute.is_relative_to(root) else absolute).as_posix()


def shared_layouts(detectors: Sequence[Detector]) -> list[Layout]:
    """How each detector's photos are encoded, with the taps of all that else encode alike: one pass serves all.

    Windows cost ten passes, and an input that a method runs through the tower itself is large: both are only for the methods that
    ask for them, so that a row that is added later does not have them made again.
    """
    taps: dict[Layout, set[int]] = {}
    second: dict[Layout, set[int]] = {}
    alike = []
    for detector in detectors:
        request = detector.encoder.request
        memory = None if request.memory is None else replace(request.memory, taps=())
        layout = (detector.preprocess, replace(request, taps=(), memory=memory))
        alike.append(layout)
        taps.setdefault(layout, set()).update(request.taps)
        second.setdefault(layout, set()).update(() if request.memory is None else request.memory.taps)
    # Where no layer is tapped it does not matter how layers would be: such a row goes with one that differs in nothing else.
    tapped = {(layout[0], _untapped(layout[1])): layout for layout in reversed(alike) if taps[layout]}
    alike = [layout if taps[layout] else tapped.get((layout[0], _untapped(layout[1])), layout) for layout in alike]
    return [(layout[0], _with_taps(layout[1], taps[layout], second[layout])) for layout in alike]


def _untapped(request: FeatureRequest) -> FeatureRequest:
    """The same request without anything that concerns taps alone."""
    plain = FeatureRequest()
    named = ("taps", "tap_point", "tap_pool", "tap_class", "tap_space", "tap_stream", "turns", "mirrored")
    return replace(request, **{name: getattr(plain, name) for name in named})


def _with_taps(request: FeatureRequest, taps: set[int], second: set[int]) -> FeatureRequest:
    memory = None if request.memory is None else replace(request.memory, taps=tuple(sorted(second)))
    return replace(request, taps=tuple(sorted(taps)), memory=memory)

"""Runs a benchmark: opens sets and backbones, trains, computes units over processes, and collects what every set gave.

Everything that is finished lies on disk under what decides it: a benchmark that was stopped at any moment goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from promptad.bench.plan import ClassPlan, PhotoFiles
from promptad.bench.protocol import Protocol
from promptad.bench.run import Outcome, plan_classes
from promptad.bench.units import read_unit, unit_path
from promptad.bench.variants import Variant
from promptad.bench.work import ClassWork, Evaluation, Layout, photo_name
from promptad.clip.architecture import Activation
from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.device import Precision
from promptad.data.datasets import DataSet, open_dataset
from promptad.data.files import prepare_folder
from promptad.data.lock import only_one
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError, PromptadError
from promptad.learning.features import GIB, FeatureStore
from promptad.methods.registry import find_method
from promptad.saved.prompts import Learned, find_learned, read_learned
from promptad.suite.chosen_photos import photos_of
from promptad.suite.plan import Plan, RowPlan, SetPlan, row_label, taken_for
from promptad.suite.processes import Context, Job, Tick, run_jobs
from promptad.suite.trainings import TrainingJob, training_jobs
from promptad.suite.variants import check_rows, draws, row_variants

Watch = Callable[[str, int, int], None]
"""Called with a stage ("training", "measuring"), what is done and what there is in all."""


@dataclass(frozen=True)
class Options:
    """How a benchmark is run; nothing here changes a number.

    Attributes:
        out: folder of the results. store: keeps features on disk. keep_bytes: features of a class that are kept in memory.
        processes: how many work at once. devices: where they run, in turn. precision, activation: of the towers. fresh: compute all anew.
        weights: name of a backbone in the plan -> the name, file or folder to take for it.
    """

    out: Path
    store: FeatureStore | None = None
    keep_bytes: int = 2 * GIB
    processes: int = 1
    devices: tuple[str, ...] = ()
    precision: Precision = "fp32"
    activation: Activation | None = None
    fresh: bool = False
    weights: Mapping[str, str] = field(default_factory=dict)

    def open_backbone(self, name: str, activation: Activation | None = None, memory: str = "") -> Backbone:
        """What is taken for a backbone of a plan, on the first device; `activation`: instead of the one for all; `memory`: its second
        image tower.

        Raises:
            WeightsError: it is not there, or cannot be read.
        """
        return load_backbone(
            taken_for(name, self.weights),
            precision=self.precision,
            device=self.devices[0] if self.devices else "cpu",
            activation=activation or self.activation,
            memory=self.weights.get(memory, memory) or None,
        )


@dataclass
class SetResult:
    """What was measured on one data set.

    Attributes:
        plan, data: the set. outcome: its units, in the order of the plan's rows. protocols: one a backbone.
    """

    plan: SetPlan
    data: DataSet
    outcome: Outcome = field(default_factory=Outcome)
    protocols: list[tuple[Protocol, Backbone]] = field(default_factory=list)

    @cached_property
    def photos(self) -> dict[str, Record]:
        """Each photo by the name that units have for it."""
        root = Path(os.path.abspath(self.data.root))
        return {photo_name(record.photo, root): record for record in self.data.records}

    @property
    def groups(self) -> tuple[str, ...]:
        """The means that it counts in."""
        facts = self.data.facts
        return self.plan.groups or ((facts.domain,) if facts is not None and facts.domain != "other" else ())


@dataclass
class SuiteResult:
    """What a benchmark gave: each set's results, lines on what could not be done, and how many trainings and units were made."""

    plan: Plan
    sets: list[SetResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    trained: int = 0
    scored: int = 0
    reused: int = 0


@dataclass(frozen=True)
class _Part:
    """One set under one backbone; `make` gives its evaluation with that backbone as another process has it."""

    result: SetResult
    backbone: str
    make: Callable[..., Evaluation]
    work: ClassWork
    plans: list[ClassPlan]


@dataclass(frozen=True)
class UnitsJob:
    """Some pending units of one class; see `processes.Job`."""

    title: str
    part: int
    plan: ClassPlan
    first: int
    cost: int

    def run(self, context: Context, tick: Tick) -> tuple[int, list[str]]:
        """Computes them; how many, and a line for each that could not be."""
        evaluation, layouts, backbone = context.shared[self.part]
        work = ClassWork(evaluation(backbone=context.backbone(backbone)), PhotoFiles(), tick, layouts=layouts)
        return work.compute(self.plan, first=self.first)


def run_suite(plan: Plan, options: Options, watch: Watch | None = None) -> SuiteResult:
    """Runs a benchmark to its end, or goes on with it.

    Raises:
        ConfigError: settings that no row can have. DataError: another run is at work in the folder, it cannot be written, or no
            set can be read. WeightsError: a backbone that is not there.
    """
    check_rows(plan)  # before anything is made or loaded
    prepare_folder(options.out)
    with only_one(options.out):
        return _SuiteRun(plan, options, watch or (lambda *_: None)).execute()


class _SuiteRun:
    """The state of one run."""

    def __init__(self, plan: Plan, options: Options, watch: Watch) -> None:
        self.plan, self.options, self.watch = plan, options, watch
        self.result = SuiteResult(plan)
        self.sets: dict[str, DataSet] = {}
        self.backbones: dict[str, Backbone] = {}
        # What a unit says of its row -> the row's number in the plan.
        self.numbers: dict[tuple[str, str, str], int] = {}

    def execute(self) -> SuiteResult:
        self._open()
        files = self._train()
        parts = self._parts(files)
        self._measure(parts)
        self._collect(parts)
        return self.result

    # -- opening -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        for entry in self.plan.sets:
            try:
                data = open_dataset(entry.path, entry.layout, entry.normal)
                self.sets[entry.title] = photos_of(data, entry)
            except PromptadError as error:
                self._problem(f"{entry.title}: not measured: {error}")
        if not self.sets:
            raise DataError(f"no data set can be read; first: {self.result.problems[0]}")
        for key, named in {self._tower(row): self._named(row) for row in self.plan.rows}.items():
            self.backbones[key] = self.options.open_backbone(*named)

    def _named(self, row: RowPlan) -> tuple[str, Activation | None, str]:
        """The backbone of a row, the activation that its settings ask for, or else the one that is given for all, and its memory's
        tower."""
        config = find_method(row.method).make_config(row.preset, **row.settings)
        asked = config.asked_activation
        activation = self.options.activation if asked == "any" else asked
        return self.plan.backbone_of(row), activation, self.plan.memory_backbone_of(row)

    def _tower(self, row: RowPlan) -> str:
        """Under which name the backbone of a row is kept."""
        name, activation, memory = self._named(row)
        named = [*([] if activation == self.options.activation else [str(activation)]), *([memory] if memory else [])]
        return " with ".join([name, *named])

    def _problem(self, line: str) -> None:
        if line not in self.result.problems:
            self.result.problems.append(line)

    # -- training ----------------------------------------------------------------------------------------------

    def _train(self) -> dict[tuple[int, str], list[TrainingJob]]:
        """Trains what rows need; (number of the row, set) -> its trainings."""
        needed: dict[tuple[int, str], list[TrainingJob]] = {}
        folder = self.options.out / "trained"
        for number, row in enumerate(self.plan.rows):
            for name in self._sets_of(row) if row.train is not None else ():
                backbone = self._tower(row)
                own = (backbone, self.backbones[backbone])
                try:
                    needed[number, name] = training_jobs(row, name, self.sets, own, folder, self.options.store)
                except (ConfigError, DataError, KeyError) as error:
                    reason = f"the set {error} cannot be read" if isinstance(error, KeyError) else str(error)
                    self._problem(f"{name}: {row_label(row)} not measured: {reason}")
        jobs = {job.path: job for of_row in needed.values() for job in of_row}
        if jobs:
            folder.mkdir(parents=True, exist_ok=True)
            self.result.trained = sum(not path.exists() for path in jobs)
            for done in self._run(list(jobs.values()), {}, "training"):
                for line in done.result or []:
                    self._problem(f"{done.job.title}: left out: {line}")
                if done.error:
                    self._problem(f"{done.job.title}: {done.error}")
        return needed

    def _sets_of(self, row: RowPlan) -> list[str]:
        return [name for name in self.sets if not row.sets or name in row.sets]

    def _run(self, jobs: Sequence[Job], shared: Any, stage: str) -> list[Any]:
        total, done = sum(job.cost for job in jobs), 0

        def tick(more: int) -> None:
            nonlocal done
            done = min(total, done + more)
            self.watch(stage, done, total)

        context = Context(dict(self.backbones), shared)
        return run_jobs(jobs, context, processes=self.options.processes, devices=self.options.devices, tick=tick)

    # -- measuring ---------------------------------------------------------------------------------------------

    def _parts(self, files: Mapping[tuple[int, str], list[TrainingJob]]) -> list[_Part]:
        parts = []
        for entry in self.plan.sets:
            if entry.title not in self.sets:
                continue
            result = SetResult(entry, self.sets[entry.title])
            self.result.sets.append(result)
            for name, backbone in self.backbones.items():
                variants = self._variants(entry.title, name, files)
                if not variants:
                    continue
                protocol = self._protocol(entry, result.data, variants)
                result.protocols.append((protocol, backbone))
                parts.append(self._part(result, protocol, name))
        return parts

    def _variants(
        self, set_name: str, backbone: str, files: Mapping[tuple[int, str], list[TrainingJob]]
    ) -> tuple[Variant, ...]:
        """The rows of a set under one backbone."""
        variants: list[Variant] = []
        for number, row in enumerate(self.plan.rows):
            if self._tower(row) != backbone or set_name not in self._sets_of(row):
                continue
            try:
                learned = self._learned(row, backbone, files.get((number, set_name)))
                several = len({tower.title for tower in self.backbones.values()}) > 1
                own = row_variants(row, learned, f"on {self.backbones[backbone].title}" if several else "")
            except PromptadError as error:
                self._problem(f"{set_name}: {row_label(row)} not measured: {error}")
                continue
            variants += own
            self.numbers |= {(variant.method, variant.preset, variant.name): number for variant in own}
        return tuple(variants)

    def _learned(self, row: RowPlan, backbone: str, jobs: list[TrainingJob] | None) -> list[Learned]:
        entry = find_method(row.method)
        if not entry.trained:
            return []
        if row.train is not None:
            missing = [job for job in jobs or () if not job.path.exists()]
            if not jobs or missing:
                raise DataError(f"{missing[0].title if missing else 'its training'} did not end well")
            return [read_learned(job.path) for job in jobs]
        own = [read_learned(path) for path in row.weights] or [find_learned(row.method, self.backbones[backbone])]
        for file in own:
            if file.preset != row.preset:
                raise ConfigError(
                    f"{file.path.name} was trained with preset {file.preset}; name that one, or prompts of the preset {row.preset} "
                    f"(`promptad train {row.method} --preset {row.preset}`)"
                )
        return own

    def _protocol(self, entry: SetPlan, data: DataSet, variants: tuple[Variant, ...]) -> Protocol:
        plan, classes = self.plan, {record.class_name for record in data.records}
        objects = dict.fromkeys(classes, entry.object) if entry.object else {}
        common = (variants, plan.shots, plan.seeds, plan.seed, plan.convention, objects)
        return Protocol(*common, **draws(plan))

    def _part(self, result: SetResult, protocol: Protocol, backbone: str) -> _Part:
        options, data = self.options, result.data
        make = partial(
            Evaluation,
            protocol,
            data.records,
            out=options.out,
            root=data.root,
            cache=options.store,
            keep_bytes=options.keep_bytes,
            fresh=options.fresh,
            pictures=self.plan.pictures,
        )
        work = ClassWork(make(backbone=self.backbones[backbone]), PhotoFiles())
        return _Part(result, backbone, make, work, plan_classes(work.evaluation, work.files, result.outcome))

    def _measure(self, parts: Sequence[_Part]) -> None:
        shared = [(part.make, part.work.layouts, part.backbone) for part in parts]
        jobs = [
            job for number, part in enumerate(parts) for plan in part.plans for job in self._jobs(number, part, plan)
        ]
        for done in self._run(jobs, shared, "measuring"):
            part = parts[done.job.part]
            scored, lines = done.result or (0, [done.error])
            self.result.scored += scored
            for line in lines:
                part.result.outcome.fail(done.job.plan.name, line)

    def _jobs(self, number: int, part: _Part, plan: ClassPlan) -> list[UnitsJob]:
        """The pending units of a class, one job for each layout: its photos are encoded once. Several processes share a
        layout where each photo is encoded by one of them and read from the disk by the others."""
        by_layout: dict[Layout, list[Any]] = {}
        for planned in plan.pending:
            by_layout.setdefault(part.work.layout(planned.unit), []).append(planned)
        jobs = []
        for units in by_layout.values():
            share = self.options.store is not None and self.options.processes > 1
            pieces = min(len(units), self.options.processes) if share else 1
            for piece in range(pieces):
                own = replace(plan, planned=units[piece::pieces], finished={}, failures=[])
                title = f"{part.result.plan.title}, {plan.name}"
                jobs.append(UnitsJob(title, number, own, piece * len(plan.tests) // pieces, part.work.photos(own)))
        return jobs

    def _collect(self, parts: Sequence[_Part]) -> None:
        """Reads the finished units of every set, in the order of the plan's rows."""
        for part in parts:
            for plan in part.plans:
                for planned in plan.planned:
                    content = read_unit(unit_path(self.options.out, planned.key), planned.key)
                    if content is not None:
                        plan.finished[planned.key] = content
            part.result.outcome.collect(part.plans)
        for result in self.result.sets:
            self.result.reused += result.outcome.reused
            classes = list(dict.fromkeys(record.class_name for record in result.data.records))
            result.outcome.units.sort(key=lambda unit: (self._row_number(unit), classes.index(unit["class"])))

    def _row_number(self, unit: Mapping[str, Any]) -> int:
        return self.numbers[unit["method"], unit["preset"], unit["name"]]

"""Runs a protocol on a data set, each unit into its own file, so that a stopped run goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from promptad.bench.plan import ClassPlan, PhotoFiles, plan_class
from promptad.bench.work import ClassWork, Evaluation, Failure, Progress
from promptad.data.files import one_line, shown
from promptad.data.lock import only_one
from promptad.errors import DataError

__all__ = ["Evaluation", "Failure", "Outcome", "Progress", "plan_classes", "run"]


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

    def fail(self, class_name: str, reason: object) -> None:
        """Notes once what could not be evaluated."""
        failure = Failure(class_name, str(reason))
        if failure not in self.failures:
            self.failures.append(failure)

    def collect(self, plans: Sequence[ClassPlan]) -> None:
        """Takes the finished units of all classes, under the names and numbers of good photos that their rows have now."""
        for plan in plans:
            self.units += [
                {**plan.finished[planned.key], "name": planned.unit.variant.name, "shots": planned.unit.shots}
                for planned in plan.planned
                if planned.key in plan.finished
            ]
        lines = [line for unit in self.units for line in unit["problems"]]
        self.problems = list(dict.fromkeys([*self.problems, *lines]))


def run(evaluation: Evaluation) -> Outcome:
    """Evaluates every class of the records; finished units in ``out/units`` are reused.

    Ctrl-C may come at any time: what is finished lies on disk, and the next run of the same evaluation goes on.

    Raises:
        ConfigError, TextError: settings that no unit can be made with. DataError: `out` cannot be written, another
            evaluation is at work in it, or there is no photo.
    """
    if not evaluation.records:
        raise DataError("no photos to evaluate; name a data set that has some")
    try:
        evaluation.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{shown(evaluation.out)}: cannot be made a folder ({one_line(error)}); choose another"
        ) from error
    with only_one(evaluation.out):
        return _Run(evaluation).execute()


class _Run:
    """The state of one run."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.outcome = Outcome()
        self._done = self._total = 0
        self.work = ClassWork(evaluation, PhotoFiles(), self._tick)

    def execute(self) -> Outcome:
        plans = plan_classes(self.evaluation, self.work.files, self.outcome)
        self._total = sum(self.work.photos(plan) for plan in plans)
        for plan in plans:
            scored, problems = self.work.compute(plan)
            self.outcome.scored += scored
            for problem in problems:
                self.outcome.fail(plan.name, problem)
        self.outcome.collect(plans)
        return self.outcome

    def _tick(self, photos: int) -> None:
        self._done += photos
        if self.evaluation.progress is not None:
            self.evaluation.progress(min(self._done, self._total), self._total)


def plan_classes(evaluation: Evaluation, files: PhotoFiles, outcome: Outcome) -> list[ClassPlan]:
    """What there is to do for every class; what cannot be planned goes to the outcome, and so does the number of units that
    lie finished on disk."""
    plans = []
    finished_in = None if evaluation.fresh else evaluation.out
    for name in dict.fromkeys(record.class_name for record in evaluation.records):
        records = [record for record in evaluation.records if record.class_name == name]
        try:
            plan = plan_class(name, records, evaluation.protocol, evaluation.backbone, files, finished_in)
        except DataError as error:
            outcome.fail(name, error)
            continue
        for reason in plan.failures:
            outcome.fail(name, reason)
        outcome.reused += len(plan.finished)
        plans.append(plan)
    return plans

"""A paper's table or figure as a benchmark's plan, with what is missing for it and what differs from the paper."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from promptad.annotations import ALL
from promptad.clip.zoo import list_checkpoints
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.methods.catalogue import method_facts
from promptad.methods.registry import find_method
from promptad.suite.papers.experiments import Experiment, PaperRow
from promptad.suite.papers.places import Places
from promptad.suite.papers.printed import PrintedRow, measured_sets, printed_rows
from promptad.suite.plan import Plan, RowPlan, SetPlan, TrainPlan

_LOOK = 6
"""Normal and anomalous photos of a class that are scored for figures of maps."""
_WORST = 40
"""The same where the worst maps are looked for."""


@dataclass(frozen=True)
class Wish:
    """What a person may choose of a paper's table.

    Attributes:
        preset: the papers' settings or those of the authors' code. seeds: runs; None as in the paper. limit: photos a class and label;
            None as the table has it. settings: instead of the paper's, of every method that has them.
    """

    preset: str = "paper"
    seeds: int | None = None
    limit: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def settings_of(self, method: str) -> dict[str, Any]:
        """Those of the settings that a method has."""
        known = find_method(method).setting_names
        return {key: value for key, value in self.settings.items() if key in known}


@dataclass(frozen=True)
class Point:
    """Where a row stands in a figure: its curve, and its place on the x axis in words."""

    curve: str
    x: str
    axis: str


@dataclass(frozen=True)
class PaperPlan:
    """An experiment ready to run.

    Attributes:
        experiment: which. plan: its benchmark; without sets or rows where nothing is measured.
        names: (name of the plan's row, part) -> the row of print. points: name of the plan's row -> its place in a figure.
        missing: what is not there. remarks: what differs from the paper. wish: what a person chose. folders: where data was looked for.
    """

    experiment: Experiment
    plan: Plan
    names: Mapping[tuple[str, str], str]
    points: Mapping[str, Point]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]
    wish: Wish
    folders: tuple[Path, ...] = ()


def needed_sets(experiment: Experiment) -> list[str]:
    """Keys of all sets that are measured or trained on."""
    sets = measured_sets(experiment)
    rule = experiment.paper.train.auxiliary
    used = [rule.get(key, rule.get("*", "")) for key in sets] if _trains_on_photos(experiment) else []
    return [key for key in dict.fromkeys([*sets, *used]) if key]


def methods_of(experiment: Experiment) -> list[str]:
    """Names of the methods that it measures."""
    methods = [row.ours.method for row in printed_rows(experiment)] + [row.method for row in experiment.rows]
    return list(dict.fromkeys(methods))


def _trains_on_photos(experiment: Experiment) -> bool:
    return any(method_facts(name).trained_on in ("masks", "labels") for name in methods_of(experiment))


def paper_plan(experiment: Experiment, places: Places, wish: Wish) -> PaperPlan:
    """The plan of an experiment on the sets that are there.

    Raises:
        ConfigError: a preset that its methods have not, or a setting that no method has.
    """
    made = _Rows(experiment, wish, set(places.sets))
    rows = made.rows()
    _require_known(wish.settings, methods_of(experiment))
    measured = [key for key in measured_sets(experiment) if key in places.sets]
    used = [key for key in places.sets if key in {*measured, *(k for row in rows for k in _sources(row))}]
    limit = wish.limit if wish.limit is not None else _usual_limit(experiment)
    plan = Plan(
        experiment.title,
        tuple(_set(experiment, key, places) for key in used),
        tuple(rows) if measured else (),
        shots=experiment.shots,
        seeds=runs_of(experiment, wish),
        limit=limit,
        anomalies=(experiment.anomalies,) if experiment.anomalies else (),
        backbone=experiment.paper.backbone,
        source=argument("paper", experiment.name),
        pictures=_WORST if experiment.photos == "worst" else 4,
        worst_pictures=experiment.photos == "worst",
    )
    of_paper = experiment.paper.differs if experiment.scores else ()
    remarks = [*of_paper, *experiment.differs, *_wish_remarks(wish, experiment)]
    return PaperPlan(
        experiment,
        plan,
        made.names,
        made.points,
        (*places.missing, *made.missing),
        tuple(remarks),
        wish,
        places.folders,
    )


def runs_of(experiment: Experiment, wish: Wish) -> int:
    """Runs of an experiment: pictures are of one."""
    return wish.seeds or (1 if experiment.kind in ("maps", "embedding") else experiment.paper.seeds)


def _usual_limit(experiment: Experiment) -> int:
    if experiment.kind == "maps":
        return _WORST if experiment.photos == "worst" else _LOOK
    return 0


def _sources(row: RowPlan) -> list[str]:
    rule = row.train.auxiliary if row.train is not None else {}
    return [rule.get(key, rule.get("*", "")) for key in row.sets]


def _set(experiment: Experiment, key: str, places: Places) -> SetPlan:
    return SetPlan(
        places.sets[key],
        key,
        experiment.layouts.get(key, "auto"),
        tuple(experiment.classes.get(key, ())),
        types=experiment.types if key in experiment.classes or len(experiment.sets) == 1 else (),
        smallest=_LOOK if experiment.photos == "smallest" else 0,
    )


def _wish_remarks(wish: Wish, experiment: Experiment) -> Iterator[str]:
    if wish.settings:
        words = ", ".join(f"{key}={value}" for key, value in wish.settings.items())
        yield f"settings that are not the paper's: {words}"
    if wish.seeds and wish.seeds != experiment.paper.seeds:
        yield f"{wish.seeds} runs; the paper has {experiment.paper.seeds}"
    if wish.preset != "paper":
        yield f"settings of the preset {wish.preset}, those of the authors' code where there is one"


def _require_known(settings: Mapping[str, Any], methods: Sequence[str]) -> None:
    known = list(dict.fromkeys(key for name in methods for key in find_method(name).setting_names))
    for key in settings:
        if known and key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{argument('settings', key)}: none of {', '.join(methods)} has such a setting; {hint}")


class _Rows:
    """Makes the rows of a plan, and remembers what stands for what."""

    def __init__(self, experiment: Experiment, wish: Wish, there: set[str]) -> None:
        self.experiment, self.wish, self.there = experiment, wish, there
        self.names: dict[tuple[str, str], str] = {}
        self.points: dict[str, Point] = {}
        self.missing: list[str] = []

    def rows(self) -> list[RowPlan]:
        """All rows, those with one fit joined."""
        if self.experiment.rows:
            return [row for entry in self.experiment.rows for row in self._explicit(entry)]
        return self._joined([(entry, self._printed(entry)) for entry in printed_rows(self.experiment)])

    # -- rows of print -----------------------------------------------------------------------------------------

    def _printed(self, entry: PrintedRow) -> RowPlan | None:
        ours = entry.ours
        sets = self._sets(entry.sets, ours.method)
        if not sets:
            return None
        facts = method_facts(ours.method)
        return RowPlan(
            ours.method,
            self._preset(ours.presets),
            entry.method,
            self._settings(ours.method, ours.settings),
            (ours.parts,) if ours.parts else (),
            entry.shots if facts.good_photos != "unused" else None,
            seeds=1 if set(entry.shots) == {ALL} else None,  # nothing is drawn
            backbone=self._backbone(entry),
            train=self._train(ours.method, sets),
            sets=sets,
        )

    def _joined(self, made: Sequence[tuple[PrintedRow, RowPlan | None]]) -> list[RowPlan]:
        """Rows that differ in their part alone are one row with several parts: one fit gives them all."""
        rows: dict[str, RowPlan] = {}
        for entry, row in made:
            if row is None:
                continue
            key = repr(replace(row, name="", parts=(), settings=dict(sorted(row.settings.items()))))
            if key in rows and row.parts:
                row = replace(rows[key], parts=(*rows[key].parts, *row.parts))
            elif key in rows:
                key = f"{key} {entry.method}"
            rows[key] = row
            self.names[row.name, entry.ours.parts] = entry.method
        return list(rows.values())

    def _preset(self, presets: Sequence[str]) -> str:
        """The wished preset where the row's number belongs to it; else the paper's, or the one that the number belongs to."""
        return next((name for name in (self.wish.preset, "paper") if name in presets), presets[0])

    def _backbone(self, entry: PrintedRow) -> str:
        """The backbone that a row of print was measured with; the paper's own where none is named."""
        named = self.experiment.backbones.get(entry.method, entry.ours.backbone or entry.backbone)
        known = next((entry.name for entry in list_checkpoints() if named and entry.name.startswith(named)), "")
        return known if known != self.experiment.paper.backbone else ""

    # -- rows of figures ---------------------------------------------------------------------------------------

    def _explicit(self, entry: PaperRow) -> Iterator[RowPlan]:
        sets = self._sets(tuple(measured_sets(self.experiment)), entry.method)
        if not sets:
            return
        facts = method_facts(entry.method)
        base = RowPlan(
            entry.method,
            self._preset(("paper", "release")),
            entry.name,
            {},
            entry.parts,
            (entry.shots or self.experiment.shots) if facts.good_photos != "unused" else None,
            train=self._train(entry.method, sets),
            sets=sets,
        )
        for points in itertools.product(*(varied.points() for varied in entry.vary)):
            settings = dict(entry.settings)
            for _, own in points:
                settings |= own
            words = [f"{v.name}={value}" for v, (value, _) in zip(entry.vary, points, strict=True)]
            name = ", ".join(word for word in (entry.name, *words) if word)
            if entry.vary:
                curve = ", ".join([entry.name, *words[1:]])
                self.points[name] = Point(curve, points[0][0], entry.vary[0].name)
            for axis, x in entry.at.items():
                self.points[name] = Point(entry.name, f"{x:g}", axis)
            yield replace(base, name=name, settings=self._settings(entry.method, settings))

    # -- both --------------------------------------------------------------------------------------------------

    def _settings(self, method: str, own: Mapping[str, Any]) -> dict[str, Any]:
        # What a row of print or a figure varies stays; all else may be wished.
        return {**self.wish.settings_of(method), **own}

    def _train(self, method: str, sets: Sequence[str]) -> TrainPlan | None:
        trained = method_facts(method).trained_on
        plan = self.experiment.paper.train
        if trained is None:
            return None
        if trained == "nothing":
            return TrainPlan(seeds=runs_of(self.experiment, self.wish))
        # The paper's rule speaks of sets that this row may not measure, and that need not be there.
        rule = {key: source for key in sets if (source := plan.auxiliary.get(key, plan.auxiliary.get("*", "")))}
        return replace(plan, auxiliary=rule, seeds=runs_of(self.experiment, self.wish))

    def _sets(self, wanted: Sequence[str], method: str) -> tuple[str, ...]:
        """Those of the sets that are there, and whose auxiliary set is."""
        sets = [key for key in wanted if key in self.there]
        if method_facts(method).trained_on in ("masks", "labels"):
            rule = self.experiment.paper.train.auxiliary
            for key in list(sets):
                source = rule.get(key, rule.get("*", ""))
                if source and source not in self.there:
                    sets.remove(key)
                    line = f"{method} is trained on {source} before it is measured on {key}, and {source} is not there"
                    self.missing += [] if line in self.missing else [line]
        return tuple(sets)

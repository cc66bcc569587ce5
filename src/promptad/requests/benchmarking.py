"""A request to run a whole benchmark: `promptad bench`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptad.annotations import Positive
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.methods.catalogue import FACTS
from promptad.requests.asked import asked, require_file
from promptad.requests.measuring import MeasuringRequest

if TYPE_CHECKING:
    from promptad.bench.tables import Table
    from promptad.suite.papers.plans import PaperPlan
    from promptad.suite.plan import Plan
    from promptad.suite.run import Options, SuiteResult

_OF_FLAGS = ("on", "method", "preset", "shots", "anomalies", "anomaly_draw", "seeds", "limit", "convention")


@dataclass(frozen=True)
class BenchRequest(MeasuringRequest):
    """Methods on many data sets, in one run that can be stopped at any moment."""

    plan: Path | None = asked(
        "TOML file that names sets and rows (docs, Benchmarks of many sets), instead of the options for them.",
        None,
        place="argument",
    )
    on: tuple[Path, ...] = asked("Data set: its folder, or a list; repeat for more.", ())
    method: tuple[str, ...] = asked(f"{', '.join(FACTS)}; several with commas.", (), commas=True)
    preset: tuple[str, ...] = asked(
        "Presets of each method, with commas. Default: clean; of a paper's table paper, its alternative is release.",
        (),
        commas=True,
    )
    paper: str = asked(
        "A table or figure of one of the papers, such as cvpr24-table1, instead of a plan; 'list' names them all.", ""
    )
    data: tuple[str, ...] = asked(
        "For a paper's table: folder that holds public sets, or KEY=FOLDER for one of them; repeat for more.", ()
    )
    settings: Mapping[str, Any] = asked(
        "For a paper's table: a method setting instead of the paper's, KEY=VALUE; repeat for more.", {}, option="--set"
    )
    convention: Mapping[str, Any] = asked(
        "How all rows are measured, as in promptad evaluate: eval_size=400, masks=nearest, ...; repeat for more.", {}
    )
    weights: tuple[str, ...] = asked(
        "Where the weights of a backbone of the plan lie, NAME=PATH; one PATH alone is taken for all; repeat for more.",
        (),
    )
    processes: Positive = asked(
        "How many processes work at once; several devices, given with commas, are taken in turn.", 1
    )
    output: Path | None = asked("Folder for all results. Default: ./bench-PLAN.", None, option="-o --output")
    dry_run: bool = asked("Say what would be trained and measured, and stop.", False)
    command: str = asked("For the page.", "", place="hidden")

    def check(self) -> None:
        """Either a file or options say what is measured."""
        super().check()
        if self.paper:
            self._check_paper()
            return
        self.refuse(["data", "settings"], f"goes with a table or figure of a paper ({argument('paper')}); leave it out")
        if self.plan is not None:
            self.refuse(_OF_FLAGS, f"the plan {self.plan} says what is measured; change it there, or leave it out")
        elif not self.on or not self.method:
            raise ConfigError(
                f"nothing to measure; give a plan, or data sets ({argument('on')}) and methods ({argument('method')})"
            )
        self.check_draws(self.method)
        self.weights_by_name()

    def _check_paper(self) -> None:
        """Which experiment, and what may be chosen of it."""
        self.refuse(
            ("plan", *(name for name in _OF_FLAGS if name not in ("preset", "seeds", "limit"))),
            f"the table {self.paper} says what is measured; leave it out",
        )
        if self.preset not in ((), ("paper",), ("release",)):
            raise ConfigError(
                f"{argument('preset', ','.join(self.preset))}: a paper's table has its own settings; choose paper, or "
                "release for those of the authors' code"
            )
        self.weights_by_name()

    def weights_by_name(self) -> dict[str, str]:
        """Name of a backbone -> what is taken for it; "*" for all others. Raises ConfigError for what is no such pair."""
        places: dict[str, str] = {}
        for given in self.weights:
            name, equals, place = given.partition("=")
            key = name if equals else "*"
            if key in places or (equals and not place):
                raise ConfigError(f"{argument('weights', given)}: expected NAME=PATH, each name once")
            places[key] = place if equals else given
        return places

    def _weights_of(self, plan: Plan) -> dict[str, str]:
        """`weights_by_name`, each of which is a backbone of the plan. Raises ConfigError for others."""
        weights, used = self.weights_by_name(), {plan.backbone, *(plan.backbone_of(row) for row in plan.rows)}
        used |= set(filter(None, map(plan.memory_backbone_of, plan.rows)))
        for name in weights:
            if name not in ("*", *used):
                raise ConfigError(
                    f"{argument('weights', f'{name}={weights[name]}')}: no row has the backbone {name}; they have {', '.join(sorted(used))}"
                )
        return weights

    def read_plan(self) -> Plan:
        """What is measured. Raises ConfigError where the file, or a row, cannot be."""
        from promptad.suite.plan import plan_of_flags, read_plan

        if self.plan is not None:
            require_file(self.plan, "plan")
            plan = read_plan(self.plan)
        else:
            common = {name: getattr(self, name) for name in _OF_FLAGS[3:]}
            title = ", ".join(Path(os.path.realpath(path)).name for path in self.on)
            plan = plan_of_flags(title, self.on, self.method, self.preset or ("clean",), **common)
        given = {name: getattr(self, name) for name in ("backbone", "memory_backbone")}
        return replace(plan, **{name: value for name, value in given.items() if value is not None})

    @property
    def out(self) -> Path:
        """Folder of the results."""
        if self.paper:
            return self.output or Path(f"bench-{self.paper}")
        name = (
            self.plan.stem if self.plan is not None else "-".join(Path(os.path.realpath(path)).name for path in self.on)
        )
        return self.output or Path(f"bench-{name}")

    def run(self, *, watch: Callable[[str, int, int], None] | None = None) -> Benchmarked:
        """Runs the benchmark, or goes on with it, and writes all its files.

        Args:
            watch: called with a stage ("training", "measuring"), what is done and what there is in all.

        Raises:
            PromptadError: whatever stops the run.
        """
        if self.dry_run:
            raise ConfigError(f"{argument('dry_run', 'True')}: nothing is to be run; take the lines of `dry_lines`")
        from promptad.data.lock import prepared_folder
        from promptad.learning.features import GIB

        made = self.read_paper() if self.paper else None
        plan = made[0].plan if made else self.read_plan()
        from promptad.suite.files import write_suite
        from promptad.suite.overview import overview_tables
        from promptad.suite.run import Options, run_suite

        options = Options(
            self.out,
            self.feature_store(),
            int(self.feature_memory * GIB),
            self.processes,
            tuple(name.strip() for name in self.device.split(",")),
            self.precision or "fp32",
            self.activation,
            self.fresh,
            self._weights_of(plan),
        )
        if made is not None:
            return self._run_paper(*made, options, watch)
        with prepared_folder(self.out):
            result = run_suite(plan, options, watch)
            tables = overview_tables(result)
            return Benchmarked(result, tables, write_suite(result, tables, self.out, self.command))

    def dry_lines(self) -> list[str]:
        """What would be trained and measured, and what is missing, in lines for a person; nothing is loaded.

        Raises:
            ConfigError: as `read_plan` and `read_paper`, or settings that no row can have.
        """
        if self.paper:
            from promptad.suite.papers.dry import paper_lines

            made, _ = self.read_paper()
            return paper_lines(made, self._weights_of(made.plan))
        from promptad.suite.dry import dry_lines

        plan = self.read_plan()
        return dry_lines(plan, self._weights_of(plan))

    def read_paper(self) -> tuple[PaperPlan, dict[str, Path]]:
        """What is measured for a table or figure of a paper, and the folders of its sets.

        Raises:
            ConfigError: no such table, a folder that is not there, or a setting that no method has.
        """
        from promptad.suite.papers.experiments import find_experiment
        from promptad.suite.papers.places import find_sets
        from promptad.suite.papers.plans import Wish, needed_sets, paper_plan

        experiment = find_experiment(self.paper)
        places = find_sets(self.data, needed_sets(experiment))
        wish = Wish(
            "release" if self.preset == ("release",) else "paper",
            self.seeds if self.given(["seeds"]) else None,
            self.limit if self.given(["limit"]) else None,
            self.settings,
        )
        made = paper_plan(experiment, places, wish)
        if self.backbone is not None:
            rows = tuple(replace(row, backbone="") for row in made.plan.rows)
            made = replace(made, plan=replace(made.plan, backbone=self.backbone, rows=rows))
        if self.memory_backbone is not None:
            made = replace(made, plan=replace(made.plan, memory_backbone=self.memory_backbone))
        return made, places.sets

    def _run_paper(
        self,
        made: PaperPlan,
        places: Mapping[str, Path],
        options: Options,
        watch: Callable[[str, int, int], None] | None,
    ) -> Benchmarked:
        from promptad.data.lock import prepared_folder
        from promptad.suite.files import write_suite
        from promptad.suite.overview import overview_tables
        from promptad.suite.papers.run import run_paper

        with prepared_folder(self.out):
            result, tables, lead = run_paper(made, options, places, watch)
            shown = [*tables, *overview_tables(result)]
            return Benchmarked(result, tables or shown, write_suite(result, shown, self.out, self.command, lead))


@dataclass(frozen=True)
class Benchmarked:
    """What a benchmark gave, its tables over all sets, and its files."""

    result: SuiteResult
    tables: list[Table]
    files: list[Path]

    @property
    def lines(self) -> list[str]:
        """One for everything that could not be measured, and every photo that could not be used."""
        failures = [
            f"{of_set.plan.title}: {line}"
            for of_set in self.result.sets
            for line in [*(failure.reason for failure in of_set.outcome.failures), *of_set.outcome.problems]
        ]
        return [*self.result.problems, *failures]

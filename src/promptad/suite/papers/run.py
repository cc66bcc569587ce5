"""Runs a paper's table or figure to its end: what it measures, then what it draws from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from promptad.bench.tables import Table
from promptad.clip.backbone import Backbone
from promptad.data.files import prepare_folder
from promptad.detector import Detector
from promptad.errors import PromptadError
from promptad.methods.registry import find_method
from promptad.methods.rwda.method import RWDA
from promptad.suite.page import Figure, Lead
from promptad.suite.papers.attention import attention_figures
from promptad.suite.papers.beside import apart_lines, paper_tables
from promptad.suite.papers.costs import cost_table
from promptad.suite.papers.counts import counts_table
from promptad.suite.papers.embeddings import detector_figures, sentence_figures
from promptad.suite.papers.plans import PaperPlan
from promptad.suite.papers.printed import measured_sets
from promptad.suite.papers.sweeps import sweep_figures
from promptad.suite.plan import RowPlan, TrainPlan
from promptad.suite.processes import Context
from promptad.suite.run import Options, SuiteResult, Watch, run_suite
from promptad.suite.trainings import training_jobs


@dataclass(frozen=True)
class Drawn:
    """What a study gave beside what was measured."""

    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


def run_paper(
    made: PaperPlan, options: Options, places: Mapping[str, Path], watch: Watch | None = None
) -> tuple[SuiteResult, list[Table], Lead]:
    """Runs an experiment, or goes on with it.

    Returns:
        what was measured; the tables in the paper's shape; what leads its page.

    Raises:
        PromptadError: as `run_suite`; or nothing of it can be made.
    """
    prepare_folder(options.out)
    measures = bool(made.plan.sets and made.plan.rows) and made.experiment.scores
    result = run_suite(made.plan, options, watch) if measures else SuiteResult(made.plan)
    result.problems.extend(line for line in made.missing if line not in result.problems)
    tables = paper_tables(made, result) if measures else []
    figures = list(sweep_figures(made, result)) if made.experiment.kind == "sweep" and measures else []
    try:
        drawn = _drawn(made, result, options, places)
    except PromptadError as error:
        result.problems.append(f"{made.experiment.name}: not drawn: {error}")
        drawn = Drawn()
    remarks = [*made.remarks, *(apart_lines(made, result) if measures else ())]
    lead = Lead(tuple(remarks), (*figures, *drawn.figures))
    return result, [*tables, *drawn.tables], lead


def _drawn(made: PaperPlan, result: SuiteResult, options: Options, places: Mapping[str, Path]) -> Drawn:
    experiment = made.experiment
    if experiment.kind == "counts":
        return Drawn([counts_table(experiment.title, measured_sets(experiment), places, result.problems)])
    if experiment.kind == "embedding":
        figures = list(_embeddings(made, result, options, places))
    elif experiment.kind == "attention":
        kind: Literal["qk", "vv"] = "qk" if experiment.drawing == "qk" else "vv"
        figures = list(attention_figures(options.open_backbone(made.plan.backbone), places, kind))
    elif experiment.kind == "costs":
        return Drawn([cost_table(made, partial(options.open_backbone, made.plan.backbone))])
    else:
        figures = []
    return Drawn(figures=figures)


def _embeddings(made: PaperPlan, result: SuiteResult, options: Options, places: Mapping[str, Path]) -> Iterator[Figure]:
    experiment = made.experiment
    if experiment.drawing not in ("sentences", "classifier"):
        yield from detector_figures(experiment.drawing, result, options.out)
        return
    row, backbone = experiment.rows[0], options.open_backbone(made.plan.backbone)
    settings = {**made.wish.settings_of(row.method), **row.settings}
    if experiment.drawing == "classifier":
        own = RowPlan(row.method, made.wish.preset, settings=settings, train=TrainPlan())
        method = _trained(own, backbone, options, result)
    else:
        method = RWDA(backbone, find_method(row.method).make_config(made.wish.preset, **settings))
    yield from sentence_figures(experiment.drawing, method, list(made.folders))


def _trained(row: RowPlan, backbone: Backbone, options: Options, result: SuiteResult) -> RWDA:
    """RWDA as it was trained in the benchmark's folder, now or by an earlier run; one that was stopped goes on."""
    folder = options.out / "trained"
    folder.mkdir(parents=True, exist_ok=True)
    [job] = training_jobs(row, "", {}, (backbone.name, backbone), folder, None)
    if not job.path.exists():
        result.trained += 1
        job.run(Context({backbone.name: backbone}), lambda _: None)
    settings = {key: value for key, value in row.settings.items() if key != "seed"}
    method = Detector(row.method, preset=row.preset, backbone=backbone, weights=job.path, **settings).method
    assert isinstance(method, RWDA)
    return method

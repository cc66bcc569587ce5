"""Runs a paper's table or figure to its end: what it measures, then what it draws from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from promptad.bench.tables import Table
from promptad.clip.architecture import Activation
from promptad.clip.backbone import Backbone, load_backbone
from promptad.data.files import prepare_folder
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
from promptad.suite.run import Options, SuiteResult, Watch, run_suite


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
    measures = bool(made.plan.sets and made.plan.rows) and made.experiment.kind not in ("costs", "counts", "attention")
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


def _backbone(made: PaperPlan, options: Options, activation: Activation | None = None) -> Backbone:
    """The paper's backbone, or the one that is taken for it, with the activation that a method's settings ask for."""
    name = made.plan.backbone
    place = options.weights.get(name, options.weights.get("*", name))
    device = options.devices[0] if options.devices else "cpu"
    return load_backbone(place, precision=options.precision, device=device, activation=activation or options.activation)


def _drawn(made: PaperPlan, result: SuiteResult, options: Options, places: Mapping[str, Path]) -> Drawn:
    experiment = made.experiment
    if experiment.kind == "counts":
        return Drawn([counts_table(experiment.title, measured_sets(experiment), places, result.problems)])
    if experiment.kind == "embedding":
        figures = list(_embeddings(made, result, options, places))
    elif experiment.kind == "attention":
        kind: Literal["qk", "vv"] = "qk" if experiment.drawing == "qk" else "vv"
        figures = list(attention_figures(_backbone(made, options), places, kind))
    elif experiment.kind == "costs":
        return Drawn([cost_table(made, lambda activation: _backbone(made, options, activation))])
    else:
        figures = []
    return Drawn(figures=figures)


def _embeddings(made: PaperPlan, result: SuiteResult, options: Options, places: Mapping[str, Path]) -> Iterator[Figure]:
    experiment = made.experiment
    if experiment.drawing not in ("sentences", "classifier"):
        yield from detector_figures(experiment.drawing, result)
        return
    row, backbone = experiment.rows[0], _backbone(made, options)
    entry = find_method(row.method)
    known = {key: value for key, value in made.settings.items() if key in entry.setting_names}
    method = RWDA(backbone, entry.make_config(made.preset, **{**known, **row.settings}))
    if experiment.drawing == "classifier":
        method.train()
    yield from sentence_figures(experiment.drawing, method, list(made.folders))

"""What a paper's table or figure would take, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from promptad.bench.published import METRICS
from promptad.data.datasets.facts import all_facts
from promptad.suite.dry import backbone_lines, dry_lines, row_lines, sums
from promptad.suite.papers.places import Places, caption_files
from promptad.suite.papers.plans import PaperPlan, needed_sets, paper_plan
from promptad.suite.papers.printed import printed
from promptad.suite.plan import Plan


def paper_lines(made: PaperPlan, weights: Mapping[str, str] | None = None) -> list[str]:
    """Lines for a person: what it is, what differs from the paper, what is missing with the way out, and all that would be done."""
    experiment = made.experiment
    lines = [f"makes      {experiment.title}"]
    if experiment.metrics:
        lines.append(f"metrics    {', '.join(METRICS[metric] for metric in experiment.metrics)}")
    alone = {n.method: n.alone or "published only" for _, n in printed(experiment).means if n.ours is None}
    lines += [f"printed    alone: {method} ({why})" for method, why in alone.items()]
    lines += [f"differs    {line}" for line in made.remarks]
    lines += [f"missing    {line}" for line in made.missing]
    if made.plan.sets and made.plan.rows and experiment.scores:
        lines += dry_lines(made.plan, weights)
        return [*lines, *_with_all(made)] if made.missing else lines
    return [*lines, *_without_sets(made, weights)]


def _without_sets(made: PaperPlan, weights: Mapping[str, str] | None) -> Iterator[str]:
    """Where nothing is measured on sets that are there."""
    experiment, whole = made.experiment, _whole(made)
    if experiment.kind == "counts":
        yield "in all     0 units, 0 trainings: photos are counted"
        return
    measures = bool(whole.rows) and experiment.scores
    yield from backbone_lines([made.plan.backbone_of(row) for row in whole.rows] or [made.plan.backbone], weights)
    if measures:
        yield from row_lines(whole, _classes(whole))
        yield "in all     0 units, 0 trainings"
        yield from _with_all(made)
    elif experiment.drawing == "classifier":
        if not caption_files(made.folders):
            yield (
                "missing    captions of COCO: get annotations_trainval2017.zip from cocodataset.org (CC BY 4.0), unpack it and "
                "name its folder; without it the figure has the random words alone"
            )
        yield f"train      {experiment.rows[0].method}, on words alone: 1 training"
        yield "in all     0 units, 1 training at most"
    else:
        words = {"costs": "a few steps of each method are timed"}.get(
            experiment.kind, "embeddings or attention are drawn"
        )
        yield f"in all     0 units, 0 trainings: {words}"


def _with_all(made: PaperPlan) -> Iterator[str]:
    whole = _whole(made)
    yield f"whole      with every set there: {sums(whole, _classes(whole))}"


def _whole(made: PaperPlan) -> Plan:
    """The plan where every set is there, on the backbones that were chosen."""
    everywhere = Places({key: Path(key) for key in needed_sets(made.experiment)}, [])
    return paper_plan(made.experiment, everywhere, made.wish).plan


def _classes(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The classes of public sets, by their published description; one where none are listed."""
    classes = {}
    for entry in plan.sets:
        facts = all_facts()[entry.title]
        layout = facts.layouts[0] if entry.layout == "auto" else entry.layout
        classes[entry.title] = entry.classes or facts.classes(layout) or (entry.title,)
    return classes

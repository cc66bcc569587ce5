"""What a paper's table or figure would take, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from promptad.bench.published import METRICS
from promptad.suite.dry import dry_lines
from promptad.suite.papers.plans import PaperPlan
from promptad.suite.papers.printed import printed


def paper_lines(made: PaperPlan, weights: Mapping[str, str] | None = None) -> list[str]:
    """Lines for a person: what it is, what differs from the paper, what is missing with the way out, and all that would be done."""
    experiment = made.experiment
    lines = [f"makes      {experiment.title}"]
    if experiment.metrics:
        lines.append(f"metrics    {', '.join(METRICS[metric] for metric in experiment.metrics)}")
    only = dict.fromkeys(n.method for _, n in printed(experiment).means if n.ours is None or n.shots < 0)
    if only:
        lines.append(f"printed    alone, measured by nobody here: {', '.join(only)}")
    lines += [f"differs    {line}" for line in made.remarks]
    lines += [f"missing    {line}" for line in made.missing]
    if made.plan.sets and made.plan.rows:
        return [*lines, *dry_lines(made.plan, weights)]
    return [*lines, "in all     0 units, 0 trainings"]

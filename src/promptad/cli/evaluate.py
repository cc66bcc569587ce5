"""`promptad evaluate`: the tables of the papers, on a data set of your own or a public one."""

from __future__ import annotations

from promptad.cli.console import Failures, progress, say
from promptad.cli.takes import takes
from promptad.requests.evaluating import EvaluateRequest


@takes(EvaluateRequest, arguments=("dataset",), required=("dataset",))
def evaluate(request: EvaluateRequest) -> None:
    """Measure methods on a labelled data set, zero-shot and few-shot in one table: mean and spread over draws of the
    good photos.

    Beside the whole of MVTec AD or VisA the published numbers stand. Every finished fit is kept: after Ctrl-C,
    the same command goes on where it stopped. Run r draws its good photos and its initial prompts with
    seed 111 + r; --set seed=N changes the 111.
    """
    failures = Failures()
    with progress("evaluating (photos)") as update:
        evaluated = request.run(progress=update)
    for line in evaluated.lines:
        failures(line)
    report, files = evaluated.write()
    from promptad.bench.tables import text

    outcome = evaluated.outcome
    say(text(report))
    say()
    say(f"units      {outcome.scored} computed, {outcome.reused} from an earlier run, in {evaluated.out / 'units'}")
    say(f"files      {', '.join(str(path) for path in files)}")
    failures.end()

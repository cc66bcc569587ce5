"""`promptad bench`: methods on many data sets, trainings included, over several processes."""

from __future__ import annotations

from promptad.cli.console import Failures, progress_stages, say
from promptad.cli.takes import takes
from promptad.requests.benchmarking import BenchRequest


@takes(BenchRequest, arguments=("plan",))
def bench(request: BenchRequest) -> None:
    """Measure many methods on many data sets in one run, with tables over all of them.

    Features of a photo are computed once for all methods that share them. What is finished is kept: after Ctrl-C, a crash
    or a power cut, the same command goes on where it stopped and gives the same tables.
    """
    if request.dry_run or request.paper == "list":
        _say_what_would_be_done(request)
        return
    failures = Failures()
    with progress_stages("training", "measuring (photos)") as (training, measuring):

        def watch(stage: str, done: int, total: int) -> None:
            (training if stage == "training" else measuring)(done, total)

        made = request.run(watch=watch)
    for line in made.lines:
        failures(line)
    from promptad.suite.overview import for_terminal, plain_text

    for table in for_terminal(made.tables):
        say(plain_text(table))
        say()
    result = made.result
    say(f"trained    {result.trained} prompts")
    say(f"units      {result.scored} computed, {result.reused} from an earlier run, in {request.out / 'units'}")
    say(f"files      {', '.join(str(path) for path in made.files)}")
    failures.end()


def _say_what_would_be_done(request: BenchRequest) -> None:
    if request.paper == "list":
        from promptad.suite.papers.experiments import experiments

        for name, experiment in experiments().items():
            say(f"{name:16} {experiment.says}")
        return
    for line in request.dry_lines():
        say(line)

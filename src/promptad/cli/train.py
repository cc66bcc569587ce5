"""`promptad train`: prompts that are trained once, for every product."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from promptad.cli.console import Failures, Update, progress_stages, say, warn
from promptad.cli.takes import takes
from promptad.requests.training import TrainRequest

if TYPE_CHECKING:
    from promptad.clip.backbone import Backbone
    from promptad.training import Training


@takes(TrainRequest, arguments=("method",), required=("method", "output"))
def train(request: TrainRequest) -> None:
    """Train prompts once, on a labelled data set, and use them on every other product without any photo of it.

    The photos are never those of the product: faprompt and anomalyclip take the test photos of the data sets, with their
    masks; promptad-zs their good training photos and a few labelled anomalies; rwda takes no photo at all. After Ctrl-C
    the same command goes on after the last finished epoch, to the same result. Use the file with
    `promptad inspect PHOTOS --weights FILE`.
    """
    failures = Failures()
    first: Path | None = None
    with ExitStack() as bars:

        def watch(path: Path) -> tuple[Update, Update]:
            bars.close()
            reading, training = bars.enter_context(progress_stages("reading photos", f"training {path.stem}"))
            return reading, training

        try:
            for done, clip in request.run(watch):
                bars.close()
                for line in done.problems:
                    failures(line)
                _show(done, clip, first=first is None)
                first = first or done.path
        except KeyboardInterrupt:
            again = "the same command without --fresh" if request.fresh else "the same command"
            warn(f"{again} goes on after the last finished epoch")
            raise
    named = f" --backbone {shlex.quote(request.backbone)}" if request.backbone else ""
    say(f"next       promptad inspect PHOTOS --weights {first}{named} -o out/")
    failures.end()


def _show(done: Training, clip: Backbone, *, first: bool) -> None:
    """Prints what a training used (once for several seeds) and what it gave."""
    if first:
        say(f"method     {done.card['title']}")
        say(f"backbone   {clip.identity}")
        for source in done.card["data"]:
            say(
                f"trained on {source['name']}: {source['normal']} good and {source['anomalous']} anomalous photos, licence "
                f"{source['licence']}"
            )
    losses = done.losses
    say(f"loss       {losses[0]:.4g} in epoch 1, {losses[-1]:.4g} in epoch {len(losses)}")
    say(f"saved      {done.path}{' (was there already)' if done.reused else ''}")

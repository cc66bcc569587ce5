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

    The photos are never those of the product: faprompt, anomalyclip, aprilgan, uniadet and mrad take the test photos of the data sets,
    with their masks; coop, cocoop and tcp the same photos without masks; promptad-zs, devnet-zs, dra-zs and mlep-proxy-zs their good training
    photos and a few labelled anomalies; rwda takes no photo at all. After Ctrl-C the same command goes on after the last finished epoch, to the same result. Use the file with
    `promptad inspect PHOTOS --weights FILE`.
    """
    failures, shown = Failures(), False
    with ExitStack() as bars:

        def watch(path: Path) -> tuple[Update, Update]:
            bars.close()
            reading, training = bars.enter_context(progress_stages("reading photos", f"training {path.stem}"))
            return reading, training

        def trained(result: Training, clip: Backbone) -> None:
            nonlocal shown
            bars.close()
            for line in result.problems:
                failures(line)
            _show(result, clip, first=not shown)
            shown = True

        try:
            results = request.run(watch=watch, trained=trained)
        except KeyboardInterrupt:
            again = "the same command without --fresh" if request.fresh else "the same command"
            warn(f"{again} goes on after the last finished epoch")
            raise
    named = f" --backbone {shlex.quote(request.backbone)}" if request.backbone else ""
    named += f" --activation {request.activation}" if request.activation else ""
    say(f"next       promptad inspect PHOTOS --weights {results[0].path}{named} --object NAME -o out/")
    failures.end()


def _show(result: Training, clip: Backbone, *, first: bool) -> None:
    """Prints what a training used (once for several seeds) and what it gave."""
    if first:
        say(f"method     {result.card['title']}")
        say(f"backbone   {clip.identity}")
        for source in result.card["data"]:
            say(
                f"trained on {source['name']}: {source['normal']} good and {source['anomalous']} anomalous photos, licence "
                f"{source['licence']}"
            )
    losses = result.losses
    if losses:
        last = f", {losses[-1]:.4g} in epoch {len(losses)}" if len(losses) > 1 else ""
        say(f"loss       {losses[0]:.4g} in epoch 1{last}")
    else:
        say("loss       none: the features of the photos are kept as they are, and nothing is learned")
    say(f"saved      {result.path}{' (was there already)' if result.reused else ''}")

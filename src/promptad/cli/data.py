"""`promptad data`: look through a data set before anything is measured on it, and write it as a list."""

from __future__ import annotations

import typer

from promptad.cli.console import Failures, progress, say
from promptad.cli.takes import takes
from promptad.requests.datasets import CheckRequest, WriteRequest

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("check")
@takes(CheckRequest, arguments=("dataset",), required=("dataset",))
def check(request: CheckRequest) -> None:
    """Say what a data set is and holds: layout, licence, classes, splits, numbers against the published ones, sizes, masks,
    and what was left out and why.

    Ends with 3 where a photo or mask cannot be read.
    """
    failures = Failures()
    with progress("looking (photos)") as update:
        checked = request.run(progress=update)
    for line in checked.lines():
        say(line)
    for line in checked.unreadable:
        failures(line)
    failures.end()


@app.command("write")
@takes(WriteRequest, arguments=("dataset", "output"), required=("dataset", "output"))
def write(request: WriteRequest) -> None:
    """Write a data set as meta.json, the list that AnomalyCLIP, AdaCLIP, APRIL-GAN and FAPrompt read, and this program too."""
    file, photos = request.run()
    say(f"photos     {photos}")
    say(f"saved      {file}")
    say(f"next       promptad evaluate {file} -o out/")

"""`promptad data`: look through a data set before anything is measured on it, write it as a list, write maps for its server."""

from __future__ import annotations

import typer

from promptad.cli.console import Failures, progress, say
from promptad.cli.takes import takes
from promptad.requests.datasets import CheckRequest, WriteRequest
from promptad.requests.submitting import SubmitRequest

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


@app.command("submit")
@takes(SubmitRequest, arguments=("dataset", "output"), required=("dataset", "output"))
def submit(request: SubmitRequest) -> None:
    """Write the archive that MVTec AD 2's evaluation server takes: a method's maps of the private photos, as 16-bit floats, and
    binary ones.

    The method learns each of the eight objects from its good training photos; its validation photos set the threshold of the
    binary maps. A photo that cannot be read ends it, since the server takes all maps or none.
    """
    with progress("mapping (photos)") as update:
        file, maps = request.run(progress=update)
    say(f"maps       {maps}")
    say(f"saved      {file}")
    say("next       hand it to the evaluation server of MVTec AD 2, from the data set's page")

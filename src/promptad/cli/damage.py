"""`promptad damage`: make a labelled practice set from good photos."""

from __future__ import annotations

from pathlib import Path

from promptad.cli.console import Failures, progress, say, warn
from promptad.cli.takes import takes
from promptad.requests.damaging import DamageRequest


@takes(DamageRequest, arguments=("good",), required=("good", "output", "object"))
def damage(request: DamageRequest) -> None:
    """Make a labelled practice set from good photos: painted damage with its masks, in the MVTec layout."""
    failures = Failures()
    with progress("making photos") as update:
        folder = request.run(progress=update, said=warn, failed=failures)
    made = sorted(path for path in (folder / "test").iterdir() if path.is_dir())
    say(f"object     {request.object}, seed {request.seed}")
    say(f"good       {_photos(folder / 'train' / 'good')} to learn from, {_photos(folder / 'test' / 'good')} to test")
    say("damaged    " + ", ".join(f"{_photos(kind)} {kind.name}" for kind in made if kind.name != "good"))
    say(f"saved      {folder}")
    say(f"next       promptad evaluate {folder} --shots 1 -o out/")
    failures.end()


def _photos(folder: Path) -> int:
    return sum(path.suffix == ".jpg" for path in folder.iterdir())

"""`promptad damage`: make a labelled practice set from good photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptad.cli import options
from promptad.cli.console import friendly_errors, progress, say, warn


@friendly_errors()
def damage(
    good: Annotated[list[Path], typer.Argument(help="Good photos, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the set; the object gets a folder in it.")],
    object_name: options.Object,
    count: Annotated[int, typer.Option("--count", help="How many damaged photos.")] = 24,
    kinds: Annotated[
        str, typer.Option("--kinds", help="Kinds of damage, separated by commas: scratch,stain. Default: all.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")] = 0,
) -> None:
    """Make a labelled practice set from good photos: painted damage with its masks, in the MVTec layout."""
    from promptad.data.damage import write_damaged
    from promptad.run.inspection import prepare

    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    prepare(output)
    with progress("making photos") as update:
        folder = write_damaged(
            options.good_photos(good),
            output,
            count=count,
            kinds=wanted,
            seed=seed,
            class_name=object_name,
            progress=update,
            failed=warn,
        )
    made = sorted(path for path in (folder / "test").iterdir() if path.is_dir())
    say(f"object     {object_name}, seed {seed}")
    say(f"good       {_photos(folder / 'train' / 'good')} to learn from, {_photos(folder / 'test' / 'good')} to test")
    say("damaged    " + ", ".join(f"{_photos(kind)} {kind.name}" for kind in made if kind.name != "good"))
    say(f"saved      {folder}")
    say(f"next       promptad evaluate {folder} --shots 1 -o out/")


def _photos(folder: Path) -> int:
    return sum(path.suffix == ".jpg" for path in folder.iterdir())

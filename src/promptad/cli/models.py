"""``promptad models``: which weights there are, fetch them, check them, find them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from promptad.cli.console import friendly_errors, progress, say, table, warn

app = typer.Typer(help="List, pull and check the weights that promptad can work with.", no_args_is_help=False)

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON with all that is known of each checkpoint.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List, pull and check the weights that promptad can work with."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
@friendly_errors()
def list_models(as_json: AsJson = False) -> None:
    """List all checkpoints and say which of them are on this machine."""
    from promptad.clip.zoo import list_checkpoints, status

    checkpoints = list_checkpoints()
    if as_json:
        say(json.dumps([_as_dict(checkpoint) for checkpoint in checkpoints], indent=1))
        return
    places = {"bundled": "in the package", "hub": "huggingface.co", "release": "github.com"}
    rows = [[c.name, places[c.source], c.licence, str(c.input_size), status(c)] for c in checkpoints]
    table(["name", "source", "licence", "input size", "status"], rows)


@app.command("pull")
@friendly_errors()
def pull_model(
    name: Annotated[str, typer.Argument(help="Name from `promptad models list`.")],
    to: Annotated[str | None, typer.Option("--to", metavar="DIR", help="Folder instead of the cache.")] = None,
) -> None:
    """Fetch one checkpoint, verify its SHA-256 and pin it. An interrupted pull continues where it stopped."""
    from promptad.clip.pins import read_pin
    from promptad.clip.pull import pull
    from promptad.clip.zoo import find_checkpoint

    checkpoint = find_checkpoint(name)
    try:
        with progress(f"pulling {checkpoint.name}", unit="bytes") as update:
            path = pull(checkpoint.name, to, progress=update)
    except KeyboardInterrupt:
        warn("what was fetched so far is kept; the same command continues")
        raise
    say(str(path))
    pin = read_pin(path)
    if pin is not None:
        say(f"sha256 {pin.sha256}, verified against {pin.verified_against}")
    say(f"licence {checkpoint.licence}, {checkpoint.licence_url}")


@app.command("check")
@friendly_errors()
def check_models(
    what: Annotated[
        str | None,
        typer.Argument(metavar="NAME|PATH", help="Checkpoint, weights file or folder; default: all that is here."),
    ] = None,
) -> None:
    """Hash weights anew and compare them with the zoo and with their pins. Exit code 1 if one differs."""
    from promptad.clip.zoo import check, list_checkpoints, status

    names = (
        [what]
        if what is not None
        else [checkpoint.name for checkpoint in list_checkpoints() if status(checkpoint) != "not pulled"]
    )
    verdicts = [(name, verdict) for name in names for verdict in check(name)]
    rows = [[v.status, n, v.path.name, v.sha256[:16], v.authority or "nothing known"] for n, v in verdicts]
    table(["verdict", "weights", "file", "sha256", "compared with"], rows)
    wrong = [(name, verdict) for name, verdict in verdicts if verdict.status == "differs"]
    for name, verdict in wrong:
        warn(
            f"{verdict.path} is not the file that {name} stands for: sha256 begins {verdict.sha256[:8]}, "
            f"expected {verdict.expected[:8]} ({verdict.authority}); delete it and get it again"
        )
    if wrong:
        raise typer.Exit(1)


@app.command("path")
@friendly_errors()
def path_of_model(name: Annotated[str, typer.Argument(help="Name from `promptad models list`.")]) -> None:
    """Write the path of the weights file of a checkpoint on this machine."""
    from promptad.clip.zoo import locate

    say(str(locate(name).weights))


@app.command("prompts")
@friendly_errors()
def trained_prompts(
    file: Annotated[
        Path | None, typer.Argument(help="File of trained prompts; default: all that are in the package.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what trained prompts were trained on, under which licence and with which command."""
    from promptad.methods.catalogue import FACTS
    from promptad.saved.prompts import SHIPPED, read_learned, source_words

    files = [read_learned(path) for path in ([file] if file else sorted(SHIPPED.glob("*.safetensors")))]
    cards = [
        {
            "file": str(learned.path),
            "sha256": learned.sha256,
            "method": learned.method,
            "preset": learned.preset,
            "settings": learned.config,
            "backbone": learned.backbone,
            **learned.card,
        }
        for learned in files
    ]
    if as_json:
        say(json.dumps(cards, indent=1))
        return
    for card in cards:
        say(f"{card['title']}")
        say(f"  file      {card['file']} (sha256 {card['sha256'][:8]})")
        say(f"  backbone  {card['backbone']['name']} (sha256 {card['backbone']['sha256'][:8]})")
        for source in card["data"]:
            say(f"  data      {source_words(source)}")
        if not card["data"]:
            say("  data      words alone, no photo")
        losses = card["losses"]
        if losses:
            say(f"  loss      {losses[0]:.4g} in epoch 1, {losses[-1]:.4g} in epoch {len(losses)}")
        say(f"  command   {card['command']}")
    without = [
        name for name, facts in FACTS.items() if facts.trained_on and name not in {card["method"] for card in cards}
    ]
    if file is None and without:
        say(f"not in the package: {', '.join(without)}; `promptad train {without[0]} --on DATASET -o FILE` makes them")


@app.command("import")
@friendly_errors()
def import_prompts(
    file: Annotated[Path, typer.Argument(help="What the authors' code saved, such as epoch_15.pth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of trained prompts to write.")],
    method: Annotated[str, typer.Option("--method", help="anomalyclip, faprompt or aprilgan.")],
    backbone: Annotated[
        str,
        typer.Option("--backbone", help="The CLIP they were trained with: a name from `promptad models`, or a file."),
    ] = "ViT-L-14-336/openai",
    activation: Annotated[
        str,
        typer.Option(
            "--activation",
            help="quick_gelu or gelu, for weights that do not say which; aprilgan's authors ran OpenAI's with gelu.",
        ),
    ] = "",
    preset: Annotated[
        str,
        typer.Option(
            "--preset", help="How they score: release (as the authors' code), paper, clean; aprilgan: paper-visa."
        ),
    ] = ("release"),
    trained_on: Annotated[
        str, typer.Option("--trained-on", help="Data set they were trained on, for their card.")
    ] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of that data set, for their card.")] = "",
) -> None:
    """Turn what the authors of AnomalyCLIP, FAPrompt or APRIL-GAN published into a file for --weights."""
    from promptad.clip.backbone import load_backbone
    from promptad.requests.asked import require_file
    from promptad.saved.released import import_released

    require_file(file, "file of published prompts")  # before the CLIP is looked for
    given = f"promptad models import {file.name} --method {method} --backbone {backbone} --preset {preset}"
    given += f" --activation {activation}" if activation else ""
    import_released(
        file,
        output,
        method,
        load_backbone(backbone, activation=cast(Any, activation or None)),
        preset=preset,
        trained_on=trained_on,
        licence=licence,
        command=given,
    )
    say(str(output))


def _as_dict(checkpoint: Any) -> dict[str, Any]:
    from promptad.clip.zoo import folder_of, status, weights_in

    c, weights = checkpoint, weights_in(checkpoint, folder_of(checkpoint))
    return {
        "name": c.name,
        "aliases": c.aliases,
        "source": c.source,
        "origin": c.origin,
        "alternatives": c.alternatives,
        "files": [{"name": file.name, "sha256": file.sha256, "size": file.size} for file in (*c.files, *c.companions)],
        "licence": c.licence,
        "licence_url": c.licence_url,
        "notes": c.notes,
        "family": c.family,
        "parameters": c.parameters or None,
        "input_size": c.input_size,
        "sizes": c.sizes(),
        "mean": c.mean,
        "std": c.std,
        "used_by": c.used_by,
        "status": status(c),
        "path": str(weights) if weights else None,
    }

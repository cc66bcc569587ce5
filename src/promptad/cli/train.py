"""`promptad train`: prompts that are trained once, for every product."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptad.cli import options
from promptad.cli.console import Update, friendly_errors, progress, say, warn
from promptad.errors import ConfigError

if TYPE_CHECKING:
    from promptad.clip.backbone import Backbone
    from promptad.training import Training


@friendly_errors()
def train(
    method: Annotated[str, typer.Argument(help="faprompt, anomalyclip, promptad-zs, or rwda (which needs no photo).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The trained prompts, one small .safetensors file.")],
    on: Annotated[
        list[Path],
        typer.Option("--on", help="Labelled data set: MVTec or VisA layout, or a meta.json; repeat for more."),
    ] = [],  # noqa: B006 - typer copies it
    licence: Annotated[
        list[str], typer.Option("--licence", help="Licence of each data set, in their order, for the file's card.")
    ] = [],  # noqa: B006
    classes: Annotated[
        str | None, typer.Option("--classes", help="Only these classes, with commas. Default: all.")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option("--leave-out", help="Not these classes, with commas: those that will be measured."),
    ] = None,
    preset: options.Preset = None,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Train this many times, with seeds one apart, into FILE-SEED.", min=1)
    ] = 1,
    backbone: options.BackboneName = None,
    activation: options.ActivationName = None,
    precision: options.PrecisionName = "fp32",
    device: options.Device = "cpu",
    setting: options.Settings = [],  # noqa: B006
    seed: options.Seed = None,
    no_cache: options.NoCache = False,
    feature_memory: options.FeatureMemory = 4.0,
    feature_disk: options.FeatureDisk = 4.0,
    compact: Annotated[
        bool, typer.Option("--compact", help="Store large matrices in 4 or 8 bits: small files, slightly other scores.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, whatever an earlier run left.")] = False,
) -> None:
    """Train prompts once, on a labelled data set, and use them on every other product without any photo of it.

    The photos are never those of the product: faprompt and anomalyclip take the test photos of the data sets, with their
    masks; promptad-zs their good training photos and a few labelled anomalies; rwda takes no photo at all. After Ctrl-C
    the same command goes on after the last finished epoch, to the same result. Use the file with
    `promptad inspect PHOTOS --weights FILE`.
    """
    from promptad.training import Source, find_trained, train_prompts

    entry, preset = find_trained(method), preset or "clean"
    values = options.parse_settings(setting)
    if seed is not None:
        values["seed"] = seed
    config = entry.make_config(preset, **values)
    if licence and len(licence) != len(on):
        raise ConfigError(f"{len(licence)} --licence for {len(on)} --on: give one for each data set, or none")
    if output.suffix != ".safetensors":
        output = output.with_name(output.name + ".safetensors")
    from promptad.cli.evaluate import chosen_classes, names
    from promptad.data.datasets import load_dataset
    from promptad.run.inspection import prepare

    prepare(output.parent)
    if not on and (classes or leave_out):
        raise ConfigError("--classes and --leave-out choose from data sets; name one with --on DATASET")
    loaded = [load_dataset(path) for path in on]
    together = [record for records in loaded for record in records]
    kept = set(chosen_classes(together, names(classes or ""), names(leave_out or "")))
    if on and not kept:
        raise ConfigError("--classes and --leave-out leave no class to train on")
    sources = [
        Source(
            path.resolve().name,
            licence[i] if licence else "not stated",
            [record for record in loaded[i] if record in kept],
        )
        for i, path in enumerate(on)
    ]
    from promptad.learning.features import GIB

    clip = options.open_backbone(backbone, precision, device, activation)
    cache = None if no_cache else options.feature_store(feature_disk)
    outputs = [output]
    if seeds > 1:
        outputs = [output.with_stem(f"{output.stem}-{config.seed + i}") for i in range(seeds)]
    said: set[str] = set()
    for number, path in enumerate(outputs):
        with ExitStack() as reads, progress(f"training {path.stem}") as bar:
            reading = reads.enter_context(progress("reading photos"))

            def training(done: int, total: int, reads: ExitStack = reads, bar: Update = bar) -> None:
                reads.close()  # a terminal has room for one bar at a time
                bar(done, total)

            try:
                done = train_prompts(
                    method,
                    sources,
                    clip,
                    path,
                    preset=preset,
                    settings=values | {"seed": config.seed + number},
                    cache=cache,
                    keep_bytes=int(feature_memory * GIB),
                    fresh=fresh,
                    compact=compact,
                    command=shlex.join(["promptad", *sys.argv[1:]]),
                    reading=reading,
                    training=training,
                )
            except KeyboardInterrupt:
                again = "the same command without --fresh" if fresh else "the same command"
                warn(f"{again} goes on after the last finished epoch")
                raise
        for line in done.problems:
            if line not in said:
                said.add(line)
                warn(line)
        _show(done, clip, first=not number)
    named = f" --backbone {shlex.quote(backbone)}" if backbone else ""
    say(f"next       promptad inspect PHOTOS --weights {outputs[0]}{named} -o out/")


def _show(done: Training, clip: Backbone, *, first: bool) -> None:
    """Prints what a training used (once for several seeds) and what it gave."""
    if first:
        say(f"method     {done.card['title']}")
        say(f"backbone   {clip.identity}")
        for one in done.card["data"]:
            say(
                f"trained on {one['name']}: {one['normal']} good and {one['anomalous']} anomalous photos, licence "
                f"{one['licence']}"
            )
    losses = done.losses
    say(f"loss       {losses[0]:.4g} in epoch 1, {losses[-1]:.4g} in epoch {len(losses)}")
    say(f"saved      {done.path}{' (was there already)' if done.reused else ''}")

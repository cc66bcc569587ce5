"""`promptad evaluate`: the tables of the papers, on a data set of your own or a public one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptad.cli import options
from promptad.cli.console import friendly_errors, progress, say, warn
from promptad.errors import ConfigError, DataError

if TYPE_CHECKING:
    from promptad.bench.protocol import Protocol
    from promptad.bench.run import Outcome
    from promptad.bench.variants import Variant
    from promptad.clip.backbone import Backbone
    from promptad.data.records import Record
    from promptad.saved.prompts import Learned

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@friendly_errors()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Data set: MVTec or VisA layout, one class of it, or a meta.json.")],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="promptad, faprompt, anomalyclip, promptad-zs, rwda, clip (untrained); several with commas.",
        ),
    ] = "promptad",
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="clean (recommended), paper, release; several with commas. Default: clean; trained prompts bring theirs.",
        ),
    ] = None,
    weights: Annotated[
        list[Path],
        typer.Option(
            "--weights",
            help="Trained prompts instead of the package's; repeat for more rows. Files that differ only in their seed are "
            "runs of one row.",
        ),
    ] = [],  # noqa: B006
    shots: Annotated[
        str, typer.Option("--shots", help="Numbers of good photos, with commas; 0 for methods that can do without.")
    ] = "0,1,2,4",
    seeds: Annotated[
        int,
        typer.Option("--seeds", help="Runs, each with its own draw of good photos and initial prompts.", min=1),
    ] = 5,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            help="Rows from each fit, with commas: text, memory, fused of promptad; guided, classifier, sum of rwda. "
            "Default: the whole.",
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Only these classes, with commas. Default: all.")
    ] = None,
    object_name: Annotated[
        str | None,
        typer.Option("--object", help="What the photos of a data set of one class show. Default: its folder's name."),
    ] = None,
    eval_size: Annotated[
        str | None,
        typer.Option(
            "--eval-size",
            help="Side in pixels to which maps and masks are brought, or photo: each photo's own. Default: the preset's, 400 or "
            "(faprompt, anomalyclip as printed) 518.",
        ),
    ] = None,
    convention: Annotated[
        list[str],
        typer.Option(
            "--convention",
            help="How all rows are measured, instead of as each preset's paper does: masks=nearest|nearest_1024|bilinear, "
            "pixels=photo|inspected, shot_order=sorted|directory; repeat for more.",
        ),
    ] = [],  # noqa: B006
    shots_from: Annotated[
        list[Path],
        typer.Option(
            "--shots-from",
            help="JSON with the good photos to use instead of a draw: names, SHA-256 or numbers in a listing, or a manifest "
            "from an earlier run's shots folder; repeat for more.",
        ),
    ] = [],  # noqa: B006
    limit: Annotated[
        int,
        typer.Option("--limit", help="A first look: at most so many normal and anomalous test photos a class.", min=0),
    ] = 0,
    oracle_test: Annotated[
        bool,
        typer.Option(
            "--oracle-test",
            help="Also choose the epoch on the test set, as some published numbers do; marked oracle.",
        ),
    ] = False,
    setting: options.Settings = [],  # noqa: B006 - typer copies it
    backbone: options.BackboneName = None,
    activation: options.ActivationName = None,
    precision: options.PrecisionName = "fp32",
    device: options.Device = "cpu",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for tables and results. Default: ./evaluate-DATASET."),
    ] = None,
    no_cache: options.NoCache = False,
    feature_memory: options.FeatureMemory = 2.0,
    feature_disk: options.FeatureDisk = 4.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compute everything again, whatever an earlier run left.")
    ] = False,
) -> None:
    """Measure methods on a labelled data set, zero-shot and few-shot in one table: mean and spread over draws of the
    good photos.

    Beside the whole of MVTec AD or VisA the published numbers stand. Every finished fit is kept: after Ctrl-C,
    the same command goes on where it stopped. Run r draws its good photos and its initial prompts with
    seed 111 + r; --set seed=N changes the 111.
    """
    measured = _conventions(convention, eval_size, oracle_test)
    numbers, values = _numbers(shots), options.parse_settings(setting)
    if oracle_test and "promptad" not in names(method):
        raise ConfigError("--oracle-test chooses an epoch of promptad's fit; add --method promptad")
    from promptad.data.datasets import load_dataset

    records = chosen_classes(load_dataset(dataset), names(classes or ""))
    objects = _objects(object_name, records, dataset)
    from promptad.bench.draw import read_given_shots
    from promptad.bench.protocol import Protocol
    from promptad.bench.run import Evaluation, run
    from promptad.bench.variants import plain_variants
    from promptad.learning.features import GIB
    from promptad.run.inspection import prepare

    presets = names(preset or "clean")
    Protocol(
        plain_variants(names(method), presets), numbers, seeds, conventions=measured, limit=limit
    )  # before weights
    given = read_given_shots(shots_from, records) if shots_from else None
    open_clip = partial(options.open_backbone, backbone, precision, device, activation)
    variants, base_seed, clip = _variants(method, preset, weights, parts, values, open_clip)
    protocol = Protocol(variants, numbers, seeds, base_seed, measured, objects, given, limit)
    root = dataset.resolve() if dataset.is_dir() else dataset.resolve().parent
    out = output or Path(f"evaluate-{root.name}")
    prepare(out)
    cache = None if no_cache else options.feature_store(feature_disk)
    keep = int(feature_memory * GIB)
    with progress("evaluating (photos)") as update:
        outcome = run(Evaluation(protocol, records, clip, out, root, cache, keep, fresh, update))
    for line in [*(failure.reason for failure in outcome.failures), *outcome.problems]:
        warn(line)
    if not outcome.units:
        raise DataError(f"{dataset}: nothing could be evaluated; the lines above say why for every class")
    _show(outcome, protocol, clip, root.name, out)


def _show(outcome: Outcome, protocol: Protocol, clip: Backbone, title: str, out: Path) -> None:
    """Writes the report and prints it."""
    from promptad.bench.files import write_report
    from promptad.bench.tables import make_report, text

    report = make_report(title, protocol, (clip.name, clip.identity), outcome)
    files = write_report(report, out)
    say(text(report))
    say()
    say(f"units      {outcome.scored} computed, {outcome.reused} from an earlier run, in {out / 'units'}")
    say(f"files      {', '.join(str(path) for path in files)}")


def _variants(
    method: str,
    preset: str | None,
    weights: list[Path],
    parts: str | None,
    values: dict[str, Any],
    open_clip: Callable[[], Backbone],
) -> tuple[tuple[Variant, ...], int, Backbone]:
    """What is evaluated, its base seed, and the loaded backbone; settings are checked before anything is loaded."""
    from promptad.bench.variants import DEFAULT_SEED, make_variants

    base_seed = values.pop("seed", DEFAULT_SEED)
    if not isinstance(base_seed, int) or isinstance(base_seed, bool):
        raise ConfigError(f"--set seed={base_seed}: expected a whole number")
    presets = names(preset or "clean")
    make_variants(names(method), presets, values, names(parts or ""))
    clip = open_clip()
    learned = trained_prompts(names(method), weights, clip)
    for file in learned:
        if preset is not None and file.preset not in presets:
            raise ConfigError(
                f"--preset {preset}: {file.path.name} was trained with preset {file.preset}; train with "
                f"`promptad train {file.method} --preset {presets[0]}` and give the file with --weights"
            )
    return make_variants(names(method), presets, values, names(parts or ""), learned), base_seed, clip


def _objects(object_name: str | None, records: list[Record], dataset: Path) -> dict[str, str]:
    classes = list(dict.fromkeys(record.class_name for record in records))
    if object_name is not None and len(classes) > 1:
        raise ConfigError(f"--object names one class, {dataset} has {len(classes)}; choose one with --classes")
    return {classes[0]: object_name} if object_name is not None else {}


def _conventions(pairs: list[str], eval_size: str | None, oracle_test: bool) -> dict[str, Any]:
    """What holds for all rows; checked by `bench.conventions.Conventions`."""
    values = options.parse_settings(pairs, "--convention", "masks=bilinear")
    if eval_size is not None:
        values["eval_size"] = _size(eval_size)
    if oracle_test:
        values["selection"] = "oracle_test"
    return values


def trained_prompts(methods: list[str], files: list[Path], clip: Backbone) -> list[Learned]:
    """The trained prompts of these methods: a person's own, else the package's.

    Raises:
        ConfigError: a file of a method that is not evaluated. WeightsError: unreadable, or none in the package.
    """
    from promptad.methods.registry import find_method
    from promptad.saved.prompts import find_learned, read_learned

    own = [read_learned(path) for path in files]
    for learned in own:
        if learned.method not in methods:
            raise ConfigError(f"--weights {learned.path}: holds prompts of {learned.method}; add it to --method")
    given = {learned.method for learned in own}
    return own + [find_learned(name, clip) for name in methods if find_method(name).trained and name not in given]


def chosen_classes(records: list[Record], wanted: list[str], left_out: list[str] | None = None) -> list[Record]:
    """The records of these classes, all if none is named, without those of the classes left out.

    Raises:
        DataError: a class that the data set does not have.
    """
    known = sorted({record.class_name for record in records})
    for option, given in (("--classes", wanted), ("--leave-out", left_out or [])):
        for name in given:
            if name not in known:
                raise DataError(f"{option} {name}: the data set has no such class; it has {', '.join(known)}")
    kept = set(wanted or known) - set(left_out or [])
    return [record for record in records if record.class_name in kept]


def names(words: str) -> list[str]:
    """`"a, b,a"` -> `["a", "b"]`."""
    return list(dict.fromkeys(name.strip() for name in words.split(",") if name.strip()))


def _numbers(words: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(number) for number in names(words)))
    except ValueError:
        raise ConfigError(f"--shots {words}: expected whole numbers with commas, such as 1,2,4") from None


def _size(words: str) -> int | str:
    if words == "photo":
        return "photo"
    try:
        return int(words)
    except ValueError:
        raise ConfigError(f"--eval-size {words}: expected a number of pixels, such as 400, or photo") from None

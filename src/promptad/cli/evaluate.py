"""`promptad evaluate`: the tables of the papers, on a data set of your own or a public one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptad.cli import options
from promptad.cli.console import friendly_errors, progress, say, warn
from promptad.errors import ConfigError, DataError

if TYPE_CHECKING:
    from promptad.bench.protocol import EvalSize
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
        str,
        typer.Option(
            "--eval-size",
            help="Side in pixels to which maps and masks are brought, or photo: each photo's own.",
        ),
    ] = "400",
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
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep features in memory only, not on disk.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compute everything again, whatever an earlier run left.")
    ] = False,
) -> None:
    """Measure methods on a labelled data set, zero-shot and few-shot in one table: mean and spread over draws of the
    good photos.

    For MVTec AD and VisA the published numbers stand beside. Every finished fit is kept: after Ctrl-C,
    the same command goes on where it stopped. Run r draws its good photos and its initial prompts with
    seed 111 + r; --set seed=N changes the 111.
    """
    from promptad.bench.protocol import DEFAULT_SEED, Protocol, make_variants
    from promptad.data.datasets import load_dataset

    values = options.parse_settings(setting)
    base_seed = values.pop("seed", DEFAULT_SEED)
    if not isinstance(base_seed, int) or isinstance(base_seed, bool):
        raise ConfigError(f"--set seed={base_seed}: expected a whole number")
    if oracle_test:
        if "promptad" not in names(method):
            raise ConfigError("--oracle-test chooses an epoch of promptad's fit; add --method promptad")
        values["selection"] = "oracle_test"
    clip = options.open_backbone(backbone, precision, device, activation)
    learned = trained_prompts(names(method), weights, clip)
    for one in learned:
        if preset is not None and one.preset not in names(preset):
            raise ConfigError(
                f"--preset {preset}: {one.path.name} was trained with preset {one.preset}; train with "
                f"`promptad train {one.method} --preset {names(preset)[0]}` and give the file with --weights"
            )
    variants = make_variants(names(method), names(preset or "clean"), values, names(parts or ""), learned)
    records = chosen_classes(load_dataset(dataset), names(classes or ""))
    found = list(dict.fromkeys(record.class_name for record in records))
    if object_name is not None and len(found) > 1:
        raise ConfigError(f"--object names one class, {dataset} has {len(found)}; choose one with --classes")
    objects = {found[0]: object_name} if object_name is not None else {}
    protocol = Protocol(variants, _numbers(shots), seeds, base_seed, _size(eval_size), objects)

    from promptad.bench.run import run
    from promptad.bench.tables import make_report, text, write_report
    from promptad.learning.features import default_store
    from promptad.run.inspection import prepare

    root = dataset.resolve() if dataset.is_dir() else dataset.resolve().parent
    out = output or Path(f"evaluate-{root.name}")
    prepare(out)
    cache = None if no_cache else default_store()
    with progress("evaluating (photos)") as update:
        outcome = run(protocol, records, clip, out, root=root, cache=cache, fresh=fresh, progress=update)
    for line in [*(failure.reason for failure in outcome.failures), *outcome.problems]:
        warn(line)
    if not outcome.units:
        raise DataError(f"{dataset}: nothing could be evaluated; the lines above say why for every class")
    report = make_report(root.name, protocol, (clip.name, clip.identity), outcome)
    files = write_report(report, out)
    say(text(report))
    say()
    say(f"units      {outcome.scored} computed, {outcome.reused} from an earlier run, in {out / 'units'}")
    say(f"files      {', '.join(str(path) for path in files)}")


def trained_prompts(methods: list[str], files: list[Path], clip: Backbone) -> list[Learned]:
    """The trained prompts of these methods: a person's own, else the package's.

    Raises:
        ConfigError: a file of a method that is not evaluated. WeightsError: unreadable, or none in the package.
    """
    from promptad.methods.registry import find_method
    from promptad.saved.prompts import find_learned, read_learned

    own = [read_learned(path) for path in files]
    for one in own:
        if one.method not in methods:
            raise ConfigError(f"--weights {one.path}: holds prompts of {one.method}; add it to --method")
    given = {one.method for one in own}
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
        return tuple(dict.fromkeys(int(one) for one in names(words)))
    except ValueError:
        raise ConfigError(f"--shots {words}: expected whole numbers with commas, such as 1,2,4") from None


def _size(words: str) -> EvalSize:
    if words == "photo":
        return "photo"
    try:
        return int(words)
    except ValueError:
        raise ConfigError(f"--eval-size {words}: expected a number of pixels, such as 400, or photo") from None

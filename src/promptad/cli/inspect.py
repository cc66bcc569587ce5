"""`promptad inspect`: judge a folder of photos."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from promptad.cli import options
from promptad.cli.console import EXIT_INTERRUPTED, friendly_errors, progress, say, table, warn
from promptad.errors import ConfigError

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.run.inspection import Report
    from promptad.run.judging import HeatmapKind, MapKind

EXIT_SOME_FAILED = 3
"""The run is complete, but a photo could not be read or judged, or a file about it not written."""


@friendly_errors()
def inspect(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of them (searched to the bottom).")],
    model: Annotated[Path | None, typer.Option("--model", help="A detector saved by `promptad fit`.")] = None,
    good: Annotated[
        list[Path], typer.Option("--good", help="Good photos or folders to learn from now, instead of --model; repeat.")
    ] = [],  # noqa: B006 - typer copies it
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for table, heat maps and page.")] = Path("out"),
    object_name: options.Object = "object",
    defect: options.Defects = [],  # noqa: B006
    only_defects: options.OnlyDefects = False,
    words: options.Words = None,
    method: options.MethodName = None,
    weights: options.Weights = None,
    preset: options.Preset = None,
    held_out: options.HeldOut = [],  # noqa: B006
    false_alarms: options.FalseAlarms = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Your own threshold, instead of the learned one.")
    ] = None,
    heatmaps: Annotated[str, typer.Option("--heatmaps", help="jpg, png or none.")] = "jpg",
    maps: Annotated[
        str,
        typer.Option(
            "--maps", help="Raw anomaly maps at photo size: npy, png (16 bit, the scale stands in the file) or none."
        ),
    ] = "none",
    max_pictures: Annotated[int, typer.Option("--max-pictures", help="Photos with pictures on the page.", min=1)] = 200,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Judge every photo again, whatever an earlier run left.")
    ] = False,
    backbone: options.BackboneName = None,
    activation: options.ActivationName = None,
    precision: options.PrecisionName = "fp32",
    device: options.Device = "cpu",
    setting: options.Settings = [],  # noqa: B006
    seed: options.Seed = None,
) -> None:
    """Judge photos: table, heat maps at photo size, and one HTML page, worst first.

    Give a saved detector (--model), or good photos to learn from now (--good), or neither with --method faprompt,
    anomalyclip, promptad-zs, rwda or clip; good photos then set the threshold. A second run into the same folder goes on
    where the first one stopped; another threshold judges the same scores anew. Exit codes: 0 all judged, 3 some photos
    could not be read or judged, or a file about them not be written, 2 nothing could be done, 130 interrupted.
    """
    for name, value, allowed in (
        ("heatmaps", heatmaps, ("jpg", "png", "none")),
        ("maps", maps, ("npy", "png", "none")),
    ):
        if value not in allowed:
            raise ConfigError(f"--{name} {value!r}: expected {', '.join(allowed)}")
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigError(f"--threshold {threshold}: expected a finite number, such as 0.5")
    from promptad.calibration.threshold import by_hand
    from promptad.data.folder import find_photos
    from promptad.run.inspection import Output, prepare
    from promptad.run.inspection import inspect as run

    prepare(output)
    found, skipped, unreadable = find_photos(photos)
    if model is not None:
        if good or defect or words or setting or weights or method or preset or activation:
            raise ConfigError("--model brings its own method, words and settings; give either --model or the others")
        from promptad.detector import Detector

        detector = Detector.load(model, backbone=backbone, device=options.check_device(device))
        if object_name not in ("object", detector.object):
            raise ConfigError(
                f"{model}: was made for {detector.object!r}; leave --object out, or fit one for {object_name!r}"
            )
        if false_alarms is not None:
            if detector.calibration is None:
                raise ConfigError(f"{model}: has no threshold to move; fit it again with good photos")
            detector.calibration = detector.calibration.at_rate(false_alarms)
    else:
        detector = options.new_detector(
            method=method,
            weights=weights,
            object_name=object_name,
            defects=defect,
            only_defects=only_defects,
            words=words,
            preset=preset,
            backbone=backbone,
            activation=activation,
            precision=precision,
            device=device,
            settings=setting,
            seed=seed,
        )
        if not good and (held_out or false_alarms is not None):
            raise ConfigError(
                "--held-out and --false-alarms are about the threshold from good photos; give some with --good"
            )
        if good:
            options.learn(detector, good, held_out, false_alarms)
        elif detector.entry.needs_good_photos:
            raise ConfigError(
                f"{detector.entry.title} learns from good photos: give some with --good, a saved detector with --model, "
                "or use --method faprompt, which needs neither"
            )
    if threshold is not None:
        known = detector.calibration
        detector.calibration = (
            known.with_threshold(threshold) if known else by_hand(threshold, detector.entry.map_range)
        )
    with progress("inspecting") as update:
        report = run(
            detector,
            found,
            Output(
                output,
                cast("HeatmapKind", heatmaps),
                cast("MapKind", maps),
                max_pictures,
                fresh,
                shlex.join(["promptad", *sys.argv[1:]]),
                f"{detector.object}: inspection",
            ),
            skipped=skipped,
            unreadable=unreadable,
            progress=update,
            failed=warn,
        )
    for path, reason in (*unreadable, *skipped):
        warn(f"{path}: {reason}")
    if maps != "none" and report.rows and all(row.hottest is None for row in report.rows):
        warn(f"{detector.entry.title} gives no anomaly maps, so --maps wrote none")
    show(report, detector)
    if report.interrupted:
        warn("interrupted; finished photos are kept, run the same command again to go on")
        raise SystemExit(EXIT_INTERRUPTED)
    if report.failed or report.unwritten:
        raise SystemExit(EXIT_SOME_FAILED)


def show(report: Report, detector: Detector, most: int = 12) -> None:
    """Prints the worst photos, the counts and the names of the files."""
    scored = [row for row in report.rows if row.score is not None]
    lines = []
    for row in scored[:most]:
        word = row.defects[0] if row.defects else None
        share = word and (word.image_probability if word.region_probability is None else word.region_probability)
        best = f"{word.words} ({share:.0%})" if word else ""
        lines.append([f"{row.score:.4f}", row.verdict, best, Path(row.photo).name])
    if lines:
        regions = any(word.region_probability is not None for row in scored for word in row.defects)
        table(["score", "verdict", f"nearest words ({'hottest region' if regions else 'whole photo'})", "photo"], lines)
    if len(scored) > most:
        say(f"... and {len(scored) - most} more in {report.csv}")
    say()
    say("photos     " + ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items()))
    say(f"backbone   {detector.backbone.identity}")
    if detector.calibration:
        say(f"threshold  {detector.calibration.threshold:.4g}. {detector.calibration.note}")
    say(f"table      {report.csv}")
    say(f"page       {report.page}")

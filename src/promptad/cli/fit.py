"""`promptad fit`: learn a product from good photos and save the detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptad.cli import options
from promptad.cli.console import friendly_errors, say


@friendly_errors()
def fit(
    good: Annotated[list[Path], typer.Argument(help="Good photos, or folders of them; one to four are enough.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The detector, one .safetensors file.")],
    object_name: options.Object,
    defect: options.Defects = [],  # noqa: B006 - typer copies it
    only_defects: options.OnlyDefects = False,
    words: options.Words = None,
    method: options.MethodName = None,
    weights: options.Weights = None,
    preset: options.Preset = None,
    held_out: options.HeldOut = [],  # noqa: B006
    false_alarms: options.FalseAlarms = None,
    backbone: options.BackboneName = None,
    activation: options.ActivationName = None,
    precision: options.PrecisionName = "fp32",
    device: options.Device = "cpu",
    setting: options.Settings = [],  # noqa: B006
    seed: options.Seed = None,
) -> None:
    """Learn a product from good photos, set the threshold from them, and save the detector."""
    if output.suffix != ".safetensors":
        output = output.with_name(output.name + ".safetensors")
    from promptad.run.inspection import prepare

    prepare(output.parent)
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
    count = options.learn(detector, good, held_out, false_alarms)
    detector.save(output)
    say(f"object     {object_name}, from {count} good photo{'s' if count > 1 else ''}")
    say(f"method     {detector.entry.title}, preset {detector.preset}")
    say(f"backbone   {detector.backbone.identity}")
    if detector.calibration:
        say(f"threshold  {detector.calibration.threshold:.4g}")
        say(f"           {detector.calibration.note}")
    say(f"saved      {output}")
    say(f"next       promptad inspect PHOTOS --model {output} -o out/")

"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from promptad.errors import ConfigError

if TYPE_CHECKING:
    from promptad.clip.architecture import Activation
    from promptad.clip.backbone import Backbone, Precision
    from promptad.detector import Detector
    from promptad.learning.features import FeatureStore

Object = Annotated[str, typer.Option("--object", help='What the photos show, in words: "metal nut".')]
Defects = Annotated[
    list[str],
    typer.Option("--defect", help='A defect in words, such as "with scratch" or "bent [c]"; repeat for more.'),
]
OnlyDefects = Annotated[
    bool, typer.Option("--only-defects", help="Use the given defects alone, without the general ones.")
]
Words = Annotated[
    Path | None, typer.Option("--words", help="TOML file with your own defect words; see docs, Your own words.")
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="promptad (default, learns from good photos), or without any: faprompt, anomalyclip, promptad-zs, rwda, clip.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Trained prompts from `promptad train`, instead of those in the package."),
]
Preset = Annotated[
    str | None, typer.Option("--preset", help="clean (recommended), paper or release. Default: clean, or the file's.")
]
BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone", help="CLIP weights: a name from `promptad models`, a file or a folder. Default: starter."
    ),
]
ActivationName = Annotated[
    str | None,
    typer.Option(
        "--activation",
        help="quick_gelu (OpenAI's own weights) or gelu: for weights files of which neither the zoo nor a config says.",
    ),
]
PrecisionName = Annotated[str, typer.Option("--precision", help="fp32 or bf16.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
Settings = Annotated[
    list[str],
    typer.Option("--set", help="Any setting of the method as key=value, e.g. --set epochs=200; repeat for more."),
]
HeldOut = Annotated[
    list[Path],
    typer.Option("--held-out", help="Further good photos or folders that only set the threshold; repeat for more."),
]
FalseAlarms = Annotated[
    float | None, typer.Option("--false-alarms", help="Share of good photos that may be called anomalous, e.g. 0.01.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the prompts' initial values.")]


NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep features in memory only, not on disk.")]
FeatureMemory = Annotated[
    float,
    typer.Option(
        "--feature-memory",
        help="GiB of features kept in memory; more are read from the disk again for every pass.",
        min=0,
    ),
]
FeatureDisk = Annotated[
    float,
    typer.Option(
        "--feature-disk", help="GiB of features kept on disk; the longest unused are removed and encoded again.", min=0
    ),
]


def feature_store(gib: float) -> FeatureStore:
    """The store of features in the user's cache folder, of that size."""
    from promptad.learning.features import GIB, default_store

    store = default_store()
    store.max_bytes = int(gib * GIB)
    return store


def parse_settings(pairs: list[str], option: str = "--set", example: str = "epochs=200") -> dict[str, Any]:
    """`["epochs=200", "fit=tiles"]` -> `{"epochs": 200, "fit": "tiles"}`; values are JSON where they can be.

    Raises:
        ConfigError: an entry without a key or an equals sign.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {pair!r}: expected key=value, for example {option} {example}")
        try:
            out[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            out[key.strip()] = text
    return out


def new_detector(
    *,
    method: str | None,
    object_name: str,
    defects: list[str],
    only_defects: bool,
    words: Path | None,
    preset: str | None,
    backbone: str | None,
    precision: str,
    device: str,
    settings: list[str],
    seed: int | None = None,
    weights: Path | None = None,
    activation: str | None = None,
) -> Detector:
    """A detector from the options of `fit` and `inspect`."""
    from promptad.detector import Detector

    values = parse_settings(settings)
    if words is not None:
        values["state_bank"] = str(words)
        if words.suffix != ".toml":
            raise ConfigError(f"{words}: the word file must be a .toml file")
    if only_defects:
        values["only_defects"] = True
    if seed is not None:
        values["seed"] = seed
    return Detector(
        method,
        object=object_name,
        defects=defects,
        preset=preset,
        backbone=open_backbone(backbone, precision, device, activation),
        weights=weights,
        **values,
    )


def open_backbone(backbone: str | None, precision: str, device: str, activation: str | None) -> Backbone:
    """The backbone from the options of a command; their values are checked there.

    Raises:
        WeightsError: not there, or damaged. ConfigError: an unknown precision or activation, or a device that is not there.
    """
    from promptad.clip.backbone import load_backbone

    return load_backbone(
        backbone or "starter",
        precision=cast("Precision", precision),
        device=check_device(device),
        activation=cast("Activation | None", activation),
    )


def check_device(device: str) -> str:
    """The device, if torch can compute there.

    Raises:
        ConfigError: no such device on this machine.
    """
    from promptad.clip.device import usable_device

    return str(usable_device(device))


def good_photos(paths: list[Path]) -> list[Path]:
    """Photo files among files and folders that were named as good; what is skipped is said.

    Raises:
        DataError: nothing there.
    """
    from promptad.cli.console import warn
    from promptad.data.folder import find_photos

    photos, skipped, unreadable = find_photos(paths)
    for path, reason in (*unreadable, *skipped):
        warn(f"{path}: {reason}")
    return photos


def readable(paths: list[Path]) -> list[Path]:
    """Those photos that can be read; each of the others gets its line.

    Raises:
        DataError: none is left.
    """
    from promptad.cli.console import warn
    from promptad.data.photos import read_photo
    from promptad.errors import DataError, PhotoError

    kept = []
    for path in paths:
        try:
            read_photo(path)
        except PhotoError as error:
            warn(str(error))
        else:
            kept.append(path)
    if not kept:
        raise DataError("none of the good photos can be read; give at least one")
    return kept


def learn(detector: Detector, good: list[Path], held_out: list[Path], false_alarms: float | None) -> int:
    """Fits the detector on the readable good photos, with a progress bar, and gives their number."""
    from promptad.cli.console import progress

    learned = readable(good_photos(good))
    extra = readable(good_photos(held_out)) if held_out else []
    with progress("reading good photos") as update:
        detector.fit(learned, held_out=extra, false_alarms=false_alarms, progress=update)
    return len(learned)

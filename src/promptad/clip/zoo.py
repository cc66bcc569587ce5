"""The checkpoints that promptad knows by name, and where their files lie on this machine.

A checkpoint is data (``zoo.toml``): sizes, source, licence, checksums. This module reads that table, finds
weights by name or by path, and compares files with what is known of them. It never touches the network;
``pull.py`` does.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from promptad.clip.pins import file_sha256, read_pin
from promptad.errors import WeightsError
from promptad.inputs import argument

STARTER_FOLDER = Path(__file__).with_name("starter")
WEIGHTS_NAMES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


@dataclass(frozen=True)
class ZooFile:
    """A file of a checkpoint: `sha256` in hex, full, leading digits or ""; `size` in bytes or None."""

    name: str
    sha256: str = ""
    size: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """One row of ``zoo.toml``; the comments there say what each field means.

    Attributes:
        family: "clip", or "dinov2" for image towers without words; those have no text, `embed_dim` and `activation`.
        vision, text: sizes under the names of ``architecture.VisionSizes`` and ``architecture.TextSizes``; a ResNet has its
            stem's ``width`` and a list of ``layers``, a DINOv2 the names of ``dino.tower.DinoSizes``.
        parameters: how many numbers the model has, 0 where the zoo does not say.
        recommended_size: side in pixels that we give photos, 0 where it is what the tower was trained on.
        known: other files of the same weights, by their checksum alone.
        mean, std: normalisation of RGB values in [0, 1].
    """

    name: str
    source: Literal["bundled", "hub", "release"]
    files: tuple[ZooFile, ...]
    licence: str
    licence_url: str
    notes: str
    vision: Mapping[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    family: Literal["clip", "dinov2"] = "clip"
    text: Mapping[str, int] = field(default_factory=dict)
    embed_dim: int = 0
    activation: Literal["quick_gelu", "gelu"] = "gelu"
    parameters: int = 0
    used_by: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    companions: tuple[ZooFile, ...] = ()
    hub_id: str = ""
    url: str = ""
    alternatives: tuple[str, ...] = ()
    recommended_size: int = 0
    known: tuple[ZooFile, ...] = ()

    @property
    def input_size(self) -> int:
        """Side in pixels of the square input that we recommend: `recommended_size`, else what the tower was trained on."""
        return self.recommended_size or int(self.vision["image_size"])

    @property
    def origin(self) -> str:
        """Where the weights come from, as an address a person can open; "" for bundled weights."""
        return f"https://huggingface.co/{self.hub_id}" if self.hub_id else self.url

    @property
    def folder_name(self) -> str:
        """Name of its folder inside the cache folder."""
        return self.name.replace("/", "--")

    @property
    def argument(self) -> str:
        """The input that takes it: "backbone" or "memory_backbone"."""
        return "backbone" if self.family == "clip" else "memory_backbone"

    def sizes(self) -> dict[str, Any]:
        """The layout of ``architecture.ClipSizes.to_dict()``; a DINOv2 has an image tower alone."""
        if self.family == "dinov2":
            return {"vision": dict(self.vision)}
        towers = {"vision": dict(self.vision), "text": dict(self.text)}
        return {"embed_dim": self.embed_dim, "activation": self.activation, **towers}


@dataclass(frozen=True)
class Located:
    """Weights found on this machine.

    Attributes:
        checkpoint: the zoo row, or None for weights that the zoo does not know.
        weights: the weights file.
        folder: the folder of `weights` when a configuration or tokenizer lies there too, else None.
    """

    checkpoint: Checkpoint | None
    weights: Path
    folder: Path | None


@dataclass(frozen=True)
class Verdict:
    """A file compared with what is known of it; `expected` and `authority` are "" when nothing is known."""

    path: Path
    status: Literal["ok", "differs", "unknown"]
    sha256: str
    expected: str = ""
    authority: str = ""


@lru_cache(maxsize=1)
def list_checkpoints() -> tuple[Checkpoint, ...]:
    """All checkpoints of ``zoo.toml``, in its order; the first is the default."""
    with Path(__file__).with_name("zoo.toml").open("rb") as stream:
        table = tomllib.load(stream)
    return tuple(_from_table(name, row) for name, row in table.items())


def _from_table(name: str, row: Mapping[str, Any]) -> Checkpoint:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    for key in ("files", "companions", "known"):
        values[key] = tuple(ZooFile(**entry) for entry in row.get(key, ()))
    for key in ("vision", "text"):
        values[key] = MappingProxyType(row.get(key, {}))
    return Checkpoint(name=name, **values)


def find_checkpoint(name: str) -> Checkpoint:
    """The checkpoint of that name or alias; case, ``:`` for ``/`` and ``_`` for ``-`` make no difference.

    Raises:
        WeightsError: no such name; the message suggests the closest one.
    """
    checkpoint = _find(name)
    if checkpoint is None:
        raise _unknown(name)
    return checkpoint


def _find(name: str | Path) -> Checkpoint | None:
    if isinstance(name, Path):
        return None
    wanted = _normal(name)
    return next((c for c in list_checkpoints() if wanted in map(_normal, (c.name, *c.aliases))), None)


def _unknown(name: str, also: str = "") -> WeightsError:
    from difflib import get_close_matches

    names = {_normal(alias): c.name for c in list_checkpoints() for alias in (c.name, *c.aliases)}
    close = get_close_matches(_normal(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {names[close[0]]!r}? " if close else ""
    return WeightsError(f"unknown checkpoint {name!r}{also}: {hint}`promptad models list` shows all names")


def _normal(name: str) -> str:
    return name.strip().lower().replace(":", "/").replace("_", "-")


def cache_folder() -> Path:
    """Folder of pulled weights: ``$PROMPTAD_HOME/models``, else ``promptad/models`` in the user's cache."""
    if home := os.environ.get("PROMPTAD_HOME"):
        return Path(home).expanduser() / "models"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG standard tells programs to ignore a relative path here.
    base = Path(xdg) if os.path.isabs(xdg) else Path(os.path.expanduser("~")) / ".cache"
    return base / "promptad" / "models"


def folder_of(checkpoint: Checkpoint) -> Path:
    """The folder where the files of a checkpoint belong, whether they are there or not."""
    return STARTER_FOLDER if checkpoint.source == "bundled" else cache_folder() / checkpoint.folder_name


def weights_in(checkpoint: Checkpoint, folder: Path) -> Path | None:
    """The preferred weights file of a checkpoint that lies in `folder`, or None."""
    return next((folder / file.name for file in checkpoint.files if (folder / file.name).is_file()), None)


def status(checkpoint: Checkpoint) -> Literal["bundled", "in cache", "not pulled"]:
    """Where the checkpoint stands on this machine, by the presence of its file alone."""
    if checkpoint.source == "bundled":
        return "bundled"
    return "in cache" if weights_in(checkpoint, folder_of(checkpoint)) else "not pulled"


def locate(name_or_path: str | Path = "starter") -> Located:
    """Find weights on this machine by zoo name, file or folder.

    A zoo name wins over a file of the same name; write ``./starter`` for the file. The starter is compared
    with its checksums, a pulled file only with its size; :func:`check` hashes any file. Nothing is fetched;
    ``pull.py`` does.

    Raises:
        WeightsError: nothing there, several candidates, or a damaged file; the message names the way out.
    """
    checkpoint = _find(name_or_path)
    if checkpoint is None:
        weights = _weights_at(name_or_path)
        checkpoint = recognise(weights)
    elif checkpoint.source == "bundled":
        weights = _intact_bundled(checkpoint)
    else:
        pulled = weights_in(checkpoint, folder_of(checkpoint))
        if pulled is None:
            raise missing(checkpoint)
        weights = pulled
    _require_pinned_size(weights)
    extras = ("config.json", "open_clip_config.json", "preprocessor_config.json", "tokenizer.json")
    folder = weights.parent if any((weights.parent / name).is_file() for name in extras) else None
    return Located(checkpoint, weights, folder)


def require_family(located: Located, family: Literal["clip", "dinov2"], name: str | Path) -> Located:
    """What was located, unless the zoo knows it as a model of another kind, which is a WeightsError; `name` is what was asked for."""
    if located.checkpoint is None or located.checkpoint.family == family:
        return located
    if family == "clip":
        raise WeightsError(
            f"{name}: is an image tower without words, so it cannot be the backbone; give it for the memory "
            f"({argument('memory_backbone', str(name))}) beside a CLIP"
        )
    raise WeightsError(
        f"{name}: is a CLIP and no DINOv2; a second image tower is one of those, such as "
        f"{argument('memory_backbone', 'dinov2-vits14')}; leave it out for a memory of CLIP's own tokens"
    )


def split_size(name: str | Path) -> tuple[str | Path, int | None]:
    """ "dinov2-vits14@672" -> the name and 672, the side of its input; None where there is none, or a file is called so."""
    match = re.fullmatch(r"(.+)@(\d{1,5})", str(name))
    if match is None or Path(name).expanduser().exists():
        return name, None
    return type(name)(match[1]), int(match[2])


def locate_memory(name: str | Path) -> Located:
    """Where the weights of a second image tower lie, see :func:`locate`; a size behind the name is left to whoever loads it.

    Raises:
        WeightsError: nowhere, or weights of a CLIP by the zoo.
    """
    return require_family(locate(split_size(name)[0]), "dinov2", name)


def missing(checkpoint: Checkpoint, because: str = "") -> WeightsError:
    """The error for a checkpoint that is not on this machine: which file, where it belongs, the ways out."""
    names = " or ".join(file.name for file in checkpoint.files)
    network = " with network access" if because else ""
    return WeightsError(
        (f"{because}: " if because else "")
        + f"checkpoint {checkpoint.name!r} is not on this machine: no {names} in {folder_of(checkpoint)}; "
        f"run `promptad models pull {checkpoint.name}`{network}, put the file there, "
        f"or give the file itself ({argument(checkpoint.argument, f'/path/to/{checkpoint.files[0].name}')})"
    )


def _weights_at(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        path = _only_weights_in(path)
    if path.is_file():
        if path.stat().st_size == 0:
            raise WeightsError(f"{path} is empty: expected weights; copy or pull the file again")
        return path
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text[:1] not in "./~\\" and path.suffix not in WEIGHTS_SUFFIXES:
        raise _unknown(text, ", and no file or folder of that name")
    raise WeightsError(f"no weights at {path}: expected a weights file, a folder with one, or a zoo name")


def _only_weights_in(folder: Path) -> Path:
    for name in WEIGHTS_NAMES:
        if (folder / name).is_file():
            return folder / name
    candidates = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS_SUFFIXES and path.is_file())
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        expected = f"{WEIGHTS_NAMES[0]} or one .safetensors, .bin, .pt or .pth file"
        raise WeightsError(f"no weights in {folder}: expected {expected}")
    names = ", ".join(path.name for path in candidates[:4]) + (", ..." if len(candidates) > 4 else "")
    raise WeightsError(f"{len(candidates)} weights files in {folder} ({names}): pass the path of one of them")


def recognise(weights: Path) -> Checkpoint | None:
    """The checkpoint that a local file is, by its pin, its checksum, its place or the name of a release file, or None.

    The zoo row matters even for a local file: the activation cannot be told from the weights.
    """
    pin = read_pin(weights)
    if pin is not None and (pinned := _find(pin.checkpoint)):
        return pinned
    if by_content := _by_checksum(weights):
        return by_content
    for checkpoint in list_checkpoints():
        if weights.name not in [file.name for file in checkpoint.files]:
            continue
        placed = weights.resolve().parent
        if placed == folder_of(checkpoint).resolve() or checkpoint.source == "release":
            return checkpoint
        # A cache folder carried to another machine keeps its name; `starter` is too common a word to trust.
        if checkpoint.source == "hub" and placed.name == checkpoint.folder_name:
            return checkpoint
    return None


def _by_checksum(weights: Path) -> Checkpoint | None:
    """The checkpoint one of whose published checksums the file has; leading digits alone prove nothing."""
    sha256 = weights_sha256(weights)
    for checkpoint in list_checkpoints():
        whole = [file.sha256 for file in (*checkpoint.files, *checkpoint.known) if len(file.sha256) == 64]
        if sha256 in whole:
            return checkpoint
    return None


def verify(path: Path, checkpoint: Checkpoint | None = None) -> Verdict:
    """Hash a file anew and compare it with the zoo's checksum and with its pin, where there are any.

    Raises:
        WeightsError: the file cannot be read.
    """
    sha256 = file_sha256(path)
    known = (*checkpoint.files, *checkpoint.companions, *checkpoint.known) if checkpoint else ()
    expected = next((file.sha256 for file in known if file.sha256 == sha256), "")
    expected = expected or next((file.sha256 for file in known if file.name == path.name), "")
    pin = read_pin(path)
    if expected and not sha256.startswith(expected):
        return Verdict(path, "differs", sha256, expected, "zoo")
    if pin is not None:
        return Verdict(path, "ok" if sha256 == pin.sha256 else "differs", sha256, pin.sha256, f"pin of {pin.date}")
    if expected:
        scope = "zoo" if len(expected) == 64 else f"zoo, first {len(expected)} digits"
        return Verdict(path, "ok", sha256, expected, scope)
    return Verdict(path, "unknown", sha256)


def check(name_or_path: str | Path) -> list[Verdict]:
    """Verify every file of a checkpoint, or one local file or the weights in a folder.

    Raises:
        WeightsError: there is nothing to check.
    """
    checkpoint = _find(name_or_path)
    if checkpoint is None:
        weights = _weights_at(name_or_path)
        return [verify(weights, recognise(weights))]
    folder = folder_of(checkpoint)
    if checkpoint.source == "bundled":
        return [verify(folder / file.name, checkpoint) for file in (*checkpoint.files, *checkpoint.companions)]
    present = [folder / file.name for file in checkpoint.files if (folder / file.name).is_file()]
    if not present:
        raise missing(checkpoint)
    return [verify(path, checkpoint) for path in present]


def _intact_bundled(checkpoint: Checkpoint) -> Path:
    again = "the installation is incomplete or damaged; install promptad again"
    for file in (*checkpoint.files, *checkpoint.companions):
        path = STARTER_FOLDER / file.name
        if not path.is_file():
            raise WeightsError(f"starter file {path} is missing: {again}")
        size = path.stat().st_size
        if size != file.size:
            raise WeightsError(f"starter file {path} has {size} bytes, expected {file.size}: {again}")
        if weights_sha256(path) != file.sha256:
            raise WeightsError(f"starter file {path} has another sha256 than it was shipped with: {again}")
    return STARTER_FOLDER / checkpoint.files[0].name


def weights_sha256(path: Path) -> str:
    """SHA-256 of a weights file; while the process lives and the file stays the same, it is read only once.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    return _hash_once(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:
    """Size and time are part of the key: a file that changes while the process lives is hashed again."""
    return file_sha256(path)


def _require_pinned_size(weights: Path) -> None:
    pin, size = read_pin(weights), weights.stat().st_size
    if pin is not None and size != pin.size:
        raise WeightsError(
            f"{weights} has {size} bytes, {pin.size} when it was pulled: the file is damaged; "
            f"run `promptad models pull {pin.checkpoint}` again"
        )

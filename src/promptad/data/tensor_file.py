"""What promptad saves: one `.safetensors` file, tensors plus a JSON header. Never a pickle.

There are three kinds: a detector ("detector"), prompts that were trained once for every product ("prompts"), and the
state of a training that is not finished ("training").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from promptad.data.files import write_atomic
from promptad.errors import WeightsError

FORMAT = 1
_KEY = "promptad"
_KINDS = {
    "detector": ("saved detector", "make one with `promptad fit GOOD... -o FILE`", "give it with --model"),
    "prompts": (
        "file of trained prompts",
        "make one with `promptad train METHOD --on DATASET -o FILE`",
        "give it with --weights",
    ),
    "training": (
        "training state",
        "start the training anew with --fresh",
        "it is a training that was not finished; run the same `promptad train` again",
    ),
}


@dataclass(frozen=True)
class Saved:
    """What a file holds: the header as a dictionary, and the tensors."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]


def write_saved(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes the file under a temporary name and renames it. The header's "kind" is "detector" unless it says otherwise.

    Raises:
        DataError: the folder cannot be written.
    """
    text = json.dumps({"format": FORMAT, "kind": "detector", **header}, ensure_ascii=False, allow_nan=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, metadata={_KEY: text}))


def read_saved(path: Path, kind: str = "detector") -> Saved:
    """Reads what :func:`write_saved` wrote.

    Raises:
        WeightsError: missing, damaged, not of this kind, or of a newer format.
    """
    name, make, _ = _KINDS[kind]
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, not a {name}; give the file inside it")
    if not path.is_file():
        raise WeightsError(f"{path}: no such {name}; {make}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable {name} ({str(error).splitlines()[0][:100]}); {make}") from error
    if _KEY not in metadata:
        raise WeightsError(
            f"{path}: safetensors, but not a {name} of promptad (CLIP weights are given with --backbone); {make}"
        )
    try:
        header = json.loads(metadata[_KEY])
        version = int(header["format"])
        found = str(header.get("kind", "detector"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its header is damaged; {make}") from error
    if version > FORMAT:
        raise WeightsError(
            f"{path}: written by a newer promptad (format {version}, this one reads {FORMAT}); update promptad"
        )
    if found != kind:
        other, _, use = _KINDS.get(found, (f"file of the kind {found!r}", "", "it cannot be used here"))
        raise WeightsError(f"{path}: is a {other}, not a {name}; {use}")
    return Saved(header, tensors)

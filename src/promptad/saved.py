"""A saved detector: one `.safetensors` file, tensors plus a JSON header. Never a pickle."""

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


@dataclass(frozen=True)
class Saved:
    """What a file holds: the header as a dictionary, and the method's tensors."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]


def write_saved(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes the file under a temporary name and renames it.

    Raises:
        DataError: the folder cannot be written.
    """
    text = json.dumps({"format": FORMAT, **header}, ensure_ascii=False, allow_nan=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, metadata={_KEY: text}))


def read_saved(path: Path) -> Saved:
    """Reads what :func:`write_saved` wrote.

    Raises:
        WeightsError: missing, damaged, not a saved detector, or of a newer format.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such saved detector; make one with `promptad fit GOOD... -o {path.name}`")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a readable saved detector ({str(error).splitlines()[0][:100]}); make it again with `promptad fit`"
        ) from error
    if _KEY not in metadata:
        raise WeightsError(
            f"{path}: safetensors, but not a saved detector of promptad (CLIP weights are given with --backbone); "
            "make a detector with `promptad fit`"
        )
    try:
        header = json.loads(metadata[_KEY])
        version = int(header["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: its header is damaged; make the detector again with `promptad fit`") from error
    if version > FORMAT:
        raise WeightsError(
            f"{path}: written by a newer promptad (format {version}, this one reads {FORMAT}); update promptad"
        )
    return Saved(header, tensors)

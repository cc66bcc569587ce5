"""What promptad saves: one `.safetensors` file, tensors plus a JSON header. Never a pickle.

There are three kinds: a detector ("detector"), prompts that were trained once for every product ("prompts"), and the
state of a training that is not finished ("training"). Every file carries a SHA-256 of its header and tensors, which is checked
when it is read: a flipped bit is noticed, not judged with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from promptad.data.files import SAVED_KEY, one_line, shown, write_atomic
from promptad.errors import WeightsError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.parsing import parsed_json

# 1: without a digest, and a detector's words may lie in a file beside it.
FORMAT = 2
_KEY, _DIGEST = SAVED_KEY, "promptad_sha256"
_KINDS = {
    "detector": ("saved detector", "make one with `promptad fit GOOD... -o FILE`", "model"),
    "prompts": (
        "file of trained prompts",
        "make one with `promptad train METHOD --on DATASET -o FILE`",
        "weights",
    ),
    "training": (
        "training state",
        "start the training anew",
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
    write_atomic(path, saved_bytes(header, tensors))


def saved_bytes(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The content of the file that :func:`write_saved` writes."""
    text = json.dumps({"kind": "detector", **header, "format": FORMAT}, ensure_ascii=False, allow_nan=False)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, metadata={_KEY: text, _DIGEST: content_digest(text, plain)})


def content_digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the header's text and every tensor's name, type, shape and bytes, in the order of the names."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_saved(path: Path, kind: str = "detector") -> Saved:
    """Reads what :func:`write_saved` wrote.

    Raises:
        WeightsError: missing, not readable, damaged, not of this kind, or of a newer format.
    """
    name, make, _ = _KINDS[kind]
    if path.is_dir():
        raise WeightsError(f"{shown(path)}: is a folder, not a {name}; give the file inside it")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"{shown(path)}: no such {name}; {make}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{shown(path)}: cannot be read ({one_line(error)}); check its rights and the path"
        ) from error
    return saved_from_bytes(content, kind, shown(path))


def saved_from_bytes(content: bytes, kind: str = "detector", source: str = "saved bytes") -> Saved:
    """The same from the content of a file; `source` is what errors name.

    Raises:
        WeightsError: not readable, damaged, not of this kind, or of a newer format.
    """
    name, make, _ = _KINDS[kind]
    metadata, tensors = _unpack(content, source, f"not a readable {name}", make)
    if _KEY not in metadata:
        raise WeightsError(
            f"{source}: safetensors, but not a {name} of promptad (CLIP weights are a {argument('backbone')}); {make}"
        )
    header = _read_header(source, metadata[_KEY], make)
    if header["format"] > FORMAT:
        raise WeightsError(
            f"{source}: written by a newer promptad (format {header['format']}, this one reads {FORMAT}); update promptad"
        )
    if header["kind"] != kind:
        other, _, use = _KINDS.get(
            header["kind"], (f"file of the kind {header['kind']!r}", "", "it cannot be used here")
        )
        if use in ("model", "weights"):
            use = f"give it as {argument(use)}"
        raise WeightsError(f"{source}: is a {other}, not a {name}; {use}")
    if _DIGEST in metadata or header["format"] > 1:
        if metadata.get(_DIGEST) != content_digest(metadata[_KEY], tensors):
            raise WeightsError(
                f"{source}: its content is not what was saved (SHA-256 differs), so it is damaged; {make}"
            )
    else:
        notice(f"{source}: an earlier promptad wrote it without a digest, so damage cannot be noticed; save it again")
    return Saved(header, tensors)


def _unpack(content: bytes, source: str, what: str, make: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of safetensors bytes: eight bytes of length, a JSON table, the tensors."""
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        table = parsed_json(content[8 : 8 + length])
        return dict(table.get("__metadata__") or {}), tensors
    except (SafetensorError, ValueError, RuntimeError, OverflowError, KeyError) as error:
        raise WeightsError(f"{source}: {what} ({one_line(error)[:100]}); {make}") from error


def _read_header(source: str, text: str, make: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"the number {constant}")

    try:
        header = parsed_json(text, parse_constant=refuse)
        version, kind = header["format"], header.setdefault("kind", "detector")
        if type(version) is not int or version < 1 or not isinstance(kind, str):
            raise ValueError(f"format {version!r}, kind {kind!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{source}: its header is damaged ({one_line(error)[:100]}); {make}") from error
    return dict(header)

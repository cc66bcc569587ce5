"""Checksums of weights files, and the pin that a pull leaves beside a file as a witness for later checks."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from promptad.errors import WeightsError
from promptad.parsing import parsed_json


@dataclass(frozen=True)
class Pin:
    """What was true of a file when it was pulled, kept beside it as ``<file>.sha256.json``.

    Attributes:
        checkpoint: zoo name.
        sha256: 64 lower-case hex digits.
        size: bytes.
        source: address that the file came from.
        revision: commit on the hub, "" elsewhere.
        verified_against: the authority whose checksum the file matched when it arrived.
        date: day of the pull, YYYY-MM-DD.
    """

    checkpoint: str
    sha256: str
    size: int
    source: str
    revision: str
    verified_against: str
    date: str


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 lower-case hex digits.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error


def pin_path(weights: Path) -> Path:
    """Where the pin of a file lies."""
    return weights.with_name(weights.name + ".sha256.json")


def read_pin(weights: Path) -> Pin | None:
    """The pin of a file, or None when it has none.

    Raises:
        WeightsError: the pin is there but cannot be read.
    """
    path = pin_path(weights)
    try:
        return Pin(**parsed_json(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"cannot read the checksum pin {path}: delete it and pull again") from error


def write_pin(weights: Path, pin: Pin) -> None:
    """Write the pin of a file through a temporary name, so that a crash leaves no half pin."""
    path = pin_path(weights)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(asdict(pin), indent=1) + "\n", "utf-8")
    os.replace(temporary, path)

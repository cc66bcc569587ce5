"""What a unit's result depends on, hashed: the name under which it is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from promptad import __version__
from promptad.bench.protocol import Protocol, Unit
from promptad.clip.backbone import Backbone
from promptad.data.datasets.loco import config_of
from promptad.data.files import sha256_files
from promptad.data.parts import FileRef
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.methods.settings import config_dict, words_digest


def fingerprint_of(records: Sequence[Record]) -> str:
    """SHA-256 over labels and content of photos and masks, whatever their names: the test set's identity."""
    lines = sorted(
        f"{_content((record.photo,))} {record.label} {_content(record.masks)} {record.defect_type}"
        for record in records
    )
    configs = {config for record in records if (config := config_of(record)) is not None}  # they decide AU-sPRO
    lines += sorted(_content((config,)) for config in configs)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _content(paths: tuple[FileRef, ...]) -> str:
    try:
        return sha256_files(paths)
    except DataError:
        return "unreadable"


def unit_key(
    unit: Unit,
    protocol: Protocol,
    backbone: Backbone,
    shots: Sequence[str],
    fingerprint: str,
    anomalies: Mapping[str, Any] | None = None,
) -> str:
    """24 hexadecimal digits from all that a unit's result depends on.

    Args:
        shots: SHA-256 of the good photos in the order of the draw. fingerprint: of test photos and masks.
        anomalies: labelled ones, see `DrawnAnomalies.key`; None for methods that learn from none, whose keys are as ever.
    """
    config = unit.variant.config(protocol.seed(unit.run), unit.run, unit.class_name)
    learned = unit.variant.weights(unit.run, unit.class_name)
    described = {
        "version": __version__,
        "method": [unit.variant.method, unit.variant.preset],
        "config": config_dict(config),
        "words": words_digest(config),
        "parts": unit.variant.parts,
        "learned": learned.sha256 if learned else "",
        "object": protocol.object_of(unit.class_name),
        "class": unit.class_name,
        "shots": list(shots),
        "run": unit.run,
        "test": fingerprint,
        "conventions": protocol.measured_by(unit.variant).as_dict(),
        "backbone": backbone.fingerprint,
        **({"anomalies": anomalies} if anomalies is not None else {}),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]

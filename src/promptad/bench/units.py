"""One unit of an evaluation: fitting and measuring it, and the file that holds the result."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from promptad.bench.pictures import save_pictures
from promptad.bench.selection import OracleSelection
from promptad.bench.testset import TestSet, Tick, scoring_parts, threshold_from
from promptad.bench.variants import Variant
from promptad.detector import Detector
from promptad.learning.features import PhotoFeatures
from promptad.methods.settings import config_dict
from promptad.saved.prompts import Learned

FORMAT = "promptad unit 4"


def measure_unit(
    detector: Detector,
    variant: Variant,
    good: Sequence[PhotoFeatures],
    tests: TestSet,
    oracle: bool,
    tick: Tick,
    anomalies: Sequence[PhotoFeatures] = (),
    pictures: tuple[Path, int] | None = None,
) -> dict[str, Any]:
    """Fits and measures one unit; JSON-ready: its rows, the full config and the seconds.

    Args:
        pictures: the file that gets the maps of a few photos, and how many, see `bench.pictures`.
    """
    began = time.perf_counter()
    selection = OracleSelection(detector, tests, variant.parts, tick) if oracle else None
    if good:
        detector.fit_features(good, anomalies=anomalies, after_epoch=selection, set_threshold=False)
    fitted = time.perf_counter()
    rows = [_row(detector, good, tests, parts, None, tick) for parts in variant.parts]
    if selection is not None:
        rows += [_row(detector, good, tests, parts, selection, tick) for parts in selection.parts]
    seconds = {"encode_test": tests.seconds, "fit": fitted - began, "score": time.perf_counter() - fitted}
    if pictures is not None:
        save_pictures(*pictures, detector, tests, variant.parts)
    return {"config": config_dict(detector.config), "rows": rows, "seconds": seconds}


def _row(
    detector: Detector,
    good: Sequence[PhotoFeatures],
    tests: TestSet,
    parts: str,
    oracle: OracleSelection | None,
    tick: Tick,
) -> dict[str, Any]:
    with scoring_parts(detector.method, parts), oracle.best(parts) if oracle else nullcontext():
        threshold = threshold_from(detector, good)
        measured = tests.measure(detector, threshold, tick)
    content, names = asdict(measured.result), {**measured.result.values(), **measured.saturated}
    content["skipped"] |= measured.skipped
    content["notes"] = [*content["notes"], *measured.notes]
    return {
        "parts": parts,
        "selection": "oracle_test" if oracle else "last",
        "epochs": oracle.epochs(parts) if oracle else None,
        "metrics": names,
        "threshold": asdict(measured.alarms) if measured.alarms else None,
        "scores": measured.scores,
        **{key: value for key, value in content.items() if key not in names},
    }


def trained_on(learned: Learned | None) -> dict[str, Any] | None:
    """What is said of the trained prompts of a unit."""
    if learned is None:
        return None
    return {"file": learned.path.name, "sha256": learned.sha256, "data": learned.card.get("data", [])}


def unit_path(folder: Path, key: str) -> Path:
    """The file of a finished unit in the folder of an evaluation."""
    return folder / "units" / f"{key}.json"


def shots_path(folder: Path, key: str) -> Path:
    """The manifest of the good photos that a unit learned from."""
    return folder / "shots" / f"{key}.json"


def picture_path(folder: Path, key: str) -> Path:
    """The file with the maps of a few photos of a unit."""
    return folder / "maps" / f"{key}.safetensors"


def read_unit(path: Path, key: str) -> dict[str, Any] | None:
    """A finished unit, or None where there is none or the file is damaged; it is then computed again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return None
    if isinstance(content, dict) and content.get("format") == FORMAT and content.get("key") == key:
        return content
    return None

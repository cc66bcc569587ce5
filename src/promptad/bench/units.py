"""One unit of an evaluation: fitting and measuring it, and the file that holds the result."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from promptad.bench.pictures import save_pictures
from promptad.bench.selection import OracleSelection
from promptad.bench.testset import TestSet, Tick, scoring_parts, threshold_from
from promptad.bench.variants import Variant
from promptad.data.files import one_line, shown, write_atomic
from promptad.detector import Detector
from promptad.learning.features import PhotoFeatures
from promptad.methods.settings import config_dict
from promptad.notices import notice
from promptad.parsing import parsed_json
from promptad.saved.prompts import Learned

FORMAT = "promptad unit 5"
# The same without a digest.
_EARLIER = "promptad unit 4"
_DIGEST = "sha256"


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


def write_unit(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a finished unit with a digest of its content; gives the content as :func:`read_unit` will.

    Raises:
        DataError: the file cannot be written.
    """
    plain: dict[str, Any] = json.loads(json.dumps(content))
    text = json.dumps({**plain, _DIGEST: _digest(plain)}, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text + "\n")
    return plain


def read_unit(path: Path, key: str) -> dict[str, Any] | None:
    """A finished unit, or None where there is none, which is then computed; one that is damaged is so with a notice."""
    try:
        content = parsed_json(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return None
    except ValueError as error:
        _say_damaged(path, one_line(error)[:100])
        return None
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, _EARLIER) or content.get("key") != key:
        return None
    digest = content.pop(_DIGEST, None)
    if digest != _digest(content) and (digest is not None or content["format"] != _EARLIER):
        _say_damaged(path, "SHA-256 differs")
        return None
    return content


def _say_damaged(path: Path, reason: str) -> None:
    notice(f"{shown(path)}: its content is not what was saved ({reason}), so this result is computed again")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

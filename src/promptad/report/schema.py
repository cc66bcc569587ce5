"""The schema of a result: a line of ``results.jsonl``, and what :meth:`Prediction.to_dict` gives.

It is one table of fields, from which both the check here and the JSON Schema (draft 2020-12) come. ``docs/results.md``
says what each field means. A change that a reader of old lines could stumble over raises the version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from promptad.prediction import RESULT_VERSION

HEADER: dict[str, Any] = {"promptad": "results", "version": RESULT_VERSION}
"""The first line of ``results.jsonl``."""

_TEXT: dict[str, Any] = {"type": "string"}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_NUMBER: dict[str, Any] = {"type": "number"}
_NUMBER_OR_NULL: dict[str, Any] = {"type": ["number", "null"]}
_SIDE: dict[str, Any] = {"type": ["integer", "null"], "minimum": 0}
_PIXEL: dict[str, Any] = {"type": "integer", "minimum": 0}
_NUMBERS: dict[str, Any] = {"type": "object", "additionalProperties": _NUMBER_OR_NULL}


_LATER = ("camera", "regions", "region_rule", "p_value", "discovery")
"""Fields that lines of this version may lack: they came later, and a reader takes nothing for them."""


def _record(fields: Mapping[str, Any], *, null: bool = False) -> dict[str, Any]:
    return {
        "type": ["object", "null"] if null else "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in _LATER],
        "additionalProperties": False,
    }


FIELDS: dict[str, dict[str, Any]] = {
    "photo": _TEXT_OR_NULL,
    "root": _TEXT_OR_NULL,
    "sha256": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
    "run": {"type": ["string", "null"], "pattern": "^[0-9a-f]{16}$"},
    "verdict": {"type": "string", "enum": ["anomalous", "normal", "no threshold", "failed", "skipped"]},
    "is_anomalous": {"type": ["boolean", "null"]},
    "score": _NUMBER_OR_NULL,
    "threshold": _NUMBER_OR_NULL,
    "p_value": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
    "discovery": _record({"rate": _NUMBER, "chosen": {"type": "boolean"}}, null=True),
    "map_threshold": _NUMBER_OR_NULL,
    "defects": {
        "type": "array",
        "items": _record({"words": _TEXT, "image_probability": _NUMBER, "region_probability": _NUMBER_OR_NULL}),
    },
    "hottest": _record({"x": _PIXEL, "y": _PIXEL}, null=True),
    "regions": {
        "type": ["array", "null"],
        "items": _record(
            {
                "box": {"type": "array", "items": _PIXEL},
                "area": {"type": "integer", "minimum": 1},
                "peak": _NUMBER,
                "at": _record({"x": _PIXEL, "y": _PIXEL}),
                "counts": _TEXT,
                "words": _TEXT,
                "probability": _NUMBER_OR_NULL,
                "mm": _record({"width": _NUMBER, "height": _NUMBER, "area": _NUMBER}, null=True),
            }
        ),
    },
    "region_rule": _record(
        {"least_area": {"type": "integer", "minimum": 1}, "scale": {"type": ["number", "null"], "exclusiveMinimum": 0}},
        null=True,
    ),
    "height": _SIDE,
    "width": _SIDE,
    "inspected": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
    "parts": _NUMBERS,
    "timings": _NUMBERS,
    "backbone": _TEXT,
    "method": _TEXT,
    "label": {"type": ["integer", "null"], "enum": [0, 1, None]},
    "heatmap": _TEXT_OR_NULL,
    "heatmap_scale": _record({"low": _NUMBER, "high": _NUMBER, "outline": _NUMBER_OR_NULL}, null=True),
    "map_file": _TEXT_OR_NULL,
    "remarks": {"type": "array", "items": _TEXT},
    "error": _TEXT,
    "camera": {"type": "object", "additionalProperties": _NUMBER},
}
"""Every field of a result, in the order in which they are written, as JSON Schema."""

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": f"promptad result, version {RESULT_VERSION}",
    **_record(FIELDS),
}
"""The JSON Schema of a result."""

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def check_result(values: object) -> None:
    """Whether ``values`` are a result of this version.

    Raises:
        ValueError: they are not; the text names the first field that does not fit. Beside what the JSON Schema says, a
            number must be finite, and a verdict must agree with the score: one that is missing can never pass as normal.
    """
    _check(values, SCHEMA, "the result")
    assert isinstance(values, dict)
    judged = values["verdict"] in ("anomalous", "normal", "no threshold")
    if judged != (values["score"] is not None):
        raise ValueError(f"verdict {values['verdict']!r} with score {values['score']}")
    if any(len(region["box"]) != 4 for region in values.get("regions") or ()):
        raise ValueError("a region's box has not four numbers")
    if (values["height"] is None) != (values["width"] is None):
        raise ValueError("height without width, or width without height")


def _check(value: object, schema: Mapping[str, Any], name: str) -> None:
    """The part of JSON Schema that :data:`SCHEMA` uses."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    fits = any(isinstance(value, _TYPES[kind]) for kind in kinds)
    if not fits or (isinstance(value, bool) and "boolean" not in kinds):
        raise ValueError(f"{name} is {type(value).__name__}, expected {' or '.join(kinds)}")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{name} is {value!r}, expected one of {schema['enum']}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, schema, name)
    if isinstance(value, str) and "pattern" in schema and not re.fullmatch(schema["pattern"].strip("^$"), value):
        raise ValueError(f"{name} is {value[:80]!r}, expected {schema['pattern']}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, schema["items"], f"{name}[{index}]")
    if isinstance(value, dict):
        _check_record(value, schema, name)


def _check_number(value: float, schema: Mapping[str, Any], name: str) -> None:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        finite = False
    if not finite:
        raise ValueError(f"{name} is {value}, expected a finite number")
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if (
        (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
    ):
        raise ValueError(f"{name} is {value}, which lies outside its range")


def _check_record(value: dict[Any, Any], schema: Mapping[str, Any], name: str) -> None:
    fields, others = schema.get("properties", {}), schema["additionalProperties"]
    missing = [field for field in schema.get("required", ()) if field not in value]
    if missing:
        raise ValueError(f"{name} has no {missing[0]!r}")
    for field, item in value.items():
        if field in fields:
            _check(item, fields[field], field if name == "the result" else f"{name}.{field}")
        elif others is False:
            raise ValueError(f"{name} has an unknown field {field!r}")
        else:
            _check(item, others, f"{name}.{field}")

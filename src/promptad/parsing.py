"""JSON and TOML that people or other programs wrote: whatever stands there is read, or is one kind of error."""

from __future__ import annotations

import json
import tomllib
from typing import Any


def parsed_json(text: str | bytes, **options: Any) -> Any:
    """What a JSON text holds; `options` as `json.loads` takes them.

    Raises:
        ValueError: it is no JSON, no text, or deeper or with longer numbers than Python reads.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parsed_toml(text: str) -> dict[str, Any]:
    """What a TOML text holds.

    Raises:
        ValueError: it is no TOML, or deeper or with longer numbers than Python reads.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("its tables are nested too deeply") from error

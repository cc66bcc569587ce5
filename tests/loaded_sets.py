"""A data set as its readers give it, with the lines that are said of it."""

from __future__ import annotations

import warnings
from pathlib import Path

from promptad.data.datasets import load_dataset
from promptad.data.records import Record
from promptad.notices import PromptadNotice, collected_notices


def loaded(root: Path, layout: str = "auto", **options: object) -> tuple[list[Record], list[str]]:
    """The records and the lines; `options` as `load_dataset` takes them."""
    with collected_notices() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptadNotice)
        return load_dataset(root, layout, **options), lines

"""The schema of results: what is written fits it, and the check agrees with an independent validator."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptad.prediction import RESULT_VERSION, DefectWord, Prediction
from promptad.report.rows import VERDICTS, Row, Scale
from promptad.report.schema import FIELDS, HEADER, SCHEMA, check_result

DOCS = Path(__file__).parents[2] / "docs" / "results.md"


def full() -> dict[str, Any]:
    anomaly_map = np.zeros((4, 6), np.float32)
    words = (DefectWord("bent", 0.5, 0.75), DefectWord("rust", 0.1, None))
    prediction = Prediction(
        Path("a.jpg"), 0.7, 0.5, anomaly_map, 0.4, words, (4, 6), {"read": 0.2}, "ViT-B/16", "m", {"text": 0.2}
    )
    return Row.of(
        prediction, label=1, heatmap="heatmaps/a.jpg", scale=Scale(0.1, 0.9), root="../p", sha256="a" * 64, run="b" * 16,
        remarks=("one",), map_file="maps/a.npy",
    ).to_dict()  # fmt: skip


RESULTS = {
    "prediction": lambda: Prediction(None, 0.25).to_dict(),
    "judged": full,
    "failed": lambda: Row.failed("a.jpg", "is cut off").to_dict(),
    "skipped": lambda: Row.failed("a.txt", "no photo", verdict="skipped").to_dict(),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_everything_that_is_written_fits(kind: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    values = RESULTS[kind]()
    assert list(values) == list(FIELDS)
    check_result(values)
    jsonschema.validate(values, SCHEMA)


def test_the_schema_is_itself_valid_and_names_every_verdict() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert tuple(FIELDS["verdict"]["enum"]) == VERDICTS
    assert HEADER == {"promptad": "results", "version": RESULT_VERSION}


def mutated(values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The result with one value somewhere replaced, removed or added."""
    out = copy.deepcopy(values)
    holders: list[Any] = [out]
    for value in out.values():
        holders += [value] if isinstance(value, dict | list) else []
        holders += [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    holder = rng.choice([holder for holder in holders if holder])
    place = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    odd = [
        None,
        True,
        0,
        -1,
        1,
        7,
        2.5,
        -0.5,
        "",
        "x",
        "a" * 64,
        "A" * 64,
        "b" * 16,
        [],
        [1],
        ["t"],
        {},
        {"x": 1},
        {"x": 1, "y": 2},
    ]
    if isinstance(holder, dict) and rng.random() < 0.2:
        if rng.random() < 0.5:
            del holder[place]
        else:
            holder["new"] = rng.choice(odd)
    else:
        holder[place] = rng.choice(odd)
    return out


def test_the_check_agrees_with_an_independent_validator_on_changed_results() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator, rng = jsonschema.Draft202012Validator(SCHEMA), random.Random(7)
    refused = 0
    for kind in RESULTS:
        for _ in range(400):
            values = mutated(RESULTS[kind](), rng)
            valid = validator.is_valid(values)
            try:
                check_result(values)
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error)
                beyond = "with score" in str(error) or "without" in str(error)  # what no JSON Schema here says
                assert beyond or not valid, (values, error)
            else:
                assert valid, values
    assert 300 < refused < 1600


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("field", ["score", "threshold", "height"])
def test_no_number_that_is_not_finite_is_read(text: str, field: str) -> None:
    values = full()
    values[field] = json.loads(text)
    with pytest.raises(ValueError, match=field):
        check_result(values)


@pytest.mark.parametrize("changes", [{"score": None}, {"verdict": "failed"}, {"verdict": "skipped"}, {"height": None}])
def test_a_missing_score_never_passes_as_normal(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Row.from_dict({**full(), "verdict": "normal", **changes})


def test_the_page_of_the_docs_names_every_field_once_in_order() -> None:
    named = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert named[: len(FIELDS)] == list(FIELDS)
    assert f"version {RESULT_VERSION}" in DOCS.read_text(encoding="utf-8")

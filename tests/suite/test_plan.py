"""Plans: what a file may say, and the lines where it says something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptad import EvaluateRequest
from promptad.errors import ConfigError
from promptad.requests.benchmarking import BenchRequest
from promptad.suite.plan import read_plan, row_label


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = '[[sets]]\npath = "a"\n[[rows]]\nmethod = "clip"\n'


def test_a_plan_is_read_with_paths_from_its_folder(plan_file: Path):
    plan = read_plan(plan_file)
    assert [entry.title for entry in plan.sets] == ["kitchen", "garden"] and plan.shots == (0, 2)
    assert plan.sets[0].path == plan_file.parent / "data/kitchen"
    assert [row_label(row) for row in plan.rows][3] == "promptad clean, w/o EAM"
    assert plan.rows[4].train is not None and plan.rows[4].train.auxiliary["*"] == "kitchen"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[sets", "is no TOML"),
        ("title = 'x'", "names no data set"),
        ('[[sets]]\npath = "a"\n', "names no method"),
        (GOOD + "sedes = 3", "rows 1: has no key 'sedes'; did you mean seeds"),
        ("shotz = [1]\n" + GOOD, "has no key 'shotz'; did you mean shots"),
        ('[[sets]]\nname = "a"\n[[rows]]\nmethod = "clip"\n', "sets 1: path is missing"),
        ('[[sets]]\npath = "a"\n[[rows]]\npreset = "clean"\n', "rows 1: method is missing"),
        ("seeds = 0\n" + GOOD, "seeds must be from 1|seeds must be at least 1|from 1 to"),
        (GOOD + "shots = [-2]", "rows 1: shots must be from 0 to .*, or all"),
        (GOOD + "shots = [-1]", "rows 1: shots must be from 0 to .*, or all"),
        (GOOD + 'shots = ["al"]', "rows 1: shots"),
        (GOOD + 'sets = ["b"]', "names the set 'b'; the sets are a"),
        (GOOD + '[[rows]]\nmethod = "clip"\n', "two rows are called 'clip clean'; give one another name"),
        (GOOD + '[[sets]]\npath = "b/a"\n', "two data sets are called 'a'"),
        (GOOD + "train = 3", "train must be a table"),
        (GOOD + "train = { on = ['c'] }", "names the set 'c'"),
        (GOOD + "train = { on = ['auxiliary'], auxiliary = { c = 'a' } }", "names the set 'c'"),
        (GOOD + "train = { on = ['auxiliary'], auxiliary = { a = 'c' } }", "names the set 'c'"),
        ("sets = 3\n[[rows]]\nmethod = 'clip'", "sets must be a list of tables"),
    ],
)
def test_what_a_file_may_not_say_is_one_line_that_names_it(tmp_path: Path, text: str, words: str):
    with pytest.raises(ConfigError, match=words) as caught:
        read_plan(written(tmp_path, text))
    assert "plan.toml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "clip", "anomaly_draw": "hard"}, "anomaly_draw.*no labelled anomalies are drawn"),
        ({"method": "clip,padim", "anomalies": "1"}, "clip, padim learns nothing from labelled anomalies"),
        ({"method": "devnet"}, "learns from labelled defective photos"),
        ({"method": "clp"}, "method 'clp' unknown"),
        ({"method": "clip", "on": ()}, "nothing to measure"),
        ({"method": "clip", "plan": "plan.toml"}, "says what is measured"),
        ({"method": "clip", "weights": ("a=b", "a=c")}, "expected NAME=PATH, each name once"),
    ],
)
@pytest.mark.parametrize("request_of", [BenchRequest, EvaluateRequest])
def test_inputs_that_no_method_has_a_use_for_are_refused(request_of: Any, given: dict[str, Any], words: str):
    """Of the draws, both requests that measure methods say the same."""
    values = {"on": ("data",), **given} if request_of is BenchRequest else {"dataset": "data", **given}
    if request_of is EvaluateRequest and {"on", "plan", "weights"} & set(given):
        pytest.skip("promptad evaluate has no such input")
    with pytest.raises(ConfigError, match=words):
        request_of(**values)

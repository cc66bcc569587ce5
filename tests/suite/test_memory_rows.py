"""Benchmarks whose memories are of a second image tower: numbers, processes, resuming, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from promptad.errors import ConfigError
from promptad.learning.features import FeatureStore
from promptad.requests.evaluating import EvaluateRequest
from promptad.suite.dry import dry_lines
from promptad.suite.overview import overview_tables
from promptad.suite.plan import Plan, RowPlan, SetPlan, read_plan
from promptad.suite.run import Options, SuiteResult, run_suite
from tiny import dino_official, tiny_dino

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = {"map_size": 48, "smoothing": 1.0}
ROWS = (
    RowPlan("clip", settings=SMALL),
    RowPlan("patchcore", settings={**SMALL, "layers": [3]}),
    RowPlan("spade", settings={**SMALL, "layers": [2]}),
    RowPlan(
        "promptad",
        parts=("text", "memory", "fused"),
        settings={**SMALL, "epochs": 1, "memory_layers": [1, 3], "suffixes": 1},
    ),
)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("towers") / "tower.pth"
    torch.save(dino_official(tiny_dino()), path)
    return path


@pytest.fixture
def plan(sets: Path, tower: Path) -> Plan:
    return Plan(
        "drawn", (SetPlan(sets / "garden"),), ROWS, shots=(2,), seeds=1, backbone="tiny", memory_backbone=f"{tower}@84",
        convention={"eval_size": 24},
    )  # fmt: skip


def bench(plan: Plan, out: Path, weights: Path, **more: object) -> SuiteResult:
    options = Options(
        out, FeatureStore(out.parent / "features"), activation="quick_gelu", weights={"tiny": str(weights)}
    )
    return run_suite(plan, replace(options, **more))


def units(result: SuiteResult) -> dict[str, dict]:
    assert result.problems == [] and not any(of_set.outcome.failures for of_set in result.sets)
    return {unit["method"]: unit for of_set in result.sets for unit in of_set.outcome.units}


def metrics(result: SuiteResult) -> dict[str, list]:
    return {method: [row["metrics"] for row in unit["rows"]] for method, unit in units(result).items()}


def test_rows_with_a_memory_have_the_second_tower_and_say_so(plan: Plan, tower: Path, weights: Path, tmp_path: Path):
    result = bench(plan, tmp_path / "out", weights)
    of = units(result)
    assert set(of) == {"clip", "patchcore", "spade", "promptad"}
    for method, unit in of.items():
        named = unit["backbone"].get("memory")
        if method == "clip":
            assert named is None and unit["backbone"]["name"].endswith("tiny.safetensors")
        else:
            assert named["name"] == str(tower) and named["input_size"] == 84 and len(named["sha256"]) == 64
            assert unit["backbone"]["name"].endswith(f"tiny.safetensors with {tower}")
    page = json.dumps([table.rows for table in overview_tables(result)], default=str)
    assert f"with {tower}" in page
    # Run again: nothing is computed. Another size of photos, or none: all rows with a memory are.
    assert bench(plan, tmp_path / "out", weights).scored == 0
    assert bench(replace(plan, memory_backbone=f"{tower}@98"), tmp_path / "out", weights).scored == 3
    alone = bench(replace(plan, memory_backbone=""), tmp_path / "out", weights)
    assert alone.scored == 3 and metrics(alone)["clip"] == metrics(result)["clip"]
    # Prompts are learned from CLIP's features alone: the text's row is the same, that of the memory is not.
    assert metrics(alone)["promptad"][0] == metrics(result)["promptad"][0]
    assert metrics(alone)["promptad"][1] != metrics(result)["promptad"][1]


def test_rows_that_share_a_pass_score_as_they_do_alone(plan: Plan, weights: Path, tmp_path: Path):
    """Taps of several rows are encoded at once, and none reads those of another."""
    together = metrics(bench(plan, tmp_path / "a", weights))
    for number, row in enumerate(ROWS):
        alone = metrics(
            bench(replace(plan, rows=(ROWS[0], row) if number else (row, ROWS[1])), tmp_path / str(number), weights)
        )
        assert alone[row.method] == together[row.method]


def test_two_processes_open_the_second_tower_again(plan: Plan, weights: Path, tmp_path: Path):
    plan = replace(plan, sets=(plan.sets[0], SetPlan(plan.sets[0].path.parent / "kitchen")), rows=ROWS[1:2])
    alone, shared = (bench(plan, tmp_path / str(count), weights, processes=count) for count in (1, 2))
    assert alone.scored == shared.scored == 3
    first, second = (
        [(row["metrics"], row["scores"]) for part in result.sets for unit in part.outcome.units for row in unit["rows"]]
        for result in (alone, shared)
    )
    assert len(first) == len(second) == 3
    for (metrics_here, scores_here), (metrics_there, scores_there) in zip(first, second, strict=True):
        assert metrics_here == pytest.approx(metrics_there, abs=1e-6)
        assert scores_here == pytest.approx(scores_there, abs=1e-5)


def test_a_row_may_have_its_own_and_a_plan_that_has_no_use_for_one_is_refused(sets: Path, tower: Path, tmp_path: Path):
    text = f"""
backbone = "tiny"
[[sets]]
path = "{sets / "garden"}"
[[rows]]
method = "patchcore"
[[rows]]
method = "patchcore"
name = "DINOv2"
memory_backbone = "{tower}"
"""
    (tmp_path / "plan.toml").write_text(text)
    plan = read_plan(tmp_path / "plan.toml")
    assert [plan.memory_backbone_of(row) for row in plan.rows] == ["", str(tower)]
    assert f"memory     {tower}" in dry_lines(plan)
    gone = replace(plan, rows=(replace(plan.rows[1], memory_backbone="dinov2-vitb14"),))
    assert any(line.startswith("missing") and "models pull dinov2-vitb14" in line for line in dry_lines(gone))
    with pytest.raises(
        ConfigError, match="memory_backbone='x' is for rows with a memory of good photos, and there is none"
    ):
        Plan("x", plan.sets, (RowPlan("clip"),), memory_backbone="x")
    with pytest.raises(ConfigError, match="has no memory that a second image tower could make"):
        Plan("x", plan.sets, (RowPlan("winclip", memory_backbone="x"),))


def test_an_evaluation_is_one_with_both_towers(sets: Path, tower: Path, weights: Path, tmp_path: Path):
    request = EvaluateRequest(
        dataset=sets / "garden", method="patchcore", shots="1", seeds=1, backbone=str(weights), activation="quick_gelu",
        memory_backbone=f"{tower}@84", output=tmp_path / "out", settings=SMALL, no_cache=True,
    )  # fmt: skip
    done = request.run()
    assert done.backbone.memory.input_size == 84
    report, files = done.write()
    assert any(f"memory {tower}" in str(value) for _, value in report.header) and files
    with pytest.raises(ConfigError, match=r"WinCLIP.*has no memory that a second image tower could make"):
        replace(request, method="patchcore,winclip")

"""Whole benchmarks: the same numbers as an evaluation, over processes, after kills, with trainings, and what cannot be done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from promptad.bench.protocol import Protocol
from promptad.bench.run import Evaluation, run
from promptad.bench.variants import make_variants
from promptad.clip.backbone import load_backbone
from promptad.data.datasets import load_dataset
from promptad.errors import ConfigError, DataError
from promptad.learning.features import FeatureStore
from promptad.suite.dry import dry_lines
from promptad.suite.files import write_suite
from promptad.suite.overview import overview_tables
from promptad.suite.plan import Plan, RowPlan, TrainPlan, read_plan
from promptad.suite.run import Options, SuiteResult, run_suite
from promptad.suite.variants import check_rows

pytestmark = pytest.mark.filterwarnings("ignore")


def bench(plan: Plan, out: Path, weights: Path, **more: object) -> SuiteResult:
    options = Options(
        out, FeatureStore(out.parent / "features"), activation="quick_gelu", weights={"tiny": str(weights)}
    )
    return run_suite(plan, replace(options, **more))  # type: ignore[arg-type]


def numbers(result: SuiteResult) -> dict[tuple, dict]:
    return {
        (of_set.plan.title, u["method"], u["name"], u["class"], u["shots"], u["run"]): u["rows"][0]["metrics"]
        for of_set in result.sets
        for u in of_set.outcome.units
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench") / "out"


@pytest.fixture(scope="module")
def result(plan_file: Path, out: Path, weights: Path) -> SuiteResult:
    """The plan, run once; what other tests find in `out`."""
    return bench(read_plan(plan_file), out, weights)


def test_every_row_is_measured_on_every_set(result: SuiteResult):
    assert result.problems == [] and not any(of_set.outcome.failures for of_set in result.sets)
    rows = {(u[1], u[2], u[4]) for u in numbers(result)}
    assert rows == {
        ("clip", "", 0),
        ("padim", "", 2),
        ("promptad", "", 2),
        ("promptad", "w/o EAM", 2),
        ("anomalyclip", "", 0),
    }
    # clip and anomalyclip once a class, padim and promptad two runs, the row with its own seeds one: three classes.
    assert len(numbers(result)) == 3 * (1 + 2 + 2 + 1 + 1) == result.scored
    assert result.trained == 2  # one for each measured set


def test_the_auxiliary_set_is_never_the_measured_one(result: SuiteResult):
    for of_set in result.sets:
        [trained] = {u["trained"]["data"][0]["name"] for u in of_set.outcome.units if u["trained"]}
        assert trained != of_set.plan.title
        assert all(u["seen_in_training"] == 0 for u in of_set.outcome.units)


def test_the_numbers_are_those_of_an_evaluation(result: SuiteResult, sets: Path, tmp_path: Path, weights: Path):
    settings = {"layers": [1, 3], "map_size": 48, "smoothing": 1.0}
    protocol = Protocol(make_variants(["padim"], settings=settings), (2,), 2, conventions={"eval_size": 24})
    backbone = load_backbone(weights, activation="quick_gelu")
    root = sets / "kitchen"
    alone = run(Evaluation(protocol, load_dataset(root), backbone, tmp_path / "alone", root)).units
    together = numbers(result)
    for unit in alone:
        key = ("kitchen", "padim", "", unit["class"], 2, unit["run"])
        assert together[key] == unit["rows"][0]["metrics"]


def test_two_processes_give_the_same_numbers(result: SuiteResult, plan_file: Path, tmp_path: Path, weights: Path):
    plan = read_plan(plan_file)
    other = bench(plan, tmp_path / "two", weights, processes=2, store=FeatureStore(tmp_path / "other"))
    assert other.problems == [] and numbers(other) == numbers(result)


def test_a_second_run_computes_nothing_and_fresh_all(result: SuiteResult, plan_file: Path, out: Path, weights: Path):
    plan = read_plan(plan_file)
    again = bench(plan, out, weights)
    assert (again.scored, again.reused, again.trained) == (0, result.scored, 0) and numbers(again) == numbers(result)
    few = replace(plan, rows=plan.rows[:1])
    assert bench(few, out, weights, fresh=True).scored == 3


def test_a_row_of_the_same_settings_is_computed_once(plan_file: Path, tmp_path: Path, weights: Path):
    plan = read_plan(plan_file)
    twins = (plan.rows[1], replace(plan.rows[1], name="again"))
    made = bench(replace(plan, rows=twins), tmp_path / "out", weights)
    assert made.scored == 6 and len(numbers(made)) == 12
    units = numbers(made)
    assert all(units[key] == units[(*key[:2], "again", *key[3:])] for key in units if key[2] == "")


def test_a_set_that_cannot_be_read_is_a_line_and_the_others_are_measured(
    plan_file: Path, tmp_path: Path, weights: Path
):
    plan = read_plan(plan_file)
    broken = replace(plan.sets[1], path=tmp_path / "nowhere")
    made = bench(replace(plan, sets=(plan.sets[0], broken), rows=plan.rows[:1]), tmp_path / "out", weights)
    assert len(made.problems) == 1 and "nowhere" in made.problems[0] and len(numbers(made)) == 2
    with pytest.raises(DataError, match="no data set can be read"):
        bench(replace(plan, sets=(broken,), rows=plan.rows[:1]), tmp_path / "out", weights)


def test_a_training_that_cannot_be_costs_its_row_alone(plan_file: Path, tmp_path: Path, weights: Path):
    plan = read_plan(plan_file)
    trained = plan.rows[-1]
    assert trained.train is not None
    wrong = replace(trained, train=replace(trained.train, classes=("no such class",)))
    made = bench(replace(plan, rows=(plan.rows[0], wrong)), tmp_path / "out", weights)
    assert {key[1] for key in numbers(made)} == {"clip"} and made.problems


def test_leaving_each_class_out_trains_once_for_each(plan_file: Path, tmp_path: Path, weights: Path):
    plan = read_plan(plan_file)
    row = plan.rows[-1]
    assert row.train is not None
    left = replace(row, train=replace(row.train, on=(), auxiliary={}, leave_class_out=True, seeds=2), sets=("kitchen",))
    made = bench(replace(plan, rows=(left,)), tmp_path / "out", weights)
    assert made.problems == [] and made.trained == 4
    units = made.sets[0].outcome.units
    assert len(units) == 4 and all(u["class"] not in u["trained"]["data"][0]["classes"] for u in units)


def test_a_dry_run_counts_what_a_run_does(result: SuiteResult, plan_file: Path, weights: Path):
    lines = dry_lines(replace(read_plan(plan_file), backbone=str(weights)))
    assert f"in all     {result.scored} units, 2 trainings at most" in lines[-1]
    missing = [line for line in dry_lines(read_plan(plan_file)) if line.startswith("missing")]
    assert len(missing) == 1 and "tiny" in missing[0]


KILLED = """
import os, random, signal, sys
from promptad.cli import main
rng, replace = random.Random(int(sys.argv.pop(1))), os.replace
left, late = rng.randint(2, 8), rng.random() < 0.5

def counted(*paths):
    global left
    left -= "features" not in str(paths[1])
    if left or late:
        replace(*paths)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = counted
main()
"""
"""`promptad` that kills itself at one of its next files but features, when it is written and has its name not yet, or just
has it."""


@pytest.mark.slow
def test_killed_at_random_moments_the_tables_are_those_of_one_run(
    result: SuiteResult, plan_file: Path, tmp_path: Path, out: Path, weights: Path
):
    """The moments are drawn in files, not in seconds: how busy the machine is does not decide what is tested."""
    write_suite(result, overview_tables(result), out)
    killed = tmp_path / "killed"
    command = ["bench", str(plan_file), "-o", str(killed), "--weights", f"tiny={weights}", "--activation", "quick_gelu"]
    environment = {**os.environ, "PROMPTAD_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    python = [sys.executable, "-W", "ignore"]

    def finished() -> dict[str, bytes]:
        files = [*killed.glob("units/*.json"), *killed.glob("trained/*.safetensors")]
        return {path.name: path.read_bytes() for path in files if ".training." not in path.name}

    done: dict[str, bytes] = {}
    for seed in range(10):
        running = subprocess.run(
            [*python, "-c", KILLED, str(seed), *command], env=environment, capture_output=True, text=True
        )
        assert running.returncode == -signal.SIGKILL, running.stderr
        before, done = done, finished()
        assert {name: done.get(name) for name in before} == before
    last = subprocess.run([*python, "-m", "promptad", *command], env=environment, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    whole = finished()
    assert done and len(whole) > len(done) and {name: whole[name] for name in done} == done
    for name in ("tables.md", "tables.tex", "overview.csv"):
        assert (killed / name).read_text() == (out / name).read_text()


def test_the_files_of_a_benchmark(result: SuiteResult, out: Path):
    files = write_suite(result, overview_tables(result), out, "promptad bench drawn.toml")
    assert all(path.stat().st_size for path in files)
    units = [json.loads(line) for line in (out / "units.jsonl").read_text().splitlines()]
    assert len(units) == result.scored and all("scores" not in row for unit in units for row in unit["rows"])
    assert {unit["set"] for unit in units} == {"kitchen", "garden"}
    needed = {
        "settings",
        "config",
        "backbone",
        "good_photos",
        "photos",
        "conventions",
        "versions",
        "hardware",
        "seconds",
    }
    assert all(needed <= set(unit) and unit["hardware"]["peak_memory_mb"] > 0 for unit in units)
    page = (out / "report.html").read_text(encoding="utf-8")
    # A strip a shown photo: the maps of every row of the first run beside photo and mask.
    assert page.count('class="strip"') == 3 * 4 and "ROC of photos: kitchen, 2 shots" in page
    assert "Per-region overlap: garden" in page
    assert not re.search(r"(src|href)=.https?:", page) and "promptad bench drawn.toml" in page
    latex = (out / "tables.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") > 6 and r"95 \%" in latex


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (RowPlan("clip", train=TrainPlan(on=("garden",))), "train: clip is not trained beforehand"),
        (RowPlan("padim", weights=(Path("a"),)), "weights: padim is not trained beforehand"),
        (RowPlan("anomalyclip", train=TrainPlan(on=("garden",)), weights=(Path("a"),)), "leave one of them out"),
    ],
)
def test_trainings_and_files_that_nothing_uses_are_refused(row: RowPlan, words: str, plan_file: Path):
    with pytest.raises(ConfigError, match=words):
        check_rows(replace(read_plan(plan_file), rows=(row,)))


def test_rows_are_refused_before_anything_is_loaded(plan_file: Path, tmp_path: Path):
    plan = read_plan(plan_file)
    row = replace(plan.rows[0], settings={"no_such_setting": 1})
    with pytest.raises(ConfigError, match=r"clip clean: .*no_such_setting"):
        run_suite(replace(plan, rows=(row,)), Options(tmp_path / "out", weights={"*": "nowhere"}))

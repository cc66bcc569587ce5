"""The scripts of `examples/` as a person runs them, on the photos in the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def output(name: str, folder: Path) -> str:
    """What the script prints; it runs in an empty folder and must leave it empty, and must warn of nothing."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PROMPTAD_OFFLINE": "1"}
    environment["OMP_NUM_THREADS"] = "1"  # threads that wait for each other on a busy machine cost minutes
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert not list(folder.iterdir())
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    return [float(value) for value in re.findall(pattern, text)]


def test_every_example_has_its_test_and_is_short():
    with_a_test = set(re.findall(r'output\("(\w+\.py)"', Path(__file__).read_text("utf-8")))
    assert with_a_test == {path.name for path in EXAMPLES.glob("*.py")}
    for path in EXAMPLES.glob("*.py"):
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) < 60 and sum("#" in line for line in lines) >= 4, path.name


def test_few_shot(tmp_path):
    printed = output("few_shot.py", tmp_path)
    scores = numbers(r"score (\d+\.\d+)", printed)
    assert len(scores) == 2 and scores[1] > scores[0], printed
    assert "4 good photos" in printed and re.search(r"anomaly-14.jpg: (anomalous|normal), score", printed)
    strict, lenient = numbers(r"false alarms: threshold (\d+\.\d+)", printed)
    assert strict > lenient, "fewer false alarms need a higher threshold"
    assert "with a threshold above both scores: normal" in printed


def test_zero_shot(tmp_path):
    printed = output("zero_shot.py", tmp_path)
    ranked = re.findall(r"^\d\. +(-?\d+\.\d+)  (.+?)  (broken|good)/", printed, re.M)
    assert len(ranked) == 6 and [float(score) for score, _, _ in ranked] == sorted(
        (float(score) for score, _, _ in ranked), reverse=True
    )
    assert {verdict for _, verdict, _ in ranked} == {"no threshold"}
    assert ranked[0][2] == "broken" and ranked[-1][2] == "good", printed
    assert len(re.findall(r"with four good photos: \S+ is (?:anomalous|normal)$", printed, re.M)) == 2


def test_save_and_measure(tmp_path):
    printed = output("save_and_measure.py", tmp_path)
    assert "not judged: torn.jpg" in printed and "rows in the table: 9" in printed
    measured = numbers(r"(?:AUROC|limit 0\.3) (\d\.\d+)", printed)
    assert len(measured) == 3 and all(0.6 < value <= 1 for value in measured), printed


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_named_in_the_guide(path):
    assert path.name in (EXAMPLES.parent / "docs" / "guide.md").read_text("utf-8")

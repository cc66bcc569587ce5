"""A run that is killed at random moments loses nothing that was finished, and its reruns end with the same results.

`tools/kill_test.py` does the same to the commands, sixty times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from run_cases import draw, fitted, results, run

from promptad.report.log import ResultLog
from promptad.run.unfinished import Unfinished

CHILD = """
import sys
from pathlib import Path
from run_cases import fitted, run
detector = fitted()
print("ready", flush=True)
run(detector, Path(sys.argv[1]), Path(sys.argv[2]), maps="npy")
"""
COUNT = 40


def start(photos: Path, out: Path) -> subprocess.Popen[str]:
    """A run in a process of its own, that has just begun to judge."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(photos), str(out)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "ready\n"
    return process


def finished(out: Path) -> dict[str, dict[str, Any]]:
    """The newest whole line of each judged photo, times included: one that is judged again has others."""
    log = out / "results.jsonl"
    lines = log.read_bytes().split(b"\n")[1:-1] if log.exists() else []
    return {values["photo"]: values for values in map(json.loads, lines) if values["score"] is not None}


@pytest.mark.parametrize("seed", [1])
def test_kills_at_random_moments_lose_nothing(seed, tmp_path):
    rng = random.Random(seed)
    photos = draw(tmp_path / "photos", [f"{i:02d}.png" for i in range(COUNT)])
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    whole = start(photos, tmp_path / "whole")
    began = time.monotonic()
    assert whole.wait(timeout=120) == 0
    seconds = time.monotonic() - began
    before: dict[str, dict[str, Any]] = {}
    for _ in range(3):
        process = start(photos, tmp_path / "out")
        time.sleep(rng.uniform(0, seconds))
        process.send_signal(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        process.wait(timeout=60)
        after = finished(tmp_path / "out")
        assert {photo: after[photo] for photo in before} == before
        before = after
    assert start(photos, tmp_path / "out").wait(timeout=120) == 0
    after = finished(tmp_path / "out")
    assert {photo: after[photo] for photo in before} == before and len(after) == COUNT
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    pictures = sorted(
        path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*") if path.is_file()
    )
    assert pictures == sorted(
        path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*") if path.is_file()
    )
    for path in pictures:
        if path.suffix in (".jpg", ".npy"):
            assert (tmp_path / "out" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


class Killed(BaseException):
    """Ends a run as a signal does that nobody catches."""


@pytest.mark.parametrize("changed", ["detector", "content"])
@pytest.mark.parametrize(
    "options", [{"maps": "npy"}, {"heatmaps": "png", "maps": "png"}, {"heatmaps": "none", "maps": "npy"}]
)
def test_a_kill_between_pictures_and_line_leaves_no_picture_for_another_result(changed, options, tmp_path, monkeypatch):
    """The pictures of another detector, or of another photo under the same name, are not those of the older result."""
    photos, out = draw(tmp_path / "photos", ["a.png", "b.png"]), tmp_path / "out"
    first, other = fitted(), fitted(seed=3) if changed == "detector" else fitted()
    run(first, photos, out, **options)
    before = {path: path.read_bytes() for kind in ("heatmaps", "maps") for path in (out / kind).glob("*.*")}
    original = (photos / "a.png").read_bytes()
    if changed == "content":
        draw(photos, ["a.png"], first=77)
    with monkeypatch.context() as patch:
        patch.setattr(ResultLog, "append", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            run(other, photos, out, **options)
    assert any(path.read_bytes() != data for path, data in before.items())  # the kill came behind the pictures
    (photos / "a.png").write_bytes(original)
    run(first, photos, out, **options)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        ".promptad.lock",
        "results.jsonl",
        "results.csv",
        "report.html",
        *(["earlier.jsonl"] if (out / "earlier.jsonl").exists() else []),
    }


def test_a_kill_behind_the_line_loses_nothing(tmp_path, monkeypatch):
    photos, out, detector = draw(tmp_path / "photos", ["a.png"]), tmp_path / "out", fitted()
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "done", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            run(detector, photos, out)
    assert run(detector, photos, out).reused == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"place": 3, "files": 4}', '{"place": ["a", "b", "c"], "files": ["../x.png", "/x"]}']
)
def test_what_stands_in_the_file_of_the_unfinished_photo_cannot_harm(text, tmp_path):
    photos, out = draw(tmp_path / "photos", ["a.png"]), tmp_path / "out"
    (tmp_path / "x.png").write_bytes(b"mine")
    out.mkdir()
    (out / ".promptad.at").write_text(text)
    assert [row.score is not None for row in run(fitted(), photos, out).rows] == [True]
    assert (tmp_path / "x.png").exists() and not (out / ".promptad.at").exists()

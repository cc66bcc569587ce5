"""The commands as a person runs them, with the weights and photos of the package."""

from __future__ import annotations

import csv
import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odd_photos import make_odd_photos
from promptad.cli.demo import DEMO_PHOTOS

GOOD = DEMO_PHOTOS / "train" / "good"
TEST = DEMO_PHOTOS / "test"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}
PROGRAM = [sys.executable, "-c", "from promptad.cli import main; main()"]


def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, **options)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "cookie.safetensors"
    done = run("fit", GOOD, "--object", "cookie", "--defect", "broken [c]", "-o", path, "--set", "epochs=5")
    assert done.returncode == 0, done.stderr
    assert "4 good photos" in done.stdout and "starter" in done.stdout
    return path


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    """One line on stderr that says `words`, exit code 2, no traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert len(errors) == 1 and re.search(words, errors[0]), done.stderr
    assert "Traceback" not in done.stderr


def test_neither_the_package_nor_help_imports_torch():
    for code in ("import promptad", "from promptad.cli import build; build()"):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; import sys; print([m for m in ('torch', 'numpy') if m in sys.modules])"],
            capture_output=True, text=True, env=ENVIRONMENT, check=True,
        )  # fmt: skip
        assert "torch" not in done.stdout and done.stdout.startswith("["), code
    shown = run("--help")
    assert shown.returncode == 0
    for command in ("fit", "inspect", "train", "damage", "evaluate", "models", "demo"):
        assert command in shown.stdout


def test_inspect_a_folder_of_odd_and_broken_files(model, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    expected = make_odd_photos(folder)
    shutil.copy(next((TEST / "good").iterdir()), folder / "real.jpg")
    assert sum(kind == "error" for kind in expected.values()) + sum(kind == "ok" for kind in expected.values()) >= 12
    done = run("inspect", folder, "--model", model, "-o", out)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    rows = {Path(row["photo"]).name: row for row in table(out / "results.csv")}
    assert rows["real.jpg"]["verdict"] in ("normal", "anomalous")
    for name, kind in expected.items():
        if kind == "ok":
            assert rows[name]["verdict"] in ("normal", "anomalous"), rows[name]
        elif name in rows:
            assert rows[name]["verdict"] in ("failed", "skipped") and rows[name]["error"]
            assert "\n" not in rows[name]["error"]
            lines = [line for line in done.stderr.splitlines() if name in line]
            assert len(lines) == 1, (name, lines)
    told = {word: int(n) for n, word in re.findall(r"(\d+) ([a-z ]+)", re.search(r"photos +(.*)", done.stdout)[1])}
    assert told == Counter(row["verdict"] for row in rows.values())
    assert told["skipped"] == 1 and told["failed"] >= 7, "a text file is no photo, all others should have been read"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "real.jpg" in page and not re.search(r'(src|href)="https?:', page)


def test_heat_maps_have_the_photos_size_and_raw_maps_can_be_had(model, tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    Image.fromarray(np.full((90, 410, 3), 120, np.uint8)).save(source / "strip.png")
    done = run("inspect", source, "--model", model, "-o", tmp_path / "out", "--maps", "npy", "--heatmaps", "png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out/heatmaps/strip.png.png") as picture:
        assert picture.width == 410 and 90 < picture.height < 150  # the legend lies below
    assert np.load(tmp_path / "out/maps/strip.png.npy").shape == (90, 410)


def test_an_interrupted_run_keeps_what_is_done_and_the_next_goes_on(model, tmp_path):
    out = tmp_path / "out"
    command = [*PROGRAM, "inspect", str(TEST), "--model", str(model), "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    log, deadline = out / "results.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and (not log.exists() or len(log.read_bytes().splitlines()) < 4):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    kept = [row for row in table(out / "results.csv") if row["score"]]
    assert 3 <= len(kept) < 24
    again = run("inspect", TEST, "--model", model, "-o", out)
    assert again.returncode == 0, again.stderr
    rows = {row["photo"]: row for row in table(out / "results.csv")}
    assert len(rows) == 24
    assert all(
        rows[row["photo"]]["score"] == row["score"] and rows[row["photo"]]["seconds"] == row["seconds"] for row in kept
    )
    assert f"{len(kept)} of 24 photos were taken from an earlier run" in (out / "report.html").read_text(
        encoding="utf-8"
    )


def test_wrong_uses_get_one_line(model, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(run("inspect", empty, "--model", model, "-o", tmp_path / "o"), "empty")
    refused(
        run("inspect", TEST, "--model", tmp_path / "no.safetensors", "-o", tmp_path / "o"), "no such saved detector"
    )
    wrong = Path(__file__).parents[2] / "src/promptad/clip/starter/model.safetensors"
    refused(run("inspect", TEST, "--model", wrong, "-o", tmp_path / "o"), "not a saved detector")
    (tmp_path / "file").write_text("")
    refused(run("inspect", TEST, "--model", model, "-o", tmp_path / "file"), "choose another")
    refused(run("inspect", TEST, "-o", tmp_path / "o", "--object", "cookie"), "--good")
    refused(run("fit", GOOD, "--object", "nut " * 90, "-o", tmp_path / "m"), "tokens")
    refused(run("fit", GOOD, "--object", "nut", "-o", tmp_path / "m", "--set", "epoch=3"), "did you mean --set epochs")
    refused(run("fit", GOOD, "--object", "nut", "-o", tmp_path / "m", "--backbone", "ViT-Z"), "ViT-Z")
    refused(
        run("fit", GOOD, "--object", "nut", "-o", tmp_path / "m", "--words", tmp_path / "w.toml"), "no such word file"
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nobody may write: /proc")
def test_no_write_permission_gets_one_line(model):
    refused(run("inspect", TEST, "--model", model, "-o", "/proc/promptad-out"), "/proc/promptad-out")


def test_good_photos_and_words_without_a_saved_model(tmp_path):
    photo = sorted((TEST / "broken").iterdir())[0]
    done = run("inspect", photo, "--good", GOOD, "--object", "cookie", "--set", "epochs=2", "-o", tmp_path / "a",
               "--threshold", "0.0001")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "anomalous" in done.stdout and "by hand" in done.stdout
    done = run("inspect", photo, "--method", "clip", "--object", "metal nut", "-o", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert "no threshold" in done.stdout
    # A line that was said before the first photo was read stands on the page too.
    page = html.unescape((tmp_path / "b/report.html").read_text(encoding="utf-8"))
    notes = [line.removeprefix("note: ") for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert any("is an object of MVTec AD" in line for line in notes) and all(line in page for line in notes)


def test_demo(tmp_path):
    done = run("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    value = float(re.search(r"image AUROC\s+([\d.]+)", done.stdout)[1])
    assert 0.5 < value <= 1
    assert "starter" in done.stdout and str(tmp_path / "demo" / "report.html") in done.stdout
    assert (tmp_path / "demo" / "cookie.safetensors").stat().st_size < 20e6
    assert len(table(tmp_path / "demo" / "results.csv")) == 24

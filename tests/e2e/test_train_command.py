"""`promptad train` and the commands without good photos, as a person runs them, on the weights of the package."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from test_commands import ENVIRONMENT, PROGRAM, TEST, refused, run, table

from drawn_data import make_class
from promptad.saved.prompts import read_learned

RWDA = ("train", "rwda", "--set", "pairs=640", "--set", "epochs=6", "--set", "hidden=[64,32,16]")


def test_a_killed_process_goes_on_to_the_same_result(tmp_path):
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    done = run(*RWDA, "-o", whole)
    assert done.returncode == 0, done.stderr
    assert "words alone" not in done.stderr and "loss" in done.stdout
    state, deadline = tmp_path / "cut.training.safetensors", time.monotonic() + 120
    process = subprocess.Popen([*PROGRAM, *RWDA, "-o", str(cut)], env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    while time.monotonic() < deadline and not state.exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert state.exists() or cut.exists()
    again = run(*RWDA, "-o", cut)
    assert again.returncode == 0, again.stderr
    first, second = read_learned(whole).tensors, read_learned(cut).tensors
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)
    assert not state.exists()


@pytest.fixture(scope="module")
def practice(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("practice")
    for name in ("tile", "nut"):
        make_class(root, name, train=2, good=2, bad=2)
    return root


def test_training_on_photos_says_what_it_used_and_inspect_uses_it(practice, tmp_path):
    (practice / "tile/test/stain/000.png").write_bytes(b"no photo")
    prompts, out = tmp_path / "prompts.safetensors", tmp_path / "out"
    done = run(
        "train", "anomalyclip", "--on", practice, "--licence", "CC0", "--set", "epochs=1", "-o", prompts, "--no-cache"
    )
    assert done.returncode == 3, done.stderr  # a photo could not be read
    assert "4 good and 3 anomalous photos, licence CC0" in done.stdout
    assert sum("000.png" in line for line in done.stderr.splitlines()) == 1
    card = run("models", "prompts", prompts)
    assert ("CC0" in card.stdout and "promptad train anomalyclip" in card.stdout) or "command" in card.stdout
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((TEST / "good").iterdir())[:2]:
        (photos / path.name).write_bytes(path.read_bytes())
    judged = run("inspect", photos, "--weights", prompts, "--object", "cookie", "-o", out)
    assert judged.returncode == 0, judged.stderr
    rows = table(out / "results.csv")
    assert len(rows) == 2 and {row["verdict"] for row in rows} == {"no threshold"}
    assert len(list((out / "heatmaps").iterdir())) == 2
    by_hand = run("inspect", photos, "--weights", prompts, "--threshold", "0.0001", "-o", tmp_path / "hand")
    assert by_hand.returncode == 0, by_hand.stderr
    assert {row["verdict"] for row in table(tmp_path / "hand/results.csv")} == {"anomalous"}


def test_a_memory_without_anything_to_learn_is_a_file_like_others(practice, tmp_path):
    prompts = tmp_path / "memory.safetensors"
    done = run("train", "mrad", "--on", practice, "--licence", "CC0", "-o", prompts, "--no-cache")
    assert done.returncode in (0, 3), done.stderr
    assert "nothing is learned" in done.stdout and read_learned(prompts).card["losses"] == []
    assert "loss" not in run("models", "prompts", prompts).stdout
    judged = run("inspect", TEST / "good", "--weights", prompts, "--object", "cookie", "-o", tmp_path / "out")
    assert judged.returncode == 0 and "no threshold" in judged.stdout, judged.stderr


def test_methods_without_heat_maps_resume_and_say_what_they_lack(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for path in sorted((TEST / "good").iterdir())[:2]:
        (photos / path.name).write_bytes(path.read_bytes())
    (photos / "notes.txt").write_text("no photo")
    first = run("inspect", photos, "--method", "rwda", "-o", out)
    assert "2 no threshold, 1 skipped" in first.stdout
    assert first.returncode == 0 and "nearest words (whole photo)" in first.stdout, first.stderr
    again = run("inspect", photos, "--method", "rwda", "-o", out)
    assert again.returncode == 0, again.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "2 of 2 photos were taken from an earlier run" in page and "Heat maps" not in page
    refused(run("inspect", photos, "--method", "rwda", "--false-alarms", "0.1", "-o", out), "give some \\(--good\\)")
    refused(run("inspect", photos, "--method", "faprompt", "--set", "epochs=3", "-o", out), "'epochs' was fixed")
    refused(
        run("evaluate", TEST.parent, "--method", "rwda", "--preset", "paper", "-o", out), "trained with preset clean"
    )


def test_wrong_trainings_get_one_line(practice, tmp_path):
    output = tmp_path / "p.safetensors"
    refused(run("train", "promptad", "-o", output), "promptad fit")
    refused(run("train", "faprompt", "-o", output), "name a data set \\(--on\\)")
    refused(run("train", "rwda", "--on", practice, "-o", output), "words alone")
    refused(run("train", "faprompt", "--on", tmp_path / "none", "-o", output), "no such data set")
    refused(run("train", "faprompt", "--on", practice, "--leave-out", "cup", "-o", output), "--leave-out cup")
    refused(run("train", "faprompt", "--on", practice, "--leave-out", "tile,nut", "-o", output), "leave no class")
    refused(run("train", "faprompt", "--on", practice, "--licence", "a", "--licence", "b", "-o", output), "2 --licence")
    refused(run("train", "faprompt", "--on", practice, "--set", "epoch=3", "-o", output), "did you mean --set epochs")
    bare = make_class(tmp_path / "bare", "cup", train=1, good=1, bad=1, masks=False).parent
    refused(run("train", "anomalyclip", "--on", bare, "-o", output, "--no-cache"), "no photo has a mask")
    refused(
        run("inspect", TEST, "--weights", tmp_path / "none.safetensors", "-o", tmp_path / "o"),
        "no such file of trained",
    )
    assert not output.exists()

"""``promptad damage`` as a person runs it."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from promptad.cli import build
from promptad.data.datasets.mvtec import load

run = functools.partial(CliRunner().invoke, build())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(2):
        photo = generator.normal(140, 15, (64, 72, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / f"{index}.png")
    return folder


def test_a_set_is_made_and_described(good: Path, tmp_path: Path) -> None:
    (good / "broken.jpg").write_bytes(b"no photo")
    (good / "notes.txt").write_bytes(b"x")
    out = tmp_path / "out"
    result = run(
        ["damage", str(good), "--object", "metal nut", "-o", str(out), "--count", "4", "--kinds", "hole, crack"]
    )
    assert result.exit_code == 3, result.output  # broken.jpg; notes.txt alone is no failure
    assert "damaged    2 crack, 2 hole\n" in result.stdout
    assert "good       4 to learn from, 2 to test\n" in result.stdout
    assert f"saved      {out / 'metal_nut'}\n" in result.stdout
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2 and "making photos: 100 % (10 of 10)" in result.stderr
    assert [record.label for record in load(out)] == [0] * 4 + [1, 1] + [0, 0] + [1, 1]
    again = run(["damage", str(good), "--object", "metal nut", "-o", str(out), "--count", "4", "--kinds", "hole,crack"])
    assert again.stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kinds", "dust"], "kind 'dust' is not known; expected some of scratch, crack"),
        (["--count", "0"], "--count must be from 1 to 1000000; got 0"),
        (["--seed", "-1"], "--seed must be from 0 to 4294967295; got -1"),
        (["--object", "a/b"], "makes no folder name"),
    ],
)
def test_errors_are_one_line(good: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    result = run(["damage", str(good), "--object", "nut", "-o", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2 and result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and says in lines[0]
    assert not any((tmp_path / "out").glob("*"))


def test_no_photos_is_one_line(tmp_path: Path) -> None:
    result = run(["damage", str(tmp_path), "--object", "nut", "-o", str(tmp_path / "out")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and "no photo found" in result.stderr

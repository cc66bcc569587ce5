"""Places that cannot be: empty texts, folders where files belong, links that lead nowhere, names too long. One line each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptad import Detector, FitRequest, InspectRequest
from promptad.cli import build
from promptad.errors import ConfigError, PromptadError

GOOD = str(Path(__file__).parents[2] / "src/promptad/demo_photos/cookies/train/good")
# Every place and name that a command takes, one at a time; "?" is what cannot be.
COMMANDS = [
    ["inspect", "?", "--good", GOOD],
    ["inspect", GOOD, "--good", "?"],
    ["inspect", GOOD, "--good", GOOD, "--held-out", "?"],
    ["inspect", GOOD, "--good", GOOD, "--defective", "?"],
    ["inspect", GOOD, "--model", "?"],
    ["inspect", GOOD, "--weights", "?"],
    ["inspect", GOOD, "--good", GOOD, "--words", "?"],
    ["inspect", GOOD, "--good", GOOD, "--backbone", "?"],
    ["inspect", GOOD, "--good", GOOD, "--method", "?"],
    ["inspect", GOOD, "--good", GOOD, "--preset", "?"],
    ["fit", "?", "--object", "nut", "-o", "d"],
    ["evaluate", "?"],
    ["evaluate", GOOD, "--shots-from", "?"],
    ["evaluate", GOOD, "--backbone", "?"],
    ["train", "faprompt", "--on", "?", "-o", "p"],
    ["train", "faprompt", "--on", GOOD, "--backbone", "?", "-o", "p"],
    ["bench", "?"],
    ["bench", "--on", "?", "--method", "clip"],
    ["data", "check", "?"],
    ["data", "write", "?", "m.json"],
    ["data", "submit", "?", "a.tar.gz"],
    ["damage", "?", "--object", "nut", "-o", "d"],
    ["models", "check", "?"],
    ["models", "path", "?"],
    ["models", "prompts", "?"],
    ["models", "import", "?", "--method", "faprompt", "-o", "p.safetensors"],
]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder of its own; a link to itself and a file lie in it."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").write_text("text")
    return tmp_path


def call(words: list[str]) -> str:
    """The error of a command, which must be one line and no traceback."""
    result = CliRunner().invoke(build(), words)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), (words, result.output, result.exception)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and result.stderr.rstrip().endswith(errors[0]), result.stderr
    return errors[0]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_cannot_be_is_one_line(command, here):
    for place in ("", "loop", "file/inside", "x" * 300):
        error = call([place if word == "?" else word for word in command])
        if place == "" and command[0] != "models":
            assert re.search(r"error: \S+ is empty; give a value, or leave it out", error), error
    assert sorted(path.name for path in here.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize("output", ["", ".", "..", "/", "loop/x"])
def test_outputs_that_cannot_be_are_one_line_and_leave_nothing(output, here):
    for command in (
        ["fit", GOOD, "--object", "nut", "-o"],
        ["train", "rwda", "-o"],
        ["inspect", GOOD, "--method", "clip", "-o"],
        ["evaluate", GOOD, "--method", "clip", "-o"],
    ):
        if output in (".", "..", "/") and command[0] not in ("fit", "train"):
            continue  # a folder is what these want
        call([*command, output])
    assert sorted(path.name for path in here.iterdir()) == ["file", "loop"]


def test_python_takes_no_empty_text_for_something_left_out():
    for name in ("method", "preset", "backbone", "weights", "device"):
        with pytest.raises(PromptadError):
            Detector(**{"method": "clip", name: ""} if name != "weights" else {name: ""})
    for make in (
        lambda: InspectRequest(photos=""),
        lambda: InspectRequest(photos=[GOOD, ""]),
        lambda: FitRequest(good=GOOD, object=""),
        lambda: InspectRequest(photos=GOOD, good=GOOD, backbone=""),
    ):
        with pytest.raises(ConfigError, match="is empty; give a value, or leave it out"):
            make()

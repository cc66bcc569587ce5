"""Requests: the same rules and words for Python and for commands, told before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from promptad import (
    DamageRequest,
    EvaluateRequest,
    FitRequest,
    InspectRequest,
    TrainRequest,
)
from promptad.annotations import field_types
from promptad.cli import build
from promptad.cli.console import show_notices
from promptad.clip.architecture import Activation
from promptad.clip.backbone import Precision
from promptad.errors import ConfigError, DataError
from promptad.methods.catalogue import FACTS
from promptad.methods.registry import METHODS
from promptad.requests.asked import BackboneRequest
from promptad.requests.detecting import _BROUGHT
from promptad.run.judging import HeatmapKind, MapKind
from tiny import tiny_backbone

COMMANDS = {
    "fit": FitRequest,
    "inspect": InspectRequest,
    "train": TrainRequest,
    "evaluate": EvaluateRequest,
    "damage": DamageRequest,
}
# A value for every field, other than what it is without being asked for.
VALUES: dict[str, Any] = {
    "good": ("good/",),
    "held_out": ("more/",),
    "defective": ("bad/",),
    "defects": ("with scratch",),
    "only_defects": True,
    "words": "words.toml",
    "method": "clip",
    "weights": "prompts.safetensors",
    "preset": "paper",
    "activation": "gelu",
    "precision": "bf16",
    "seed": 3,
    "input_range": 4095.0,
    "finest_defect": 12,
    "settings": {"epochs": 3},
}


def said(make: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_option_of_a_saved_detector_is_tried_here():
    assert set(_BROUGHT) == set(VALUES)
    others = {entry.name for entry in fields(InspectRequest)} - set(VALUES)
    assert others == {
        *("photos", "model", "output", "threshold", "heatmaps", "maps", "max_pictures", "fresh", "command"),
        *("false_alarms", "object", "backbone", "device"),  # which a saved detector can be asked for
    }


@pytest.mark.parametrize("name", VALUES)
def test_what_a_saved_detector_brings_is_refused_beside_it_in_python_and_in_commands(name):
    make = lambda: InspectRequest(photos=("a.png",), model="nut.safetensors", **{name: VALUES[name]})  # noqa: E731
    assert said(make).startswith(f"{name}: the saved detector (model) brings its own")
    option = {"defects": "--defect", "settings": "--set"}.get(name, f"--{name.replace('_', '-')}")
    with show_notices():
        assert said(make).startswith(f"{option}: the saved detector (--model) brings its own")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "learns from good photos: give some"),
        ({"held_out": ["more/"]}, "held_out: need good photos"),
        ({"method": "clip", "false_alarms": 0.1}, "false_alarms: is about the threshold from good photos"),
        ({"good": "good/", "false_alarms": 0.1, "threshold": 0.5}, "false_alarms: the threshold is given"),
        ({"good": "good/", "seed": 1, "settings": {"seed": 2}}, "seed is given twice"),
        ({"good": "good/", "words": "a.toml", "settings": {"state_bank": "none"}}, "state_bank is given twice"),
        ({"good": "good/", "words": "a.txt"}, "must be a .toml file"),
        ({"method": "clip", "seed": 1}, "nothing in CLIP text ensemble, untrained is drawn"),
        ({"method": "clip", "weights": "a.safetensors"}, "is not trained once"),
        ({"method": "winclip9"}, "method 'winclip9' unknown"),
        ({"good": "good/", "heatmaps": "gif"}, "heatmaps must be one of jpg, png, none"),
        ({"good": "good/", "defects": "scratch"}, "defects must be a list such as"),
        ({"good": "good/", "max_pictures": 0}, "max_pictures must be from 1"),
        ({"good": "good/", "threshold": float("nan")}, "threshold must be a number"),
        ({"good": "good/", "false_alarms": float("inf")}, "false_alarms must be a number"),
        ({"good": "good/", "precision": "fp8"}, "precision must be one of fp32, bf16"),
    ],
    ids=str,
)
def test_inputs_that_cannot_go_together_are_one_line(values, words):
    assert words in said(lambda: InspectRequest(photos="photos/", **values))


def test_rules_are_told_before_torch_is_loaded():
    code = (
        "import sys, promptad\n"
        "for make in (lambda: promptad.InspectRequest(photos='a'), lambda: promptad.FitRequest(object='nut'),\n"
        "             lambda: promptad.TrainRequest(method='faprompt'), lambda: promptad.EvaluateRequest(shots='0'),\n"
        "             lambda: promptad.DamageRequest()):\n"
        "    try: make()\n"
        "    except promptad.errors.PromptadError as error: assert 'torch' not in sys.modules, error\n"
        "    else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_a_command_are_the_fields_of_its_request(name):
    command = typer.main.get_command(build()).commands[name]
    shown = {entry.name: entry for entry in fields(COMMANDS[name]) if entry.metadata["place"] != "hidden"}
    assert {parameter.name for parameter in command.params} == set(shown)
    for parameter in command.params:
        assert parameter.help == shown[parameter.name].metadata["words"]


# Runs ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    backbone = tiny_backbone()
    monkeypatch.setattr(BackboneRequest, "open_backbone", lambda self: backbone)
    monkeypatch.setattr("promptad.saved.detectors.load_backbone", lambda *_, **__: backbone)
    rng = np.random.default_rng(0)
    for place, count in (("good", 3), ("photos", 2)):
        (tmp_path / place).mkdir()
        for number in range(count):
            Image.fromarray(rng.integers(90, 130, (48, 48, 3), dtype=np.uint8)).save(tmp_path / place / f"{number}.png")
    (tmp_path / "good" / "broken.png").write_bytes(b"no photo")
    (tmp_path / "good" / "notes.txt").write_text("no photo")
    return tmp_path


SETTINGS = {"epochs": 2, "input_size": 48, "memory_layers": "1,3"}


def test_python_and_the_command_give_the_same(folder):
    lines: list[str] = []
    request = InspectRequest(
        photos=folder / "photos", good=folder / "good", object="nut", settings=SETTINGS, output=folder / "a"
    )
    steps: list[tuple[int, int]] = []
    _, report = request.run(learning=lambda done, total: steps.append((done, total)), said=lines.append)
    assert any("broken.png" in line for line in lines) and any("notes.txt" in line for line in lines)
    assert steps[-1][0] == steps[-1][1] > 4 and [done for done, _ in steps] == sorted(done for done, _ in steps)
    words = ["--set=epochs=2", "--set=input_size=48", "--set=memory_layers=1,3"]
    result = CliRunner().invoke(
        build(),
        [
            "inspect",
            str(folder / "photos"),
            "--good",
            str(folder / "good"),
            "--object",
            "nut",
            *words,
            "-o",
            str(folder / "b"),
        ],
    )
    assert result.exit_code == 0, result.output
    tables = [(folder / name / "results.csv").read_text().splitlines() for name in "ab"]
    assert [line.split(",")[:4] for line in tables[0]] == [line.split(",")[:4] for line in tables[1]]
    assert len(report.rows) == 2


def test_another_threshold_of_a_saved_detector_judges_without_scoring(folder):
    fitted, path = FitRequest(good=folder / "good", object="nut", settings=SETTINGS, output=folder / "nut").run(
        said=str
    )
    assert path == folder / "nut.safetensors"
    common = {"photos": folder / "photos", "model": path, "output": folder / "out"}
    _, first = InspectRequest(**common).run()
    _, again = InspectRequest(**common, threshold=fitted.calibration.threshold * 100).run()
    assert (first.reused, again.reused) == (0, 2)
    assert {row.verdict for row in again.rows} == {"normal"}
    with pytest.raises(ConfigError, match="was made for 'nut'; leave object out"):
        InspectRequest(**common, object="bolt").run()


def test_good_photos_of_which_none_can_be_read_are_one_line(folder):
    for path in (folder / "good").glob("[0-9].png"):
        path.write_bytes(b"no photo either")
    with pytest.raises(DataError, match="none of the good photos can be read"):
        FitRequest(good=folder / "good", object="nut", settings=SETTINGS).run(said=lambda line: None)


def test_choices_are_those_of_the_modules_that_requests_do_not_load():
    kinds = field_types(InspectRequest)
    assert set(get_args(get_args(kinds["precision"])[0])) == set(get_args(Precision))
    assert set(get_args(get_args(kinds["activation"])[0])) == set(get_args(Activation))
    assert set(get_args(kinds["heatmaps"])) == set(get_args(HeatmapKind))
    assert set(get_args(kinds["maps"])) == set(get_args(MapKind))
    for name, facts in FACTS.items():
        entry = METHODS[name]
        assert entry.facts is facts and facts.seed == ("seed" in entry.setting_names)
        assert getattr(entry.build, "needs", None) == facts.trained_on

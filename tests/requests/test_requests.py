"""Requests: the same rules and words for Python and for commands, told before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
import warnings
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
    Detector,
    EvaluateRequest,
    FitRequest,
    InspectRequest,
    TrainRequest,
)
from promptad.annotations import field_types
from promptad.cli import build
from promptad.cli.console import show_notices
from promptad.cli.takes import argument_option
from promptad.clip.architecture import Activation
from promptad.clip.backbone import Precision
from promptad.data.lock import only_writer, prepared_folder
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.learning.features import FeatureStore
from promptad.methods.catalogue import FACTS
from promptad.methods.registry import METHODS
from promptad.notices import PromptadNotice, collected_notices
from promptad.requests.inspecting import _BROUGHT
from promptad.run.judging import HeatmapKind, MapKind
from promptad.training import train_prompts
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
    "roi": "roi.png",
    "ignore": "ignore.png",
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
        *(
            "photos",
            "model",
            "output",
            "threshold",
            "fdr",
            "heatmaps",
            "maps",
            "max_pictures",
            "fresh",
            "command",
            "unlabelled",
        ),
        *("region_false_alarms", "map_threshold", "least_area", "scale", "regions_out", "regions_format"),
        *("false_alarms", "object", "backbone", "memory_backbone", "device"),  # which a saved detector can be asked for
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
        ({"good": "good/", "false_alarms": 1}, "false_alarms must be above 0 and below 1, such as 0.01 for 1 %; got 1"),
        ({"good": "good/", "false_alarms": -0.1}, "false_alarms must be above 0 and below 1"),
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
    monkeypatch.setattr("promptad.detector.load_backbone", lambda *_, **__: backbone)
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
    assert result.exit_code == 3, result.output  # a good photo could not be read
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


MISSING = {
    "good": ("fit", "good=['no/such']"),
    "held_out": ("fit", "good=['photos'], held_out=['no/such']"),
    "defective": ("fit", "good=['photos'], defective=['no/such']"),
    "words": ("fit", "good=['photos'], words='no/such.toml'"),
    "weights": ("inspect", "photos=['photos'], weights='no/such'"),
    "model": ("inspect", "photos=['photos'], model='no/such'"),
    "photos": ("inspect", "photos=['no/such'], method='clip'"),
    "photos beside a model": ("inspect", "photos=['no/such'], model='no/such.safetensors'"),
    "backbone": ("inspect", "photos=['photos'], method='clip', backbone='no/such'"),
    "backbone of training": ("train", "method='rwda', backbone='no/such'"),
    "memory backbone": ("fit", "good=['photos'], memory_backbone='no/such@448'"),
    "memory backbone beside a model": ("inspect", "photos=['photos'], model='photos', memory_backbone='no/such'"),
    "memory backbone to evaluate": ("evaluate", "dataset='photos', memory_backbone='no/such'"),
    "data set to train on": ("train", "method='faprompt', on=['no/such']"),
    "data set to evaluate": ("evaluate", "dataset='no/such'"),
    "backbone to evaluate": ("evaluate", "dataset='photos', backbone='no/such'"),
    "prompts to evaluate": ("evaluate", "dataset='photos', method='faprompt', weights='no/such'"),
    "good photos to damage": ("damage", "good=['no/such']"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_not_there_is_told_before_torch_is_loaded(what, folder):
    name, values = MISSING[what]
    code = (
        "import sys, promptad\n"
        f"request = promptad.{COMMANDS[name].__name__}({values})\n"
        "try: request.run()\n"
        "except promptad.errors.PromptadError as error: print(error, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, capture_output=True, text=True)
    assert "no/such" in done.stdout and done.stdout.endswith(" False\n"), done.stdout + done.stderr


def test_a_rate_that_the_good_photos_cannot_say_is_told_before_weights_are_loaded(folder, monkeypatch):
    monkeypatch.setattr("promptad.detector.load_backbone", lambda *_, **__: pytest.fail("weights were loaded first"))
    for values in ({"false_alarms": 1e-20}, {"settings": {"epoch": 3}}, {"settings": {"epochs": -1}}):
        said(lambda values=values: FitRequest(good=folder / "good", **values).run(said=str))


def test_each_good_photo_is_decoded_once(folder, monkeypatch):
    decoded: list[Path] = []
    monkeypatch.setattr(
        "promptad.learning.features.as_photo",
        lambda item, *options: decoded.append(Path(item)) or np.full((48, 48, 3), len(decoded), np.uint8),
    )
    for cache in (None, FeatureStore(folder / "features")):
        decoded.clear()
        detector = Detector(object="nut", cache=cache, **SETTINGS)
        detector.fit([*sorted((folder / "good").glob("[0-2].png"))], held_out=[folder / "photos"])
        assert sorted(decoded) == sorted([*(folder / "good").glob("[0-2].png"), *(folder / "photos").iterdir()])


@pytest.mark.parametrize("deep", [True, False])
def test_the_range_of_values_is_said_not_to_apply_only_where_it_does_not(folder, deep):
    for number, path in enumerate((*(folder / "good").glob("[0-2].png"), *(folder / "photos").iterdir())):
        values = np.random.default_rng(number).integers(0, 4096, (48, 48), dtype=np.uint16)
        Image.fromarray(values if deep else (values >> 4).astype(np.uint8)).save(path)
    request = InspectRequest(
        photos=folder / "photos", good=folder / "good", settings=SETTINGS, input_range=4095, output=folder / "out"
    )
    with warnings.catch_warnings(), collected_notices() as notices:
        warnings.simplefilter("ignore")
        request.run(said=str)
    places = [line.partition(":")[0] for line in notices if "the input range does not apply" in line]
    assert places == ([] if deep else [str(folder / "good"), str(folder / "photos")])


def test_a_defective_photo_that_cannot_be_read_is_told_and_left_out(folder):
    (folder / "bad").mkdir()
    for name in ("a.png", "b.png"):
        (folder / "bad" / name).write_bytes(b"no photo")
    request = FitRequest(good=folder / "good", defective=folder / "bad", settings=SETTINGS)
    with pytest.raises(DataError, match="none of the defective photos can be read"):
        request.run(said=str)
    Image.fromarray(np.full((48, 48, 3), 3, np.uint8)).save(folder / "bad/a.png")
    skipped: list[str] = []
    failed: list[str] = []
    request.run(said=skipped.append, failed=failed.append)
    assert len(failed) == 2 and "broken.png" in failed[0] and "b.png" in failed[1]
    assert len(skipped) == 1 and "notes.txt" in skipped[0]


def test_what_is_left_out_is_a_notice_where_nobody_listens(folder):
    with pytest.warns(PromptadNotice) as said:
        FitRequest(good=folder / "good", settings=SETTINGS).run()
    for name in ("broken.png", "notes.txt"):
        assert sum(name in str(warning.message) for warning in said) == 1


def test_errors_call_an_option_as_its_command_does():
    for request in COMMANDS.values():
        for entry in fields(request):
            if not entry.metadata["place"]:
                with show_notices():
                    named = argument(entry.name)
                assert named in (entry.metadata["option"] or argument_option(entry.name)).split(), entry.name


def test_a_last_seed_that_cannot_be_is_told_before_the_first_training(folder, monkeypatch):
    monkeypatch.setattr(TrainRequest, "open_backbone", lambda self: pytest.fail("weights were loaded first"))
    assert "seed must be from 0 to 4294967295" in said(
        lambda: TrainRequest(method="rwda", output=folder / "p", seed=2**32 - 2, seeds=3).run()
    )


def test_help_shows_what_a_command_has_of_its_own_first_and_weights_last():
    shown = [parameter.name for parameter in typer.main.get_command(build()).commands["inspect"].params]
    assert shown[:2] == ["photos", "model"] and shown[-4:] == ["backbone", "activation", "precision", "device"]
    assert shown.index("fresh") < shown.index("good") < shown.index("settings")
    metavars = {
        parameter.name: parameter.metavar for parameter in typer.main.get_command(build()).commands["train"].params
    }
    assert metavars["on"] == "PATH" and metavars["seeds"] == "NUMBER" and metavars["fresh"] is None


FAILING = {
    "inspect": ("InspectRequest", "photos=['photos'], method='clip', backbone='no/such', output='new/out'"),
    "inspect nothing": ("InspectRequest", "photos=['no/such'], method='clip', output='new/out'"),
    "fit": ("FitRequest", "good=['no/such'], output='new/out/nut.safetensors'"),
    "train": ("TrainRequest", "method='faprompt', on=['no/such'], output='new/out/p.safetensors'"),
    "damage": ("DamageRequest", "good=['no/such'], output='new/out'"),
}


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_before_it_wrote_anything_leaves_no_folder(name, folder):
    kind, values = FAILING[name]
    code = f"import promptad\ntry: promptad.{kind}({values}).run()\nexcept promptad.errors.PromptadError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, capture_output=True, text=True)
    assert "no/such" in done.stdout and not (folder / "new").exists()
    (folder / "new" / "out").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, capture_output=True)
    assert (folder / "new" / "out").exists()  # what was there before stays


def test_a_name_for_what_the_photos_show_is_assumed_with_a_line(monkeypatch):
    monkeypatch.setattr("promptad.detector.Detector.__init__", lambda *_, **__: None)
    with collected_notices() as lines:
        FitRequest(good="good").new_detector()
    assert any("it is called 'object'" in line and "object='metal nut'" in line for line in lines)
    with collected_notices() as lines:
        FitRequest(good="good", object="nut").new_detector()
    assert lines == []


@pytest.mark.parametrize("kind", ["fit", "train"])
def test_two_that_make_the_same_file_are_told_and_others_in_the_folder_go_on(kind, folder, monkeypatch):
    monkeypatch.setattr("promptad.requests.asked.FeaturesRequest.open_backbone", lambda self: tiny_backbone())

    def request(name):
        if kind == "train":
            settings = {"epochs": 1}
            return TrainRequest(method="rwda", output=folder / "o" / name, settings=settings)
        return FitRequest(good=folder / "good", object="nut", settings=SETTINGS, output=folder / "o" / name)

    (folder / "o").mkdir()
    with only_writer(folder / "o" / "a.safetensors"):
        with pytest.raises(DataError, match="another run is at work here"):
            request("a").run()
        assert not (folder / "o" / "a.safetensors").exists()
        request("b").run()
    request("a").run()
    assert {path.name for path in (folder / "o").iterdir()} >= {"a.safetensors", "b.safetensors"}
    assert not list((folder / "o").glob(".*.lock"))


def test_python_makes_no_file_that_a_run_is_making(folder, tmp_path):
    """As the commands do: `save`, `train_prompts`, the import of published prompts and the archive for a server."""
    backbone = tiny_backbone()
    detector = Detector("clip", object="nut", backbone=backbone)
    output = tmp_path / "deep" / "a.safetensors"
    with prepared_folder(output.parent), only_writer(output):
        for make in (
            lambda: detector.save(output),
            lambda: train_prompts("rwda", [], backbone, output, settings={"epochs": 1}),
        ):
            with pytest.raises(DataError, match=r"another run is at work here .*choose another file"):
                make()
        assert not output.exists()
    assert detector.save(output) == output
    assert train_prompts("rwda", [], backbone, tmp_path / "new" / "b.safetensors", settings={"epochs": 1}).path.exists()
    assert list(output.parent.iterdir()) == [output]

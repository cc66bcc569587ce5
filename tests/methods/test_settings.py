"""Configs: presets, overrides, the way through JSON, and what unknown or wrong values say."""

from __future__ import annotations

import inspect
import json
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Annotated, Literal

import pytest

from promptad.annotations import Count, Range, Share, check_fields, field_types
from promptad.cli.console import show_notices
from promptad.errors import ConfigError
from promptad.methods.promptad.config import PRESETS, PromptADConfig
from promptad.methods.registry import METHODS, find_method
from promptad.methods.settings import PRESETS as PRESET_NAMES
from promptad.methods.settings import ScoringConfig, check_keys, config_dict, make_config
from promptad.notices import PromptadNotice


@dataclass(frozen=True)
class Small:
    """A config with one field of every kind."""

    epochs: Count = 3
    rate: float = 0.5
    margin: bool = True
    fit: Literal["auto", "crop", "area"] = "auto"
    share: Share = 0.5
    layers: tuple[int, ...] = (3, 8)
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


SMALL = {"clean": {}, "paper": {"epochs": 7, "fit": "crop"}}


def refused(cls: type, values: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        check_keys(cls, values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_preset_and_what_overrides_it():
    assert make_config(Small, "clean", SMALL, {}) == Small()
    assert make_config(Small, "paper", SMALL, {}) == Small(epochs=7, fit="crop")
    assert make_config(Small, "paper", SMALL, {"fit": "area", "rate": 2}) == Small(epochs=7, fit="area", rate=2.0)
    with pytest.raises(ConfigError, match="preset 'printed' unknown; expected one of clean, paper"):
        make_config(Small, "printed", SMALL, {})
    with pytest.raises(ConfigError, match="epochs must be from 0 to 1000000; got -1"):
        make_config(Small, "clean", SMALL, {"epochs": -1})


def test_values_as_json_gives_them_become_those_of_the_fields():
    ours = check_keys(Small, {"layers": [1, 2], "words": ["a"], "rate": 1, "margin": False})
    assert ours == {"layers": (1, 2), "words": ("a",), "rate": 1.0, "margin": False}
    assert isinstance(ours["rate"], float)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("epoch", "epochs"),
        ("margins", "margin"),
        ("memory_layer", "memory_layers"),
        ("suffix_positon", "suffix_position"),
    ],
)
def test_an_unknown_key_names_the_nearest(wrong, near):
    cls = PromptADConfig if "_" in wrong else Small
    assert f"no setting {wrong!r}; did you mean {near}?" in refused(cls, {wrong: 1})
    with pytest.raises(ConfigError, match=near):
        make_config(PromptADConfig, "clean", PRESETS, {wrong: 1})


def test_an_unknown_key_without_a_near_one_lists_what_the_method_has_of_its_own():
    message = refused(Small, {"zzz": 1})
    assert all(name in message for name in ("epochs", "rate", "margin", "layers", "words")) and "fit" not in message
    assert "has no setting 'zzz'; it has none" in refused(ScoringConfig, {"zzz": 1})
    assert "Small" not in message


def test_an_argument_that_was_mistyped_for_a_setting_is_named():
    entry = find_method("promptad")
    for wrong, near in (("objekt", "object"), ("backbones", "backbone"), ("devise", "device")):
        with pytest.raises(
            ConfigError, match=rf"^PromptAD \(CVPR 2024\) has no setting '{wrong}'; did you mean {near}\?$"
        ):
            entry.make_config("clean", **{wrong: "x"})
    with show_notices(), pytest.raises(ConfigError, match=r"--set fit must be one of auto, .*; got 'foo'"):
        entry.make_config("clean", fit="foo")
    with show_notices(), pytest.raises(ConfigError, match=r"did you mean --object\?"):
        entry.make_config("clean", objekt="nut")


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": "3"},
        {"epochs": 3.5},
        {"epochs": True},
        {"margin": 1},
        {"margin": "yes"},
        {"rate": "fast"},
        {"rate": True},
        {"rate": None},
        {"fit": 3},
        {"layers": "3 and 8"},
        {"layers": 3.5},
        {"layers": True},
        {"words": "scratch"},
        {"layers": ["3", "8"]},
    ],
    ids=str,
)
def test_values_of_another_type_are_refused(values):
    (name,) = values
    assert f"{name} must be " in refused(Small, values)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value):
    assert "rate" in refused(Small, {"rate": value})


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_a_config_goes_through_json_and_back(preset):
    config = make_config(PromptADConfig, preset, PRESETS, {"defects": ["with scratch", "bent [c]"], "lr": 1})
    text = json.dumps(config_dict(config))
    assert PromptADConfig(**check_keys(PromptADConfig, json.loads(text))) == config
    assert config.defects == ("with scratch", "bent [c]")


def test_a_config_cannot_be_changed_and_every_preset_name_exists():
    assert set(PRESETS) == set(PRESET_NAMES) == {"clean", "paper", "release"}
    with pytest.raises(FrozenInstanceError):
        PromptADConfig().epochs = 5


@pytest.mark.parametrize("text", ["6,9", "6, 9", "(6, 9)", "[6,9]", "6 9"])
def test_lists_of_numbers_are_read_as_people_write_them(text):
    assert check_keys(PromptADConfig, {"memory_layers": text}) == {"memory_layers": (6, 9)}
    assert check_keys(PromptADConfig, {"memory_layers": 6}) == {"memory_layers": (6,)}


# Settings that came after files were saved -> what these files mean, whatever a preset of their name says today.
ADDED = {
    "promptad": {"memory_precision": "fp16", "memory_maximum": "grid"},
    "promptad-zs": {"top_rounding": "up"},
    "rwda": {"articles": "agree"},
    "anomalyclip": {"deep_precision": "fp32"},
    "faprompt": {"deep_precision": "fp32"},
}


@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("method", ADDED)
def test_what_older_files_leave_unsaid_is_as_it_was_when_they_were_saved(method, preset):
    entry = METHODS[method]
    values = config_dict(entry.make_config(preset))
    older = {key: value for key, value in values.items() if key not in ADDED[method]}
    assert set(values) - set(older) == set(ADDED[method])
    assert config_dict(entry.read_config(older)) == values | ADDED[method]


@dataclass(frozen=True)
class Bounded:
    """One field for every kind of bound."""

    low: Annotated[float, Range(1)] = 1.0
    open_low: Annotated[float, Range(0, open_low=True)] = 1.0
    between: Annotated[float, Range(0, 1)] = 1.0
    open_high: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    high: Annotated[int, Range(high=3)] = 1
    pair: tuple[Share, Share] = (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "good", "bad", "words"),
    [
        ("low", 1, 0.999, "at least 1"),
        ("open_low", 1e-9, 0, "above 0"),
        ("between", 1, 1.001, "from 0 to 1"),
        ("open_high", 0, 1, "from 0 to below 1"),
        ("high", 3, 4, "at most 3"),
        ("pair", [0, 0.5], [0, 1], "from 0 to below 1"),
    ],
)
def test_numbers_have_the_bounds_of_their_annotation(name, good, bad, words):
    assert check_keys(Bounded, {name: good})
    assert f"{name} must be {words}; got" in refused(Bounded, {name: bad})


@pytest.mark.parametrize("method", METHODS)
def test_a_config_refuses_what_its_annotations_do_not_allow_however_it_is_made(method):
    entry = METHODS[method]
    for name, annotation in field_types(entry.config).items():
        for value in (object(), None, [object()], float("nan")):
            with pytest.raises(ConfigError, match=name) as caught:
                entry.make_config(**{name: value})
            assert "\n" not in str(caught.value)
            with pytest.raises(ConfigError, match=name):
                entry.config(**{name: value})
        assert annotation is not str or name in {
            "state_bank",
            "definition",
            "prefix_init",
            "context_words",
            "fixed_words",
            "normal_words",
            "anomalous_words",
        }


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_every_method_has_its_comment_above_it(method):
    for cls in METHODS[method].config.__mro__[:-1]:
        lines = inspect.getsource(cls).splitlines()
        for field in fields(cls):
            own = [number for number, line in enumerate(lines) if line.startswith(f"    {field.name}: ")]
            assert not own or lines[own[0] - 1].startswith("    # "), f"{cls.__name__}.{field.name}"


# -- settings of earlier versions ------------------------------------------------------------------------------

RETIRED = [(name, key) for name, entry in METHODS.items() for key in entry.config.retired]


@pytest.mark.parametrize(("name", "key"), RETIRED)
def test_retired_settings_are_read_over_in_files_and_refused_from_people(name: str, key: str) -> None:
    entry = METHODS[name]
    saved = config_dict(entry.make_config("clean")) | {key: "oracle_test"}
    assert entry.read_config(saved) == entry.make_config("clean")
    assert key not in entry.setting_names
    with pytest.raises(
        ConfigError, match=rf"^{key} is no setting of a method any more: benchmarks .* `promptad evaluate"
    ):
        entry.make_config("clean", **{key: "last"})


def test_promptads_benchmark_settings_are_the_retired_ones() -> None:
    assert RETIRED == [("promptad", "selection"), ("promptad", "shot_order")]


def test_settings_that_a_method_has_no_use_for_are_refused_from_people_and_read_from_files():
    entry = METHODS["rwda"]
    for name in ("map_size", "smoothing"):
        with pytest.raises(ConfigError, match=f"{name} changes nothing here: RWDA gives no anomaly maps"):
            entry.make_config(**{name: 9})
        assert getattr(entry.read_config({name: 9}), name) == 9 and name not in entry.setting_names


def test_words_that_only_defects_leaves_out_are_said(tmp_path):
    words = tmp_path / "words.toml"
    words.write_text('[states]\nall = ["dirty [c]"]\n')
    for bank, named in ((str(words), "the word file"), ("visa", "the bank visa")):
        with pytest.warns(PromptadNotice, match=f"the words of {named} are not used"):
            METHODS["clip"].make_config(state_bank=bank, defects=("bent",), only_defects=True)

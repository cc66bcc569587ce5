"""Configs: presets, overrides, the way through JSON, and what unknown or wrong values say."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass

import pytest

from promptad.errors import ConfigError
from promptad.methods.base import PRESETS as PRESET_NAMES
from promptad.methods.base import check_keys, config_dict, make_config
from promptad.methods.promptad_config import PRESETS, PromptADConfig


@dataclass(frozen=True)
class Small:
    """A config with one field of every kind."""

    epochs: int = 3
    rate: float = 0.5
    margin: bool = True
    fit: str = "auto"
    layers: tuple[int, ...] = (3, 8)
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError("epochs must not be negative")


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
    with pytest.raises(ConfigError, match="negative"):
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
    assert f"no setting {wrong!r}; did you mean {near!r}?" in refused(cls, {wrong: 1})
    with pytest.raises(ConfigError, match=near):
        make_config(PromptADConfig, "clean", PRESETS, {wrong: 1})


def test_an_unknown_key_without_a_near_one_lists_all():
    message = refused(Small, {"zzz": 1})
    assert all(name in message for name in ("epochs", "rate", "margin", "fit", "layers", "words"))


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
        {"layers": 3},
        {"layers": "38"},
        {"words": "scratch"},
        {"layers": ["3", "8"]},
    ],
    ids=str,
)
def test_values_of_another_type_are_refused(values):
    (name,) = values
    assert f"setting {name!r} must be like" in refused(Small, values)


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

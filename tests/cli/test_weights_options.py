"""The options about weights: the same in every command that loads some, and refused in one line."""

from __future__ import annotations

import warnings

import pytest
import torch
import typer

from promptad.cli import build
from promptad.errors import ConfigError
from promptad.notices import collected_notices
from promptad.requests.asked import BackboneRequest
from tiny import openclip, tiny_backbone

NAMES = ("precision", "device", "activation")


@pytest.mark.parametrize("command", ["fit", "inspect", "evaluate", "train"])
def test_every_command_that_loads_weights_has_the_options_about_them(command):
    known = {name for option in typer.main.get_command(build()).commands[command].params for name in option.opts}
    assert {"--backbone", "--activation", "--precision", "--device"} <= known


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("fp32", "cpu", "relu"), "activation must be one of quick_gelu, gelu; got 'relu'"),
        (("fp8", "cpu", None), "precision must be one of fp32, bf16, fp16; got 'fp8'"),
        (("fp32", "moon", None), "device 'moon': not usable here"),
    ],
)
def test_values_that_cannot_be_are_refused_in_one_line(values, words):
    with pytest.raises(ConfigError, match=words) as caught:
        BackboneRequest(**dict(zip(NAMES, values, strict=True))).open_backbone()
    assert "\n" not in str(caught.value)


def test_the_activation_that_is_given_is_used_and_no_longer_assumed(tmp_path):
    tiny = tiny_backbone()
    torch.save(openclip(tiny.vision, tiny.text), tmp_path / "mine.pt")
    activations = []
    for activation in (None, "quick_gelu"):
        with warnings.catch_warnings(), collected_notices() as lines:
            warnings.simplefilter("ignore")
            backbone = BackboneRequest(backbone=str(tmp_path / "mine.pt"), activation=activation).open_backbone()
        activations.append((backbone.sizes.activation, "activation='quick_gelu'" in lines[0]))
    assert activations == [("gelu", True), ("quick_gelu", False)]

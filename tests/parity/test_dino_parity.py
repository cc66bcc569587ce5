"""Our DINOv2 tower against transformers' `Dinov2Model` and `Dinov2WithRegistersModel`, with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from promptad.dino.tower import DinoTower
from tiny import DINO_SIZES, dino_official, dino_transformers, tiny_dino

ATOL = 1e-5


def reference(tower: DinoTower, folder: Path) -> torch.nn.Module:
    """The model of transformers with the weights of ours, loaded from a folder with the names of its published files."""
    sizes = tower.sizes
    shared = dict(
        hidden_size=sizes.width, num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads,
        image_size=sizes.image_size, patch_size=sizes.patch_size, use_swiglu_ffn=sizes.swiglu,
    )  # fmt: skip
    # Its SwiGLU has the width that follows from the ratio, as the giant's: two thirds, rounded up to a multiple of eight.
    shared["mlp_ratio"] = 4
    if sizes.registers:
        config, kind = (
            Dinov2WithRegistersConfig(**shared, num_register_tokens=sizes.registers),
            Dinov2WithRegistersModel,
        )
    else:
        config, kind = Dinov2Config(**shared), Dinov2Model
    save_file(dino_transformers(dino_official(tower)), folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("registers", [0, 4])
def test_hidden_states_and_the_last_are_those_of_transformers(swiglu, registers, tmp_path):
    hidden = (int(4 * DINO_SIZES.width * 2 / 3) + 7) // 8 * 8 if swiglu else 4 * DINO_SIZES.width
    tower = tiny_dino(registers=registers, swiglu=swiglu, hidden=hidden)
    model = reference(tower, tmp_path)
    layers = tuple(range(1, DINO_SIZES.layers + 1))
    # The trained size, larger, smaller, and not square: there towers without registers agree where ours reads as theirs.
    for size in ((84, 84), (112, 70), (56, 196)):
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(size[1]))
        tower.pos_interp = "size_antialias" if registers else "size"
        with torch.no_grad():
            theirs = model(images, output_hidden_states=True)
            ours, last = tower(images, layers, norm="none"), tower(images, layers[-1:], norm="final")[layers[-1]]
        assert torch.allclose(tower.embed(images), theirs.hidden_states[0], atol=ATOL)
        for layer in layers:
            tokens = ours[layer]
            whole = torch.cat([tokens.cls[:, None], tokens.registers, tokens.patches], dim=1)
            assert torch.allclose(whole, theirs.hidden_states[layer], atol=ATOL), (size, layer)
        assert torch.allclose(last.patches, theirs.last_hidden_state[:, 1 + registers :], atol=ATOL)
        assert torch.allclose(last.cls, theirs.pooler_output, atol=ATOL)


def test_positions_of_the_authors_differ_from_transformers_away_from_the_trained_size_alone(tmp_path):
    tower = tiny_dino(hidden=4 * DINO_SIZES.width)
    model = reference(tower, tmp_path)
    assert tower.pos_interp == "official"
    differences = {}
    for side in (84, 112):
        images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(side))
        with torch.no_grad():
            theirs = model(images).last_hidden_state[:, 1:]
            differences[side] = float((tower(images, (4,))[4].patches - theirs).abs().max())
    assert differences[84] < ATOL and differences[112] > 1e-3

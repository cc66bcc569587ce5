"""DINOv2 weights under the names of the authors, of transformers and of timm."""

from __future__ import annotations

import pytest
import torch

from promptad.dino.checkpoints import load_dino, looks_like_dino
from promptad.dino.tower import build_tower
from promptad.errors import WeightsError
from promptad.notices import PromptadNotice
from tiny import dino_official, dino_timm, dino_transformers, openclip, tiny_backbone, tiny_dino

NAMINGS = {"official": lambda t: t, "transformers": dino_transformers, "timm": dino_timm}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("registers", [0, 4])
def test_every_naming_gives_the_same_tower(naming, swiglu, registers):
    tower = tiny_dino(registers=registers, swiglu=swiglu)
    loaded = load_dino(NAMINGS[naming](dino_official(tower)), "x.pth")
    assert loaded.sizes == tower.sizes
    again = build_tower(loaded.tensors, loaded.sizes)
    images = torch.randn(1, 3, 84, 98, generator=torch.Generator().manual_seed(1))
    ours, theirs = again(images, (4,))[4], tower(images, (4,))[4]
    assert torch.allclose(ours.patches, theirs.patches, atol=1e-5) and torch.allclose(ours.cls, theirs.cls, atol=1e-5)


def test_the_teacher_of_a_training_in_chunks_is_taken_and_said():
    teacher, student = tiny_dino(0), tiny_dino(1)
    tensors = {f"teacher.backbone.{name}": tensor for name, tensor in dino_official(teacher, chunk=2).items()}
    tensors |= {f"student.backbone.{name}": tensor for name, tensor in dino_official(student, chunk=2).items()}
    tensors["teacher.dino_head.last_layer.weight"] = torch.zeros(2)
    with pytest.warns(PromptadNotice, match=r"stand outside 'teacher.backbone.' and are not used"):
        loaded = load_dino(tensors, "training.pth")
    assert torch.equal(loaded.tensors["blocks.3.ln_1.weight"], teacher.blocks[3].ln_1.weight)
    assert loaded.sizes == teacher.sizes


def test_names_tell_a_dino_from_a_clip():
    clip, official = tiny_backbone(), dino_official(tiny_dino())
    assert not looks_like_dino(openclip(clip.vision, clip.text))
    assert looks_like_dino(official) and looks_like_dino(dino_transformers(official))
    assert looks_like_dino({f"module.{name}": tensor for name, tensor in official.items()})


def changed(**tensors: torch.Tensor | None) -> dict[str, torch.Tensor]:
    whole = dino_official(tiny_dino()) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in whole.items() if tensor is not None}


REFUSED = {
    "another model": ({"a": torch.zeros(1)}, "not a DINOv2 image tower"),
    "no positions, as DINOv3": (changed(pos_embed=None), "position_embedding' is missing"),
    "no class token": (changed(cls_token=None), "class_embedding is missing"),
    "no LayerScale, as DINO": (changed(blocks__1__ls1__gamma=None), "blocks.1.scale_1 is missing"),
    "a block without norms": (changed(blocks__0__norm2__bias=None), "blocks.0.ln_2.bias is missing"),
    "something more": (changed(blocks__0__attn__q_norm__weight=torch.zeros(1)), "1 tensors do not belong"),
    "another shape": (changed(norm__weight=torch.zeros(3)), r"norm.weight has the shape \(3,\), expected \(128,\)"),
    "no square grid": (changed(pos_embed=torch.zeros(1, 36 + 3, 128)), "39 positions"),
    "flat patches": (changed(patch_embed__proj__weight=torch.zeros(128, 3)), "another number of dimensions"),
    "a gap": (
        {n.replace("blocks.3.", "blocks.7."): t for n, t in changed().items()},
        "block 3 of 4 is missing",
    ),
    "two towers": ({f"{p}.{n}": t for p in "ab" for n, t in changed().items()}, "several towers"),
    "no key": (
        {n: t for n, t in dino_transformers(changed()).items() if "layer.2.attention.attention.key.bias" not in n},
        "lacks its key",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_tower_is_refused_in_one_line(what):
    tensors, words = REFUSED[what]
    with pytest.raises(WeightsError, match=words) as error:
        load_dino(tensors, "x.pth")
    assert str(error.value).startswith("x.pth: ") and "\n" not in str(error.value)


def test_heads_of_a_config_are_used_and_must_divide_the_width():
    assert load_dino(changed(), "x.pth", heads=4).sizes.heads == 4
    with pytest.raises(WeightsError, match="3 attention heads do not divide the width 128"):
        load_dino(changed(), "x.pth", heads=3)

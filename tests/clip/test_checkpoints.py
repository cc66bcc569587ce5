"""Weights of OpenCLIP's naming, pickled or not; damaged, foreign and hostile files; configs; the starter."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes
from promptad.clip.backbone import Backbone, build_towers, load_backbone
from promptad.clip.checkpoints import infer_sizes, load_state, read_tensors, to_our_names
from promptad.clip.tokenizer import clip_tokenizer
from promptad.clip.vision import FeatureRequest, LocalStream
from promptad.errors import WeightsError
from tiny import tiny_backbone

CONFIG = {"model_cfg": {"quick_gelu": True, "vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}}
SMALL = ClipSizes(
    8,
    "quick_gelu",
    VisionSizes(16, 2, 2, 32, 4, 12),
    TextSizes(16, 2, 2, 32, context_length=9, vocab_size=30),
)
_INNER = {"attention.out": "attn.out_proj", "mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj"}


def openclip(vision: torch.nn.Module, text: torch.nn.Module) -> dict[str, Tensor]:
    """Our towers under the names of an OpenCLIP state dict."""
    out = {"logit_scale": torch.tensor(4.6)}
    tops = {"patch_embedding.weight": "conv1.weight", "position_embedding": "positional_embedding"}
    for tower, prefix in ((vision, "visual."), (text, "")):
        for name, tensor in tower.state_dict().items():
            if name == "projection.weight":
                out["visual.proj" if prefix else "text_projection"] = tensor.T.contiguous()
                continue
            if name.startswith("blocks."):
                _, number, rest = name.split(".", 2)
                stem, kind = rest.rsplit(".", 1)
                part = f"attn.in_proj_{kind}" if stem == "attention.qkv" else f"{_INNER.get(stem, stem)}.{kind}"
                name = f"transformer.resblocks.{number}.{part}"
            out[prefix + tops.get(name, name)] = tensor
    return out


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    vision, text = build_towers(SMALL)
    for parameter in (*vision.parameters(), *text.parameters()):
        torch.nn.init.normal_(parameter, 0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return openclip(vision, text)


def write(folder: Path, content: Any, name: str = "open_clip_pytorch_model.bin", config: Any = CONFIG) -> Path:
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(content, folder / name)
    return folder / name


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(WeightsError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_backbone(4)


@pytest.mark.parametrize("wrapped", ["bare", "module", "state_dict", "state_dict+module", "model", "safetensors"])
@torch.no_grad()
def test_openclip_files_give_the_same_features(tiny, tmp_path, wrapped):
    tensors = openclip(tiny.vision, tiny.text)
    name = "model.pt" if wrapped == "module" else "model.bin"
    if "module" in wrapped:
        tensors = {f"module.{key}": value for key, value in tensors.items()}
    if wrapped == "safetensors":
        path = write(tmp_path, {}, "ignored.tmp").with_name("model.safetensors")
        save_file(tensors, path)
    elif wrapped.startswith("state_dict"):
        path = write(tmp_path, {"epoch": 3, "state_dict": tensors, "name": "run", "rate": 0.1}, name)
    else:
        path = write(tmp_path, {"model": tensors} if wrapped == "model" else tensors, name)
    loaded = load_backbone(path)
    assert loaded.sizes == tiny.sizes
    images = torch.randn(2, 3, 48, 48)
    request = FeatureRequest((2,), LocalStream(1))
    ours, expected = loaded.vision(images, request), tiny.vision(images, request)
    texts = [backbone.encode_texts(["a bent nut"]) for backbone in (loaded, tiny)]
    for a, b in ((ours.image, expected.image), (ours.patches, expected.patches), texts):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert torch.equal(ours.taps[2], expected.taps[2])


class Hostile:
    """Writes a file when it is unpickled as code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.marker, "executed"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("format_", ["zip", "legacy", "plain"])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, small, format_):
    marker, path = tmp_path / "marker", tmp_path / "model.bin"
    content = {"state_dict": small, "extra": Hostile(marker)}
    if format_ == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=format_ == "zip")
    assert "never runs code" in refused(lambda: load_backbone(path))
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker)))  # the trap is real
    assert marker.exists()


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "ViT-B-16.pt"
    with warnings.catch_warnings():  # torch calls its own format old
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
        assert str(path) in refused(lambda: read_tensors(path))


@pytest.mark.parametrize("format_", ["zip", "legacy", "safetensors"])
def test_truncated_files_of_any_length_are_refused_in_one_line(tmp_path, small, format_):
    path = tmp_path / ("model.safetensors" if format_ == "safetensors" else "model.pt")
    if format_ == "safetensors":
        save_file(small, path)
    else:
        torch.save(small, path, _use_new_zipfile_serialization=format_ == "zip")
    whole = path.read_bytes()
    for length in (*range(0, len(whole), len(whole) // 150), len(whole) - 1):
        path.write_bytes(whole[:length])
        assert str(path) in refused(lambda: load_state(path))


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "model.pt"])
@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs"])
def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert str(tmp_path / name) in refused(lambda: load_state(tmp_path / name))
    assert str(tmp_path) in refused(lambda: load_backbone(tmp_path / name))


def test_a_missing_file_and_a_folder_in_its_place_are_refused(tmp_path):
    assert "no such weights file" in refused(lambda: read_tensors(tmp_path / "absent.bin"))
    for name in ("folder.safetensors", "folder.bin"):
        (tmp_path / name).mkdir()
        assert name in refused(lambda n=name: read_tensors(tmp_path / n))


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2)],
        torch.zeros(3),
        {},
        {"epoch": 3},
        {"conv1.weight": torch.zeros(4, 3, 7, 7), "fc.bias": torch.zeros(4)},
        {
            "visual.conv1.weight": torch.zeros(4, 3, 3, 3),
            "visual.layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1),
        },
        {
            "vision_model.embeddings.class_embedding": torch.zeros(4),
            "vision_model.head.probe": torch.zeros(4),
        },
    ],
    ids=["list", "tensor", "empty", "no-tensors", "resnet", "clip-resnet", "siglip"],
)
def test_weights_of_another_model_are_refused(tmp_path, content):
    path = write(tmp_path, content)
    assert str(path) in refused(lambda: load_backbone(path))


def test_every_single_missing_tensor_is_named_or_refused(tmp_path, small):
    """All but the temperature are needed; the vocabulary of 30 would be refused last of all."""
    heads = {"model_cfg": {"vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}}
    for name in small:
        if name == "logit_scale":
            continue
        rest = {key: value for key, value in small.items() if key != name}
        message = refused(lambda rest=rest: load_backbone(write(tmp_path, rest, config=heads)))
        assert "text tokens" not in message, (name, message)
        assert str(tmp_path) in message, (name, message)


def test_missing_blocks_and_parts_of_split_projections_are_refused(small):
    gap = {k.replace("visual.transformer.resblocks.1", "visual.transformer.resblocks.2"): v for k, v in small.items()}
    assert "blocks.1" in refused(lambda: infer_sizes(to_our_names(gap), {}, None, "file"))
    face = {
        "vision_model.embeddings.class_embedding": torch.zeros(4),
        "vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4),
        "vision_model.encoder.layers.0.self_attn.v_proj.weight": torch.zeros(4, 4),
    }
    assert "lacks its k projection" in refused(lambda: to_our_names(face))


def test_a_tensor_of_another_shape_is_refused(tmp_path, small):
    wrong = small | {"visual.ln_post.weight": torch.ones(7)}
    assert "ln_post" in refused(lambda: load_backbone(write(tmp_path, wrong)))
    wrong = small | {"visual.positional_embedding": torch.ones(12, 16)}  # no square
    assert "position_embedding" in refused(lambda: load_backbone(write(tmp_path, wrong)))


def test_another_vocabulary_needs_its_own_tokenizer(tmp_path, small):
    path = write(tmp_path, small)
    assert "30 text tokens" in refused(lambda: load_backbone(path))
    clip_tokenizer()._backend.save(str(tmp_path / "tokenizer.json"))
    message = refused(lambda: load_backbone(path))
    assert "49408 tokens" in message and "30" in message


@pytest.mark.parametrize(
    ("config", "heads", "activation"),
    [
        ({}, (1, 1), "gelu"),
        (CONFIG, (2, 2), "quick_gelu"),
        ({"model_cfg": {"vision_cfg": {"head_width": 4}, "text_cfg": {"heads": 8}}}, (4, 8), "gelu"),
        ({"vision_config": {}, "text_config": {"num_attention_heads": 2}}, (1, 2), "quick_gelu"),
        ({"vision_config": {"hidden_act": "gelu"}}, (1, 1), "gelu"),
        ({"hidden_act": "quick_gelu", "vision": {"num_attention_heads": 2}}, (2, 1), "quick_gelu"),
    ],
)
def test_heads_and_activation_come_from_any_dialect_of_config(tmp_path, small, config, heads, activation):
    sizes, tensors, read = load_state(write(tmp_path, small, config=config))
    assert (sizes.vision.heads, sizes.text.heads) == heads and sizes.activation == activation
    assert read == config and sizes.vision.image_size == 12 and sizes.text.context_length == 9
    assert load_state(tmp_path / "open_clip_pytorch_model.bin", "quick_gelu")[0].activation == "quick_gelu"
    assert set(tensors) == set(to_our_names(small))


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"\xff\xfe{}",
        b'{"model_cfg": 5}',
        b'{"vision_config": 7}',
        b'{"vision_config": {"num_attention_heads": 0}}',
        b'{"vision_config": {"num_attention_heads": "many"}}',
        b'{"vision": {"num_attention_heads": 5}}',
    ],
)
def test_a_damaged_config_is_refused_in_one_line_that_names_the_file(tmp_path, small, text):
    torch.save(small, tmp_path / "model.bin")
    (tmp_path / "config.json").write_bytes(text)
    assert str(tmp_path) in refused(lambda: load_backbone(tmp_path / "model.bin"))


@torch.no_grad()
def test_the_starter_loads_with_its_sizes_and_gives_finite_features():
    starter = load_backbone("starter")
    sizes = starter.sizes
    assert (sizes.embed_dim, sizes.vision.width, sizes.vision.layers, sizes.vision.heads) == (
        512,
        768,
        12,
        12,
    )
    assert (sizes.vision.patch_size, starter.input_size, sizes.activation) == (16, 240, "quick_gelu")
    assert (sizes.text.width, sizes.text.layers, sizes.text.heads, sizes.text.vocab_size) == (192, 6, 3, 6000)
    assert starter.tokenizer.vocab_size == 6000
    images = torch.randn(2, 3, 224, 224)
    found = starter.vision(images, FeatureRequest((3, 8), LocalStream(1)))
    assert found.grid == (14, 14) and found.patches.shape == (2, 196, 512) and found.taps[8].shape == (2, 196, 768)
    texts = starter.encode_texts(["a photo of a cookie", "a photo of a metal nut with scratch"])
    for tensor in (found.image, found.patches, found.taps[3], found.taps[8], texts):
        assert tensor.isfinite().all() and tensor.std() > 1e-3
    assert (texts[0] - texts[1]).abs().max() > 1e-2

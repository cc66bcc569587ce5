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
from promptad.clip.checkpoints import infer_sizes, load_state, read_tensors, to_our_names, unwrap
from promptad.clip.features import FeatureRequest, LocalStream
from promptad.clip.tokenizer import clip_tokenizer
from promptad.clip.zoo import locate
from promptad.errors import WeightsError
from promptad.notices import PromptadNotice
from tiny import openclip, tiny_backbone

CONFIG = {"model_cfg": {"quick_gelu": True, "vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}}
# A damaged file ends in an error; what was assumed on the way there is no matter of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::promptad.notices.PromptadNotice")
SMALL = ClipSizes(
    8,
    "quick_gelu",
    VisionSizes(16, 2, 2, 32, 4, 12),
    TextSizes(16, 2, 2, 32, context_length=9, vocab_size=30),
)


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


def archive_of(tensors: dict[str, Tensor], path: Path) -> None:
    """A TorchScript archive whose modules and tensors have these names, written by torch itself."""

    class Node(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    root = Node()
    for name, tensor in tensors.items():
        node, (*levels, leaf) = root, name.split(".")
        for level in levels:
            if level not in dict(node.named_children()):
                node.add_module(level, Node())
            node = node.get_submodule(level)
        node.register_buffer(leaf, tensor)
    with warnings.catch_warnings():  # torch calls its own format old
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(root), path)


FORMATS = ("pt", "legacy", "state_dict", "model", "deep", "archive", "safetensors", "folder")
PREFIXES = ("", "module.", "_orig_mod.", "model.", "clip_model.", "clip.", "module._orig_mod.", "net.clip.backbone.")


def wrapped_file(tensors: dict[str, Tensor], folder: Path, format_: str) -> Path:
    if format_ in ("safetensors", "folder"):
        path = write(folder, {}, "ignored.tmp").with_name("model.safetensors")
        save_file(tensors, path)
        return path if format_ == "safetensors" else folder
    if format_ == "archive":
        path = write(folder, {}, "ignored.tmp").with_name("model.pt")
        archive_of(tensors, path)
        return path
    content: Any = tensors
    if format_ == "state_dict":
        content = {"epoch": 3, "state_dict": tensors, "name": "run", "rate": 0.1}
    elif format_ in ("model", "deep"):
        content = {"model": tensors} if format_ == "model" else {"model": {"state_dict": tensors}, "epoch": 1}
    path = write(folder, content, "model.pt" if format_ == "pt" else "model.bin")
    if format_ == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_taken_off_in_every_format(small, tmp_path, prefix, format_):
    plain = load_state(write(tmp_path, small, "plain.bin"))
    folder = tmp_path / "wrapped"
    folder.mkdir()
    path = wrapped_file({prefix + name: tensor for name, tensor in small.items()}, folder, format_)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptadNotice)
        loaded = load_state(locate(path).weights)
    assert loaded.sizes == plain.sizes and set(loaded.tensors) == set(plain.tensors)
    assert all(torch.equal(tensor, plain.tensors[name]) for name, tensor in loaded.tensors.items())


@pytest.mark.parametrize("level", ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_wrappers_of_single_towers_and_blocks_are_taken_off(small, level):
    inside = {name.replace("resblocks.1.", f"resblocks.1.{level}"): tensor for name, tensor in small.items()}
    inside = {name.replace("visual.", f"visual.{level}"): tensor for name, tensor in inside.items()}
    assert inside.keys() != small.keys() and unwrap(inside).keys() == small.keys()


def test_the_text_tower_of_openclips_other_class_has_a_level_of_its_own(small):
    custom = {name if name.startswith(("visual.", "logit")) else f"text.{name}": t for name, t in small.items()}
    assert unwrap(custom).keys() == small.keys()


def test_what_stands_outside_the_model_is_said_and_two_models_are_refused(small):
    wrapped = {f"clip.{name}": tensor for name, tensor in small.items()}
    with pytest.warns(
        PromptadNotice, match=r"1 tensors stand outside 'clip\.' and are not used \(first: prompts\.ctx\)"
    ):
        assert unwrap(wrapped | {"prompts.ctx": torch.zeros(2)}).keys() == small.keys()
    teacher = {f"teacher.{name}": tensor for name, tensor in small.items()}
    assert "several models (clip., teacher.)" in refused(lambda: unwrap(wrapped | teacher))
    twice = {f"module.{name}": tensor for name, tensor in small.items()} | small
    assert "two tensors that are both" in refused(lambda: unwrap(twice))


@pytest.mark.parametrize("place", ["ema", "state_dict_ema", "net.student", "0", "model.module"])
def test_the_model_is_found_whatever_its_place_is_called(small, tmp_path, place):
    content: Any = {
        f"visual._orig_mod.{name[7:]}" if name.startswith("visual.") else name: t for name, t in small.items()
    }
    for name in reversed(place.split(".")):
        content = {name: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptadNotice)
        assert unwrap(read_tensors(write(tmp_path, content, "run.pt"))[0]).keys() == small.keys()


def test_of_several_models_the_usual_one_is_said_and_others_are_refused(small, tmp_path):
    other = {name: tensor + 1 for name, tensor in small.items()}
    name = next(iter(small))
    for content in ({"ema": other, "state_dict": small}, {**small, "teacher": other}):
        with pytest.warns(PromptadNotice, match="holds several models .* is used; save another alone"):
            assert torch.equal(read_tensors(write(tmp_path, content, "run.pt"))[0][name], small[name])
    path = write(tmp_path, {"ema": other, "student": small}, "run.pt")
    assert "holds several models (ema, student); save one of them alone" in refused(lambda: read_tensors(path))
    path = write(tmp_path, {"best": {"backbone.conv.weight": torch.zeros(2)}}, "run.pt")
    assert "found names such as backbone.conv.weight" in refused(lambda: load_state(path))


@pytest.mark.parametrize("format_", ["pt", "state_dict", "safetensors", "archive"])
@torch.no_grad()
def test_openclip_files_give_the_same_features(tiny, tmp_path, format_):
    path = wrapped_file(openclip(tiny.vision, tiny.text), tmp_path, format_)
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


def test_a_dictionary_that_holds_itself_is_walked_once(tmp_path):
    """Pickles can hold one; torch reads it."""
    saved: dict = {"epoch": 3, "model": {"weight": torch.zeros(3)}}
    saved["self"] = saved["model"]["above"] = saved
    path = write(tmp_path, saved)
    assert read_tensors(path)[0].keys() == {"weight"}


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
    assert "blocks.1" in refused(lambda: infer_sizes(to_our_names(gap), "file"))
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
    features = starter.vision(images, FeatureRequest((3, 8), LocalStream(1)))
    assert (
        features.grid == (14, 14)
        and features.patches.shape == (2, 196, 512)
        and features.taps[8].shape == (2, 196, 768)
    )
    texts = starter.encode_texts(["a photo of a cookie", "a photo of a metal nut with scratch"])
    for tensor in (features.image, features.patches, features.taps[3], features.taps[8], texts):
        assert tensor.isfinite().all() and tensor.std() > 1e-3
    assert (texts[0] - texts[1]).abs().max() > 1e-2

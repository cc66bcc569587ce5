"""CLIP's ResNet towers against a slow version that is written from the paper's description alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

import tiny
from promptad import Detector
from promptad.clip.architecture import ClipSizes, ResNetSizes, TextSizes, VisionSizes
from promptad.clip.backbone import Backbone, build_towers, load_backbone, random_backbone
from promptad.clip.features import FeatureRequest, LocalStream, pooled_rows
from promptad.clip.resnet import ResNetTower
from promptad.clip.tokenizer import clip_tokenizer
from promptad.clip.vision import VisionTower
from promptad.clip.zoo import find_checkpoint
from promptad.errors import ConfigError, WeightsError
from promptad.methods.registry import find_method

TEXT = TextSizes(width=32, layers=2, heads=2, mlp_width=64, context_length=77, vocab_size=49408)
SIZES = ClipSizes(24, "quick_gelu", ResNetSizes(stem_width=4, blocks=(1, 2, 1, 1), heads=2, image_size=64), TEXT)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    made = random_backbone(SIZES, clip_tokenizer(), seed=3)
    generator = torch.Generator().manual_seed(5)
    for name, tensor in made.vision.named_buffers():  # as training leaves them: neither zero nor one
        if name.endswith("running_mean"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
        elif name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    for name, tensor in made.vision.named_parameters():
        if "conv" in name or "downsample.0" in name:
            tensor.data.mul_(6)  # of the size that keeps activations alive through the trunk
        elif name.endswith("bias"):
            tensor.data.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return made


class Slow:
    """One photo at a time in float64 NumPy, loops over windows, heads and positions."""

    def __init__(self, tower: torch.nn.Module, heads: int) -> None:
        self.w = {name: tensor.detach().double().numpy() for name, tensor in tower.state_dict().items()}
        self.heads = heads

    def conv(self, x: NDArray[np.float64], name: str, stride: int = 1) -> NDArray[np.float64]:
        kernel = self.w[f"{name}.weight"]
        side = kernel.shape[-1]
        padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        height, width = x.shape[1] // stride, x.shape[2] // stride
        out = np.zeros((len(kernel), height, width))
        for i in range(height):
            for j in range(width):
                window = padded[:, i * stride : i * stride + side, j * stride : j * stride + side]
                out[:, i, j] = np.tensordot(kernel, window, axes=3)
        return out

    def norm(self, x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        mean, variance, gain, shift = (
            self.w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gain + shift

    @staticmethod
    def halve(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4

    def block(self, x: NDArray[np.float64], name: str, strides: bool) -> NDArray[np.float64]:
        inner = np.maximum(self.norm(self.conv(x, f"{name}.conv1"), f"{name}.bn1"), 0)
        inner = np.maximum(self.norm(self.conv(inner, f"{name}.conv2"), f"{name}.bn2"), 0)
        if strides:
            inner, x = self.halve(inner), self.halve(x)
        if f"{name}.downsample.0.weight" in self.w:
            x = self.norm(self.conv(x, f"{name}.downsample.0"), f"{name}.downsample.1")
        return np.maximum(self.norm(self.conv(inner, f"{name}.conv3"), f"{name}.bn3") + x, 0)

    def stages(self, image: Tensor) -> list[NDArray[np.float64]]:
        x = image.double().numpy()
        for number, stride in ((1, 2), (2, 1), (3, 1)):
            x = np.maximum(self.norm(self.conv(x, f"conv{number}", stride), f"bn{number}"), 0)
        x, out = self.halve(x), []
        for stage, blocks in enumerate((1, 2, 1, 1), start=1):
            for number in range(blocks):
                x = self.block(x, f"layer{stage}.{number}", strides=stage > 1 and number == 0)
            out.append(x)
        return out

    def linear(self, x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x @ self.w[f"attnpool.{name}.weight"].T + self.w[f"attnpool.{name}.bias"]

    def tokens(self, last: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = last.reshape(len(last), -1).T
        return np.concatenate([rows.mean(0, keepdims=True), rows]) + self.w["attnpool.positional_embedding"]

    def attend(self, q, k, v, scale) -> NDArray[np.float64]:
        out = np.zeros((len(q), v.shape[1]))
        size = v.shape[1] // self.heads
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            for row in range(len(q)):
                weights = np.exp(scale * (k[:, part] @ q[row, part]))
                out[row, part] = (weights / weights.sum()) @ v[:, part]
        return self.linear(out, "c_proj")


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_everything_equals_the_slow_version(backbone, photo):
    tower = backbone.vision
    slow = Slow(tower, 2)
    stages = slow.stages(photo)
    for ours, theirs in zip(tower.stages(photo[None]), stages, strict=True):
        assert theirs.std() > 1e-3  # a trunk that dies would be equal too
        np.testing.assert_allclose(ours[0].numpy(), theirs, rtol=1e-4, atol=1e-5)
    tokens = slow.tokens(stages[-1])
    q, k, v = (slow.linear(tokens, f"{name}_proj") for name in "qkv")
    size = v.shape[1] // 2
    image = slow.attend(q[:1], k, v, size**-0.5)
    np.testing.assert_allclose(tower(photo[None]).image.numpy(), image, rtol=1e-4, atol=1e-5)

    unit = v.reshape(len(v), 2, size)
    unit = (unit / (np.linalg.norm(unit, axis=-1, keepdims=True) + 1e-6)).reshape(v.shape)
    plain = stages[-1].reshape(len(stages[-1]), -1).T
    expected = {
        "vv": slow.attend(v, v, v, size**-0.5)[1:],
        "vv_cosine": slow.attend(unit, unit, v, 1.0)[1:],
        "qk": slow.attend(q, k, v, size**-0.5)[1:],
        "maskclip": slow.linear(slow.linear(plain, "v_proj"), "c_proj"),
    }
    last = tower.stages(photo[None])[-1]
    for attention, rows in expected.items():
        ours = tower._local(last, tower.attnpool.tokens(last, "bilinear"), LocalStream(1, attention))
        np.testing.assert_allclose(ours[0].numpy(), rows, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_all_queries_give_the_pooled_feature_in_their_first_row(backbone, photo):
    pool, last = backbone.vision.attnpool, backbone.vision.stages(photo[None])[-1]
    tokens = pool.tokens(last, "bilinear")
    torch.testing.assert_close(pool(tokens, None)[:, :1], pool(tokens))
    same = tokens[:, :1].expand(-1, 5, -1)  # values that are all alike are all that attention can give
    torch.testing.assert_close(
        pool.value_value(same, cosine=False), pool.c_proj(pool.v_proj(same)), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
@pytest.mark.parametrize("attention", ["vv", "vv_cosine", "maskclip", "qk"])
def test_all_features_lie_on_the_grid_of_stage_2(backbone, attention):
    photos = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    request = FeatureRequest((1, 2, 3, 4), LocalStream(1, attention))
    features = backbone.vision(photos, request)
    assert features.grid == (8, 12)
    assert features.patches.shape == (2, 96, 24)
    assert [features.taps[layer].shape for layer in (1, 2, 3, 4)] == [(2, 96, 16 * 2**i) for i in range(4)]
    alone = backbone.vision(photos, FeatureRequest((3,), LocalStream(1, attention)))
    assert torch.equal(alone.taps[3], features.taps[3]) and torch.equal(alone.patches, features.patches)
    stages = backbone.vision.stages(photos)
    assert torch.equal(features.taps[2].transpose(1, 2).reshape(stages[1].shape), stages[1])
    quarter = stages[0].unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(features.taps[1].transpose(1, 2).reshape(quarter.shape), quarter)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_taps_are_averaged_over_the_windows_that_are_there(backbone, kind):
    made = backbone if kind == "resnet" else tiny.tiny_backbone()
    photos = torch.randn(1, 3, 64, 96 if kind == "resnet" else 64, generator=torch.Generator().manual_seed(2))
    plain = made.vision(photos, FeatureRequest((2,)))
    (height, width), rows = plain.grid, plain.taps[2][0]
    expected = torch.zeros_like(rows)
    for i in range(height):
        for j in range(width):
            near = [rows[a * width + b] for a in range(max(0, i - 1), min(height, i + 2))
                    for b in range(max(0, j - 1), min(width, j + 2))]  # fmt: skip
            expected[i * width + j] = torch.stack(near).mean(0)
    torch.testing.assert_close(made.vision(photos, FeatureRequest((2,), tap_pool=3)).taps[2][0], expected)
    assert pooled_rows(plain.taps[2], plain.grid, 1) is plain.taps[2]
    for side in (0, 2):
        with pytest.raises(ConfigError, match="odd"):
            made.vision(photos, FeatureRequest((2,), tap_pool=side))


@pytest.mark.parametrize(
    ("name", "embed", "vision"), [("RN50/openai", 1024, 38_316_896), ("RN101/openai", 512, 56_259_936)]
)
def test_parameter_counts_of_the_published_towers(name, embed, vision):
    row = find_checkpoint(name)
    sizes = ResNetSizes(row.vision["width"], tuple(row.vision["layers"]), row.vision["heads"], row.vision["image_size"])
    tower, _ = build_towers(ClipSizes(embed, "quick_gelu", sizes, TEXT), "meta")
    assert sum(parameter.numel() for parameter in tower.parameters()) == vision
    pool = sum(parameter.numel() for parameter in tower.attnpool.parameters())
    assert pool == {"RN50/openai": 14_789_632, "RN101/openai": 13_740_544}[name]
    assert (tower.grid(448, 448), len(tower.attnpool.positional_embedding)) == ((56, 56), 50)


@torch.no_grad()
def test_twice_the_side_has_four_times_the_positions_and_the_own_side_changes_nothing(backbone, photo):
    pool = backbone.vision.attnpool
    last = backbone.vision.stages(torch.cat([photo, photo], 1).repeat(1, 1, 2)[None])[-1]
    assert pool.tokens(last, "bilinear").shape[1] == 4 * 4 + 1
    own = backbone.vision.stages(photo[None])[-1]
    rows = own.flatten(2).transpose(1, 2)
    plain = torch.cat([rows.mean(1, keepdim=True), rows], 1) + pool.positional_embedding
    assert torch.equal(pool.tokens(own, "bilinear"), plain)


def state_dict(backbone: Backbone) -> dict[str, Tensor]:
    """The model under the names of OpenAI's and OpenCLIP's files."""
    text = tiny.openclip(torch.nn.Module(), backbone.text)
    return text | {f"visual.{name}": tensor for name, tensor in backbone.vision.state_dict().items()}


CONFIG = {"embed_dim": 24, "quick_gelu": True, "text_cfg": {"width": 32, "heads": 2, "layers": 2},
          "vision_cfg": {"width": 4, "head_width": 64, "layers": [1, 2, 1, 1], "image_size": 64, "patch_size": None}}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("wrapped", [False, True])
def test_files_are_read_with_the_names_they_have(backbone, photo, tmp_path, wrapped):
    tensors = state_dict(backbone)
    path = tmp_path / ("model.pt" if wrapped else "model.safetensors")
    if wrapped:
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    loaded = load_backbone(path)
    assert loaded.sizes.vision == SIZES.vision and loaded.sizes.activation == "quick_gelu"
    request = FeatureRequest((2, 3), LocalStream(1))
    ours, theirs = loaded.vision(photo[None], request), backbone.vision(photo[None], request)
    for name, tensor in theirs.tensors().items():  # the place of weights in memory may decide the last bit
        torch.testing.assert_close(ours.tensors()[name], tensor, rtol=1e-5, atol=1e-6)
    half = load_backbone(path, precision="fp16").vision
    assert half(photo[None]).image.dtype == torch.float32
    torch.testing.assert_close(half(photo[None]).image, theirs.image, rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("visual.layer2.0.conv1.weight"), "layer2.0.conv1"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("visual.layer2.0.")], "layer2.0"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("visual.layer3.")], "layer3.0"),
        (lambda t: t.update({"visual.extra.weight": torch.ones(1)}), "extra"),
        (lambda t: t.update({"visual.attnpool.positional_embedding": torch.ones(7, 128)}), "7 rows"),
        (lambda t: t.pop("visual.conv3.weight"), "conv3"),
    ],
)
def test_incomplete_files_are_refused_by_the_name_of_the_tensor(backbone, tmp_path, damage, message):
    tensors = state_dict(backbone)
    damage(tensors)
    torch.save(tensors, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(WeightsError, match=message):
        load_backbone(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "request_",
    [
        FeatureRequest((5,)),
        FeatureRequest((2,), tap_point="after_next_attention"),
        FeatureRequest((2,), tap_class=True),
        FeatureRequest((2,), tap_space="joint"),
        FeatureRequest((2,), tap_stream="local"),
        FeatureRequest(normalise_class=False),
        FeatureRequest(windows=(2,)),
        FeatureRequest(local=LocalStream(6)),
    ],
)
def test_what_a_resnet_does_not_have_is_refused(backbone, request_):
    with pytest.raises(ConfigError, match="ResNet"):
        backbone.vision(torch.zeros(1, 3, 64, 64), request_)
    with pytest.raises(ConfigError, match="multiple of 32"):
        backbone.vision(torch.zeros(1, 3, 64, 80))


@torch.no_grad()
def test_the_memory_of_a_resnet_takes_stages_2_and_3_as_the_next_block_reads_them(backbone):
    method = find_method("promptad").build(
        backbone, find_method("promptad").make_config("clean", memory_layers=(), memory_point="next_norm"), "nut"
    )
    assert method.request.taps == (2, 3)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(7))
    ours, plain = backbone.vision(images, method.request), backbone.vision(images, FeatureRequest((2, 3)))
    assert all(torch.equal(ours.taps[layer], plain.taps[layer]) for layer in (2, 3))


def test_a_detector_learns_judges_and_comes_back_from_its_file(backbone, tmp_path):
    torch.save(state_dict(backbone), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    loaded = load_backbone(tmp_path / "model.pt")
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (80, 120, 3), dtype=np.uint8) for _ in range(3)]
    detector = Detector("promptad", object="metal nut", backbone=loaded, epochs=1, memory_layers=(2, 3), memory_pool=3)
    detector.fit(photos[:2])
    first = detector.predict(photos[2])
    assert first.map.shape == (80, 120) and 0 < first.score < 1
    again = Detector.load(detector.save(tmp_path / "nut.safetensors")).predict(photos[2])
    assert again.score == first.score and np.array_equal(again.map, first.map)


@pytest.mark.parametrize(
    ("method", "settings"), [("promptad-zs", {}), ("promptad", {"local": "linear", "memory_point": "block"})]
)
def test_methods_that_need_a_vit_say_so(backbone, method, settings):
    entry = find_method(method)
    with pytest.raises(ConfigError, match="needs a ViT"):
        entry.build(backbone, entry.make_config("clean", **settings), "nut")


def test_vv_of_cosines_belongs_to_resnets(backbone):
    assert isinstance(backbone.vision, ResNetTower)
    vit = tiny.tiny_backbone()
    assert isinstance(vit.vit("a test")[0], VisionTower) and isinstance(vit.vit("a test")[1], VisionSizes)
    with pytest.raises(ConfigError, match="vv_cosine"):
        vit.vision(torch.zeros(1, 3, 48, 48), FeatureRequest(local=LocalStream(1, "vv_cosine")))


def test_pickled_towers_are_the_same(backbone, photo, tmp_path: Path):
    stream = io.BytesIO()
    torch.save(backbone.vision, stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    assert torch.equal(again(photo[None]).image, backbone.vision(photo[None]).image)

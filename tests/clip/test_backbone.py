"""The backbone: identity, frozen towers, precision, and which tokenizer it takes."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import models, pre_tokenizers

from promptad.clip.architecture import Block, activation_function
from promptad.clip.backbone import Backbone, load_backbone, random_backbone, reopen
from promptad.clip.facts import CLIP_MEAN, CLIP_STD
from promptad.clip.features import FeatureRequest, LocalStream
from promptad.clip.preprocess import Preprocess
from promptad.clip.tokenizer import clip_tokenizer
from promptad.detector import Detector
from promptad.errors import ConfigError, TextError, WeightsError
from promptad.learning.features import Encoder, FeatureStore
from promptad.notices import PromptadNotice
from tiny import SIZES, tiny_backbone

_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2",
          "attention.out": "self_attn.out_proj"}  # fmt: skip
_TOPS = {
    "class_embedding": "embeddings.class_embedding",
    "patch_embedding": "embeddings.patch_embedding",
    "position_embedding": "embeddings.position_embedding.weight",
    "token_embedding": "embeddings.token_embedding",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
    "ln_final": "final_layer_norm",
}


def hugging_face_file(backbone: Backbone, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The towers under Hugging Face's names, with the config that the heads need."""
    out = {}
    for tower, prefix in ((backbone.vision, "vision_model"), (backbone.text, "text_model")):
        for name, tensor in tower.state_dict().items():
            stem, _, kind = name.rpartition(".")
            if stem == "projection":
                out[f"{'visual' if prefix == 'vision_model' else 'text'}_projection.weight"] = tensor
            elif name in _TOPS:
                out[f"{prefix}.{_TOPS[name]}"] = tensor
            elif stem in _TOPS:
                out[f"{prefix}.{_TOPS[stem]}.{kind}"] = tensor
            else:
                _, number, inner = stem.split(".", 2)
                base = f"{prefix}.encoder.layers.{number}."
                if inner == "attention.qkv":
                    for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                        out[f"{base}self_attn.{letter}_proj.{kind}"] = part
                else:
                    out[f"{base}{_BLOCK[inner]}.{kind}"] = tensor
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in out.items()}, path)
    heads = '{"vision_config": {"num_attention_heads": 2}, "text_config": {"num_attention_heads": 2}}'
    (path.parent / "config.json").write_text(heads)
    return path


def small_vocabulary(path: Path, words: int) -> Path:
    names = ["<|startoftext|>", "<|endoftext|>", "nut", *(f"w{i}" for i in range(words - 3))]
    backend = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="nut"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(path))
    return path


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_backbone()


def test_random_weights_depend_on_the_seed_alone_and_say_what_they_are():
    first, again, other = tiny_backbone(7), tiny_backbone(7), tiny_backbone(8)
    for name, tensor in first.vision.state_dict().items():
        assert torch.equal(tensor, again.vision.state_dict()[name])
    assert torch.equal(first.text.token_embedding.weight, again.text.token_embedding.weight)
    assert not torch.equal(first.vision.position_embedding, other.vision.position_embedding)
    assert first.sha256 == again.sha256 != other.sha256 and len(first.sha256) == 64
    assert first.identity == f"random (sha256 {first.sha256[:8]}, fp32)"
    assert first.input_size == 48 and random_backbone(SIZES, clip_tokenizer(), 0, 64).input_size == 64
    assert (first.mean, first.std) == (CLIP_MEAN, CLIP_STD) and first.device == torch.device("cpu")


def test_towers_are_frozen_and_in_eval_mode(tiny, tmp_path):
    for backbone in (tiny, load_backbone(hugging_face_file(tiny, tmp_path / "model.safetensors"))):
        for tower in (backbone.vision, backbone.text):
            assert not tower.training
            assert not any(parameter.requires_grad for parameter in tower.parameters())
        assert not backbone.encode_texts(["nut"]).requires_grad


def test_texts_keep_their_order_in_any_batch_size(tiny):
    texts = ["nut", "a very bent metal nut with scratch", "cable", "a photo of a cable."]
    together = tiny.encode_texts(texts)
    assert together.shape == (4, 24) and together.dtype == torch.float32
    for size in (1, 3):
        torch.testing.assert_close(tiny.encode_texts(texts, batch_size=size), together, atol=1e-6, rtol=0)
    assert tiny.encode_texts([]).shape == (0, 24)
    with pytest.raises(TextError):
        tiny.encode_texts([*texts, "nut " * 90])


@torch.no_grad()
def test_a_loaded_file_keeps_name_checksum_size_and_features(tiny, tmp_path):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    loaded = load_backbone(path)
    assert loaded.name == str(path) and loaded.path == path and loaded.input_size == 48
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.sizes == SIZES and loaded.precision == "fp32"
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(loaded.vision(images).image, tiny.vision(images).image)
    assert load_backbone(tmp_path).sha256 == loaded.sha256  # the folder is as good as the file


@torch.no_grad()
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_16_bits_halve_the_weights_and_give_close_float32_features(tiny, tmp_path, precision, dtype):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors", torch.float16)
    full, half = load_backbone(path), load_backbone(path, precision=precision)
    assert half.precision == precision and precision in half.identity
    assert {p.dtype for p in full.vision.parameters()} == {torch.float32}
    assert {p.dtype for p in (*half.vision.parameters(), *half.text.parameters())} == {dtype}
    images, request = torch.randn(2, 3, 48, 48), FeatureRequest((2,), LocalStream(1))
    ours, expected = half.vision(images, request), full.vision(images, request)
    for a, b in (
        (ours.image, expected.image),
        (ours.patches, expected.patches),
        (ours.taps[2], expected.taps[2]),
    ):
        assert a.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(a, b, dim=-1).min() > 0.999
    texts = [backbone.encode_texts(["a bent nut"]) for backbone in (half, full)]
    assert texts[0].dtype == torch.float32 and torch.nn.functional.cosine_similarity(*texts) > 0.999


def test_an_unknown_precision_or_activation_is_an_error_of_one_line(tiny, tmp_path):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    for options in ({"precision": "fp8"}, {"activation": "relu"}):
        with pytest.raises(ConfigError, match=next(iter(options.values()))) as caught:
            load_backbone(path, **options)
        assert "\n" not in str(caught.value)
    assert load_backbone(path, activation="gelu").sizes.activation == "gelu"


def test_activations_and_heads_that_do_not_fit():
    x = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(activation_function("quick_gelu")(x), x / (1 + torch.exp(-1.702 * x)))
    exact = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    torch.testing.assert_close(activation_function("gelu")(x), exact)
    with pytest.raises(WeightsError, match="not divisible"):
        Block(10, 3, 20, "gelu")


def test_another_vocabulary_takes_the_tokenizer_beside_the_weights(tiny, tmp_path):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    small_vocabulary(tmp_path / "tokenizer.json", 40)
    # CLIP's own vocabulary is used where the table has its size; what lies beside and does not fit is named.
    with pytest.warns(PromptadNotice, match=r"tokenizer\.json: has 40 tokens.*so it is not used"):
        assert load_backbone(path).tokenizer.vocab_size == 49408
    from safetensors.torch import load_file

    tensors = load_file(path)
    name = "text_model.embeddings.token_embedding.weight"
    save_file(tensors | {name: tensors[name][:40].contiguous()}, path)
    backbone = load_backbone(path)
    assert backbone.tokenizer.vocab_size == 40
    assert backbone.tokenizer.encode("nut w3") == [0, 2, 6, 1]
    assert backbone.encode_texts(["nut w3"]).isfinite().all()
    small_vocabulary(tmp_path / "tokenizer.json", 41)
    with pytest.raises(WeightsError, match=r"41 tokens, the text tower of model\.safetensors has 40"):
        load_backbone(path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"put its tokenizer\.json beside it"):
        load_backbone(path)


def test_a_backbone_of_a_file_is_pickled_as_where_it_lies_and_comes_back_the_same(tiny, tmp_path):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    backbone = load_backbone(path, precision="bf16", activation="gelu", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    backbone.vision.position_resize = "bilinear"
    content = pickle.dumps(backbone)
    assert len(content) < 2000 < path.stat().st_size  # no weights inside
    again = pickle.loads(content)
    assert again.decides() == backbone.decides() and again.fingerprint == backbone.fingerprint
    assert (again.name, again.path.resolve(), again.device) == (backbone.name, path.resolve(), backbone.device)
    images = torch.randn(2, 3, 64, 48)
    assert torch.equal(again.vision(images).image, backbone.vision(images).image)
    assert torch.equal(again.encode_texts(["a bent nut"]), backbone.encode_texts(["a bent nut"]))
    assert copy.deepcopy(backbone) is backbone
    assert json.loads(json.dumps(backbone.source)) == backbone.source


def test_a_backbone_of_no_file_is_pickled_with_its_weights(tiny):
    again = pickle.loads(pickle.dumps(tiny))
    assert again.fingerprint == tiny.fingerprint
    for name, tensor in tiny.vision.state_dict().items():
        assert torch.equal(again.vision.state_dict()[name], tensor)
    assert torch.equal(again.encode_texts(["a bent nut"]), tiny.encode_texts(["a bent nut"]))
    with pytest.raises(WeightsError, match="lies in no file"):
        reopen({**tiny.source, "name": None})


def test_a_backbone_whose_file_moved_is_opened_there_and_a_changed_one_is_refused(tiny, tmp_path):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    source = load_backbone(path).source
    (tmp_path / "elsewhere").mkdir()
    for name in (path.name, "config.json"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    with pytest.raises(WeightsError, match="no weights at"):
        reopen(source)
    assert (
        reopen(source, given=tmp_path / "elsewhere").fingerprint == reopen(source, tmp_path / "elsewhere").fingerprint
    )
    hugging_face_file(tiny_backbone(5), path)
    with pytest.raises(WeightsError, match="sha256 differ") as caught:
        reopen(source)
    assert "\n" not in str(caught.value)


def test_a_config_that_changed_since_is_noticed(tiny, tmp_path):
    """Heads are no part of the weights: the same file with another config beside it is another model."""
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    source = load_backbone(path).source
    (tmp_path / "config.json").write_text('{"vision_config": {"num_attention_heads": 4}, "text_config": {}}')
    with pytest.raises(WeightsError, match="sizes differ"):
        reopen(source)


def test_the_fingerprint_is_of_everything_that_decides_a_feature(tiny, tmp_path):
    """What caches are kept under; the activation was once missing there, so GELU features served QuickGELU."""
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    grey = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    variants = [{}, {"activation": "gelu"}, {"precision": "bf16"}, grey]
    prints = [load_backbone(path, **options).fingerprint for options in variants]
    other = load_backbone(path)
    other.vision.position_resize = "bilinear"
    (tmp_path / "config.json").write_text('{"vision_config": {"num_attention_heads": 4}, "text_config": {}}')
    prints += [other.fingerprint, load_backbone(path).fingerprint]
    assert len(set(prints)) == len(prints)


def test_features_on_disk_belong_to_one_activation(tiny, tmp_path):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    store, photo = FeatureStore(tmp_path / "cache"), tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(photo)
    loaded = []
    for activation in ("quick_gelu", "gelu"):
        backbone = load_backbone(path, activation=activation)
        encoder = Encoder(backbone, Preprocess(48, 8), FeatureRequest(), cache=store)
        loaded.append(encoder.encode_files([photo])[0].features[0].image)
    assert (loaded[0] - loaded[1]).abs().max() > 1e-4


def test_a_device_without_a_name_is_one_line(tiny, tmp_path):
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"device.* is empty|device '': not usable here"):
        load_backbone(path, device="")
    with pytest.raises(ConfigError, match="device is empty; give a value, or leave it out"):
        Detector(backbone=path, device="")


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "xpu", "hpu", "meta", "nonsense", "cpu:x", "cuda:-1"])
def test_a_device_that_is_not_there_is_one_line(tiny, tmp_path, device):
    """From Python as from a command: no AssertionError of torch, and no tensors that hold nothing."""
    path = hugging_face_file(tiny, tmp_path / "model.safetensors")
    try:
        torch.ones(1, device=device).sum().item()
    except Exception:
        for call in (lambda: load_backbone(path, device=device), lambda: Detector(backbone=path, device=device)):
            with pytest.raises(ConfigError, match=f"device {device!r}: not usable here") as caught:
                call()
            assert "\n" not in str(caught.value) and "use cpu" in str(caught.value) and len(str(caught.value)) < 200
    else:
        assert load_backbone(path, device=device).device.type == torch.device(device).type

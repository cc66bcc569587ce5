"""What shapes cannot tell: every dialect of config, OpenAI's buffers, who is believed, and a line for what is assumed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoints import openclip
from torch import Tensor
from transformers import CLIPConfig

from promptad.clip import zoo
from promptad.clip.backbone import load_backbone
from promptad.clip.checkpoints import load_state
from promptad.clip.facts import CLIP_MEAN, CLIP_STD, Claim, claim_of_config, settle
from promptad.errors import WeightsError
from promptad.notices import PromptadNotice, collected_notices
from tiny import tiny_backbone

GREY = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    tiny = tiny_backbone(4)  # 32 wide: no multiple of 64, so an assumed head is one alone
    return openclip(tiny.vision, tiny.text)


def write(folder: Path, tensors: dict[str, Tensor], name: str = "m.safetensors", **configs: Any) -> Path:
    for config, content in configs.items():
        (folder / f"{config}.json").write_text(json.dumps(content))
    save_file(tensors, folder / name)
    return folder / name


def lines(action: Any) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(), collected_notices() as said:
        warnings.simplefilter("ignore")
        return action(), said


def quiet(action: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptadNotice)
        return action()


@pytest.mark.parametrize(
    ("config", "heads", "activation"),
    [
        ({"model_cfg": {"quick_gelu": True, "vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}}, (2, 2), "quick_gelu"),
        ({"model_cfg": {"vision_cfg": {"width": 32, "head_width": 8}, "text_cfg": {"heads": 4}}}, (4, 4), "gelu"),
        ({"vision_cfg": {"width": 32, "head_width": 16}, "text_cfg": {}}, (2, 8), "gelu"),
        ({"vision_config": {"num_attention_heads": 2}, "text_config": {"num_attention_heads": 4}}, (2, 4), "quick_gelu"),
        ({"vision_config": {"num_attention_heads": 4, "hidden_act": "gelu"}, "text_config": {"hidden_act": "gelu"}},
         (4, 8), "gelu"),
        ({"vision_config": {}, "vision_config_dict": {"num_attention_heads": 4, "hidden_act": "gelu"},
          "text_config_dict": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "quick_gelu"}}, (4, 8), "gelu"),
        ({"hidden_act": "quick_gelu", "vision": {"num_attention_heads": 2}, "text": {"num_attention_heads": 1}}, (2, 1),
         "quick_gelu"),
    ],
)  # fmt: skip
def test_heads_and_activation_come_from_any_dialect_of_config(tmp_path, tensors, config, heads, activation):
    path = write(tmp_path, tensors, open_clip_config=config)
    loaded, _ = lines(lambda: load_state(path))
    assert (loaded.sizes.vision.heads, loaded.sizes.text.heads) == heads and loaded.sizes.activation == activation
    assert loaded.facts.sources["activation"] == "open_clip_config.json"
    given = quiet(lambda: load_state(path, [Claim("given", "quick_gelu", mean=CLIP_MEAN, std=CLIP_STD)]))
    assert given.sizes.activation == "quick_gelu" and given.facts.sources["activation"] == "given"


def test_the_defaults_of_a_config_that_leaves_them_out_are_those_of_transformers():
    defaults = CLIPConfig()
    claim = claim_of_config({"vision_config": {}, "text_config": {}}, "config.json")
    assert claim.activation == defaults.vision_config.hidden_act == defaults.text_config.hidden_act
    assert claim.vision_heads == defaults.vision_config.num_attention_heads
    assert claim.text_heads == defaults.text_config.num_attention_heads
    assert defaults.vision_config.layer_norm_eps == defaults.text_config.layer_norm_eps == 1e-5
    whole = claim_of_config(defaults.to_dict(), "config.json")
    assert whole.shapes["vision.image_size"] == 224 and whole.shapes["text.vocab_size"] == 49408


def test_nothing_is_assumed_without_a_line(tmp_path, tensors):
    """No config: one line names all that is assumed, and how to say it otherwise."""
    path = write(tmp_path, tensors)
    backbone, said = lines(lambda: load_backbone(path))
    assert set(backbone.told_by.values()) == {"assumed"} and len(said) == 1
    for part in (str(path), "GELU", "activation='quick_gelu'", "heads of 64", "normalisation", "config beside it"):
        assert part in said[0]
    whole = {"quick_gelu": True, "vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}
    told = quiet(lambda: load_backbone(write(tmp_path, tensors, open_clip_config={"model_cfg": whole})))
    assert "assumed" not in told.told_by.values() and told.sizes.activation == "quick_gelu"


@pytest.mark.parametrize("missing", ["activation", "heads", "normalisation"])
def test_each_fact_alone_that_nobody_says_is_named(missing):
    claim = Claim(
        "config.json",
        activation=None if missing == "activation" else "gelu",
        vision_heads=None if missing == "heads" else 2,
        text_heads=2,
        mean=None if missing == "normalisation" else CLIP_MEAN,
        std=CLIP_STD,
    )
    _, said = lines(lambda: settle([claim], (128, 128), "file"))
    assert len(said) == 1
    words = {"activation": "GELU", "heads": "heads of 64", "normalisation": "normalisation"}
    assert [name for name, word in words.items() if word in said[0]] == [missing]


def test_openais_buffers_tell_their_activation_heads_and_normalisation(tmp_path, tensors):
    buffers = {name: torch.tensor(n) for name, n in (("input_resolution", 48), ("context_length", 77))}
    buffers["vocab_size"] = torch.tensor(49408)
    # Heads of 64 are how OpenAI's own code builds every ViT, so nothing is left open.
    loaded = quiet(lambda: load_backbone(write(tmp_path, tensors | buffers)))
    assert loaded.sizes.activation == "quick_gelu" and loaded.told_by["activation"] == "OpenAI's buffers"
    assert loaded.mean == CLIP_MEAN and loaded.std == CLIP_STD
    for name in buffers:
        wrong = tensors | buffers | {name: torch.tensor(5)}
        with pytest.raises(WeightsError, match=r"OpenAI's buffers says .* is 5"):
            load_backbone(write(tmp_path, wrong))
    with pytest.raises(WeightsError, match="not three numbers"):
        load_backbone(write(tmp_path, tensors | buffers | {"vocab_size": torch.zeros(3)}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config", {"image_mean": GREY["mean"], "image_std": GREY["std"], "size": 224}),
        (
            "open_clip_config",
            {"model_cfg": {"vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}, "preprocess_cfg": GREY},
        ),
        ("config", {"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": GREY}),
    ],
)
def test_normalisation_comes_from_what_lies_beside_the_file(tmp_path, tensors, name, content):
    backbone, _ = lines(lambda: load_backbone(write(tmp_path, tensors, **{name: content})))
    assert backbone.mean == (0.5, 0.5, 0.5) and backbone.std == (0.25, 0.25, 0.25)
    assert backbone.told_by["mean"] == f"{name}.json"
    plain = lines(lambda: load_backbone(tmp_path / "m.safetensors", mean=CLIP_MEAN, std=CLIP_STD))[0]
    assert plain.mean == CLIP_MEAN and plain.fingerprint != backbone.fingerprint


def test_a_config_of_another_program_does_not_hide_the_one_that_says_it(tmp_path, tensors):
    """timm's folders hold its own config.json beside open_clip_config.json; the first was once read alone."""
    model = {"quick_gelu": True, "vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}
    path = write(
        tmp_path, tensors, config={"architecture": "x", "pretrained_cfg": {}}, open_clip_config={"model_cfg": model}
    )
    assert quiet(lambda: load_backbone(path)).sizes.activation == "quick_gelu"


def test_sources_that_disagree_are_named_and_the_first_is_used(tmp_path, tensors):
    face = {"vision_config": {"num_attention_heads": 2}, "text_config": {"num_attention_heads": 2}}
    clip = {"model_cfg": {"vision_cfg": {"heads": 2}, "text_cfg": {"heads": 2}}}
    path = write(tmp_path, tensors, config=face, open_clip_config=clip)
    backbone, said = lines(lambda: load_backbone(path))
    assert backbone.sizes.activation == "quick_gelu"
    assert said == [
        f"{path}: the activation is quick_gelu by config.json and gelu by open_clip_config.json; the first is used"
    ]
    assert lines(lambda: load_backbone(path, activation="gelu"))[1] == []  # a person has decided


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("image_size", {"vision_config": {"image_size": 336, "num_attention_heads": 2}}),
        ("width", {"vision_config": {"hidden_size": 768, "num_attention_heads": 2}}),
        ("vocab_size", {"vision_config": {}, "text_config": {"vocab_size": 6000}}),
        ("context_length", {"model_cfg": {"vision_cfg": {}, "text_cfg": {"context_length": 64}}}),
        ("embed_dim", {"model_cfg": {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}}}),
        ("image_size", {"vision_cfg": {"image_size": [240, 240]}, "text_cfg": {}}),
    ],
)
def test_a_config_of_another_model_is_refused(tmp_path, tensors, name, config):
    with pytest.raises(WeightsError, match=rf"config.json says \w*\.?{name} is .*belongs to another model") as caught:
        load_backbone(write(tmp_path, tensors, config=config))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"vision_config": {"hidden_act": "gelu_pytorch_tanh"}},
        {"vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "quick_gelu"}},
        {"vision_config": {"layer_norm_eps": 1e-6}},
        {"hidden_act": "relu", "vision": {}},
        {"model_cfg": {"vision_cfg": {"pool_type": "avg"}, "text_cfg": {}}},
        {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_base"}, "text_cfg": {}}},
        {"model_cfg": {"vision_cfg": {}, "text_cfg": {"no_causal_mask": True}}},
        {"model_cfg": {"vision_cfg": {}, "text_cfg": {"pool_type": "last"}}},
        {"model_cfg": {"vision_cfg": {}, "text_cfg": {"tokenizer_kwargs": {"clean": "canonicalize"}}}},
    ],
)
def test_what_a_config_asks_for_and_promptad_does_not_run_is_refused(tmp_path, tensors, config):
    """Each loaded in silence once, and ran as another model than it was trained."""
    with pytest.raises(WeightsError, match=r"asks for .*promptad (does not run|runs)") as caught:
        load_backbone(write(tmp_path, tensors, config=config))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"{", b"\xff\xfe{}", b"3", b"[]", b"null", b'"a"', b"[" * 5000, b'{"model_cfg": 5}', b'{"vision_config": 7}',
        b'{"vision_config": {"num_attention_heads": 0}}', b'{"vision_config": {"num_attention_heads": "many"}}',
        b'{"vision": {"num_attention_heads": 1e400}}', b'{"vision": {"num_attention_heads": NaN}}',
        b'{"vision": {"num_attention_heads": true}}', b'{"vision": {"num_attention_heads": 5}}',
        b'{"pretrained_cfg": {"mean": [0.5]}}', b'{"image_mean": "abc"}', b'{"image_std": [NaN, 1, 1]}',
        b'{"vision_cfg": {"width": 32, "head_width": 0}}',
    ],
)  # fmt: skip
def test_a_damaged_config_is_refused_in_one_line_that_names_the_file(tmp_path, tensors, text):
    path = write(tmp_path, tensors)
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(WeightsError) as caught:
        lines(lambda: load_backbone(path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_known_by_its_name_alone_is_said(tmp_path, tensors):
    """The name of a release carries the first digits of its checksum; a file that lacks them is taken with a line."""
    row = zoo.find_checkpoint("ViT-B-16/laion400m_e32")
    path = tmp_path / row.files[0].name
    torch.save(tensors, path)
    with pytest.raises(WeightsError, match=r"the zoo's row of ViT-B-16/laion400m_e32 says embed_dim is 512"):
        lines(lambda: load_backbone(path))
    said = pytest.warns(PromptadNotice, match="by its name and place, but its sha256 is not the published one")
    with said, pytest.raises(WeightsError):
        load_backbone(path)

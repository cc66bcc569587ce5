"""Prompts in the form in which AnomalyCLIP's and FAPrompt's authors publish them, against a scoring of their raw tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from promptad.cli.models import app
from promptad.clip import backbone as backbone_module
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.errors import ConfigError, WeightsError
from promptad.notices import PromptadNotice, collected_notices
from promptad.saved.prompts import Learned, read_learned
from promptad.saved.released import import_released
from tiny import tiny_backbone

METHODS = ("anomalyclip", "faprompt")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    backbone, generator = tiny_backbone(11), torch.Generator().manual_seed(12)
    for parameter in backbone.text.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone


def published(backbone: Backbone, method: str, *, ours: int = 2, tokens: int = 4, **sizes: int) -> dict[str, Tensor]:
    """A state dict as the released code saves it: `ours` sets of deep tokens, buffers and unused layers among it."""
    generator, width, embed = torch.Generator().manual_seed(5), backbone.sizes.text.width, backbone.sizes.embed_dim

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    def sentence(count: int, words: str) -> list[int]:
        ids = backbone.tokenizer.encode(" ".join(["X"] * count) + " " + words)
        return ids + [0] * (77 - len(ids))

    prompts = sizes.get("prompts", 10 if method == "faprompt" else 1)
    before = sizes.get("normal", 5 if method == "faprompt" else 12)
    inside = sizes.get("abnormal", 2 if method == "faprompt" else before)
    ids = {
        "pos": [sentence(before, "object.")],
        "neg": [sentence(before + inside if method == "faprompt" else inside, "damaged object.")] * prompts,
    }
    state = {"ctx_pos": draw(1, 1, before, width), "ctx_neg": draw(1, prompts, inside, width)}
    for number in range(ours):
        state[f"compound_prompts_text.{number}"] = draw(tokens, width)
        state[f"compound_prompt_projections.{number}.weight"] = draw(9, width)
        state[f"compound_prompt_projections.{number}.bias"] = draw(9)
    learnable = {"pos": before, "neg": before + inside if method == "faprompt" else inside}
    for side, rows in ids.items():
        embedded = backbone.text.token_embedding.weight.detach()[torch.tensor(rows)][None]
        state[f"token_prefix_{side}"] = embedded[:, :, :1].clone()
        state[f"token_suffix_{side}"] = embedded[:, :, 1 + learnable[side] :].clone()
        state[f"tokenized_prompts_{side}"] = torch.tensor(rows, dtype=torch.int32)[None]
    if method == "faprompt":
        inputs = embed * sizes.get("patches", 10)
        state |= {"patch_meta_net.linear1.weight": draw(inputs // 16, inputs), "patch_meta_net.linear1.bias": draw(15)}
        state |= {
            "patch_meta_net.linear2.weight": draw(width, inputs // 16),
            "patch_meta_net.linear2.bias": draw(width),
        }
        state["patch_meta_net.linear1.bias"] = draw(inputs // 16)
    return state


def save(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"prompt_learner": state}, path)
    return path


def random_features(count: int = 3) -> Features:
    generator = torch.Generator().manual_seed(3)
    image, patches = torch.randn(count, 24, generator=generator), torch.randn(count, 30, 24, generator=generator)
    return Features(image, patches, {}, (6, 5))


def encoded(backbone: Backbone, state: dict[str, Tensor], parts: list[Tensor], eot: int) -> np.ndarray:
    """One prompt of 77 positions, its deep tokens rounded through float16 as the released codes do."""
    rows = torch.cat(parts)
    assert rows.shape == (77, backbone.sizes.text.width)
    names = sorted(key for key in state if key.startswith("compound_prompts_text."))
    deep = [state[name].half().float() for name in names]
    return backbone.text.encode_embeddings(rows[None], torch.tensor([eot]), deep)[0].detach().double().numpy()


def slow_scores(backbone: Backbone, method: str, state: dict[str, Tensor], features: Features) -> tuple[list, list]:
    """Image scores and maps from the raw tensors, photo by photo and prompt by prompt."""
    unit = {"pos": state["ctx_pos"][0], "neg": state["ctx_neg"][0]}
    ends = {side: int((rows[0, 0] == backbone.tokenizer.end).nonzero()[0]) for side, rows in _tokens(state).items()}

    def normal() -> np.ndarray:
        parts = [state["token_prefix_pos"][0, 0], unit["pos"][0], state["token_suffix_pos"][0, 0]]
        return encoded(backbone, state, parts, ends["pos"])

    def abnormal(added: Tensor | float = 0.0) -> np.ndarray:
        shared = [unit["pos"][0]] if method == "faprompt" else []
        rows = [
            [state["token_prefix_neg"][0, k], *shared, tokens + added, state["token_suffix_neg"][0, k]]
            for k, tokens in enumerate(unit["neg"])
        ]
        return np.mean([encoded(backbone, state, parts, ends["neg"]) for parts in rows], axis=0)

    def probabilities(x: np.ndarray, good: np.ndarray, bad: np.ndarray) -> np.ndarray:
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        logits = np.stack([x @ good / np.linalg.norm(good), x @ bad / np.linalg.norm(bad)], -1) / 0.07
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    images, maps, good, bad = [], [], normal(), abnormal()
    for image, patches in zip(features.image.double().numpy(), features.patches, strict=True):
        first = probabilities(patches.double().numpy(), good, bad)
        if method == "anomalyclip":
            images.append(probabilities(image, good, bad)[1])
            maps.append(first[:, 1])
            continue
        count = state["patch_meta_net.linear1.weight"].shape[1] // 24
        read = F.normalize(patches, dim=-1)[:count].reshape(1, -1)  # the release takes the first ones (F-14)
        hidden = F.linear(read, state["patch_meta_net.linear1.weight"], state["patch_meta_net.linear1.bias"]).relu()
        added = F.linear(hidden, state["patch_meta_net.linear2.weight"], state["patch_meta_net.linear2.bias"])
        refined = abnormal(added)
        second = probabilities(patches.double().numpy(), good, refined)
        text = probabilities(image, good, refined)[1]
        images.append(0.5 * (text + (2 * first[:, 1].max() + second[:, 1].max()) / 3))
        maps.append((first[:, 1] + 1 - first[:, 0] + second[:, 1] + 1 - second[:, 0]) / 4)
    return images, maps


def _tokens(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {side: state[f"tokenized_prompts_{side}"] for side in ("pos", "neg")}


def loaded(learned: Learned, backbone: Backbone) -> Any:
    method = learned.entry.build(backbone, learned.make_config({}), "object")
    learned.load_into(method, backbone)
    return method


SIZES = [
    ("anomalyclip", {}),
    ("anomalyclip", {"ours": 1, "tokens": 2, "normal": 3, "prompts": 4}),
    ("anomalyclip", {"ours": 0}),
    ("faprompt", {}),
    ("faprompt", {"abnormal": 1}),  # as the code's newest commit has it
    ("faprompt", {"ours": 1, "tokens": 8, "normal": 4, "prompts": 2, "patches": 6}),
]


@pytest.mark.parametrize(("method", "sizes"), SIZES, ids=str)
def test_published_prompts_score_as_their_raw_tensors_say(backbone, tmp_path, method, sizes):
    state = published(backbone, method, **sizes)
    source, output = save(tmp_path / "epoch_15.pth", state), tmp_path / "prompts.safetensors"
    import_released(source, output, method, backbone, trained_on="VisA test", licence="CC BY 4.0")
    learned = read_learned(output)
    assert (learned.method, learned.preset) == (method, "release")
    assert learned.config["deep_depth"] == {0: 0, 1: 2, 2: 3}[sizes.get("ours", 2)]
    features = random_features()
    scores = loaded(learned, backbone).score(features)
    images, maps = slow_scores(backbone, method, state, features)
    np.testing.assert_allclose(scores.image.numpy(), images, atol=2e-6)
    np.testing.assert_allclose(scores.map.flatten(1).numpy(), maps, atol=2e-6)
    assert scores.image.std() > 1e-3 and scores.map.std() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_files_of_wrapped_models_and_state_dicts_alone_are_read_too(backbone, tmp_path, method):
    state = published(backbone, method)
    outputs = []
    for number, content in enumerate(
        [{"prompt_learner": state}, state, {"prompt_learner": {f"module.{k}": v for k, v in state.items()}}]
    ):
        path, output = tmp_path / f"{number}.pth", tmp_path / f"{number}.safetensors"
        torch.save(content, path)
        import_released(path, output, method, backbone, trained_on="VisA")
        outputs.append(read_learned(output).tensors)
    for tensors in outputs[1:]:
        assert all(torch.equal(value, outputs[0][name]) for name, value in tensors.items())


def without(*names: str):
    return lambda state: [state.pop(name) for name in names]


@pytest.mark.parametrize(
    ("method", "given", "change", "says"),
    [
        ("anomalyclip", "faprompt", None, "holds prompts of anomalyclip, not of faprompt; give method='anomalyclip'"),
        ("faprompt", "anomalyclip", None, "holds prompts of faprompt"),
        ("anomalyclip", None, without("ctx_neg"), "holds no ctx_pos and ctx_neg"),
        ("anomalyclip", None, lambda s: s.update(ctx_pos=torch.zeros(1, 1, 12, 768)), "32 wide.*backbone"),
        ("anomalyclip", None, lambda s: s.update(ctx_neg=s["ctx_neg"][:, :, :3]), "12 and 3 tokens"),
        ("anomalyclip", None, without("compound_prompts_text.0"), "incomplete"),
        ("anomalyclip", None, lambda s: s.update({"compound_prompts_text.2": torch.zeros(4, 32)}), "3 text blocks"),
        ("anomalyclip", None, lambda s: s.update(token_prefix_pos=s["token_prefix_pos"] + 0.1), "another CLIP"),
        ("anomalyclip", None, lambda s: s.update(tokenized_prompts_neg=s["tokenized_prompts_pos"]), "damaged object"),
        ("faprompt", None, without("patch_meta_net.linear2.bias"), "patch_meta_net.linear2.bias is missing"),
        ("faprompt", None, lambda s: s.update({"patch_meta_net.linear1.weight": torch.zeros(15, 241)}), "241 values"),
        ("faprompt", None, lambda s: s.update({"patch_meta_net.linear1.weight": torch.zeros(9, 240)}), "another shape"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(backbone, tmp_path, method, given, change, says):
    state = published(backbone, method)
    if change:
        change(state)
    path, output = save(tmp_path / "epoch_15.pth", state), tmp_path / "prompts.safetensors"
    with pytest.raises(WeightsError, match=says) as caught:
        import_released(path, output, given or method, backbone)
    assert "\n" not in str(caught.value) and "epoch_15.pth" in str(caught.value) and not output.exists()


class Evil:
    """Runs code when it is unpickled the usual way."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("opened"),)


def test_files_are_opened_as_data(backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"prompt_learner": Evil()}))
    torch.save({"prompt_learner": {"ctx_pos": Evil()}}, tmp_path / "evil2.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("evil.pth", "evil2.pth", "text.pth", "list.pth", "absent.pth"):
        with pytest.raises(WeightsError, match=name) as caught:
            import_released(Path(name), Path("out.safetensors"), "faprompt", backbone)
        assert "\n" not in str(caught.value)
    assert not Path("opened").exists() and not Path("out.safetensors").exists()
    with pytest.raises(ConfigError, match="expected anomalyclip, faprompt, aprilgan"):
        import_released(Path("x.pth"), Path("out.safetensors"), "rwda", backbone)


def test_what_a_file_does_not_say_or_is_not_used_gets_a_line(backbone, tmp_path):
    path = save(tmp_path / "epoch_7.pth", published(backbone, "faprompt") | {"momentum": torch.zeros(3)})
    with collected_notices() as lines, pytest.warns(PromptadNotice):
        import_released(path, tmp_path / "a.safetensors", "faprompt", backbone)
    assert len(lines) == 2 and "not used: momentum" in lines[0] and "trained_on puts" in lines[1]


def test_the_command_writes_a_file_that_its_sibling_shows(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(backbone_module, "load_backbone", lambda name, **how: backbone)
    path, output = save(tmp_path / "epoch_15.pth", published(backbone, "anomalyclip")), tmp_path / "p.safetensors"
    runner = CliRunner()
    options = ["--method", "anomalyclip", "-o", str(output), "--backbone", "tiny", "--trained-on", "MVTec AD test"]
    done = runner.invoke(app, ["import", str(path), *options])
    assert done.exit_code == 0, done.output
    shown = runner.invoke(app, ["prompts", str(output)])
    assert shown.exit_code == 0 and "MVTec AD test (which photos, is not known; licence not stated)" in shown.output
    assert "words alone" not in shown.output and "promptad models import epoch_15.pth" in shown.output

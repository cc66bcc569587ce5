"""One-class CoOp and CoCoOp on a tiny random CLIP: sizes, readings, losses and scores against slow versions; with MaPLe (whose
own are in `test_maple.py`) fitting, settings, presets and saving."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from object_agnostic_cases import two_class, unit
from promptad_cases import build as build_promptad
from promptad_cases import encode, lively_backbone, photo
from torch import Tensor

from promptad.bench.conventions import conventions_of
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import Features
from promptad.clip.tokenizer import clip_tokenizer
from promptad.detector import Detector, load
from promptad.errors import ConfigError, TextError, WeightsError
from promptad.methods.contract import TASKS, FittedInEpochs
from promptad.methods.one_class import OneClassPrompts
from promptad.methods.registry import find_method
from promptad.prompts.words import ensemble
from tiny import SIZES

TWO = ("coop-oneclass", "cocoop-oneclass")
THREE = (*TWO, "maple")
READINGS = ("R1", "R2", "R3")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


def build(backbone: Backbone, name: str, object_name: str = "metal_nut", preset: str = "clean", **values):
    entry = find_method(name)
    if name == "cocoop-oneclass" and backbone.sizes.embed_dim < 100:
        values = {"reduction": 3, **values}  # the only hidden unit of 24 / 16 would soon be a dead one
    if name == "maple":
        values = {"depth": 2, **values}
    quick = {"defects": ("bent [c]",), "only_defects": True, "epochs": 3}
    return entry.build(backbone, entry.make_config(preset, **(quick | values)), object_name)


@torch.no_grad()
def stir(method: OneClassPrompts, size: float = 0.3) -> None:
    """Moves all learned values away from the start, so that every one of them counts."""
    generator = torch.Generator().manual_seed(5)
    method.load_state({k: v + size * torch.randn(v.shape, generator=generator) for k, v in method.state().items()})


def stirred(backbone: Backbone, name: str, **values):
    method = build(backbone, name, **values)
    stir(method)
    return method


def random_features(count: int = 3, grid: tuple[int, int] = (6, 5), seed: int = 3) -> Features:
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(count, grid[0] * grid[1], 24, generator=generator)
    return Features(torch.randn(count, 24, generator=generator), patches, {}, grid)


def wide(embed: int, text: int) -> Backbone:
    sizes = replace(SIZES.text, width=text, layers=1, heads=2, mlp_width=8)
    return random_backbone(replace(SIZES, text=sizes, embed_dim=embed), clip_tokenizer())


def outcome(method: OneClassPrompts, features: Features) -> Tensor:
    scores = method.score(features)
    return torch.cat([scores.image, scores.map.flatten()])


# Slow versions ------------------------------------------------------------------------------------


def slow_prompt(method: OneClassPrompts, tokens: Tensor, words: str) -> np.ndarray:
    """Feature (E,) of one prompt, built token by token and run over all 77 positions, block by block."""
    text, tokenizer = method.backbone.text, method.backbone.tokenizer
    table = text.token_embedding.weight.detach()
    rows = [table[tokenizer.start], *tokens]
    rows += [table[token] for token in tokenizer.words(words)] + [table[tokenizer.words(".")[0]]]
    rows.append(table[tokenizer.end])
    end = len(rows) - 1
    rows += [torch.zeros(text.sizes.width)] * (77 - len(rows))
    x = (torch.stack(rows) + text.position_embedding.detach())[None]
    for block in text.blocks:
        x = block(x, causal=True)
    return text.projection(text.ln_final(x[0, end])).detach().double().numpy()


def slow_pair(method: OneClassPrompts, task: str, image: np.ndarray, words: str) -> list[np.ndarray]:
    """What a view (E,) is compared with: the normal and the anomalous side."""
    module, reading = method.modules[task], method.config.reading
    contexts = module.context.detach()
    if module.meta is not None:
        weights = [p.detach().double().numpy() for p in module.meta.parameters()]
        hidden = np.maximum(weights[0] @ unit(image) + weights[1], 0)
        contexts = contexts + torch.from_numpy(weights[2] @ hidden + weights[3]).float()
    if reading == "R1":
        return [slow_prompt(method, context, words) for context in contexts]
    if reading == "R3":
        return [slow_prompt(method, contexts[0], f"{state} {words}") for state in ("normal", "anomalous")]
    sentences = [method.backbone.encode_texts([s])[0].double().numpy() for s in ensemble("winclip", words)[1]]
    return [slow_prompt(method, contexts[0], words), np.mean([unit(s) for s in sentences], axis=0)]


def slow_probabilities(method: OneClassPrompts, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Anomalous probabilities of views (B,) and patches (B, T), one by one."""
    images, patches = features.image.double().numpy(), features.patches.double().numpy()
    scale, words = method.config.scale, "metal nut"
    image = [two_class(x[None], *slow_pair(method, "image", x, words), scale)[0, 1] for x in images]
    pixel = [
        two_class(rows, *slow_pair(method, "pixel", x, words), scale)[:, 1]
        for x, rows in zip(images, patches, strict=True)
    ]
    return np.array(image), np.stack(pixel)


# Sizes and readings -------------------------------------------------------------------------------


def test_parameter_counts_of_the_papers():
    large, plus = wide(768, 768), wide(640, 640)

    def count(clip: Backbone, name: str, **values) -> int:
        method = build(clip, name, **values)
        numbers = {method.parameter_count(task) for task in TASKS}
        assert len(numbers) == 1
        return numbers.pop()

    for reading in ("R2", "R3"):
        assert count(large, "coop-oneclass", reading=reading, context_tokens=12) == 9_216
        assert count(large, "cocoop-oneclass", reading=reading, context_tokens=12) == 83_760
        assert count(plus, "cocoop-oneclass", reading=reading) == 54_440
        assert count(plus, "coop-oneclass", reading=reading) == 4 * 640
    assert count(plus, "coop-oneclass") == 2 * 4 * 640
    assert count(plus, "cocoop-oneclass") == 54_440 + 4 * 640


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("reading", READINGS)
def test_scores_and_loss_are_those_of_a_loop_over_views_and_patches(backbone, name, reading):
    method, features = stirred(backbone, name, reading=reading, scale=10.0), random_features()
    image, pixel = slow_probabilities(method, features)
    scores = method.score(features)
    np.testing.assert_allclose(scores.image.numpy(), image, atol=1e-5)
    np.testing.assert_allclose(scores.map.flatten(1).numpy(), pixel, atol=1e-5)
    terms = [float(term.detach()) for term in method._terms([features])]
    np.testing.assert_allclose(terms, [-np.log(1 - image).mean(), -np.log(1 - pixel).mean()], atol=1e-4)


def test_views_of_several_grids_and_batches_count_alike(backbone):
    method = stirred(backbone, "cocoop-oneclass", scale=10.0)
    parts = [random_features(3, (6, 5), 1), random_features(2, (4, 5), 2), random_features(9, (6, 5), 3)]
    probabilities = [slow_probabilities(method, part) for part in parts]
    image = -np.log(1 - np.concatenate([values for values, _ in probabilities])).mean()
    pixel = -np.log(1 - np.concatenate([two.flatten() for _, two in probabilities])).mean()
    method.config = replace(method.config, epochs=1, lr=1e-12)
    start = method.state()
    method._start = lambda: method.modules  # begins with the stirred values
    method.fit([[part[row : row + 1] for row in range(len(part))] for part in parts])
    assert method.history == pytest.approx([image + pixel], abs=1e-4)
    assert all(torch.allclose(value, start[name], atol=1e-6) for name, value in method.state().items())


def test_reading_r1_of_coop_is_promptad_without_semantic_concatenation_and_margin(backbone):
    values = {"semantic_concatenation": False, "margin": False, "parts": "text", "epochs": 6, "lr": 0.5}
    theirs = build_promptad(backbone, "metal_nut", "paper", **values)
    ours = build(backbone, "coop-oneclass", preset="paper", epochs=6, lr=0.5)
    photos = encode(theirs, photo(1), photo(2), photo(3))
    theirs.fit(photos)
    ours.fit(photos)
    assert ours.history == pytest.approx(theirs.history, rel=1e-5) and ours.history[-1] < 0.9 * ours.history[0]
    (view,) = encode(theirs, photo(9))[0]
    for first, other in zip(
        (ours.score(view).image, ours.score(view).map), (theirs.score(view).image, theirs.score(view).map), strict=True
    ):
        torch.testing.assert_close(first, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reading", READINGS)
def test_cocoop_whose_last_layer_is_zero_is_coop(backbone, reading):
    plain, features = stirred(backbone, "coop-oneclass", reading=reading), random_features()
    following = stirred(backbone, "cocoop-oneclass", reading=reading)
    learned = following.state() | plain.state()
    following.load_state(learned)
    assert (outcome(following, features) - outcome(plain, features)).abs().max() > 1e-3
    zero = {name: torch.zeros_like(value) for name, value in learned.items() if ".meta.2." in name}
    following.load_state(learned | zero)
    torch.testing.assert_close(outcome(following, features), outcome(plain, features), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TWO)
def test_words_that_stay_and_words_to_begin_with_make_a_plain_sentence(backbone, name):
    values = {"context_tokens": 2, "context_words": "a photo", "fixed_words": "of a", "reading": "R3"}
    method, features = build(backbone, name, **values), random_features()
    state = method.state()
    method.load_state(state | {key: torch.zeros_like(v) for key, v in state.items() if ".meta." in key})
    prompts = method.encode("image", features)[1].detach()
    plain = backbone.encode_texts(["a photo of a normal metal nut.", "a photo of a anomalous metal nut."])
    torch.testing.assert_close(prompts, plain.expand_as(prompts), atol=1e-5, rtol=1e-4)


# Learning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("reading", READINGS)
def test_gradients_reach_what_is_learned_and_nothing_else(backbone, name, reading):
    method = stirred(backbone, name, reading=reading, scale=5.0)
    sum(method._terms([random_features()])).backward()
    for task in TASKS:
        assert all(p.grad is not None and bool(p.grad.any()) for p in method.modules[task].parameters())
    assert all(p.grad is None for tower in (backbone.text, backbone.vision) for p in tower.parameters())


@pytest.mark.parametrize("name", THREE)
def test_fitting_again_starts_anew_and_every_epoch_is_seen_and_can_be_gone_back_to(backbone, name):
    method, seen, kept = build(backbone, name, lr=0.5), [], []
    assert isinstance(method, FittedInEpochs)
    photos, (view,) = encode(method, photo(1), photo(2)), encode(method, photo(9))[0]

    def hook(epoch: int, fitting: OneClassPrompts) -> None:
        seen.append((epoch, outcome(fitting, view)))
        kept.append({task: fitting.snapshot(task) for task in TASKS})

    method.fit(photos, after_epoch=hook)
    last = outcome(method, view)
    assert [epoch for epoch, _ in seen] == [1, 2, 3] and torch.equal(seen[-1][1], last)
    assert not torch.equal(seen[0][1], last)
    for task in TASKS:
        method.restore(task, kept[0][task])
    assert torch.equal(outcome(method, view), seen[0][1])
    method.fit(photos)
    assert torch.equal(outcome(method, view), last)


CHANGES = [
    {"reading": "R2"},
    {"reading": "R3"},
    {"context_tokens": 3},
    {"fixed_words": "of the"},
    {"init_std": 0.3},
    {"scale": 7.0},
    {"optimiser": "adam"},
    {"epochs": 4},
    {"lr": 0.1},
    {"final_lr": 0.1},
    {"momentum": 0.1},
    {"weight_decay": 0.5},
    {"seed": 7},
    {"positions": "bilinear"},  # the photos have another grid than the tower
]
OWN = {
    "coop-oneclass": [{"local": "qk"}, {"local_start": 3}, {"context_words": "a photo of a"}],
    "cocoop-oneclass": [{"local": "qk"}, {"local_start": 3}, {"context_words": "a photo of a"}, {"reduction": 4}],
    "maple": [{"local": "vv"}, {"context_words": "one photo"}, {"context_words": ""}, {"depth": 1}, {"depth": 3}],
}


@pytest.mark.parametrize("name", THREE)
def test_every_setting_changes_scores(backbone, name):
    def result(**values) -> Tensor:
        method = build(backbone, name, **({"lr": 0.2, "scale": 20.0} | values))
        shape = (60, 40)
        photos = encode(method, photo(1, shape), photo(2, shape), photo(9, shape), fit="letterbox")
        method.fit(photos[:2])
        return outcome(method, photos[2][0])

    plain = result()
    assert torch.equal(result(), plain)
    for change in CHANGES + OWN[name]:
        if name == "maple" and "context_tokens" in change:
            change = change | {"context_words": ""}
        assert not torch.equal(result(**change), plain), change


# Files and errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("reading", READINGS)
def test_a_saved_detector_scores_identically(backbone, tmp_path, name, reading):
    settings = {"epochs": 2, "reading": reading, "lr": 0.5, **({"depth": 2} if name == "maple" else {})}
    detector = Detector(name, object="nut", backbone=backbone, **settings).fit([photo(1), photo(2)])
    path = detector.save(tmp_path / "nut.safetensors")
    again = load(path, backbone=backbone)
    before, after = detector.predict(photo(9)), again.predict(photo(9))
    assert (before.score, before.threshold, before.verdict) == (after.score, after.threshold, after.verdict)
    np.testing.assert_array_equal(before.map, after.map)
    assert [defect.words for defect in before.defects] == [defect.words for defect in after.defects]


def test_what_cannot_be_gets_one_line(backbone):
    with pytest.raises(ConfigError, match="are 3 tokens, and 4 are to begin with them; give context_tokens=3"):
        build(backbone, "coop-oneclass", context_words="a photo of")
    with pytest.raises(TextError):
        build(backbone, "cocoop-oneclass", "very " * 80 + "long nut")
    method = build(backbone, "coop-oneclass")
    with pytest.raises(ConfigError, match="at least one good photo"):
        method.fit([])
    with pytest.raises(ConfigError, match="has not seen a good photo"):
        method.score(random_features())
    with pytest.raises(WeightsError, match=r"image\.context.* of coop-oneclass is missing"):
        method.load_state({})
    with pytest.raises(ConfigError, match="reading must be one of R1, R2, R3"):
        build(backbone, "coop-oneclass", reading="R4")


@pytest.mark.parametrize("name", THREE)
def test_presets_are_promptads_optimiser_and_ways_to_look_at_photos(name):
    entry, theirs = find_method(name), find_method("promptad")
    for preset in ("paper", "release"):
        config, other = entry.make_config(preset), theirs.make_config(preset)
        same = ("optimiser", "epochs", "lr", "momentum", "weight_decay", "final_lr", "init_std", "scale", "seed")
        same += ("fit", "pre_resize", "test_channels", "local_start", "map_size", "smoothing", "input_size")
        assert {key: getattr(config, key) for key in same} == {key: getattr(other, key) for key in same}
        assert config.context_tokens == (2 if name == "maple" else other.prefix_tokens) and config.reading == "R1"
        assert config.local == ("qk" if name == "maple" else other.local)
        assert conventions_of(name, preset) == conventions_of("promptad", preset)

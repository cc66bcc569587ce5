"""PromptAD on a tiny random CLIP: counts, losses and scores against slow references, and training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from promptad_cases import build, encode, lively_backbone, outcome, photo, trained
from scipy.ndimage import map_coordinates
from torch.nn import functional as F

from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import Features
from promptad.clip.tokenizer import clip_tokenizer
from promptad.methods.contract import Method
from promptad.methods.promptad.config import PRESETS, PromptADConfig
from promptad.methods.promptad.method import TASKS, PromptAD
from promptad.methods.settings import make_config
from tiny import SIZES


@pytest.fixture(scope="module")
def backbone() -> Iterator[Backbone]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on a busy machine wait for each other at every tiny layer
    yield lively_backbone()
    torch.set_num_threads(threads)


# Sizes and counts ---------------------------------------------------------------------------------


def test_parameter_counts_at_the_papers_text_width():
    text = replace(SIZES.text, width=640, layers=1, heads=10)
    wide = random_backbone(replace(SIZES, text=text), clip_tokenizer())
    counts = {p: [build(wide, preset=p).parameter_count(t) for t in ("image", "pixel")] for p in PRESETS}
    assert counts["release"] == [10_240, 5_120]
    assert counts["paper"] == [5_120, 5_120]


def test_prompt_counts(backbone):
    full = {"defects": (), "only_defects": False}
    for name, manual in (("cable", 13), ("bottle", 11), ("toothbrush", 10)):
        counts = build(backbone, name, "paper", **full).prompt_counts("image")
        assert counts == {"normal": 1, "manual": manual, "learnable": 4}
    release = build(backbone, "cable", "release", **full)
    assert release.prompt_counts("image") == {"normal": 3, "manual": 39, "learnable": 12}
    assert release.prompt_counts("pixel") == {"normal": 1, "manual": 13, "learnable": 4}
    for values, expected in (
        ({"manual_prompts": False}, (1, 0, 4)),
        ({"learnable_prompts": False}, (1, 2, 0)),
        ({"suffixes": 0}, (1, 2, 0)),
        ({"semantic_concatenation": False}, (1, 0, 1)),
    ):
        assert tuple(build(backbone, prefixes_image=1, **values).prompt_counts("image").values()) == expected


@pytest.mark.parametrize(("preset", "place"), [("paper", "after"), ("release", "before")])
def test_the_learnable_suffix_stands_where_the_preset_says(backbone, preset, place):
    method = build(backbone, "metal_nut", preset)
    prompts = method._sets["pixel"]
    suffix, prefix = prompts.parameters["suffix"].float(), prompts.parameters["prefix"].float()
    assembled = prompts.compiled.assemble(prompts.parameters)[prompts.learnable]
    for row in range(4):
        assert torch.equal(assembled[row, 1:5], prefix[0])  # SOT, four prefix tokens, then two words and the suffix
        assert torch.equal(assembled[row, 7 if place == "after" else 5], suffix[row, 0])


@pytest.mark.parametrize(
    "values", [{"preset": "clean"}, {"preset": "paper"}, {"preset": "release"}, {"prefixes_pixel": 2}]
)
def test_assembled_prompts_are_those_of_equations_9_to_11_written_by_hand(backbone, values):
    method = build(backbone, "metal_nut", **values)
    table, tokenizer = backbone.text.token_embedding.weight.detach(), backbone.tokenizer
    start, end = table[tokenizer.start][None], table[tokenizer.end][None]

    def words(text: str) -> torch.Tensor:
        return table[tokenizer.words(text)]

    for task in TASKS:
        prompts = method._sets[task]
        learned = {name: tensor.detach().float() for name, tensor in prompts.parameters.items()}
        others = learned.get("anomaly_prefix", learned["prefix"])
        rows = [[prefix, words("metal nut")] for prefix in learned["prefix"]]
        rows += [[p, words(text)] for p in others for text in ("metal nut with scratch", "bent metal nut")]
        for prefix in others:
            for suffix in learned["suffix"]:
                after = method.config.suffix_position == "after"
                rows.append([prefix, words("metal nut"), suffix] if after else [prefix, suffix, words("metal nut")])
        assembled = prompts.compiled.assemble(prompts.parameters).detach()
        assert len(assembled) == len(rows) == len(learned["prefix"]) * (1 + 2 + 4)
        for ours, eot, parts in zip(assembled, prompts.compiled.eot.tolist(), rows, strict=True):
            expected = torch.cat([start, *parts, words("."), end])
            assert len(expected) == eot + 1 and torch.equal(ours[: eot + 1], expected)


def test_every_prefix_starts_from_its_own_phrase_and_phrases_go_round_with_noise(backbone):
    phrases = ("a cropped photo of the", "a photo of a")
    method = build(backbone, prefixes_image=3, prefix_tokens=5, prefix_init=", ".join(phrases))
    for n, start in enumerate(method._sets["image"].parameters["prefix"]):
        ids = backbone.tokenizer.words(phrases[n % 2])
        ids = [ids[i % len(ids)] for i in range(5)]
        words = backbone.text.token_embedding(torch.tensor(ids)).float()
        assert (start - words).abs().max() < 0.2  # the noise has a sigma of 0.02
        assert torch.equal(start.detach(), words) == (n < 2)


def test_own_prefixes_of_the_anomaly_prompts_start_as_copies_and_are_trained_apart(backbone):
    method, shared = (build(backbone, "metal_nut", prefixes_pixel=2, anomaly_prefixes=how) for how in ("own", "shared"))
    prompts, other = method._sets["pixel"], shared._sets["pixel"]
    rows = prompts.compiled.assemble(prompts.parameters)
    assert torch.equal(rows, other.compiled.assemble(other.parameters))
    start, stop = prompts.normal.stop, len(rows)
    for name, own, elsewhere in (
        ("prefix", slice(0, start), slice(start, stop)),
        ("anomaly_prefix", slice(start, stop), slice(0, start)),
    ):
        parameter = prompts.parameters[name]
        (reached,) = torch.autograd.grad(rows[own].sum(), parameter, retain_graph=True)
        (not_reached,) = torch.autograd.grad(rows[elsewhere].sum(), parameter, retain_graph=True)
        assert reached.all() and not not_reached.any()


def test_presets_hold_what_is_printed_and_what_is_released():
    paper, release = (make_config(PromptADConfig, name, PRESETS, {}) for name in ("paper", "release"))
    for config in (paper, release):
        assert (config.optimiser, config.epochs, config.lr, config.momentum) == ("sgd", 100, 0.002, 0.9)
        assert config.lr_pixel in (0, 0.002) and (config.weight_decay, config.final_lr) == (5e-4, 1e-5)
        assert (config.prefix_init, config.init_std, config.alignment_weight) == ("", 0.02, 0.001)
        assert (config.prefix_tokens, config.suffixes, config.suffix_tokens) == (4, 4, 1)
        assert (config.memory_layers, config.local, config.local_start) == ((3, 8), "vv", 1)
        assert (config.map_size, config.smoothing, config.generic_states) == (400, 4.0, "eight")
        assert config.numerator == "anomalous" and config.parts == "fused" and config.margin
        assert config.prefixes_pixel == 1 and config.scale_pixel in (0, config.scale)
        assert config.score_scale_pixel in (0, config.score_scale)
        assert config.fusion_scale == 0  # ours, and off: so are the next
        assert config.attraction == config.anchor == 0 and config.anomaly_prefixes == "shared"
    assert (paper.scale, paper.score_scale, paper.margin_distance) == (100.0, 100.0, "euclidean")
    assert (paper.prefixes_image, paper.suffix_position, paper.alignment) == (1, "after", "normalised_mean")
    assert (paper.memory_point, paper.margin_over_patches, paper.prompt_precision) == ("block", False, "fp32")
    assert (paper.fit, paper.pre_resize, paper.test_channels) == ("crop", 0, "rgb")
    assert release.scale == release.score_scale == pytest.approx(np.log(100), abs=1e-4)
    assert (release.prefixes_image, release.suffix_position, release.margin_distance) == (
        3,
        "before",
        "squared",
    )
    assert (release.alignment, release.margin_over_patches) == ("mean_of_normalised", True)
    assert (release.memory_point, release.prompt_precision) == ("after_next_attention", "fp16")
    assert (release.fit, release.pre_resize, release.test_channels) == ("squash", 1024, "bgr")
    assert release.memory_maximum == paper.memory_maximum == "map" and PromptADConfig().memory_maximum == "grid"
    assert (release.memory_precision, paper.memory_precision) == ("fp16", "fp32")


# Loss and scores against slow references ----------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slow_maximum(grid: np.ndarray, size: int) -> float:
    """Largest value of a square grid that SciPy enlarges to `size` pixels a side, edges held."""
    places = (np.arange(size) + 0.5) * len(grid) / size - 0.5
    return float(map_coordinates(grid, np.meshgrid(places, places, indexing="ij"), order=1, mode="nearest").max())


def slow_local(method: PromptAD, view: Features) -> list[np.ndarray]:
    """Unit local features (T, E) of a view: one array, or with linear layers one a block."""
    if method.config.local != "linear":
        return [unit(view.patches[0].double().numpy())]
    learned = {name: value.detach().double().numpy() for name, value in method._sets["pixel"].parameters.items()}
    out = []
    for number in range(1, method.backbone.sizes.vision.layers + 1):
        weight, bias = learned["linear.weight"][number - 1], learned["linear.bias"][number - 1]
        out.append(unit(np.array([token @ weight + bias for token in view.taps[number][0].double().numpy()])))
    return out


def slow_loss(method: PromptAD, photos: list[list[Features]]) -> float:
    """The sum of equations 12, 13 and 15 for both prompt sets in float64, one feature and one prompt at a time."""
    config, total = method.config, 0.0
    views = [view for photo_views in photos for view in photo_views]
    for task in TASKS:
        prompts = method._sets[task]
        embeddings = prompts.compiled.assemble(prompts.parameters)
        raw = method.backbone.text.encode_embeddings(embeddings, prompts.compiled.eot).detach().double().numpy()
        normals, manual, learnable = raw[prompts.normal], raw[prompts.manual], raw[prompts.learnable]
        negatives = np.concatenate([manual, learnable])
        good, bad = unit(normals.mean(0)), unit(negatives.mean(0))
        scale = (config.scale_pixel or config.scale) if task == "pixel" else config.scale
        contrastive, hinges, near_good, weights = [], [], [], []
        for view in views:
            for z in [unit(view.image.double().numpy())] if task == "image" else slow_local(method, view):
                for feature in z:
                    logits = scale * np.concatenate([[feature @ good], unit(negatives) @ feature])
                    contrastive.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[0])
                near, far = (z - good) ** 2, (z - bad) ** 2
                axis = 0 if task == "pixel" and config.margin_over_patches else 1
                near, far = near.sum(axis), far.sum(axis)
                if config.margin_distance == "euclidean":
                    near, far = np.sqrt(near), np.sqrt(far)
                hinges.append(np.maximum(near - far, 0).mean())
                weights.append(len(z))  # every patch counts the same, whatever the grid of its photo
                near_good.append((1 - z @ good).mean())
        total += config.attraction * np.average(near_good, weights=weights)  # the anchor is zero at the start
        total += np.mean(contrastive) + (np.average(hinges, weights=weights) if config.margin else 0)
        if len(manual) and len(learnable):
            if config.alignment == "normalised_mean":
                difference = unit(manual.mean(0)) - unit(learnable.mean(0))
            else:
                difference = unit(manual).mean(0) - unit(learnable).mean(0)
            total += config.alignment_weight * (difference**2).sum()
    return float(total)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"preset": "clean"},
        {"preset": "paper"},
        {"preset": "release"},
        {"scale": 10.0, "scale_pixel": 3.0, "prefixes_pixel": 2},
        {"margin": False, "alignment_weight": 5.0},
        {"margin_distance": "euclidean", "margin_over_patches": True, "alignment_weight": 5.0},
        {"alignment": "mean_of_normalised", "alignment_weight": 5.0},
        {"manual_prompts": False},
        {"learnable_prompts": False},
        {"semantic_concatenation": False, "prefixes_image": 3},
        {"attraction": 7.0, "anchor": 5.0, "anomaly_prefixes": "own"},
        {"local": "linear", "scale_pixel": 3.0},
        {"local": "linear", "margin_distance": "euclidean", "attraction": 7.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("fit", ["squash", "tiles", "letterbox"])
def test_the_first_loss_equals_the_slow_reference(backbone, values, fit):
    method = build(backbone, epochs=1, **values)
    photos = encode(method, photo(1, (60, 90)), photo(2, (110, 60)), fit=fit)
    assert len(photos[0]) == (2 if fit == "tiles" else 1)
    assert (photos[0][0].grid == photos[1][0].grid) == (fit != "letterbox")
    expected = slow_loss(method, photos)
    method.fit(photos)
    assert method.history == [pytest.approx(expected, rel=2e-4)]


def slow_raised(method: PromptAD, view: Features, largest: float, m_v: np.ndarray) -> tuple[float, np.ndarray]:
    """Memory scores of a photo and its patches, each times (1 + e^(z - margin))^weight."""
    config, raised = method.config, []
    good = [encode(method, photo(seed))[0][0] for seed in (1, 2)]
    for task, distance, weight in (
        ("image", largest, config.fusion_weight),
        ("pixel", m_v, config.fusion_weight_pixel),
    ):
        own, sign = method.snapshot(task).prototypes, 1 if config.numerator == "anomalous" else -1
        difference = sign * (own.anomalous - own.normal).double().numpy()
        rows = [(x.image if task == "image" else x.patches[0]).double().numpy() for x in (*good, view)]
        *known, gaps = [unit(row) @ difference for row in rows]
        variance = (2 * np.var(np.concatenate(known)) + 2 * config.fusion_spread**2) / 3 * (1 + 1 / 2)
        z = (gaps - np.concatenate(known).mean()) / np.sqrt(variance)
        raised.append(distance * (1 + np.exp(z - config.fusion_margin)) ** weight)
    return raised[0].item(), raised[1]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"preset": "clean"},
        {"preset": "clean", "fusion": "harmonic"},
        {
            "fusion": "raised",
            "fusion_weight": 1.0,
            "fusion_weight_pixel": 0.5,
            "fusion_margin": 0.0,
            "numerator": "normal",
        },
        {"parts": "text"},
        {"parts": "memory"},
        {"numerator": "normal", "score_scale": 4.6, "score_scale_pixel": 30.0},
        {"fusion_scale": 7.0, "score_scale_pixel": 30.0},
        {"fusion_scale": 7.0, "score_scale_pixel": 30.0, "parts": "text"},
        {"memory_precision": "fp32"},
        {"memory_precision": "fp32", "memory_maximum": "map"},
        {"memory_precision": "fp32", "memory_maximum": "map", "map_size": 50, "parts": "memory"},
        {"local": "linear", "memory_precision": "fp32"},
        {"local": "linear", "parts": "text"},
    ],
    ids=str,
)
def test_scores_equal_the_slow_reference(backbone, values):
    method = trained(backbone, **values)
    memory = build(backbone, parts="memory", memory_point=method.config.memory_point)
    good = [encode(memory, photo(seed))[0][0] for seed in (1, 2)]
    (view,), (tapped,) = encode(method, photo(9))[0], encode(memory, photo(9))[0]
    maps = {}
    for task in TASKS:
        own, config = method.snapshot(task).prototypes, method.config
        scale = (config.score_scale_pixel or config.score_scale) if task == "pixel" else config.score_scale
        if config.parts == "fused":
            scale = config.fusion_scale or scale
        sign, probabilities = 1 if method.config.numerator == "anomalous" else -1, []
        for z in [unit(view.image.double().numpy())] if task == "image" else slow_local(method, view):
            a, b = z @ own.anomalous.double().numpy(), z @ own.normal.double().numpy()
            probabilities.append(1 / (1 + np.exp(-sign * scale * (a - b))))
        maps[task] = np.mean(probabilities, axis=0)
    layers = []
    for layer in (1, 3):
        rows = unit(np.concatenate([features.taps[layer][0].double().numpy() for features in good]))
        layers.append((1 - (unit(tapped.taps[layer][0].double().numpy()) @ rows.T).max(axis=1)) / 2)
    m_v, s_t, m_t = np.mean(layers, axis=0), maps["image"][0], maps["pixel"]
    largest = slow_maximum(m_v.reshape(6, 6), config.map_size) if config.memory_maximum == "map" else m_v.max()
    fused = (1 / (1 / largest + 1 / s_t), 1 / (1 / m_v + 1 / m_t))
    if config.fusion == "raised" and config.parts == "fused":
        fused = slow_raised(method, view, largest, m_v)
    expected = {"fused": fused, "text": (s_t, m_t), "memory": (largest, m_v)}[method.config.parts]
    tolerance = 2e-6 if config.memory_precision == "fp32" else 1e-4
    scores = method.score(view)
    assert scores.image.shape == (1,) and scores.map.shape == (1, 6, 6)
    assert scores.image.item() == pytest.approx(expected[0], abs=tolerance)
    np.testing.assert_allclose(scores.map[0].flatten().numpy(), expected[1], atol=tolerance)
    assert set(scores.parts) == {"fused": {"text", "memory"}}.get(method.config.parts, {method.config.parts})


# Training -----------------------------------------------------------------------------------------


def test_release_runs_on_towers_in_half_precision_as_the_authors_code_does(backbone):
    full, half = lively_backbone(), lively_backbone()
    for tower in (half.vision, half.text):
        tower.half()
    results = {}
    for name, own in {"fp32": full, "fp16": half}.items():
        method = build(own, preset="release", epochs=20)
        photos = encode(method, photo(1), photo(2))
        features = photos[0][0]
        assert torch.equal(features.patches, features.patches.half().float()) == (name == "fp16")
        expected = slow_loss(method, photos)
        method.fit(photos)
        assert method.history[0] == pytest.approx(expected, rel=2e-3) and method.history[-1] < method.history[0]
        assert all(values.dtype == torch.float16 for values in method._sets["image"].parameters.values())
        results[name] = outcome(method)
    difference = (results["fp16"] - results["fp32"]).abs().max()
    assert results["fp16"].isfinite().all() and 1e-6 < difference < 2e-2


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_only_its_prompts_and_scores_within_zero_and_one(backbone, preset):
    method = build(backbone, preset=preset, epochs=30)
    before = [p.detach().clone() for p in (*backbone.vision.parameters(), *backbone.text.parameters())]
    starts = {(t, k): v.detach().clone() for t in TASKS for k, v in method._sets[t].parameters.items()}
    method.fit(encode(method, photo(1), photo(2)))
    assert len(method.history) == 30 and method.history[-1] < method.history[0]
    after = (*backbone.vision.parameters(), *backbone.text.parameters())
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new) and new.grad is None and not new.requires_grad
    for (task, name), old in starts.items():
        new = method._sets[task].parameters[name]
        assert new.dtype == (torch.float16 if method.config.prompt_precision == "fp16" else torch.float32)
        assert (new != old).any(dim=-1).all()
    values = outcome(method)
    assert values.isfinite().all() and values.min() >= 0 and values.max() <= 1 and values.std() > 0


@pytest.mark.parametrize("fusion", ["harmonic", "raised"])
def test_the_hook_gets_every_epoch_with_its_own_prototypes(backbone, fusion):
    method, seen = build(backbone, epochs=3, lr=0.1, fusion=fusion, fusion_weight=1.0, fusion_weight_pixel=1.0), []

    def hook(epoch: int, given: Method) -> None:
        assert given is method
        for task, raw in method._encode().items():
            normal, prompts = method.snapshot(task).prototypes.normal, method._sets[task]
            assert torch.equal(normal, F.normalize(raw[prompts.normal].mean(0), dim=-1).detach())
        seen.append((epoch, outcome(method), method.snapshot("image"), method.snapshot("pixel")))

    method.fit(encode(method, photo(1), photo(2)), after_epoch=hook)
    assert [epoch for epoch, *_ in seen] == [1, 2, 3]
    assert not torch.equal(seen[0][1], seen[1][1]) and torch.equal(seen[2][1], outcome(method))
    for task, kept in zip(TASKS, seen[0][2:], strict=True):  # a snapshot outlives the later epochs
        method.restore(task, kept)
    assert torch.equal(outcome(method), seen[0][1])
    again = F.normalize(method._encode()["pixel"][method._sets["pixel"].normal].mean(0), dim=-1)
    assert torch.equal(again, seen[0][3].prototypes.normal)


def test_the_anchor_keeps_the_anomalous_prototype_and_attraction_moves_the_normal_one(backbone):
    photos = encode(build(backbone), photo(1), photo(2))
    common = {"anomaly_prefixes": "own", "epochs": 30, "optimiser": "adam", "lr": 0.01, "learnable_prompts": False}
    moved, good = {}, F.normalize(torch.cat([view.image for views in photos for view in views]), dim=-1)
    for name, values in {"plain": {}, "ours": {"attraction": 30.0, "anchor": 100.0}}.items():
        method = build(backbone, **common, **values)
        method._freeze(photos)
        before = method.snapshot("image").prototypes
        method.fit(photos)
        after = method.snapshot("image").prototypes
        near = (good @ after.normal).mean() - (good @ before.normal).mean()
        moved[name] = float((after.anomalous - before.anomalous).norm()), float(near)
    assert moved["ours"][0] < 0.5 * moved["plain"][0] and moved["ours"][1] > 0.05

"""UniADet on a tiny random CLIP: sizes, scores, losses and good photos against slow versions in NumPy."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from object_agnostic_cases import ELSEWHERE, labelled_photos
from promptad_cases import lively_backbone, photo
from torch import Tensor

from promptad.bench.conventions import Conventions, conventions_of
from promptad.clip.architecture import ResNetSizes
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.clip.preprocess import Preprocess
from promptad.clip.tokenizer import clip_tokenizer
from promptad.data.records import Record
from promptad.detector import Detector, load
from promptad.errors import ConfigError, WeightsError
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import Checkpoint
from promptad.learning.features import Encoder
from promptad.methods.contract import Trained
from promptad.methods.registry import find_method
from promptad.methods.uniadet.config import FREE, PRESETS, UniADetConfig
from promptad.methods.uniadet.method import UniADet, upper_layers
from promptad.saved.prompts import read_learned, write_learned
from tiny import SIZES

BASE = {
    "augment": 0.5,
    "epochs": 2,
    "batch_size": 3,
    "lr": 0.02,
    "copies": 1,
    "memory_precision": "fp32",
    "init_std": 0.5,
}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    return labelled_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def usual(backbone, records) -> UniADet:
    return trained(backbone, records)


def build(backbone: Backbone, preset: str = "clean", **values: Any) -> UniADet:
    entry = find_method("uniadet")
    return entry.build(backbone, entry.make_config(preset, **(BASE | values)), "nut")


def auxiliary(method: UniADet, records: list[Record], *, masks: bool = True) -> AuxiliarySet:
    return AuxiliarySet(records, Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request), masks=masks)


def trained(backbone: Backbone, records: list[Record], **values: Any) -> UniADet:
    method = build(backbone, **values)
    method.train(auxiliary(method, records))
    return method


def encode(method: UniADet, seed: int = 9, shape: tuple[int, int] = (60, 60)) -> Features:
    (view,) = (
        Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request)
        .encode([photo(seed, shape)])[0]
        .features
    )
    return view


def outcome(method: UniADet, *good: int) -> Tensor:
    if good:
        method = with_good(method, *good)
    scores = method.score(encode(method))
    return torch.cat([scores.image, scores.map.flatten()])


def with_good(method: UniADet, *seeds: int, **values: Any) -> UniADet:
    other = copy.copy(method)
    other.config = replace(method.config, **values)
    other.fit([[encode(method, seed)] for seed in seeds])
    return other


# -- slow versions -------------------------------------------------------------------------------------------------------


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def enlarge(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres aligned, the outermost values continued."""

    def along(lines: np.ndarray, count: int) -> np.ndarray:
        at = (np.arange(count) + 0.5) * lines.shape[1] / count - 0.5
        return np.stack([np.interp(at, np.arange(lines.shape[1]), line) for line in lines])

    return along(along(plane, size[1]).T, size[0]).T


def two_class(logits: np.ndarray) -> np.ndarray:
    """Softmax over the first axis, [normal, anomalous]."""
    exponent = np.exp(logits - logits.max(0))
    return exponent / exponent.sum(0)


def slow_logits(
    method: UniADet, view: Features, row: int, scale: float, detail: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """(L, 2) of the photo, (L, 2, H, W) of `detail` values along the side of each patch, of 8 pixels."""
    weights = {name: unit(value.detach().double().numpy()) for name, value in method.module.items()}
    size = view.grid[0] * detail, view.grid[1] * detail
    photo_logits, pixels = [], []
    for number, layer in enumerate(method.layers):
        tokens = unit(view.taps[layer][row].double().numpy())
        photo_logits.append(scale * weights["image"][number] @ tokens[0])
        planes = scale * tokens[1:] @ weights["patch"][number].T
        pixels.append([enlarge(planes[:, side].reshape(view.grid), size) for side in (0, 1)])
    return np.array(photo_logits), np.array(pixels)


def slow_scores(method: UniADet, view: Features, scale: float = 1 / 0.07) -> tuple[float, np.ndarray]:
    photo_logits, pixels = slow_logits(method, view, 0, scale)
    image = np.mean([two_class(logits)[1] for logits in photo_logits])
    return float(image), np.mean([two_class(logits)[1] for logits in pixels], axis=0)


def slow_distance(method: UniADet, view: Features, good: list[Features]) -> np.ndarray:
    """(H, W): mean over the blocks of 1 - the largest cosine with any patch of the good photos."""
    total = np.zeros(view.grid)
    for layer in method.layers:
        memory = unit(np.concatenate([view.taps[layer][0, 1:].double().numpy() for view in good]))
        for place, token in enumerate(unit(view.taps[layer][0, 1:].double().numpy())):
            total[np.unravel_index(place, view.grid)] += min(1 - float(token @ row) for row in memory)
    return enlarge(total / len(method.layers), (view.grid[0] * 8, view.grid[1] * 8))


def slow_loss(method: UniADet, batch: Batch, *, fused: bool = False, weight: float = 1.0, detail: int = 8) -> float:
    labels, step = batch.labels.tolist(), 8 // detail
    shape = (len(labels), batch.features.grid[0] * detail, step, batch.features.grid[1] * detail, step)
    masks = batch.masks.numpy().reshape(shape).mean((2, 4))
    logits = [slow_logits(method, batch.features, row, 1 / 0.07, detail) for row in range(len(labels))]
    if fused:
        logits = [(a.mean(0, keepdims=True), b.mean(0, keepdims=True)) for a, b in logits]
    entropy, focal, dice = [], [], {0: [], 1: []}
    for (photo_logits, pixels), label, mask in zip(logits, labels, masks, strict=True):
        for of_photo, of_pixels in zip(photo_logits, pixels, strict=True):
            entropy.append(-np.log(two_class(of_photo)[label]))
            both = two_class(of_pixels)
            target = np.clip(np.stack([1 - mask, mask]), 1e-5, 1 - 1e-5)
            p = (target * both).sum(0) + 1e-5
            focal.append((-((1 - p) ** 2) * np.log(p)).mean())
            for side, truth in ((0, 1 - mask), (1, mask)):
                dice[side].append(1 - (2 * (both[side] * truth).sum() + 1) / (both[side].sum() + truth.sum() + 1))
    return float(np.mean(entropy) + weight * (np.mean(focal) + np.mean(dice[0]) + np.mean(dice[1])))


# -- sizes and settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "width", "embed", "space", "count"),
    [(24, 1024, 768, "joint", 15_360), (24, 1024, 768, "normed", 20_480), (12, 768, 512, "joint", 10_240)],
)
def test_parameters_are_as_many_as_the_paper_counts(backbone, depth, width, embed, space, count):
    """The sizes are those of ViT-L-14-336, with the width of DINO's tokens, and of ViT-B-16; no such tower is made."""
    sizes = replace(SIZES, embed_dim=embed, vision=replace(SIZES.vision, width=width, layers=depth))
    joint = random_backbone(replace(SIZES, embed_dim=embed), clip_tokenizer())
    method = build(replace(joint, sizes=sizes), space=space)
    assert method.parameter_count() == count and isinstance(method, Trained)
    assert method.request.taps == method.layers and method.request.tap_class and method.request.tap_space == space


@pytest.mark.parametrize(
    ("depth", "layers"), [(24, (12, 15, 18, 21, 24)), (12, (6, 8, 9, 11, 12)), (4, (2, 3, 4)), (1, (1,))]
)
def test_taps_lie_at_the_papers_depths(depth, layers):
    assert upper_layers(depth) == layers


def test_presets_hold_the_readings():
    entry = find_method("uniadet")
    assert set(PRESETS) == set(entry.presets) == {"clean", "paper", "release", "u1", "u2"}
    clean, paper, u1, u2 = (entry.make_config(name) for name in ("clean", "paper", "u1", "u2"))
    assert (clean.epochs, clean.lr, clean.batch_size, clean.betas) == (15, 1e-3, 8, (0.5, 0.999))
    assert (clean.augment, clean.loss_detail, paper.augment, paper.loss_detail) == (0.0, 4, 0.5, 0)
    assert (paper.space, paper.scale, paper.smoothing, paper.optimiser) == ("joint", 1 / 0.07, 0.0, "adam")
    assert paper == entry.make_config("release") and paper.map_in_image == 0.0
    assert (u1.space, u1.map_weight, u1.map_in_image, u1.lr_end, u1.weight_decay) == ("normed", 0.5, 0.5, 0.1, 0.01)
    assert (u2.space, u2.scale, u2.init, u2.blocks, u2.weight_decay) == ("block", 0.0, "xavier", "mean", 5e-5)
    for preset in ("paper", "release", "u1", "u2"):
        assert conventions_of("uniadet", preset) == Conventions(eval_size=518, masks="bilinear")


def test_the_tower_is_asked_for_what_the_settings_say(backbone):
    assert build(backbone).request == FeatureRequest(taps=(2, 3, 4), tap_class=True, tap_space="joint")
    local = build(backbone, stream="local", space="normed", layers=(1, 4)).request
    assert local == FeatureRequest((1, 4), LocalStream(), tap_class=True, tap_space="normed", tap_stream="local")
    assert build(backbone, space="block", scale=0.0).scale == pytest.approx(32**0.5)
    vision = ResNetSizes(stem_width=4, blocks=(1, 1, 1, 1), heads=2, image_size=64)
    resnet = random_backbone(replace(SIZES, vision=vision), clip_tokenizer())
    with pytest.raises(ConfigError, match="UniADet needs a ViT image tower"):
        build(resnet)


# -- scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 60), (60, 40)])
def test_scores_are_means_of_the_blocks_softmaxes(usual, shape):
    view = encode(usual, 5, shape)
    scores = usual.score(view)
    image, maps = slow_scores(usual, view)
    assert scores.map.shape == (1, view.grid[0] * 8, view.grid[1] * 8)
    assert float(scores.image) == pytest.approx(image, abs=1e-5)
    np.testing.assert_allclose(scores.map[0].numpy(), maps, atol=1e-5)
    assert torch.equal(scores.parts["class"], scores.image)
    assert usual.words(view) is not None and usual.words(view).patches is None


def test_the_maximum_of_the_map_enters_where_it_is_asked_for(usual):
    other = copy.copy(usual)
    other.config = replace(usual.config, map_in_image=0.25)
    view = encode(usual)
    plain, mixed = usual.score(view), other.score(view)
    expected = 0.75 * float(plain.image) + 0.25 * float(plain.map.max())
    assert float(mixed.image) == pytest.approx(expected, abs=1e-6) and torch.equal(mixed.map, plain.map)


@pytest.mark.parametrize("peak", ["fused", "distance"])
def test_good_photos_enter_map_and_score(usual, peak):
    few = with_good(usual, 1, 2, memory_in_map=0.3, memory_in_image=0.6, peak=peak)
    good, view = [encode(usual, seed) for seed in (1, 2)], encode(usual)
    image, maps = slow_scores(usual, view)
    distance = slow_distance(usual, view, good)
    fused = 0.7 * maps + 0.3 * distance
    scores = few.score(view)
    np.testing.assert_allclose(scores.map[0].numpy(), fused, atol=1e-5)
    top = (fused if peak == "fused" else distance).max()
    assert float(scores.parts["map"]) == pytest.approx(top, abs=1e-5)
    assert float(scores.image) == pytest.approx(0.4 * image + 0.6 * top, abs=1e-5)


def test_a_remembered_photo_is_at_no_distance_unless_it_is_left_out(usual):
    few = with_good(usual, 1, 2, memory_in_map=1.0)
    view = encode(usual, 2)
    assert float(few.score(view).map.abs().max()) < 1e-5
    expected = slow_distance(usual, view, [encode(usual, 1)])
    np.testing.assert_allclose(few.score(view, leave_out=1).map[0].numpy(), expected, atol=1e-5)


# -- learning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "weight", "detail"),
    [("each", 1.0, 0), ("each", 0.5, 0), ("mean", 1.0, 0), ("each", 1.0, 4), ("mean", 1.0, 1)],
)
def test_the_loss_is_that_of_the_slow_version(backbone, records, blocks, weight, detail):
    method = build(backbone, blocks=blocks, map_weight=weight, loss_detail=detail)
    data = auxiliary(method, records)
    for batch in (data.batch([1, 3]), data.batch([0, 2, 4])):
        loss = float(method.loss(batch).detach())
        assert loss == pytest.approx(
            slow_loss(method, batch, fused=blocks == "mean", weight=weight, detail=detail or 8), abs=1e-4
        )


def test_gradients_reach_the_weights_alone(backbone, records):
    method = build(backbone)
    method.loss(auxiliary(method, records).batch([1, 3])).backward()
    assert all(p.grad is None for tower in (backbone.text, backbone.vision) for p in tower.parameters())
    named = dict(method.module.named_parameters())
    assert {name: tuple(p.shape) for name, p in named.items()} == {"image": (3, 2, 24), "patch": (3, 2, 24)}
    assert all(bool((p.grad.abs().amax(-1) > 0).all()) for p in named.values())


def test_training_lowers_the_loss(backbone, records):
    for augment in (0.0, 1.0):
        method = build(backbone, epochs=20, augment=augment, lr=0.05)
        history = method.train(auxiliary(method, records))
        assert len(history) == 20 and np.mean(history[-3:]) < 0.9 * history[0]


class Killed(Exception):
    """Stands for a process that ends in the middle of an epoch."""


def test_training_that_was_killed_goes_on_to_the_same_bits(backbone, records, tmp_path):
    torch.manual_seed(1)  # nothing depends on the global generator
    whole, stopped, resumed = (build(backbone, epochs=3) for _ in range(3))
    expected = whole.train(auxiliary(whole, records))
    checkpoint = Checkpoint(tmp_path / "half.safetensors", {"method": "uniadet"})

    def kill(done: int, total: int) -> None:
        if done > total // 3 + 1:
            raise Killed

    with pytest.raises(Killed):
        stopped.train(auxiliary(stopped, records), checkpoint=checkpoint, progress=kill)
    with pytest.raises(ConfigError, match="not trained yet"):
        outcome(stopped)
    assert resumed.train(auxiliary(resumed, records), checkpoint=checkpoint) == expected
    assert torch.equal(outcome(resumed), outcome(whole))


OTHERS: dict[str, dict[str, Any]] = {
    "layers": {"layers": (1, 3)},
    "space": {"space": "block"},
    "stream": {"stream": "local"},
    "scale": {"scale": 5.0},
    "init": {"init": "xavier"},
    "init_std": {"init_std": 0.1},
    "blocks": {"blocks": "mean"},
    "loss_detail": {"loss_detail": 0},
    "augment": {"augment": 0.0},
    "copies": {"copies": 3},
    "epochs": {"epochs": 3},
    "batch_size": {"batch_size": 2},
    "optimiser": {"optimiser": "adamw", "weight_decay": 0.5},
    "lr": {"lr": 0.01},
    "lr_end": {"lr_end": 0.1},
    "betas": {"betas": (0.9, 0.999)},
    "weight_decay": {"weight_decay": 0.5},
    "seed": {"seed": 7},
    "map_in_image": {"map_in_image": 0.5},
}
# Photo and map have weights of their own, and Adam's steps do not depend on the size of a loss: only decay feels it. In the loss itself
# it is tested above.
APART = {"map_weight"}
OF_GOOD = {
    "memory_in_map": {"memory_in_map": 0.1},
    "memory_in_image": {"memory_in_image": 0.1},
    "peak": {"peak": "distance"},
    "memory_precision": {"memory_precision": "fp16"},
}


def test_every_setting_is_tried():
    assert {field.name for field in fields(UniADetConfig)} == set(OTHERS) | set(OF_GOOD) | APART | ELSEWHERE
    assert set(OF_GOOD) < set(FREE)


@pytest.mark.parametrize("name", OTHERS)
def test_every_setting_changes_the_scores(backbone, records, usual, name):
    assert (outcome(trained(backbone, records, **OTHERS[name])) - outcome(usual)).abs().max() > 1e-6


@pytest.mark.parametrize("name", OF_GOOD)
def test_every_setting_of_good_photos_changes_the_scores(usual, name):
    plain, other = with_good(usual, 1, 2), with_good(usual, 1, 2, **OF_GOOD[name])
    view = encode(usual)
    first, second = (torch.cat([s.image, s.map.flatten()]) for s in (plain.score(view), other.score(view)))
    assert (first - second).abs().max() > 1e-7


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"layers": (3, 1)}, r"layers \[3, 1\] must rise"),
        ({"space": "text"}, "space must be one of block, normed, joint"),
        ({"memory_in_map": 1.5}, "memory_in_map must be from 0 to 1"),
        ({"copies": 0}, "copies must be from 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, says):
    with pytest.raises(ConfigError, match=says):
        find_method("uniadet").make_config("clean", **values)


def test_training_without_masks_or_photos_says_so(backbone, records):
    method = build(backbone)
    for data in (None, auxiliary(method, records, masks=False)):
        with pytest.raises(ConfigError, match="photos with masks"):
            method.train(data)


# -- what is kept --------------------------------------------------------------------------------------------------------


def test_what_was_learned_and_good_photos_go_through_state_and_files(backbone, usual, tmp_path):
    fresh = build(backbone)
    with pytest.raises(ConfigError, match="promptad train uniadet"):
        fresh.fit([[encode(fresh, 1)]])
    write_learned(tmp_path / "p.safetensors", usual, backbone, "clean", {"epochs": 2})
    read_learned(tmp_path / "p.safetensors").load_into(fresh, backbone)
    assert torch.equal(outcome(fresh), outcome(usual)) and set(fresh.state()) == {"image", "patch"}
    for precision in ("fp16", "fp32"):
        few = with_good(usual, 1, 2, memory_precision=precision)
        fresh.load_state(few.state())
        assert torch.equal(outcome(fresh), outcome(few))
        left = [method.score(encode(usual, 2), leave_out=1).map for method in (fresh, few)]
        assert torch.equal(*left)
    fresh.load_learned(usual.learned())
    assert torch.equal(outcome(fresh), outcome(usual))


def test_missing_and_misshapen_tensors_are_refused_and_leave_the_method_as_it_was(usual):
    state, other = with_good(usual, 1, 2).state(), with_good(usual, 3)
    before = outcome(other)
    for key in state.keys() - {"good.owners"}:
        for wrong in ({k: v for k, v in state.items() if k != key}, state | {key: torch.zeros(2, 2)}):
            with pytest.raises(WeightsError, match=f"'{key}'.*found (nothing|\\(2, 2\\))"):
                other.load_state(wrong)
            assert torch.equal(outcome(other), before)


def test_a_detector_with_good_photos_is_saved_and_loads_back(backbone, usual, tmp_path):
    write_learned(tmp_path / "p.safetensors", usual, backbone, "clean", {"epochs": 2})
    detector = Detector(weights=tmp_path / "p.safetensors", object="nut", backbone=backbone, map_size=48)
    bare = detector.predict(photo(9)).score
    detector.fit([photo(seed) for seed in range(1, 5)])
    result = detector.predict(photo(9))
    assert result.score != bare and set(result.parts) == {"class", "map"}
    again = load(detector.save(tmp_path / "d.safetensors"), backbone=backbone).predict(photo(9))
    assert again.score == pytest.approx(result.score, abs=1e-6) and again.verdict == result.verdict
    np.testing.assert_allclose(again.map, result.map, atol=1e-5)

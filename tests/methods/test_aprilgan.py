"""APRIL-GAN on a tiny random CLIP: maps, losses, good photos and training against slow versions in NumPy."""

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
from promptad.clip.features import Features
from promptad.clip.preprocess import Preprocess
from promptad.clip.tokenizer import clip_tokenizer
from promptad.data.records import Record
from promptad.detector import Detector, load
from promptad.errors import ConfigError, WeightsError
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import Checkpoint
from promptad.learning.features import Encoder
from promptad.methods.aprilgan.config import PRESETS, AprilGANConfig
from promptad.methods.aprilgan.method import AprilGAN
from promptad.methods.contract import Trained
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict
from promptad.notices import collected_notices
from promptad.saved.prompts import read_learned, write_learned
from tiny import SIZES

BASE = {"epochs": 2, "batch_size": 3, "lr": 0.02, "mosaic": 0.5, "memory_precision": "fp32"}
BASE |= {"defects": ("bent [c]",), "only_defects": True}
PLAIN, LACKING = ["[c]", "flawless [c]", "perfect [c]", "unblemished [c]"], ["flaw", "defect", "damage"]
STATES = (
    PLAIN + [f"[c] without {what}" for what in LACKING],
    ["damaged [c]", "broken [c]", *(f"[c] with {what}" for what in LACKING)],
)
BOTH_ARTICLES = ["bad photo of", "low resolution photo of", "cropped photo of", "bright photo of", "dark photo of"]
BOTH_ARTICLES += ["close-up photo of", "black and white photo of", "jpeg corrupted photo of", "blurry photo of"]
BOTH_ARTICLES += ["photo of", "good photo of"]
TEMPLATES = [f"a {start} {article} X." for start in BOTH_ARTICLES for article in ("a", "the")]
TEMPLATES += [f"a photo of {article} {size} X." for size in ("small", "large", "cool") for article in ("a", "the")]
TEMPLATES += ["a photo of my X.", "a photo of one X.", "there is a X in the scene.", "there is the X in the scene."]
TEMPLATES += ["this is a X in the scene.", "this is the X in the scene.", "this is one X in the scene."]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    return labelled_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def usual(backbone, records) -> AprilGAN:
    return trained(backbone, records)


def build(backbone: Backbone, object_name: str = "metal_nut", preset: str = "clean", **values: Any) -> AprilGAN:
    entry = find_method("aprilgan")
    return entry.build(backbone, entry.make_config(preset, **(BASE | values)), object_name)


def auxiliary(method: AprilGAN, records: list[Record], *, masks: bool = True) -> AuxiliarySet:
    return AuxiliarySet(records, Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request), masks=masks)


def trained(backbone: Backbone, records: list[Record], **values: Any) -> AprilGAN:
    method = build(backbone, **values)
    method.train(auxiliary(method, records))
    return method


def encode(method: AprilGAN, seed: int, shape: tuple[int, int] = (60, 60), fit: str = "letterbox") -> list[Features]:
    encoder = Encoder(method.backbone, Preprocess(48, 8, fit), method.request)
    return encoder.encode([photo(seed, shape)])[0].features


def outcome(method: AprilGAN, seed: int = 9) -> Tensor:
    scores = method.score(*encode(method, seed))
    return torch.cat([scores.image, scores.map.flatten()])


def with_good(method: AprilGAN, *seeds: int, **values: Any) -> AprilGAN:
    """The same learned values, and good photos."""
    other = copy.copy(method)
    other.config = replace(method.config, **values)
    other.fit([encode(method, seed) for seed in seeds])
    return other


# Slow versions ----------------------------------------------------------------------------------------


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def slow_prototypes(backbone: Backbone, name: str) -> list[np.ndarray]:
    """[normal, abnormal]: every sentence normalised, averaged, normalised."""
    sides = []
    for states in STATES:
        sentences = [t.replace("X", state.replace("[c]", name)) for state in states for t in TEMPLATES]
        sides.append(unit(unit(backbone.encode_texts(sentences).double().numpy()).mean(axis=0)))
    return sides


def aligned(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, the corners of both grids in the same place."""

    def along(lines: np.ndarray, count: int) -> np.ndarray:
        at = np.linspace(0, lines.shape[1] - 1, count)
        return np.stack([np.interp(at, np.arange(lines.shape[1]), line) for line in lines])

    return along(along(values, size[1]).T, size[0]).T


def slow_maps(method: AprilGAN, view: Features, sides: list[np.ndarray], row: int = 0) -> np.ndarray:
    """(L, 2, H, W) float64: softmax over both enlarged logits, of every layer."""
    size = view.grid[0] * 8, view.grid[1] * 8
    out = []
    for layer, linear in zip(method.layers, method.module.values(), strict=True):
        weight, bias = (value.detach().double().numpy() for value in (linear.weight, linear.bias))
        tokens = unit(view.taps[layer][row].double().numpy() @ weight.T + bias)
        logits = [aligned((method.config.scale * tokens @ side).reshape(view.grid), size) for side in sides]
        exponents = np.exp(np.stack(logits) - np.max(logits, axis=0))
        out.append(exponents / exponents.sum(0))
    return np.stack(out)


def slow_distances(layers: tuple[int, ...], view: Features, good: list[Features]) -> np.ndarray:
    """(h, w): of every layer 1 - the largest cosine with any token of the good photos, summed."""
    total = np.zeros(view.grid)
    for layer in layers:
        memory = unit(np.concatenate([photo.taps[layer][0].double().numpy() for photo in good]))
        for place, token in enumerate(unit(view.taps[layer][0].double().numpy())):
            total[np.unravel_index(place, view.grid)] += 1 - max(float(token @ row) for row in memory)
    return total


def slow_loss(method: AprilGAN, batch: Batch, sides: list[np.ndarray]) -> float:
    """Focal of both channels and dice of the abnormal one, of every layer, summed over the layers."""
    total, rows = 0.0, len(batch.features)
    masks = batch.masks.numpy()
    maps = np.stack([slow_maps(method, batch.features, sides, row) for row in range(rows)])  # (B, L, 2, H, W)
    for layer in range(maps.shape[1]):
        focal, dice = [], []
        for both, mask in zip(maps[:, layer], masks, strict=True):
            target = np.clip(np.stack([1 - mask, mask]), 1e-5, 1 - 1e-5)
            p = (target * both).sum(0) + 1e-5
            focal.append(-((1 - p) ** 2) * np.log(p))
            dice.append((2 * (both[1] * mask).sum() + 1) / (both[1].sum() + mask.sum() + 1))
        total += float(np.mean(focal)) + 1 - float(np.mean(dice))
    return total


# Sizes and words --------------------------------------------------------------------------------------


def test_parameters_and_taps_of_the_papers_tower():
    """The sizes are those of ViT-L-14-336, from which the linear maps follow; no such image tower is made."""
    joint = replace(SIZES, embed_dim=768)
    vision = replace(SIZES.vision, width=1024, layers=24)
    method = build(replace(random_backbone(joint, clip_tokenizer()), sizes=replace(joint, vision=vision)))
    assert method.parameter_count() == 3_148_800 and method.layers == (6, 12, 18, 24)
    assert method.request.taps == (6, 12, 18, 24) and not method.request.tap_class
    assert isinstance(method, Trained)


@pytest.mark.parametrize(("depth", "layers"), [(12, (3, 6, 9, 12)), (4, (1, 2, 3, 4)), (6, (2, 3, 4, 6)), (2, (1, 2))])
def test_taps_are_evenly_spread_over_any_tower(backbone, depth, layers):
    sizes = replace(SIZES, vision=replace(SIZES.vision, layers=depth))
    assert build(replace(backbone, sizes=sizes)).layers == layers


def test_a_resnet_gives_the_outputs_of_its_stages():
    vision = ResNetSizes(stem_width=4, blocks=(1, 1, 1, 1), heads=2, image_size=64)
    clip = random_backbone(replace(SIZES, vision=vision), clip_tokenizer())
    method = build(clip)
    assert [linear.weight.shape for linear in method.module.values()] == [(24, 16), (24, 32), (24, 64), (24, 128)]
    encoder = Encoder(clip, Preprocess(64, 32, "squash"), method.request)
    method.load_learned(method.module.state_dict())
    [view] = encoder.encode([photo(1)])[0].features
    scores = method.score(view)
    assert view.grid == (8, 8) and scores.map.shape == (1, 64, 64)
    expected = slow_maps(method, view, slow_prototypes(clip, "metal nut"))[:, 1].sum(0)
    np.testing.assert_allclose(scores.map[0].numpy(), expected, atol=1e-5)


def test_sentences_are_245_and_175_and_name_the_object(backbone, monkeypatch):
    asked: list[list[str]] = []
    monkeypatch.setattr(
        type(backbone), "encode_texts", lambda self, texts: asked.append(list(texts)) or torch.ones(len(texts), 24)
    )
    for names, wanted in (("words", "metal nut"), ("raw", "metal_nut")):
        asked.clear()
        build(backbone, class_names=names)
        normal, abnormal = (texts for texts in asked if len(texts) > 100)
        for ours, states in zip((normal, abnormal), STATES, strict=True):
            expected = {t.replace("X", state.replace("[c]", wanted)) for state in states for t in TEMPLATES}
            assert set(ours) == expected and len(ours) == len(expected) == 35 * len(states)


def test_presets_hold_what_the_authors_did():
    entry = find_method("aprilgan")
    assert entry.trained and entry.good_photos == "optional" and set(PRESETS) == set(entry.presets)
    paper, visa = entry.make_config("paper"), entry.make_config("paper-visa")
    assert (paper.input_size, paper.fit, paper.map_size, paper.smoothing) == (518, "squash", 518, 0.0)
    assert (paper.epochs, paper.mosaic, visa.epochs, visa.mosaic) == (3, 0.2, 15, 0.0)
    assert (paper.lr, paper.betas, paper.batch_size, paper.seed, paper.scale) == (1e-3, (0.5, 0.999), 8, 111, 100.0)
    assert (paper.class_names, paper.tower_activation, paper.layers) == ("raw", "gelu", ())
    assert paper == entry.make_config("release") == replace(visa, epochs=3, mosaic=0.2)
    for preset in ("paper", "paper-visa", "release"):
        assert conventions_of("aprilgan", preset) == Conventions(eval_size=518, masks="bilinear")


def test_numbers_of_gelu_towers_are_not_made_with_others(backbone):
    with pytest.raises(
        ConfigError, match=r"activation gelu, and .* runs with quick_gelu; load it with activation"
    ) as e:
        build(backbone, tower_activation="gelu")
    assert "\n" not in str(e.value)
    other = replace(backbone, sizes=replace(SIZES, activation="gelu"))
    assert build(other, tower_activation="gelu").config.tower_activation == "gelu"
    assert build(backbone, tower_activation="quick_gelu") and build(other)


# Maps and scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 60), (60, 40), (40, 90)])
def test_the_map_is_the_sum_of_four_enlarged_softmaxes(backbone, usual, shape):
    [view] = encode(usual, 5, shape)
    sides = slow_prototypes(backbone, "metal nut")
    maps = slow_maps(usual, view, sides)
    scores = usual.score(view)
    assert scores.map.shape == (1, view.grid[0] * 8, view.grid[1] * 8) and len(maps) == 4
    np.testing.assert_allclose(scores.map[0].numpy(), maps[:, 1].sum(0), atol=1e-5)
    assert scores.map.min() >= 0 and 0.1 < scores.map.max() <= 4
    image = unit(view.image[0].double().numpy())
    first, second = (np.exp(100 * (image @ side - image @ sides[0])) for side in sides)
    assert float(scores.image) == pytest.approx(second / (first + second), abs=1e-5)
    assert torch.equal(scores.parts["text"], scores.image)


def test_a_map_reaches_nought_and_four_and_no_further(usual):
    """With a large scale every pixel is decided in every layer."""
    sure = AprilGAN(usual.backbone, replace(usual.config, scale=1e6), "metal_nut")
    sure.load_learned(usual.learned())
    values = torch.cat([sure.score(*encode(sure, seed)).map.flatten() for seed in range(6)])
    assert values.min() >= 0 and values.max() <= 4
    assert set(values.round().unique().tolist()) >= {1.0, 2.0, 3.0}


def test_a_detector_shows_the_map_at_input_size_as_it_is(backbone, usual, tmp_path):
    """No Gaussian, a photo of the input's size: what the method says is what people get."""
    write_learned(tmp_path / "p.safetensors", usual, backbone, "clean", {})
    detector = Detector(weights=tmp_path / "p.safetensors", object="metal_nut", backbone=backbone, map_size=48,
                        smoothing=0.0)  # fmt: skip
    prediction = detector.predict(photo(3, (48, 48)))
    view = detector.encode(photo(3, (48, 48))).features[0]
    np.testing.assert_allclose(prediction.map, usual.score(view).map[0].numpy(), atol=1e-5)
    wide = detector.predict(photo(3, (48, 96)))
    assert wide.map.shape == (48, 96)
    inside = usual.score(detector.encode(photo(3, (48, 96))).features[0]).map[0].numpy()  # 24 x 48
    np.testing.assert_allclose(wide.map[1::2, 1::2].mean(), inside.mean(), atol=0.05)


# Good photos ------------------------------------------------------------------------------------------


def test_a_memorised_photo_adds_nothing_to_its_map(usual):
    few = with_good(usual, 1, 2)
    for seed in (1, 2):
        [view] = encode(usual, seed)
        torch.testing.assert_close(few.score(view).map, usual.score(view).map, atol=1e-5, rtol=0)
    [other] = encode(usual, 3)
    assert (few.score(other).map - usual.score(other).map).max() > 0.01


@pytest.mark.parametrize("shape", [(60, 60), (60, 40)])
def test_good_photos_add_the_distances_of_every_layer(usual, shape):
    few = with_good(usual, 1, 2, 3)
    good = [encode(usual, seed)[0] for seed in (1, 2, 3)]
    [view] = encode(usual, 9, shape)
    size = view.grid[0] * 8, view.grid[1] * 8
    expected = usual.score(view).map[0].numpy() + aligned(slow_distances(usual.layers, view, good), size)
    scores = few.score(view)
    np.testing.assert_allclose(scores.map[0].numpy(), expected, atol=1e-5)
    assert scores.map.max() <= 12

    def peak(number: int) -> float:
        others = [photo for i, photo in enumerate(good) if i != number]
        own = usual.score(good[number]).map[0].numpy()
        return float((own + aligned(slow_distances(usual.layers, good[number], others), (48, 48))).max())

    lowest = min(peak(number) for number in range(3))
    above = min(1.0, max(0.0, (expected.max() - lowest) / 4))
    text = float(usual.score(view).image)
    assert float(scores.image) == pytest.approx((text + above) / 2, abs=1e-5)
    assert float(scores.parts["text"]) == pytest.approx(text, abs=1e-6)
    assert float(scores.parts["map"]) == pytest.approx(above, abs=1e-5)
    # A good photo that is scored itself is compared with the others, in its tokens and in its maximum.
    left = few.score(good[0], leave_out=0)
    alone = min(peak(number) for number in (1, 2))
    assert float(left.map.max()) == pytest.approx(peak(0), abs=1e-5)
    assert float(left.parts["map"]) == pytest.approx(min(1.0, max(0.0, (peak(0) - alone) / 4)), abs=1e-5)


def test_one_good_photo_is_its_own_measure(usual):
    few, [own] = with_good(usual, 1), encode(usual, 1)
    assert float(few.score(own).parts["map"]) == pytest.approx(0, abs=1e-5)
    assert (
        float(few._lowest(0)) == float(few._lowest(None)) == pytest.approx(float(usual.score(own).map.max()), abs=1e-5)
    )


def test_photos_of_several_views_are_remembered_whole(usual):
    few = with_good(usual)
    tiles = encode(usual, 4, (48, 130), "tiles")
    assert len(tiles) > 1
    few.fit([tiles, encode(usual, 5, (48, 130), "tiles")])
    for view in tiles:
        torch.testing.assert_close(few.score(view).map, usual.score(view).map, atol=1e-5, rtol=0)


def test_how_the_image_score_differs_from_the_authors_is_said(usual):
    with collected_notices() as lines:
        few = with_good(usual, 1, 2)
    assert len(lines) == 1 and "the least and the largest of all test photos of a class" in lines[0]
    with collected_notices() as lines:
        few.fit([])
    assert not lines and torch.equal(outcome(few), outcome(usual))


def test_half_precision_of_the_memory_moves_maps_a_little(usual):
    exact = with_good(usual, 1, 2)
    rounded = with_good(usual, 1, 2, memory_precision="fp16")
    [view] = encode(usual, 9)
    difference = (exact.score(view).map - rounded.score(view).map).abs().max()
    assert 0 < difference < 1e-2 and rounded.state()["good.2"].dtype == torch.float16


@pytest.mark.parametrize("good", [(), (1, 2)])
def test_a_batch_scores_as_its_views_one_by_one(usual, good):
    method = with_good(usual, *good) if good else usual
    encoder = Encoder(method.backbone, Preprocess(48, 8, "squash"), method.request)
    views = [encoded.features[0] for encoded in encoder.encode([photo(seed) for seed in range(3)])]
    together = method.score(Features.with_tensors(
        {name: torch.cat([view.tensors()[name] for view in views]) for name in views[0].tensors()}, views[0].grid
    ))  # fmt: skip
    for row, view in enumerate(views):
        alone = method.score(view)
        torch.testing.assert_close(alone.map[0], together.map[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.image[0], together.image[row], atol=1e-5, rtol=0)


# Training ---------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_a_slow_version(backbone, records):
    method = build(backbone)
    data = auxiliary(method, records)
    batch = data.batch([index for index, example in enumerate(data) if example.grid == (6, 4)])
    assert batch.masks is not None and batch.masks.any() and len(batch.labels) == 3
    expected = slow_loss(method, batch, slow_prototypes(backbone, "nut"))
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-4)


def test_every_photo_is_compared_with_the_words_of_its_own_class(backbone, records):
    method = build(backbone, scale=10.0)
    batch = auxiliary(method, records).batch([1, 3])
    apart = [
        method.loss(
            replace(batch, features=batch.features[i : i + 1], masks=batch.masks[i : i + 1], class_names=(name,))
        )
        for i, name in enumerate(("nut", "bolt"))
    ]
    same = method.loss(replace(batch, class_names=("nut", "nut")))
    mixed = method.loss(replace(batch, class_names=("nut", "bolt")))
    assert mixed.item() == pytest.approx(sum(value.item() for value in apart) / 2, rel=1e-5)
    assert abs(mixed.item() - same.item()) > 1e-6


def test_gradients_reach_the_linear_maps_and_nothing_else(backbone, records):
    method = build(backbone)
    method.loss(auxiliary(method, records).batch([1, 3])).backward()
    assert all(p.grad is None for tower in (backbone.text, backbone.vision) for p in tower.parameters())
    named = dict(method.module.named_parameters())
    assert set(named) == {f"tap{layer}.{kind}" for layer in (1, 2, 3, 4) for kind in ("weight", "bias")}
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in named.values())


def test_training_lowers_the_loss_with_mosaics_and_without(backbone, records):
    for mosaic in (0.0, 0.5):
        method = build(backbone, epochs=12, mosaic=mosaic)
        history = method.train(auxiliary(method, records))
        assert len(history) == 12 and np.mean(history[-3:]) < 0.9 * history[0]


def test_the_same_seed_gives_the_same_bits(backbone, records, usual):
    torch.manual_seed(1)  # nothing depends on the global generator
    again = build(backbone)
    data = auxiliary(again, records)
    first = again.train(data)
    assert torch.equal(outcome(again), outcome(usual))
    assert again.train(data) == first and torch.equal(outcome(again), outcome(usual))


class Killed(Exception):
    """Stands for a process that ends in the middle of an epoch."""


def test_training_that_was_killed_goes_on_to_the_same_bits(backbone, records, tmp_path):
    whole = build(backbone, epochs=3)
    expected = whole.train(auxiliary(whole, records))
    checkpoint = Checkpoint(tmp_path / "half.safetensors", {"method": "aprilgan"})
    stopped = build(backbone, epochs=3)

    def kill(done: int, total: int) -> None:
        if done > total // 3 + 1:  # in the second epoch
            raise Killed

    with pytest.raises(Killed):
        stopped.train(auxiliary(stopped, records), checkpoint=checkpoint, progress=kill)
    with pytest.raises(ConfigError, match="not trained yet"):
        outcome(stopped)
    resumed = build(backbone, epochs=3)
    assert resumed.train(auxiliary(resumed, records), checkpoint=checkpoint) == expected
    ours, theirs = resumed.learned(), whole.learned()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(outcome(resumed), outcome(whole))


OTHERS: dict[str, dict[str, Any]] = {
    "layers": {"layers": (1, 3)},
    "class_names": {"class_names": "raw"},
    "scale": {"scale": 5.0},
    "mosaic": {"mosaic": 0.0},
    "epochs": {"epochs": 3},
    "batch_size": {"batch_size": 2},
    "lr": {"lr": 0.01},
    "betas": {"betas": (0.9, 0.999)},
    "seed": {"seed": 7},
}
# Refuses towers, or belongs to good photos; tested above.
APART = {"tower_activation", "memory_precision"}


def test_every_setting_is_tried():
    assert {field.name for field in fields(AprilGANConfig)} == set(OTHERS) | APART | ELSEWHERE


@pytest.mark.parametrize("name", OTHERS)
def test_every_setting_changes_the_scores(backbone, records, usual, name):
    assert (outcome(trained(backbone, records, **OTHERS[name])) - outcome(usual)).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"layers": (3, 1)}, r"layers \[3, 1\] must rise"),
        ({"layers": (2, 2)}, r"layers \[2, 2\] must rise"),
        ({"mosaic": 1.0}, "mosaic must be from 0 to below 1"),
        ({"scale": 0.0}, "scale"),
        ({"class_names": "folder"}, "class_names must be one of words, raw"),
        ({"tower_activation": "relu"}, "tower_activation must be one of any, gelu, quick_gelu"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, says):
    with pytest.raises(ConfigError, match=says):
        find_method("aprilgan").make_config("clean", **values)


def test_training_without_masks_or_photos_says_so(backbone, records):
    method = build(backbone)
    for data in (None, auxiliary(method, records, masks=False)):
        with pytest.raises(ConfigError, match="photos with masks"):
            method.train(data)
    with pytest.raises(ConfigError, match=r"tapped layers \[9\] must lie in 1\.\.4"):
        auxiliary(build(backbone, layers=(9,)), records)


# What is kept -----------------------------------------------------------------------------------------


def test_what_was_learned_goes_through_a_file_and_scores_the_same(backbone, usual, tmp_path):
    fresh = build(backbone)
    with pytest.raises(ConfigError, match="promptad train aprilgan"):
        outcome(fresh)
    with pytest.raises(ConfigError, match="not trained yet"):
        fresh.fit([encode(fresh, 1)])
    write_learned(tmp_path / "prompts.safetensors", usual, backbone, "clean", {"epochs": 2})
    read_learned(tmp_path / "prompts.safetensors").load_into(fresh, backbone)
    assert torch.equal(outcome(fresh), outcome(usual))
    assert set(fresh.state()) == set(usual.learned())


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_good_photos_go_through_the_state_to_the_same_bits(backbone, usual, precision):
    few = with_good(usual, 1, 2, memory_precision=precision)
    again = AprilGAN(backbone, few.config, "metal_nut")
    again.load_state(few.state())
    assert torch.equal(outcome(again), outcome(few))
    [view] = encode(usual, 2)
    first, second = (method.score(view, leave_out=1) for method in (again, few))
    assert torch.equal(first.map, second.map) and torch.equal(first.image, second.image)
    # A state without good photos takes them away, and new values of training belong to no good photo.
    again.load_state(usual.state())
    assert torch.equal(outcome(again), outcome(usual))
    again.load_state(few.state())
    again.load_learned(usual.learned())
    assert torch.equal(outcome(again), outcome(usual))


def test_missing_and_misshapen_tensors_are_refused_and_leave_the_method_as_it_was(backbone, usual):
    few = with_good(usual, 1, 2)
    state, other = few.state(), with_good(usual, 3)
    before = outcome(other)
    for key in (name for name in state if name != "good.peaks"):
        for wrong in ({k: v for k, v in state.items() if k != key}, state | {key: torch.zeros(2, 2)}):
            with pytest.raises(WeightsError, match=f"'{key}'.*found (nothing|\\(2, 2\\))"):
                other.load_state(wrong)
            assert torch.equal(outcome(other), before)


def test_a_detector_with_good_photos_is_saved_and_loads_back(backbone, usual, tmp_path):
    write_learned(tmp_path / "p.safetensors", usual, backbone, "clean", {"epochs": 2})
    detector = Detector(weights=tmp_path / "p.safetensors", object="metal_nut", backbone=backbone, map_size=48)
    bare = detector.predict(photo(9)).score
    detector.fit([photo(seed) for seed in range(1, 5)])
    assert detector.calibration is not None and detector.calibration.good == 4
    result = detector.predict(photo(9))
    assert result.score != bare and set(result.parts) == {"text", "map"}
    again = load(detector.save(tmp_path / "d.safetensors"), backbone=backbone)
    loaded = again.predict(photo(9))
    assert loaded.score == pytest.approx(result.score, abs=1e-6) and loaded.verdict == result.verdict
    np.testing.assert_allclose(loaded.map, result.map, atol=1e-5)
    assert config_dict(again.config) == config_dict(detector.config)


def test_a_photo_of_no_named_class_is_an_object(backbone, records):
    nameless = [replace(record, class_name="") for record in records]
    method = build(backbone, class_names="raw")
    with collected_notices() as lines:
        method.train(auxiliary(method, nameless))
    assert any("6 training photos are of no named class" in line for line in lines)
    other = build(backbone, class_names="raw")
    other.train(auxiliary(other, [replace(record, class_name="object") for record in records]))
    assert torch.equal(outcome(method), outcome(other))

"""MRAD on a tiny random CLIP: memory, retrieval, losses and scores against slow versions in NumPy."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from object_agnostic_cases import ELSEWHERE, labelled_photos
from promptad_cases import lively_backbone, photo
from scipy.ndimage import gaussian_filter
from torch import Tensor

from promptad.bench.conventions import Conventions, conventions_of
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.clip.preprocess import Preprocess
from promptad.clip.tokenizer import clip_tokenizer
from promptad.data.records import Record
from promptad.errors import ConfigError, WeightsError
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.epochs import Checkpoint
from promptad.learning.features import Encoder
from promptad.methods.contract import Trained
from promptad.methods.mrad.config import PRESETS, MRADConfig
from promptad.methods.mrad.method import MRAD
from promptad.methods.registry import find_method
from promptad.saved.prompts import read_learned, write_learned
from tiny import SIZES

FT = {"variant": "ft", "temperature": 1.0, "epochs": 2, "batch_size": 3, "lr": 0.02}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    """Three good and three anomalous photos of two shapes, of two classes."""
    photos = labelled_photos(tmp_path_factory.mktemp("photos"))
    return [replace(record, class_name=("nut", "tile")[index % 2]) for index, record in enumerate(photos)]


@pytest.fixture(scope="module")
def usual(backbone, records) -> MRAD:
    return trained(backbone, records)


@pytest.fixture(scope="module")
def tuned(backbone, records) -> MRAD:
    return trained(backbone, records, **FT)


def build(backbone: Backbone, preset: str = "clean", **values: Any) -> MRAD:
    entry = find_method("mrad")
    return entry.build(backbone, entry.make_config(preset, **values), "nut")


def auxiliary(method: MRAD, records: list[Record], *, masks: bool = True) -> AuxiliarySet:
    return AuxiliarySet(records, Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request), masks=masks)


def trained(backbone: Backbone, records: list[Record], **values: Any) -> MRAD:
    method = build(backbone, **values)
    method.train(auxiliary(method, records))
    return method


def encode(method: MRAD, seed: int = 9, shape: tuple[int, int] = (60, 60)) -> Features:
    encoder = Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request)
    (view,) = encoder.encode([photo(seed, shape)])[0].features
    return view


def outcome(method: MRAD) -> Tensor:
    scores = method.score(encode(method))
    return torch.cat([scores.image, scores.map.flatten()])


# -- slow versions -------------------------------------------------------------------------------------------------------


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def slow_patches(view: Features, row: int = 0, sides: tuple[int, ...] = (1, 3, 5)) -> np.ndarray:
    """(T, D): the mean over three sizes of squares around a patch, zeros outside of the grid."""
    height, width = view.grid
    plane = view.taps[4][row].double().numpy().reshape(height, width, -1)
    out = np.zeros_like(plane)
    for side in sides:
        reach = side // 2
        padded = np.pad(plane, ((reach, reach), (reach, reach), (0, 0)))
        for y in range(height):
            for x in range(width):
                out[y, x] += padded[y : y + side, x : x + side].mean((0, 1)) / len(sides)
    return out.reshape(height * width, -1)


def shares(mask: np.ndarray, grid: tuple[int, int], cells: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights of patches outside and inside of a mask, patches of 8 pixels."""
    blocks = [mask[8 * y : 8 * y + 8, 8 * x : 8 * x + 8] for y in range(grid[0]) for x in range(grid[1])]
    if cells == "area":
        inside = np.array([block.mean() for block in blocks])
        return 1 - inside, inside
    middle = np.array([block[3:5, 3:5].mean() for block in blocks])
    return (middle == 0).astype(float), (middle == 1).astype(float)


def slow_memory(data: AuxiliarySet, cells: str = "area") -> dict[str, list[tuple[np.ndarray, int, int]]]:
    """task -> (unit key, label, example) of every key."""
    out: dict[str, list[tuple[np.ndarray, int, int]]] = {"image": [], "patch": []}
    for index, example in enumerate(data.examples):
        view = data.batch([index]).features
        out["image"].append((unit(view.image[0].double().numpy()), example.label, index))
        patches = slow_patches(view)
        for label, weights in enumerate(shares(example.mask.astype(float), view.grid, cells)):
            if weights.sum():
                out["patch"].append((unit((weights[:, None] * patches).sum(0)), label, index))
    return out


def half(row: np.ndarray) -> np.ndarray:
    return row.astype(np.float16).astype(np.float64)


def slow_channel(
    query: np.ndarray, keys: list[tuple[np.ndarray, int, int]], temperature: float, maps: Any = None
) -> float:
    """Softmax over keys one by one; `maps` are (weight, bias) of the query's and the key's linear map."""
    (qw, qb), (kw, kb) = maps or ((np.eye(len(query)), 0.0),) * 2
    weights = np.array([np.exp((qw @ query + qb) @ (kw @ half(key) + kb) / temperature) for key, _, _ in keys])
    return float(weights @ np.array([label for _, label, _ in keys]) / weights.sum())


def linears(method: MRAD, task: str) -> Any:
    if method.config.variant == "tf":
        return None
    layers = [getattr(method.module, f"{task}_{side}") for side in ("query", "key")]
    return [tuple(value.detach().double().numpy() for value in (layer.weight, layer.bias)) for layer in layers]


def slow_channels(
    method: MRAD, view: Features, memory: dict[str, list[tuple[np.ndarray, int, int]]], row: int = 0
) -> tuple[float, np.ndarray]:
    tau = method.config.temperature
    image = slow_channel(unit(view.image[row].double().numpy()), memory["image"], tau, linears(method, "image"))
    maps = linears(method, "patch")
    patches = [slow_channel(query, memory["patch"], tau, maps) for query in unit(slow_patches(view, row))]
    return image, np.array(patches).reshape(view.grid)


def enlarge(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    def along(lines: np.ndarray, count: int) -> np.ndarray:
        at = (np.arange(count) + 0.5) * lines.shape[1] / count - 0.5
        return np.stack([np.interp(at, np.arange(lines.shape[1]), line) for line in lines])

    return along(along(plane, size[1]).T, size[0]).T


def slow_top(plane: np.ndarray, sigma: float = 4 * 48 / 518) -> float:
    height, width = plane.shape[0] * 8, plane.shape[1] * 8
    smooth = gaussian_filter(enlarge(plane, (height, width)), sigma)
    return float(np.sort(smooth.ravel())[-max(1, height * width // 100) :].mean())


# -- sizes and settings --------------------------------------------------------------------------------------------------


def test_parameters_are_as_many_as_the_papers(backbone):
    """The sizes are those of ViT-L-14-336; no such image tower is made."""
    joint = random_backbone(replace(SIZES, embed_dim=768), clip_tokenizer())
    sizes = replace(SIZES, embed_dim=768, vision=replace(SIZES.vision, width=1024, layers=24))
    method = build(replace(joint, sizes=sizes), "ft")
    assert method.parameter_count() == 2_755_584 and isinstance(method, Trained)
    assert method.request == FeatureRequest(
        (24,), LocalStream(2), normalise_class=False, tap_space="normed", tap_stream="local"
    )
    assert build(backbone).parameter_count() == 0


def test_presets_hold_no_constant_of_a_test_set():
    entry = find_method("mrad")
    made = {name: entry.make_config(name) for name in PRESETS}
    assert set(made) == {"clean", "ft", "paper", "paper-ft", "release", "release-ft"}
    assert made["clean"].temperature == made["paper"].temperature == 0.07 and made["release"].temperature == 1.0
    assert {config.excluded for config in made.values()} == {0.9}
    assert (made["release"].image_share, made["release"].cells, made["release"].fusion) == (0.7, "centre", "plain")
    assert (made["ft"].lr, made["ft"].betas, made["ft"].epochs, made["ft"].batch_size) == (4e-4, (0.5, 0.999), 1, 8)
    assert made["ft"].lr * made["ft"].lr_end == pytest.approx(1e-6)
    for preset in ("paper", "paper-ft", "release", "release-ft"):
        assert conventions_of("mrad", preset) == Conventions(eval_size=518, masks="bilinear")


# -- memory and scores ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", ["area", "centre"])
def test_the_memory_holds_what_the_slow_version_finds(backbone, records, cells):
    method = build(backbone, cells=cells)
    data = auxiliary(method, records)
    method.train(data)
    learned, expected = method.learned(), slow_memory(data, cells)
    for task in ("image", "patch"):
        keys = np.stack([key for key, _, _ in expected[task]])
        np.testing.assert_allclose(learned[f"{task}_keys"].double().numpy(), keys, atol=1e-3)
        assert learned[f"{task}_labels"].tolist() == [label for _, label, _ in expected[task]]
    assert learned["patch_keys"].dtype == torch.float16 and 6 < len(learned["patch_keys"]) <= 9


@pytest.mark.parametrize("which", ["usual", "tuned"])
@pytest.mark.parametrize("shape", [(60, 60), (60, 40)])
def test_scores_are_those_of_the_slow_version(request, records, which, shape):
    method: MRAD = request.getfixturevalue(which)
    view = encode(method, 5, shape)
    image, maps = slow_channels(method, view, slow_memory(auxiliary(method, records)))
    scores = method.score(view)
    np.testing.assert_allclose(scores.map[0].numpy(), maps, atol=2e-4)
    assert float(scores.parts["class"]) == pytest.approx(image, abs=2e-4)
    assert float(scores.parts["map"]) == pytest.approx(slow_top(maps), abs=2e-4)
    mean, deviation = method.module.usual.double().numpy().T
    parts = (np.array([float(scores.parts["map"]), float(scores.parts["class"])]) - mean) / deviation
    assert float(scores.image) == pytest.approx(parts.mean(), abs=1e-3)
    assert method.words(view).patches is not None


def test_the_plain_sum_is_that_of_the_released_code(backbone, records):
    method = trained(backbone, records, fusion="plain", image_share=0.7)
    scores = method.score(encode(method))
    expected = 0.3 * float(scores.parts["map"]) + 0.7 * float(scores.parts["class"])
    assert float(scores.image) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("exclude", ["class", "photo"])
def test_usual_values_are_of_photos_that_do_not_see_themselves(backbone, records, exclude):
    method = build(backbone, exclude=exclude)
    data = auxiliary(method, records)
    method.train(data)
    memory, values = slow_memory(data), []
    for index, example in enumerate(data.examples):
        own = (
            {index}
            if exclude == "photo"
            else {i for i, r in enumerate(records) if r.class_name == records[example.photo].class_name}
        )
        seen = {task: [key for key in keys if key[2] not in own] for task, keys in memory.items()}
        image, maps = slow_channels(method, data.batch([index]).features, seen)
        values.append((slow_top(maps), image))
    table = np.array(values)
    expected = np.stack([table.mean(0), table.std(0, ddof=1)], axis=1)
    np.testing.assert_allclose(method.module.usual.numpy(), expected, atol=5e-4)


def test_a_photo_of_the_memory_finds_its_own_label_where_it_may_see_itself(backbone, records):
    """What the exclusion is for: at a small temperature every photo of the memory is recognised."""
    method = trained(backbone, records, temperature=1e-3, exclude="photo")
    data = auxiliary(method, records)
    scores = [float(method.score(data.batch([i]).features).parts["class"]) for i in range(len(data))]
    assert [round(score) for score in scores] == [example.label for example in data.examples]


# -- learning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", ["class", "photo", "quantile"])
def test_the_loss_is_that_of_the_slow_version(backbone, records, exclude):
    method = build(backbone, exclude=exclude, excluded=0.6, **FT)
    data = auxiliary(method, records)
    own, memory = method._remember(data), slow_memory(data)
    rows = [1, 3, 5]
    batch = data.batch(rows)
    entropy, focal, dice = [], [], []

    def visible(task: str, query: np.ndarray, row: int) -> list[tuple[np.ndarray, int, int]]:
        if exclude == "quantile":
            similar = np.array([query @ half(key) for key, _, _ in memory[task]])
            return [key for key, s in zip(memory[task], similar, strict=True) if s <= np.quantile(similar, 0.6)]
        names = [record.class_name for record in records]
        return [key for key in memory[task] if (key[2] != row if exclude == "photo" else names[key[2]] != names[row])]

    for number, row in enumerate(rows):
        query = unit(batch.features.image[number].double().numpy())
        image = slow_channel(query, visible("image", query, row), 1.0, linears(method, "image"))
        both = np.exp(np.array([1 - image, image]) / 0.07)
        entropy.append(-np.log(both[data.examples[row].label] / both.sum()))
        patches = unit(slow_patches(batch.features, number))
        channel = [slow_channel(q, visible("patch", q, row), 1.0, linears(method, "patch")) for q in patches]
        mask = batch.masks[number].numpy()
        large = enlarge(np.array(channel).reshape(batch.features.grid), mask.shape)
        target = np.clip(mask, 1e-5, 1 - 1e-5)
        p = target * large + (1 - target) * (1 - large) + 1e-5
        focal.append((-((1 - p) ** 2) * np.log(p)).mean())
        dice.append(1 - (2 * (large * mask).sum() + 1) / (large.sum() + mask.sum() + 1))
    loss = float(method.loss(batch, method._hidden(own, data, rows)).detach())
    assert loss == pytest.approx(np.mean(entropy) + np.mean(focal) + np.mean(dice), abs=2e-3)


def test_gradients_reach_the_linear_maps_alone_and_training_lowers_the_loss(backbone, records):
    method = build(backbone, **(FT | {"epochs": 15, "exclude": "photo"}))
    data = auxiliary(method, records)
    own = method._remember(data)
    method.loss(data.batch([1, 3]), method._hidden(own, data, [1, 3])).backward()
    assert all(p.grad is None for tower in (backbone.text, backbone.vision) for p in tower.parameters())
    named = dict(method.module.named_parameters())
    assert len(named) == 8 and all(p.grad is not None for p in named.values())
    history = method.train(data)
    assert len(history) == 15 and np.mean(history[-3:]) < 0.9 * history[0]


class Killed(Exception):
    """Stands for a process that ends in the middle of an epoch."""


def test_training_that_was_killed_goes_on_to_the_same_bits(backbone, records, tmp_path):
    torch.manual_seed(1)  # nothing depends on the global generator
    whole, stopped, resumed = (build(backbone, **(FT | {"epochs": 3})) for _ in range(3))
    expected = whole.train(auxiliary(whole, records))
    checkpoint = Checkpoint(tmp_path / "half.safetensors", {"method": "mrad"})

    def kill(done: int, total: int) -> None:
        if done > total // 3 + 1:
            raise Killed

    with pytest.raises(Killed):
        stopped.train(auxiliary(stopped, records), checkpoint=checkpoint, progress=kill)
    with pytest.raises(ConfigError, match="not trained yet"):
        outcome(stopped)
    assert resumed.train(auxiliary(resumed, records), checkpoint=checkpoint) == expected
    assert torch.equal(outcome(resumed), outcome(whole))


TF_OTHERS: dict[str, dict[str, Any]] = {
    "variant": {"variant": "ft"},
    "temperature": {"temperature": 1.0},
    "local_start": {"local_start": 3},
    "neighbourhood": {"neighbourhood": (1,)},
    "cells": {"cells": "centre"},
    "exclude": {"exclude": "photo"},
    "fusion": {"fusion": "plain"},
    "image_share": {"image_share": 0.7},
    "top": {"top": 0.1},
    "top_smoothing": {"top_smoothing": 40.0},
}
FT_OTHERS: dict[str, dict[str, Any]] = {
    "excluded": {"exclude": "quantile", "excluded": 0.5},
    "epochs": {"epochs": 3},
    "batch_size": {"batch_size": 2},
    "lr": {"lr": 0.01},
    "lr_end": {"lr_end": 1.0},
    "betas": {"betas": (0.9, 0.999)},
    "seed": {"seed": 7},
}


def test_every_setting_is_tried():
    assert {field.name for field in fields(MRADConfig)} == set(TF_OTHERS) | set(FT_OTHERS) | ELSEWHERE


@pytest.mark.parametrize("name", TF_OTHERS)
def test_every_setting_changes_the_scores(backbone, records, usual, name):
    assert (outcome(trained(backbone, records, **TF_OTHERS[name])) - outcome(usual)).abs().max() > 1e-6


@pytest.mark.parametrize("name", FT_OTHERS)
def test_every_setting_of_training_changes_the_scores(backbone, records, tuned, name):
    base = trained(backbone, records, **(FT | {"exclude": "quantile"})) if name == "excluded" else tuned
    assert (outcome(trained(backbone, records, **(FT | FT_OTHERS[name]))) - outcome(base)).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"variant": "clip"}, "variant must be one of tf, ft"),
        ({"neighbourhood": (2,)}, r"neighbourhood \[2\] must be odd sides"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"top": 0.0}, "top must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, says):
    with pytest.raises(ConfigError, match=says):
        find_method("mrad").make_config("clean", **values)


def test_data_that_cannot_be_used_is_refused(backbone, records):
    method = build(backbone)
    for data in (None, auxiliary(method, records, masks=False)):
        with pytest.raises(ConfigError, match="photos with masks"):
            method.train(data)
    renamed = [replace(record, class_name="nut") for record in records]
    with pytest.raises(ConfigError, match=r"6 training photos are of one class.*exclude='photo'") as error:
        method.train(auxiliary(method, renamed))
    assert "\n" not in str(error.value)
    assert trained(backbone, renamed, exclude="photo")


# -- what is kept --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["usual", "tuned"])
def test_the_memory_goes_through_a_file_and_scores_the_same(request, backbone, which, tmp_path):
    method: MRAD = request.getfixturevalue(which)
    fresh = MRAD(backbone, method.config, "nut")
    with pytest.raises(ConfigError, match="promptad train mrad"):
        outcome(fresh)
    write_learned(tmp_path / "p.safetensors", method, backbone, "clean", {"epochs": 2})
    read_learned(tmp_path / "p.safetensors").load_into(fresh, backbone)
    assert torch.equal(outcome(fresh), outcome(method))
    method.fit([[encode(method, 1)]])  # good photos teach it nothing
    assert torch.equal(outcome(fresh), outcome(method)) and set(method.state()) == set(fresh.learned())


def test_missing_and_misshapen_tensors_are_refused_and_leave_the_method_as_it_was(backbone, tuned):
    state, before = tuned.learned(), outcome(tuned)
    other = MRAD(backbone, tuned.config, "nut")
    other.load_learned(state)
    for key in state:
        for wrong in ({k: v for k, v in state.items() if k != key}, state | {key: torch.zeros(5, 5)}):
            with pytest.raises(WeightsError, match=f"'{key}'.*found (nothing|\\(5, 5\\))"):
                other.load_learned(wrong)
            assert torch.equal(outcome(other), before)

"""DevNet, DRA and the stand-in for MLEP trained once on seen classes: what they draw, learn and keep, against the heads for one
product, on a tiny random CLIP."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from promptad_cases import lively_backbone
from torch import Tensor

from drawn_data import photo
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.clip.preprocess import Preprocess
from promptad.data.files import sha256_file
from promptad.data.records import Record
from promptad.detector import Detector
from promptad.errors import ConfigError, DataError, WeightsError
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.drawn_steps import drawn_steps
from promptad.learning.epochs import Checkpoint
from promptad.learning.features import GIB, Encoder, FeatureStore
from promptad.methods.baselines.open_set_zs import NOBODY, SeenMaps
from promptad.methods.catalogue import FACTS
from promptad.methods.contract import Trained
from promptad.methods.registry import METHODS
from promptad.methods.settings import FREE_SETTINGS, PRESETS, ScoringConfig
from promptad.notices import PromptadNotice
from promptad.saved.prompts import read_learned
from promptad.training import Source, train_prompts

FITTED = {"devnet-zs": "devnet", "dra-zs": "dra", "mlep-proxy-zs": "mlep-proxy"}
NAMES = tuple(FITTED)
QUICK = {"epochs": 2, "iterations": 3, "batch_size": 6, "lr": 0.01}
pytestmark = pytest.mark.filterwarnings("ignore::promptad.notices.PromptadNotice")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


def build(name: str, backbone: Backbone, preset: str = "paper", **values: Any) -> Any:
    entry = METHODS[name]
    return entry.build(backbone, entry.make_config(preset, **(QUICK | values)), "cup")


def auxiliary(method: Any, records: list[Record], **more: Any) -> AuxiliarySet:
    encoder = Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request, cache=more.pop("cache", None))
    return AuxiliarySet(method.choose(records), encoder, masks=False, described=records, **more)


def trained(name: str, backbone: Backbone, records: list[Record], **values: Any) -> Any:
    method = build(name, backbone, **values)
    method.train(auxiliary(method, records))
    return method


def view(method: Any, seed: int = 9, shape: tuple[int, int] = (48, 48)) -> Features:
    encoder = Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request)
    return encoder.encode([photo(seed, size=shape)])[0].features[0]


def outcome(method: Any, leave_out: int | None = None) -> Tensor:
    scores = method.score(view(method), leave_out=leave_out)
    return torch.cat([scores.image, *([] if scores.map is None else [scores.map.flatten()])])


def views_of(data: AuxiliarySet, label: int) -> list[list[Features]]:
    """Each view as a photo of its own, as the heads for one product take them."""
    return [[data.labelled(row).features] for row, example in enumerate(data) if example.label == label]


# What they are ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_they_are_trained_methods_with_the_presets_of_those_for_one_product(backbone, name):
    method, facts = build(name, backbone), FACTS[name]
    assert isinstance(method, Trained) and method.needs == facts.trained_on == "labels" and method.name == name
    assert facts.good_photos == ("optional" if name == "dra-zs" else "unused") and facts.anomalies == "unused"
    assert facts.maps is FACTS[FITTED[name]].maps
    own = {"normals", "anomalies", *(("few_shot",) if name == "dra-zs" else ())}
    for preset in PRESETS:
        config, other = METHODS[name].make_config(preset), METHODS[FITTED[name]].make_config(preset)
        assert {field.name for field in fields(config)} - {field.name for field in fields(other)} == own
        assert all(getattr(config, field.name) == getattr(other, field.name) for field in fields(other))
        assert (config.normals, config.anomalies) == (40 if preset == "clean" else 0, 10)
    assert set(METHODS[name].free) - set(FREE_SETTINGS) == own - {"normals", "anomalies"}
    assert method.parameter_count() == build(FITTED[name], backbone).parameter_count()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("values", [{}, {"normals": 3, "anomalies": 1}, {"seed": 5, "anomalies": 2}], ids=str)
def test_photos_are_those_of_promptad_zero_shot(backbone, records, name, values):
    entry = METHODS["promptad-zs"]
    other = entry.build(backbone, entry.make_config("paper", **values), "cup")
    assert build(name, backbone, **values).choose(records) == other.choose(records)  # type: ignore[attr-defined]


# Training -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("standardise", [True, False])
def test_a_step_has_the_loss_of_the_heads_for_one_product_on_the_same_photos(backbone, records, name, standardise):
    method, fitted = (build(key, backbone, standardise=standardise) for key in (name, FITTED[name]))
    data = auxiliary(method, records)
    assert len({example.grid for example in data}) == 2
    good, faulty = views_of(data, 0), views_of(data, 1)
    history = method.train(data)
    fitted.fit(good, anomalies=faulty)
    torch.testing.assert_close(history, fitted.history)
    torch.testing.assert_close(outcome(method), outcome(fitted))
    grid = good[0][0].grid
    rows = [[row for row, example in enumerate(data) if example.label == label] for label in (0, 1)]
    lazy = [SeenMaps(method, data, own, grid) for own in rows]
    stacked = [fitted._stack(photos, grid) for photos in (good, faulty)]
    steps = drawn_steps((len(good), len(faulty)), method.batch_shares(), 3, torch.Generator().manual_seed(3))
    for drawn in steps:
        from_disk, from_memory = method.loss(method.net(), *lazy, drawn), fitted.loss(fitted.net(), *stacked, drawn)
        torch.testing.assert_close(from_disk, from_memory)


def test_maps_that_are_asked_for_several_times_are_read_once(backbone, records, monkeypatch):
    method = build("devnet-zs", backbone)
    data = auxiliary(method, records)
    maps, read = SeenMaps(method, data, [2, 0, 1], data.examples[0].grid), []
    labelled = data.labelled
    monkeypatch.setattr(data, "labelled", lambda row: read.append(row) or labelled(row))
    rows = maps[[0, 2, 0, 0]]
    assert len(maps) == 3 and sorted(read) == [1, 2] and torch.equal(rows[0], rows[2])
    assert torch.equal(rows[1:2], method.maps(labelled(1).features))


@pytest.mark.parametrize("name", NAMES)
def test_features_on_disk_give_the_same(backbone, records, name, tmp_path):
    whole, method = trained(name, backbone, records), build(name, backbone)
    store = FeatureStore(tmp_path)
    data = auxiliary(method, records, cache=store, keep_bytes=0)
    assert not data._kept
    method.train(data)
    assert all(torch.equal(value, method.learned()[key]) for key, value in whole.learned().items())
    assert auxiliary(method, records, keep_bytes=GIB)._kept


def test_channels_are_scaled_as_the_good_photos_of_the_seen_classes_say(backbone, records):
    method = build("devnet-zs", backbone)
    data = auxiliary(method, records)
    method.train(data)
    tokens = torch.cat([views[0].taps[method._layer][0] for views in views_of(data, 0)]).double()
    torch.testing.assert_close(method.learned()["mean"].double(), tokens.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(method.learned()["scale"].double(), tokens.std(0, correction=0), atol=0, rtol=1e-4)


def test_shapes_that_were_brought_to_one_are_said(backbone, records):
    method = build("devnet-zs", backbone, anomalies=10)
    data = auxiliary(method, records)
    other = sum(example.grid != data.examples[0].grid for example in data)
    with pytest.warns(PromptadNotice, match=f"{other} of {len(data)} views have another shape"):
        method.train(data)


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss_and_leaves_global_randomness_alone(backbone, records, name):
    method = build(name, backbone, epochs=8, iterations=8)
    data = auxiliary(method, records)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    history = method.train(data)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert history[-1] < history[0] and len(history) == 8
    assert not any(parameter.requires_grad for parameter in method.net().parameters())


# Every setting, with a value that is not the paper's; those of all methods are tested with these.
OTHERS: dict[str, Any] = {
    "tokens": "projected",
    "layer": 1,
    "standardise": False,
    "half_size": False,
    "top_fraction": 0.5,
    "margin": 2.0,
    "batch_size": 4,
    "epochs": 1,
    "iterations": 2,
    "lr": 0.02,
    "weight_decay": 0.3,
    "decay_every": 1,
    "clip": 0.01,
    "seed": 3,
    "normals": 2,
    "anomalies": 1,
    "references": 1,
    "pseudo": 0.9,
    "noise": 2.0,
    "code": 8,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_an_effect(backbone, records, name):
    settings = set(METHODS[name].setting_names) - {field.name for field in fields(ScoringConfig)} - {"few_shot"}
    assert settings <= set(OTHERS)
    base = outcome(trained(name, backbone, records))
    assert torch.equal(outcome(trained(name, backbone, records)), base)
    for key in sorted(settings):
        made = outcome(trained(name, backbone, records, **{key: OTHERS[key]}))
        assert not torch.allclose(made, base, atol=1e-6), key


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_training_goes_on_to_the_same_bits(backbone, records, name, tmp_path):
    whole = trained(name, backbone, records, epochs=3)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", {"run": 1})

    def kill(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    method = build(name, backbone, epochs=3)
    data = auxiliary(method, records)
    with pytest.raises(KeyboardInterrupt):
        method.train(data, checkpoint=checkpoint, progress=kill)
    with pytest.raises(ConfigError, match="promptad train"):  # a training that was not finished scores nothing
        method.score(view(method))
    resumed, steps = build(name, backbone, epochs=3), []
    resumed.train(data, checkpoint=checkpoint, progress=lambda done, total: steps.append(done))
    assert steps[0] > 1
    assert all(torch.equal(value, resumed.learned()[key]) for key, value in whole.learned().items())


@pytest.mark.parametrize("name", NAMES)
def test_they_cannot_train_on_nothing(backbone, records, name):
    with pytest.raises(ConfigError, match="labelled photos"):
        build(name, backbone).train(None)
    with pytest.raises(DataError, match="anomalous test photos"):
        build(name, backbone).choose([record for record in records if record.label == 0])


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_is_left_out_has_no_part_in_training(backbone, records, name, tmp_path):
    whole, others = records, [record for record in records if record.class_name != "nut"]
    made = []
    for number, given in enumerate((others, whole)):
        path = tmp_path / f"{number}.safetensors"
        source = Source("drawn", "-", given)
        made.append(train_prompts(name, [source], backbone, path, preset="paper", settings=QUICK))
    assert [learned.card["data"][0]["classes"] for learned in made] == [["tile"], ["nut", "tile"]]
    assert made[0].losses != made[1].losses
    method = build(name, backbone)
    chosen = method.choose(whole)
    assert method.choose(others) == [record for record in chosen if record.class_name == "tile"]
    known = {sha256_file(record.path) for record in whole if record.class_name == "nut"}
    assert not known & set(read_learned(made[0].path).photos) and known & set(read_learned(made[1].path).photos)


# Scores and saving --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(48, 48), (48, 24), (16, 48)])
def test_photos_of_any_shape_are_scored(backbone, records, name, shape):
    method = trained(name, backbone, records)
    features = view(method, shape=shape)
    scores = method.score(features)
    assert scores.image.shape == (1,) and bool(scores.image.isfinite())
    assert (scores.map is None) is (name == "mlep-proxy-zs")
    assert scores.map is None or scores.map.shape == (1, *features.grid)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_learned_goes_through_tensors_and_a_file_and_back(backbone, records, name, tmp_path):
    method, fresh = trained(name, backbone, records), build(name, backbone)
    learned = {key: value.clone() for key, value in method.learned().items()}
    fresh.load_learned(learned)
    assert torch.equal(outcome(fresh), outcome(method)) and set(fresh.state()) == set(learned)
    restored = build(name, backbone)
    restored.load_state(method.state())
    assert torch.equal(outcome(restored), outcome(method))
    path = tmp_path / "heads.safetensors"
    train_prompts(name, [Source("drawn", "-", records)], backbone, path, preset="paper", settings=QUICK)
    detector = Detector(weights=path, object="cup", backbone=backbone)
    before = detector.predict(photo(5)).score
    fitted = detector.fit([photo(seed) for seed in range(3)])
    assert (fitted.predict(photo(5)).score == before) is (name != "dra-zs")
    again = Detector.load(fitted.save(tmp_path / "cup.safetensors"), backbone=backbone)
    assert again.predict(photo(5)).score == fitted.predict(photo(5)).score


@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_do_not_fit_are_named(backbone, records, name):
    state = trained(name, backbone, records).state()
    for key in state:
        method = build(name, backbone)
        with pytest.raises(WeightsError, match="missing or of another shape") as caught:
            method.load_state({other: value for other, value in state.items() if other != key})
        assert "\n" not in str(caught.value)
        with pytest.raises(ConfigError, match="promptad train"):
            method.score(view(method))


@pytest.mark.parametrize("name", ["devnet-zs", "mlep-proxy-zs"])
def test_good_photos_only_set_the_threshold(backbone, records, name):
    method = trained(name, backbone, records)
    alone = outcome(method)
    method.fit([[view(method, 1)], [view(method, 2)]])
    assert torch.equal(outcome(method), alone) and set(method.state()) == set(method.learned())
    assert torch.equal(outcome(method, leave_out=0), alone)  # photo 0 of the product is none of those of training


def test_the_references_of_dra_are_those_of_the_seen_classes_until_there_are_good_photos(backbone, records):
    method = trained("dra-zs", backbone, records, references=2)
    assert method.seen["owners"].tolist() == [NOBODY] * 2
    alone, learned = outcome(method), method.learned()
    assert torch.equal(outcome(method, leave_out=0), alone)
    photos = [[view(method, seed)] for seed in (1, 2, 3)]
    method.fit(photos)
    few = outcome(method)
    assert not torch.allclose(few, alone)
    assert all(torch.equal(value, method.learned()[key]) for key, value in learned.items())
    # By hand: the mean of those two that the seed puts first.
    own = torch.cat([method.maps(views[0]) for views in photos])
    first = method._owners[:2].tolist()
    torch.testing.assert_close(method.reference(None, (6, 6)), own[first].mean(dim=0, keepdim=True))
    left = [number for number in method._owners.tolist() if number != first[0]]
    torch.testing.assert_close(method.reference(first[0], (6, 6)), own[left].mean(dim=0, keepdim=True))
    restored = build("dra-zs", backbone, references=2)
    restored.load_state({key: value.clone() for key, value in method.state().items()})
    for leave_out in (None, first[0]):
        assert torch.equal(outcome(restored, leave_out), outcome(method, leave_out))
    assert all(torch.equal(value, restored.learned()[key]) for key, value in learned.items())
    method.train(auxiliary(method, records))  # anew: the product's are forgotten
    assert torch.equal(outcome(method), alone)
    with pytest.raises(ConfigError, match="good photo"):
        method.fit([])


def test_good_photos_of_dra_only_set_the_threshold_when_few_shot_is_off(backbone, records):
    method = trained("dra-zs", backbone, records, few_shot="off")
    alone = outcome(method)
    method.fit([[view(method, 1)]])
    assert torch.equal(outcome(method), alone) and set(method.state()) == set(method.learned())


def test_the_stand_in_knows_the_mean_code_of_all_good_photos(backbone, records):
    method = build("mlep-proxy-zs", backbone, batch_size=4)  # more good photos than are looked at together
    data = auxiliary(method, records)
    method.train(data)
    scores = [method.score(views[0]) for views in views_of(data, 0)]
    for part in ("reconstruction", "distance"):
        values = torch.cat([scored.parts[part] for scored in scores])
        assert float(values.mean()) == pytest.approx(0, abs=1e-3)
        assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert len(method.learned()["codes"]) == len(values) == 9


def test_words_are_ranked(backbone):
    ranked = build("dra-zs", backbone, defects=("rust", "bent [c]"), only_defects=True)
    words = ranked.words(view(ranked))
    assert words.words == ("with rust", "bent") and float(words.image.sum()) == pytest.approx(1)


def test_the_features_that_a_figure_draws_are_there(backbone, records, tmp_path: Path):
    method = trained("dra-zs", backbone, records)
    rows = torch.cat([method.photo_features(view(method, seed)) for seed in (4, 5)])
    assert rows.shape == (2, method.width) and not torch.allclose(rows[0], rows[1])

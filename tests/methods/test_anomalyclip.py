"""AnomalyCLIP on a tiny random CLIP, and what it shares with FAPrompt: training, saving, words, errors."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from object_agnostic_cases import (
    BASE,
    ELSEWHERE,
    OTHERS,
    alive,
    auxiliary,
    build,
    encode,
    labelled_photos,
    outcome,
    plain_prompt,
    random_batch,
    reached,
    slow_map_loss,
    stir,
    trained,
    two_class,
)
from promptad_cases import lively_backbone

from promptad.clip.backbone import Backbone, load_backbone, random_backbone
from promptad.clip.tokenizer import clip_tokenizer
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError, TextError, WeightsError
from promptad.learning.epochs import Checkpoint
from promptad.methods.anomalyclip.method import AnomalyCLIPConfig
from promptad.methods.contract import Trained
from promptad.methods.faprompt.method import FAPromptConfig
from promptad.methods.object_agnostic import DEAD_PARAMETERS
from promptad.methods.registry import find_method
from promptad.notices import collected_notices
from promptad.saved.prompts import read_learned, write_learned
from tiny import SIZES

BOTH = ("anomalyclip", "faprompt")
SETTINGS = {
    "anomalyclip": OTHERS
    | {
        "context_tokens": {"context_tokens": 3},
        "abnormal_prompts": {"abnormal_prompts": 2},
        "map_weight": {"map_weight": 1.0},
    },
    "faprompt": OTHERS
    | {
        "normal_tokens": {"normal_tokens": 6},
        "abnormal_tokens": {"abnormal_tokens": 1},
        "abnormal_prompts": {"abnormal_prompts": 3},
        "prior": {"prior": False},
        "prior_patches": {"prior_patches": "raster"},
        "patch_count": {"patch_count": 2},
        "orthogonality_weight": {"orthogonality_weight": 5.0},
        "prior_weight": {"prior_weight": 5.0},
        "refined_weight": {"refined_weight": 3.0},
        "image_focal": {"image_focal": "prob"},
    },
}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    return labelled_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def usual(backbone, records) -> dict:
    return {name: trained(backbone, name, records) for name in BOTH}


@pytest.fixture(scope="module")
def wide() -> Backbone:
    """The text tower of ViT-L-14-336 in width, depth and embedding, beside a tiny image tower."""
    text = replace(SIZES.text, width=768, layers=12, heads=12, mlp_width=8)
    return random_backbone(replace(SIZES, text=text, embed_dim=768), clip_tokenizer())


# Sizes --------------------------------------------------------------------------------------------


def test_parameter_counts_of_the_papers_and_their_dead_layers(wide):
    assert build(wide, "anomalyclip").parameter_count() == 43_008
    assert build(wide, "faprompt").parameter_count() == 4_100_064
    assert DEAD_PARAMETERS == 5_512_192
    assert 43_008 + DEAD_PARAMETERS == 5_555_200 and 4_100_064 + DEAD_PARAMETERS == 9_612_256  # as the papers report


def test_deep_sets_are_those_of_the_paper_and_never_more_than_the_tower_has_blocks_less_one(wide, backbone):
    assert build(wide, "anomalyclip").module.deep.shape == (8, 4, 768)
    assert build(wide, "anomalyclip", deep_depth=12).module.deep.shape == (11, 4, 768)
    for depth, sets in ((0, 0), (1, 0), (2, 1), (3, 2), (9, 2)):  # three blocks
        assert len(build(backbone, "anomalyclip", deep_depth=depth).module.deep_sets()) == sets


def test_end_positions_of_the_prompts(backbone):
    assert build(backbone, "anomalyclip").prompts.eot.tolist() == [15, 16]
    assert build(backbone, "faprompt").prompts.eot.tolist() == [8] + [11] * 10


def test_the_starter_has_its_own_words_and_five_deep_sets():
    starter = load_backbone("starter")
    words = {text: len(starter.tokenizer.words(text)) for text in ("object", "damaged object", ".")}
    for name, learnable in (("anomalyclip", (12, 12)), ("faprompt", (5, 7))):
        method = find_method(name).build(starter, find_method(name).make_config(), "cookie")
        assert len(method.module.deep_sets()) == 5
        first = 1 + learnable[0] + words["object"] + words["."]
        second = 1 + learnable[1] + words["damaged object"] + words["."]
        assert method.prompts.eot.tolist()[:2] == [first, second]


def test_presets_hold_what_is_printed_and_what_is_released():
    for name, epochs, smoothing in (("anomalyclip", 15, 4.0), ("faprompt", 7, 10.0)):
        entry = find_method(name)
        assert entry.trained and entry.good_photos == "unused"
        for preset in ("paper", "release"):
            config = entry.make_config(preset)
            assert (config.input_size, config.fit, config.map_size, config.smoothing) == (518, "squash", 518, smoothing)
            assert (config.epochs, config.batch_size, config.lr, config.betas) == (epochs, 8, 1e-3, (0.5, 0.999))
            assert (config.local, config.local_start, config.normalise_class) == ("vv", 6, False)
            assert config.positions == "bilinear"
            assert (config.deep_tokens, config.deep_depth, config.init_std, config.seed) == (4, 9, 0.02, 111)
            assert config.scale == pytest.approx(14.2857, abs=1e-4)
        clean = entry.make_config("clean")
        assert (clean.input_size, clean.fit, clean.epochs) == (0, "auto", epochs)
        assert clean.smoothing / clean.map_size == pytest.approx(smoothing / 518, rel=1e-3)
    assert find_method("anomalyclip").make_config("paper") == AnomalyCLIPConfig(
        input_size=518,
        fit="squash",
        positions="bilinear",
        map_size=518,
        context_tokens=12,
        abnormal_prompts=1,
        map_weight=4.0,
    )
    paper, release = (find_method("faprompt").make_config(preset) for preset in ("paper", "release"))
    assert replace(paper, prior_patches="raster", image_focal="logits", deep_precision="fp16") == release
    paper_of_anomalyclip = find_method("anomalyclip").make_config("paper")
    assert replace(paper_of_anomalyclip, deep_precision="fp16") == find_method("anomalyclip").make_config("release")
    assert (paper.prior_patches, paper.image_focal) == ("top", "prob")
    assert (paper.normal_tokens, paper.abnormal_tokens, paper.abnormal_prompts, paper.patch_count) == (5, 2, 10, 10)
    assert (paper.orthogonality_weight, paper.prior_weight, paper.refined_weight) == (0.1, 1.0, 0.5)
    assert find_method("faprompt").make_config("clean").prior_patches == "top"


# AnomalyCLIP's loss and scores ----------------------------------------------------------------------


def slow_features(method) -> tuple[np.ndarray, np.ndarray]:
    slots = method.module.slots
    normal = plain_prompt(method, [slots["normal"][0], "object", "."])
    abnormal = [plain_prompt(method, [row, "damaged object", "."]) for row in slots["abnormal"]]
    return normal, np.mean(abnormal, axis=0)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"abnormal_prompts": 3, "map_weight": 1.5},
        {"context_tokens": 2, "scale": 5.0},
        {"deep_depth": 1},
        {"deep_tokens": 15},
        {"context_tokens": 1, "deep_tokens": 8},
        {"deep_precision": "fp16"},
    ],
)
def test_the_loss_and_the_scores_are_those_of_a_slow_reference(backbone, values):
    method = build(backbone, "anomalyclip", **values)
    stir(method)
    batch, config = random_batch(), method.config
    normal, abnormal = slow_features(method)
    image = two_class(batch.features.image.double().numpy(), normal, abnormal, config.scale)
    maps = two_class(batch.features.patches.double().numpy(), normal, abnormal, config.scale).reshape(4, 6, 5, 2)
    entropy = -np.mean([np.log(image[i, y]) for i, y in enumerate(batch.labels)])
    expected = entropy + config.map_weight * slow_map_loss(maps, batch.masks.numpy())
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-4)
    scores = method.score(batch.features)
    np.testing.assert_allclose(scores.image.numpy(), image[:, 1], atol=1e-5)
    np.testing.assert_allclose(scores.map.numpy(), maps[..., 1], atol=1e-5)
    assert torch.equal(scores.parts["text"], scores.image) and scores.map.shape == (4, 6, 5)


@pytest.mark.parametrize("values", [{}, {"abnormal_prompts": 10}, {"deep_depth": 0}])
def test_gradients_reach_both_contexts_and_the_deep_tokens_and_nothing_else(backbone, values):
    gradients = reached(build(backbone, "anomalyclip", **values), random_batch())
    expected = {"slots.normal", "slots.abnormal"} | (set() if values.get("deep_depth") == 0 else {"deep"})
    assert set(gradients) == expected and all(alive(gradient) for gradient in gradients.values())


# Both methods: training -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_training_lowers_the_loss_over_batches_of_two_grids(backbone, records, name):
    method = build(backbone, name, epochs=12)
    data = auxiliary(method, method.choose(records))
    assert {example.grid for example in data} == {(6, 6), (6, 4)} and isinstance(method, Trained)
    steps: list[tuple[int, int]] = []
    before = {key: value.clone() for key, value in method.module.state_dict().items()}
    towers = [tower.state_dict() for tower in (backbone.text, backbone.vision)]
    frozen = [{key: value.clone() for key, value in tower.items()} for tower in towers]
    history = method.train(data, progress=lambda done, total: steps.append((done, total)))
    assert len(history) == 12 and np.mean(history[-3:]) < 0.9 * history[0]
    assert steps == [(n, 24) for n in range(1, 25)]
    after = method.learned()
    assert all(not torch.equal(after[key], value) for key, value in before.items())
    assert all(torch.equal(a[key], b[key]) for a, b in zip(towers, frozen, strict=True) for key in a)


@pytest.mark.parametrize("name", BOTH)
def test_the_same_seed_gives_the_same_bits_whatever_was_trained_before(backbone, records, usual, name):
    torch.manual_seed(1)  # nothing depends on the global generator
    again = build(backbone, name)
    data = auxiliary(again, records)
    first = again.train(data)
    assert torch.equal(outcome(again), outcome(usual[name]))
    assert again.train(data) == first and torch.equal(outcome(again), outcome(usual[name]))


class Killed(Exception):
    """Stands for a process that ends in the middle of an epoch."""


@pytest.mark.parametrize("name", BOTH)
def test_training_that_was_killed_goes_on_to_the_same_bits(backbone, records, name, tmp_path):
    whole = build(backbone, name, epochs=3)
    data = auxiliary(whole, records)
    expected = whole.train(data)
    checkpoint = Checkpoint(tmp_path / "half.safetensors", {"method": name})
    stopped, epochs_seen = build(backbone, name, epochs=3), []

    def kill(done: int, total: int) -> None:
        if done > total // 3 + 1:  # in the second epoch
            raise Killed

    with pytest.raises(Killed):
        stopped.train(data, checkpoint=checkpoint, progress=kill)
    with pytest.raises(ConfigError, match="not trained yet"):
        outcome(stopped)
    resumed = build(backbone, name, epochs=3)
    history = resumed.train(data, checkpoint=checkpoint, progress=lambda done, _: epochs_seen.append(done))
    assert epochs_seen[0] == 3  # the first epoch's two batches were not run again
    assert history == expected
    ours, theirs = resumed.learned(), whole.learned()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(outcome(resumed), outcome(whole))


@pytest.mark.parametrize("name", BOTH)
def test_every_setting_is_tried(name):
    config = {"anomalyclip": AnomalyCLIPConfig, "faprompt": FAPromptConfig}[name]
    assert {field.name for field in fields(config)} == set(SETTINGS[name]) | ELSEWHERE


@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name in BOTH for setting in SETTINGS[name]])
def test_every_setting_changes_the_scores(backbone, records, usual, name, setting):
    other = trained(backbone, name, records, **SETTINGS[name][setting])
    difference = (outcome(other) - outcome(usual[name])).abs().max()
    assert difference > 1e-6


def test_only_labelled_photos_of_test_splits_are_chosen(backbone):
    method = build(backbone, "anomalyclip")
    paths = [Path(str(n)) for n in range(5)]
    good, bad = Record(paths[0], 0, class_name="nut"), Record(paths[1], 1, class_name="bolt")
    others = [Record(paths[2], 0, split="train"), Record(paths[3], None), Record(paths[4], 1, split="train")]
    assert method.choose([others[0], bad, others[1], good, others[2]]) == [bad, good]
    with pytest.raises(DataError, match="none of 3 photos is a labelled one of a test split"):
        method.choose(others)


@pytest.mark.parametrize("name", BOTH)
def test_training_without_masks_or_photos_says_so(backbone, records, name):
    method = build(backbone, name)
    for data in (None, auxiliary(method, records, masks=False)):
        with pytest.raises(ConfigError, match="photos with masks"):
            method.train(data)


# Both methods: what is kept ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_what_was_learned_goes_through_a_file_and_scores_the_same(backbone, usual, name, tmp_path):
    method, fresh = usual[name], build(backbone, name)
    with pytest.raises(ConfigError, match=f"promptad train {name}"):
        outcome(fresh)
    with pytest.raises(ConfigError, match="not trained yet"):
        fresh.state()
    write_learned(tmp_path / "prompts.safetensors", method, method.backbone, "clean", {"epochs": 2})
    learned = read_learned(tmp_path / "prompts.safetensors")
    learned.load_into(fresh, backbone)
    assert torch.equal(outcome(fresh), outcome(method))
    assert set(fresh.state()) == set(method.learned())
    # Other values replace those that the prototypes were kept of.
    stir(fresh)
    assert (outcome(fresh) - outcome(method)).abs().max() > 1e-4
    fresh.load_state(method.state())
    assert torch.equal(outcome(fresh), outcome(method))
    # What is given out does not change when training goes on.
    given = fresh.learned()
    kept = {key: value.clone() for key, value in given.items()}
    stir(fresh)
    assert all(torch.equal(given[key], kept[key]) and given[key].is_contiguous() for key in kept)


@pytest.mark.parametrize("name", BOTH)
def test_missing_and_misshapen_tensors_are_refused_and_leave_the_method_as_it_was(backbone, usual, name):
    good = usual[name].learned()
    for key in good:
        method = build(backbone, name)
        before = {k: v.clone() for k, v in method.module.state_dict().items()}
        for wrong in ({k: v for k, v in good.items() if k != key}, good | {key: torch.zeros(2, 2)}):
            with pytest.raises(WeightsError, match=f"'{key}'.*found (nothing|\\(2, 2\\))") as caught:
                method.load_learned(wrong)
            assert "\n" not in str(caught.value)
        assert all(torch.equal(method.module.state_dict()[k], v) for k, v in before.items())
        with pytest.raises(ConfigError, match="not trained yet"):
            outcome(method)


@pytest.mark.parametrize("name", BOTH)
def test_normal_and_initial_abnormal_prompts_are_encoded_once(backbone, usual, name, monkeypatch):
    method = build(backbone, name)
    method.load_learned(usual[name].learned())
    calls: list[int] = []
    encode_continued = backbone.text.encode_continued

    def counted(prefix, groups, *rest):
        calls.append(len(groups))
        return encode_continued(prefix, groups, *rest)

    monkeypatch.setattr(backbone.text, "encode_continued", counted)
    batch = random_batch(count=3)
    method.score(batch.features)
    first = len(method.prompts)
    refined = [] if name == "anomalyclip" else [30]  # ten prompts for each of three views, in one call
    assert calls == [first, *refined]
    method.score(batch.features)
    assert calls == [first, *refined, *refined]


@pytest.mark.parametrize("name", BOTH)
def test_the_object_names_defects_and_never_changes_a_score(backbone, usual, name):
    other = build(backbone, name, "metal_nut")
    other.load_learned(usual[name].learned())
    assert torch.equal(outcome(other), outcome(usual[name]))
    view = encode(other)
    ours, theirs = other.words(view), usual[name].words(view)
    assert ours.words == theirs.words == ("bent",) and ours.patches.shape == (1, 36, 1)
    assert not torch.equal(other._ranked._features, usual[name]._ranked._features)
    other.fit([[view]])
    assert torch.equal(outcome(other), outcome(usual[name]))


@pytest.mark.parametrize("name", BOTH)
def test_a_batch_scores_as_its_views_one_by_one(backbone, usual, name):
    method, features = usual[name], random_batch(count=5).features
    together = method.score(features)
    for row in range(5):
        alone = method.score(features[row : row + 1])
        torch.testing.assert_close(alone.map[0], together.map[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.image[0], together.image[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("anomalyclip", {"context_tokens": 0}, "context_tokens"),
        ("anomalyclip", {"map_weight": -1.0}, "map_weight"),
        ("anomalyclip", {"local": "kk"}, "local must be one of vv, vv_cosine, maskclip"),
        ("anomalyclip", {"betas": (0.5,)}, "betas must be 2 numbers"),
        ("anomalyclip", {"betas": (0.5, 1.0)}, "betas must be from 0 to below 1"),
        ("anomalyclip", {"lr": 0.0}, "lr"),
        ("anomalyclip", {"epochs": 0}, "epochs"),
        ("anomalyclip", {"deep_depth": -1}, "deep_depth"),
        ("anomalyclip", {"smoothing": -1.0}, "smoothing"),
        ("faprompt", {"patch_count": 0}, "patch_count"),
        ("faprompt", {"prior_weight": -0.1}, "prior_weight"),
        ("faprompt", {"prior_patches": "last"}, "prior_patches must be one of top, raster"),
        ("faprompt", {"image_focal": "bce"}, "image_focal must be one of logits, prob"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, values, says):
    with pytest.raises(ConfigError, match=says) as caught:
        find_method(name).make_config("clean", **(BASE | values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", ["clean", "paper", "release"])
@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("faprompt", {"deep_tokens": 6, "normal_tokens": 5}, None),
        ("faprompt", {"deep_tokens": 8}, "at position 8, before blocks 2 to 3; .*deep_tokens=7 leaves"),
        ("faprompt", {"deep_tokens": 11, "deep_depth": 2}, "at position 8 and 11, before block 2; "),
        ("faprompt", {"deep_tokens": 8, "deep_depth": 1}, None),
        ("anomalyclip", {"deep_tokens": 8}, None),
        ("anomalyclip", {"deep_tokens": 15}, "at position 15, "),
    ],
)
def test_lengths_of_the_papers_table_run_and_say_where_they_overwrite_an_end_token(
    backbone, preset, name, values, says
):
    with collected_notices() as lines:
        build(backbone, name, preset=preset, **values)
    if says is None:
        assert lines == []
    else:
        assert len(lines) == 1 and re.search(says, lines[0])


def test_rounding_deep_tokens_changes_features_a_little_and_lets_gradients_through(backbone):
    plain, rounded = (build(backbone, "anomalyclip", deep_precision=kind) for kind in ("fp32", "fp16"))
    for method in (plain, rounded):
        stir(method)
    batch = random_batch()
    difference = (plain.score(batch.features).map - rounded.score(batch.features).map).abs().max()
    assert 1e-7 < difference < 1e-2
    assert alive(reached(rounded, batch)["deep"])


def test_prompts_too_long_for_the_text_tower_are_refused(backbone):
    with pytest.raises(TextError, match=r"78 tokens.*at most 77"):
        build(backbone, "anomalyclip", context_tokens=73)

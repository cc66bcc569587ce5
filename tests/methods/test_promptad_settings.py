"""PromptAD on a tiny random CLIP: every setting, seeds, saved state, photos left out, words and errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
import torch
from promptad_cases import BASE, build, encode, lively_backbone, outcome, photo, trained
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.errors import ConfigError, TextError, WeightsError
from promptad.methods.promptad.config import PromptADConfig
from promptad.methods.promptad.method import TASKS, PromptAD

# Read by the detector, the benchmarks and the report, not by the method.
ELSEWHERE = {
    "input_size",
    "fit",
    "finest_defect",
    "input_range",
    "max_megapixels",
    "pre_resize",
    "test_channels",
    "view_score",
}
ELSEWHERE |= {"map_size", "smoothing"}
# Of a second image tower: `test_memory_backbone.py`.
ELSEWHERE |= {"memory_backbone_layers", "memory_backbone_point"}
# Setting -> another value, with the other settings that it needs to matter.
OTHERS = {
    "prefixes_image": {"prefixes_image": 2},
    "prefixes_pixel": {"prefixes_pixel": 2},
    "prefix_tokens": {"prefix_tokens": 3},
    "suffixes": {"suffixes": 2},
    "suffix_tokens": {"suffix_tokens": 2},
    "anomaly_prefixes": {"anomaly_prefixes": "own"},
    "suffix_position": {"suffix_position": "before"},
    "generic_states": {"generic_states": "five", "only_defects": False},
    "state_bank": {"state_bank": "none", "only_defects": False},
    "defects": {"defects": ("with rust",)},
    "only_defects": {"only_defects": False},
    "semantic_concatenation": {"semantic_concatenation": False},
    "manual_prompts": {"manual_prompts": False},
    "learnable_prompts": {"learnable_prompts": False},
    "margin": {"margin": False},
    "attraction": {"attraction": 3.0},
    "anchor": {"anchor": 3.0},
    "scale": {"scale": 4.6},
    "scale_pixel": {"scale_pixel": 4.6},
    "score_scale": {"score_scale": 4.6},
    "score_scale_pixel": {"score_scale_pixel": 4.6},
    "fusion_scale": {"fusion_scale": 4.6},
    "fusion": {"fusion": "raised"},
    "fusion_weight": {"fusion_weight": 1.0, "fusion": "raised"},
    "fusion_weight_pixel": {"fusion_weight_pixel": 1.0, "fusion": "raised"},
    "fusion_margin": {"fusion_margin": 0.0, "fusion": "raised"},
    "fusion_spread": {"fusion_spread": 0.5, "fusion": "raised"},
    "numerator": {"numerator": "normal"},
    "margin_distance": {"margin_distance": "euclidean"},
    "margin_over_patches": {"margin_over_patches": True},
    "alignment": {"alignment": "mean_of_normalised"},
    "alignment_weight": {"alignment_weight": 0.0},
    "optimiser": {"optimiser": "adam"},
    "epochs": {"epochs": 5},
    "lr": {"lr": 0.01},
    "lr_pixel": {"lr_pixel": 0.01},
    "momentum": {"momentum": 0.0},
    "weight_decay": {"weight_decay": 0.3},
    "final_lr": {"final_lr": 0.001},
    "prefix_init": {"prefix_init": "a photo of a"},
    "init_std": {"init_std": 0.05},
    "sentences": {"sentences": "winclip"},
    "prompt_precision": {"prompt_precision": "fp16"},
    "memory_layers": {"memory_layers": (2, 3)},
    "memory_pool": {"memory_pool": 3},
    "memory_point": {"memory_point": "after_next_attention"},
    "memory_windows": {"memory_windows": (1, 3)},
    "memory_map_windows": {"memory_map_windows": (1, 3)},
    "memory_turns": {"memory_turns": 4},
    "memory_mirrored": {"memory_mirrored": True},
    "memory_best_turns": {"memory_best_turns": 1, "memory_turns": 4},
    "memory_comparison": {"memory_comparison": "subspace"},
    "memory_variance": {"memory_variance": 0.5, "memory_comparison": "subspace"},
    "memory_budget": {"memory_budget": 5},
    "memory_top": {"memory_top": 0.1},
    "memory_precision": {"memory_precision": "fp32"},
    "memory_maximum": {"memory_maximum": "map"},
    "local": {"local": "maskclip"},
    "local_start": {"local_start": 2},
    "parts": {"parts": "text"},
    "seed": {"seed": 112},
}


@pytest.fixture(scope="module")
def backbone() -> Iterator[Backbone]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on a busy machine wait for each other at every tiny layer
    yield lively_backbone()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def usual(backbone) -> Tensor:
    return outcome(trained(backbone))


@pytest.mark.parametrize(("depth", "layers"), [(12, (3, 6, 9)), (24, (6, 12, 18)), (4, (1, 2, 3)), (1, (1,))])
def test_where_no_layer_is_named_the_memory_takes_quarters_of_the_depth(backbone, depth, layers):
    vision = replace(backbone.sizes.vision, layers=depth)
    assert PromptADConfig(memory_layers=()).memory(vision).layers == layers
    assert PromptADConfig(memory_layers=(), parts="text").memory(vision).layers == ()
    assert PromptADConfig(memory_layers=(2,)).memory(vision).layers == (2,)


# Settings -----------------------------------------------------------------------------------------


def test_every_setting_of_the_method_is_tried_below():
    names = {field.name for field in fields(PromptADConfig)}
    assert names == set(OTHERS) | ELSEWHERE | {"word_scale"}


@pytest.mark.parametrize("name", OTHERS)
def test_every_setting_changes_the_scores(backbone, usual, name):
    without = {key: value for key, value in OTHERS[name].items() if key != name}
    before = outcome(trained(backbone, **without)) if without else usual
    assert not torch.equal(outcome(trained(backbone, **OTHERS[name])), before)


def test_settings_of_the_pixel_prompts_leave_the_image_score_alone(backbone, usual):
    for name in ("scale_pixel", "score_scale_pixel", "lr_pixel", "margin_over_patches"):
        values = OTHERS[name]
        changed = outcome(trained(backbone, **values))
        assert changed[0] == usual[0] and not torch.equal(changed[1:], usual[1:])


@pytest.mark.parametrize(
    "values",
    [
        {"suffix_position": "middle"},
        {"numerator": "both"},
        {"margin_distance": "cosine"},
        {"alignment": "none"},
        {"optimiser": "lbfgs"},
        {"prompt_precision": "int8"},
        {"memory_point": "mlp"},
        {"local": "kk"},
        {"parts": "none"},
        {"fit": "stretch"},
        {"view_score": "median"},
        {"prefixes_image": 0},
        {"prefix_tokens": 0},
        {"suffix_tokens": 0},
        {"suffixes": -1},
        {"anomaly_prefixes": "none"},
        {"attraction": -1.0},
        {"anchor": -1.0},
        {"epochs": -1},
        {"map_size": 0},
        {"smoothing": -1.0},
        {"manual_prompts": False, "learnable_prompts": False},
        {"manual_prompts": False, "suffixes": 0},
        {"memory_layers": (-1,)},
        {"memory_precision": "bf16"},
        {"memory_maximum": "patch"},
        {"local": "linear", "memory_point": "after_next_attention"},
        {"local": "linear", "memory_pool": 3},
        {"memory_pool": 2},
        {"memory_windows": ()},
        {"memory_windows": (1, 2)},
        {"memory_map_windows": (2,)},
        {"memory_turns": 0},
        {"memory_best_turns": 1, "memory_comparison": "subspace"},
        {"memory_comparison": "mahalanobis"},
        {"memory_variance": 1.0},
        {"memory_top": 1.0},
        {"lr": -0.1},
        {"lr_pixel": -0.1},
        {"momentum": -0.5},
        {"momentum": 1.5, "optimiser": "adam"},
        {"weight_decay": -1.0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_config_errors_of_one_line(backbone, values):
    with pytest.raises(ConfigError) as caught:
        PromptADConfig(**values)
    assert "\n" not in str(caught.value)


def test_layers_that_the_tower_has_not_and_words_too_long_are_errors(backbone):
    for values in ({"memory_layers": (3, 8)}, {"memory_layers": (0, 1)}, {"local_start": 5}):
        with pytest.raises(ConfigError):
            encode(build(backbone, **values), photo(1))
    with pytest.raises(TextError, match="at most 77"):
        build(backbone, "nut " * 75)
    with pytest.raises(ConfigError, match="no name"):
        build(backbone, " ")
    with pytest.raises(ConfigError, match="at least one good photo"):
        build(backbone).fit([])
    with pytest.raises(ConfigError, match="call fit"):
        outcome(build(backbone))


# Seeds --------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(backbone, usual):
    assert torch.equal(outcome(trained(backbone)), usual)
    assert not torch.equal(outcome(trained(backbone, seed=112)), usual)


def test_fitting_again_starts_anew(backbone, usual):
    method = trained(backbone)
    method.fit(encode(method, photo(1), photo(2)))
    assert torch.equal(outcome(method), usual)


# Saved state --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"preset": "clean"},
        {"preset": "release"},
        {"parts": "text"},
        {"parts": "memory"},
        {"fusion": "raised"},
        {"manual_prompts": False},
    ],
    ids=str,
)
def test_state_gives_the_same_scores_and_words_in_a_new_detector(backbone, values):
    method, other = trained(backbone, **values), build(backbone, **values)
    other.load_state({name: tensor.clone() for name, tensor in method.state().items()})
    assert torch.equal(outcome(other), outcome(method))
    (view,) = encode(method, photo(9))[0]
    first, second = method.words(view), other.words(view)
    assert (first is None) == (second is None) == (values == {"manual_prompts": False})
    assert first is None or torch.equal(first.patches, second.patches)
    if method.config.parts != "text":
        assert torch.equal(method.score(view, leave_out=1).image, other.score(view, leave_out=1).image)
    for task in TASKS:
        for name, tensor in method.snapshot(task).parameters.items():
            assert torch.equal(tensor, other.snapshot(task).parameters[name])


def test_tensors_that_are_missing_or_of_another_shape_are_weights_errors(backbone):
    method = trained(backbone)
    state, fresh = method.state(), build(backbone)
    for name in state:
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")) as caught:
            fresh.load_state({key: value for key, value in state.items() if key != name})
        assert "\n" not in str(caught.value)
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
            fresh.load_state(state | {name: state[name].unsqueeze(0)})
    for name in ("image.states", "memory.1.owners"):  # one row too few
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
            fresh.load_state(state | {name: state[name][:-1]})
    with pytest.raises(WeightsError):
        build(backbone, prefix_tokens=3).load_state(state)


# Memory -------------------------------------------------------------------------------------------


def test_a_memorised_photo_has_a_memory_map_of_zero(backbone):
    method = trained(backbone, parts="memory")
    fused = trained(backbone)
    for seed in (1, 2):
        assert outcome(method, seed).max() < 1e-6 and outcome(fused, seed).max() < 1e-6
    assert outcome(method, 3).min() > 1e-3


def test_a_good_photo_left_out_is_compared_with_the_others_only(backbone):
    method, alone = trained(backbone), build(backbone)
    alone.fit(encode(alone, photo(2)))
    (view,) = encode(method, photo(1))[0]
    left, kept = method.score(view, leave_out=0), method.score(view)
    assert left.image.item() > 100 * kept.image.item()
    assert torch.equal(left.parts["memory"], alone.score(view).parts["memory"])
    assert torch.equal(left.parts["text"], kept.parts["text"])
    assert torch.equal(method.score(view, leave_out=1).map, kept.map)


def test_text_raises_distances_by_the_other_photos_where_a_good_photo_is_left_out(backbone):
    settings = {"fusion": "raised", "fusion_weight": 1.0, "fusion_weight_pixel": 1.0, "fusion_margin": 0.0, "epochs": 0}
    method, alone, plain = (
        trained(backbone, **settings),
        build(backbone, **settings),
        trained(backbone, parts="memory"),
    )
    alone.fit(encode(alone, photo(2)))
    (view,) = encode(method, photo(1))[0]
    left = method.score(view, leave_out=0)
    torch.testing.assert_close(left.image, alone.score(view).image)
    torch.testing.assert_close(left.map, alone.score(view).map)
    assert (left.map > plain.score(view, leave_out=0).map).all()  # by no text is a distance made smaller


def test_every_tile_of_a_good_photo_is_left_out_together(backbone):
    method = build(backbone, parts="memory")
    first, second = encode(method, photo(1, (60, 150)), photo(2, (48, 48)), fit="tiles")
    method.fit([first, second])
    assert len(first) == 3
    for view in first:
        assert method.score(view).map.max() < 1e-6 and method.score(view, leave_out=0).map.min() > 1e-3


def test_leaving_out_the_only_good_photo_does_not_crash(backbone):
    method: PromptAD = build(backbone)
    (photos,) = encode(method, photo(1))
    method.fit([photos])
    assert method.score(photos[0], leave_out=0).image.isfinite().all()


def test_a_batch_of_views_equals_its_rows(backbone):
    from promptad.clip.features import concatenate

    method = trained(backbone)
    views = [encode(method, photo(seed))[0][0] for seed in (5, 6, 7)]
    together = method.score(concatenate(views))
    assert together.map.shape == (3, 6, 6)
    for row, view in enumerate(views):
        torch.testing.assert_close(together.image[row], method.score(view).image[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(together.map[row], method.score(view).map[0], atol=1e-6, rtol=0)


# Words --------------------------------------------------------------------------------------------


def test_words_are_the_states_in_order_with_probabilities(backbone):
    method = trained(backbone)
    (view,) = encode(method, photo(9))[0]
    ranked = method.words(view)
    assert ranked.words == ("with scratch", "bent") and BASE["defects"] == ("with scratch", "bent [c]")
    assert ranked.image.shape == (1, 2) and ranked.patches.shape == (1, 36, 2)
    assert ranked.patches.min() >= 0
    torch.testing.assert_close(ranked.patches.sum(dim=-1), torch.ones(1, 36))
    cosines = torch.nn.functional.normalize(view.image, dim=-1) @ method.snapshot("image").prototypes.states.T
    expected = (method.config.word_scale * cosines).softmax(dim=-1)
    torch.testing.assert_close(ranked.image, expected, atol=1e-5, rtol=0)
    soft = trained(backbone, word_scale=5.0)
    assert not torch.equal(soft.words(view).image, ranked.image) and torch.equal(outcome(soft), outcome(method))


def test_no_words_before_training_and_without_manual_prompts(backbone):
    method, without = build(backbone), trained(backbone, manual_prompts=False)
    assert method.words(encode(method, photo(9))[0][0]) is None
    assert without.words(encode(without, photo(9))[0][0]) is None

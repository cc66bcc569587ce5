"""PromptAD zero-shot on a tiny random CLIP: words, the photos it chooses, training, scores and saving."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from promptad_cases import lively_backbone
from torch import Tensor
from torch.nn import functional as F

import promptad
from drawn_data import photo
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.clip.preprocess import Preprocess
from promptad.clip.tokenizer import clip_tokenizer, read_tokenizer
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError, TextError, WeightsError
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.deviation import deviation_loss, top_count, top_mean
from promptad.learning.epochs import Checkpoint
from promptad.learning.features import Encoder
from promptad.methods.contract import Trained
from promptad.methods.promptad_zs.config import PromptADZeroShotConfig
from promptad.methods.promptad_zs.method import PromptADZeroShot
from promptad.methods.registry import METHODS
from promptad.methods.settings import FREE_SETTINGS, PRESETS
from promptad.prompts.words import anomaly_types, bank, definition
from tiny import SIZES

STARTER = Path(promptad.__file__).parent / "clip/starter/tokenizer.json"
BASE = {"width": 8, "heads": 2, "feedforward": 12, "epochs": 2, "iterations": 3, "batch_size": 4, "lr": 0.01}
BASE |= {"batches": "mixed"}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


def build(backbone: Backbone, name: str = "nut", preset: str = "paper", **values: Any) -> PromptADZeroShot:
    return PromptADZeroShot(backbone, METHODS["promptad-zs"].make_config(preset, **(BASE | values)), name)


def auxiliary(method: PromptADZeroShot, records: list[Record]) -> AuxiliarySet:
    encoder = Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request)
    return AuxiliarySet(method.choose(records), encoder, masks=False, described=records)


def trained(backbone: Backbone, records: list[Record], **values: Any) -> PromptADZeroShot:
    method = build(backbone, **values)
    method.train(auxiliary(method, records))
    return method


def view(method: PromptADZeroShot, seed: int = 9, shape: tuple[int, int] = (48, 48)) -> Features:
    (encoded,) = Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request).encode(
        [photo(seed, size=shape)]
    )
    return encoded.features[0]


def outcome(method: PromptADZeroShot, leave_out: int | None = None) -> Tensor:
    scores = method.score(view(method), leave_out=leave_out)
    return torch.cat([scores.image, scores.map.flatten()])


# Settings -----------------------------------------------------------------------------------------


def test_it_is_a_trained_method_under_its_name(backbone):
    method = build(backbone)
    assert isinstance(method, Trained) and method.needs == "labels" and method.name == "promptad-zs"
    entry = METHODS["promptad-zs"]
    assert (entry.build, entry.trained, entry.good_photos) == (PromptADZeroShot, True, "optional")
    assert set(entry.free) == {*FREE_SETTINGS, "definition", "image_score", "scored", "few_shot"}


def test_presets_hold_what_the_paper_says_and_what_was_filled_in():
    paper = METHODS["promptad-zs"].make_config("paper")
    assert paper == METHODS["promptad-zs"].make_config("release")  # there is no code
    assert (paper.input_size, paper.fit, paper.smoothing) == (224, "squash", 0.0)
    assert (paper.anomalies, paper.normals, paper.oversample) == (10, 0, 10)
    assert (paper.width, paper.heads, paper.feedforward, paper.dropout) == (128, 4, 2048, 0.1)
    assert (paper.film, paper.score_heads, paper.scale_products) == ("first", "separate", False)
    assert (paper.branches, paper.ccl, paper.cmi, paper.mask_last) == ("both", True, "mutual", True)
    assert (paper.top_fraction, paper.top_rounding) == (0.1, "down") and top_count(196, 0.1, "down") == 19
    assert (paper.margin, paper.loss_layers) == (5.0, "all")
    assert (paper.optimiser, paper.lr, paper.weight_decay) == ("adamw", 2e-4, 1e-5)
    assert (paper.epochs, paper.iterations, paper.batch_size, paper.decay_every, paper.decay) == (30, 20, 48, 10, 0.1)
    assert (paper.balanced, paper.batches, paper.image_score, paper.few_shot) == (
        False,
        "episodes",
        "sum_of_tops",
        "prototype",
    )
    assert (paper.prompt_norm, paper.standardise, paper.layers) == (0.0, False, ())
    clean = METHODS["promptad-zs"].make_config("clean")
    assert (clean.standardise, clean.feedforward, clean.epochs, clean.batch_size) == (True, 256, 8, 16)
    assert (clean.scale_products, clean.top_rounding, clean.batches) == (True, "up", "mixed")
    assert clean.input_size == 0 and set(PRESETS) == set(METHODS["promptad-zs"].presets)


@pytest.mark.parametrize(
    "wrong",
    [
        {"film": "last"},
        {"cmi": "both"},
        {"epochs": 0},
        {"anomalies": 0},
        {"width": 9},
        {"top_fraction": 0.0},
        {"dropout": 1.0},
        {"lr": -1.0},
        {"layers": (3, 2)},
        {"layers": (2, 2)},
        {"seed": -1},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused_in_one_line(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))) as caught:
        PromptADZeroShotConfig(**(BASE | wrong))
    assert "\n" not in str(caught.value)


def test_taps_scale_with_the_depth_of_the_tower(backbone):
    assert build(backbone).request == FeatureRequest(taps=(1, 2, 3), tap_class=True)
    assert build(backbone, layers=(2, 4)).request.taps == (2, 4)
    for depth, taps in ((12, (3, 6, 9)), (24, (6, 12, 18))):
        sizes = replace(SIZES, vision=replace(SIZES.vision, layers=depth))
        assert build(random_backbone(sizes, clip_tokenizer())).layers == taps


# Words --------------------------------------------------------------------------------------------


def test_the_prompts_of_known_and_unknown_objects(backbone):
    for name in ("metal_nut", "metal nut"):
        assert build(backbone, name).prompts == (
            bank("definitions")["definitions"]["metal_nut"],
            "abnormality of metal nut is bent, color, flip, scratch",
        )
    normal, abnormal = build(backbone, "gizmo").prompts
    assert "gizmo" in normal and "[c]" not in normal
    assert abnormal == "abnormality of gizmo is damaged, flawed, abnormal, imperfect, blemished, flaw, defect, damage"
    own = {"defects": ("with deep_rust", "bent [c]"), "definition": "a round thing"}
    assert build(backbone, "gizmo", **own).prompts == ("a round thing", "abnormality of gizmo is deep rust, bent")
    assert build(backbone, "hazelnut", **own).prompts[1].endswith("is deep rust, bent, crack, cut, hole, print")
    assert build(backbone, "hazelnut", only_defects=True, **own).prompts[1].endswith("is deep rust, bent")
    assert build(backbone, "hazelnut", state_bank="none", **own).prompts[1].endswith("is deep rust, bent")
    assert (
        build(backbone, "fryum").prompts[1].endswith("is breakage, scratches, burnt, colour spot, fryum stuck together")
    )


def test_anomaly_types_of_data_sets_are_cleaned():
    assert anomaly_types("cookies", seen=("broken", "combined", "good", "bad", "anomaly", "")) == ["broken"]
    assert anomaly_types("pill", seen=("color", "new_kind")) == [*(t.replace("_", " ") for t in PILL), "new kind"]


PILL = ["color", "contamination", "crack", "faulty_imprint", "pill_type", "scratch"]


def test_every_definition_is_a_sentence_of_its_own_that_the_starter_can_read():
    table, starter = bank("definitions"), read_tokenizer(STARTER)
    assert len(table["definitions"]) == len(set(table["definitions"].values())) == 15 + 12 + 2
    assert set(bank("mvtec")["classes"]) | set(bank("visa")["classes"]) < set(table["definitions"])
    assert set(bank("mvtec")["classes"]) < set(table["types"])
    for name in table["definitions"]:
        assert len(starter.encode(definition(name))) < 40 and definition(name.replace("_", " ")) == definition(name)
    assert all(name in table["definitions"] for name in table["same"].values())
    assert definition("cookies") == definition("cookie")


def test_a_list_of_defects_that_is_too_long_is_shortened_from_its_end_and_says_so(backbone):
    many = tuple(f"fault number {number}" for number in range(40))
    with pytest.warns(UserWarning, match="left out: fault number") as caught:
        method = build(backbone, "gizmo", defects=many)
    kept = method.prompts[1].removeprefix("abnormality of gizmo is ").split(", ")
    assert kept == list(many[: len(kept)]) and 10 < len(kept) < 40
    assert f"left out: {many[len(kept)]}" in str(caught[0].message)
    tokens = backbone.tokenizer.words(method.prompts[1])
    assert len(tokens) + 2 <= 77 < len(tokens) + 2 + len(backbone.tokenizer.words(f", {many[len(kept)]}"))
    with pytest.raises(TextError):
        build(backbone, "gizmo", definition="very " * 80)


def test_training_prompts_name_the_classes_and_what_their_folders_are_called(backbone, records):
    method = build(backbone, "hazelnut", defects=("rust",), definition="a round thing")
    prompts = method.training_prompts(auxiliary(method, records))
    assert list(prompts) == ["nut", "tile"]
    assert prompts["nut"] == (definition("nut"), "abnormality of nut is stain")
    assert prompts["tile"][1] == "abnormality of tile is crack, glue strip, gray stroke, oil, rough, deep hole, stain"


def test_prompts_enter_with_the_length_that_is_asked_for(backbone):
    raw, scaled = build(backbone), build(backbone, prompt_norm=3.0)
    expected = backbone.encode_texts(raw.prompts)
    assert torch.equal(torch.stack([raw._normal, raw._abnormal]), expected)
    assert torch.allclose(torch.stack([scaled._normal, scaled._abnormal]), 3 * F.normalize(expected, dim=-1))


# The photos of training ---------------------------------------------------------------------------


def invented(name: str, train: int = 30, **types: int) -> list[Record]:
    out = [Record(Path(f"/{name}/train/good/{i}.png"), 0, None, name, "good", "train") for i in range(train)]
    out += [Record(Path(f"/{name}/test/good/{i}.png"), 0, None, name, "good", "test") for i in range(3)]
    for kind, count in types.items():
        out += [Record(Path(f"/{name}/test/{kind}/{i}.png"), 1, None, name, kind, "test") for i in range(count)]
    return out


def test_all_good_training_photos_and_anomalies_of_one_type_are_chosen(backbone):
    given = invented("nut", bent=12, scratch=15, hole=4) + invented("tile", oil=3) + [Record(Path("/unknown.png"))]
    kinds = set()
    for seed in range(12):
        chosen = build(backbone, seed=seed).choose(given)
        assert len(chosen) == len({record.path for record in chosen})
        for name in ("nut", "tile"):
            good = [r for r in chosen if r.class_name == name and r.label == 0]
            assert len(good) == 30 and all(r.split == "train" for r in good)
            faulty = Counter(r.defect_type for r in chosen if r.class_name == name and r.label == 1)
            ((kind, count),) = faulty.items()
            assert count == {"bent": 10, "scratch": 10, "hole": 4, "oil": 3}[kind]
            kinds.add(kind)
    assert kinds == {"bent", "scratch", "hole", "oil"}


def test_the_seed_alone_decides_what_is_drawn(backbone):
    given = invented("nut", bent=12, scratch=15) + invented("tile", oil=30)
    method = build(backbone, normals=5, anomalies=1)
    chosen = method.choose(given)
    assert Counter((r.class_name, r.label) for r in chosen) == {
        (c, y): 5 - 4 * y for c in ("nut", "tile") for y in (0, 1)
    }
    assert method.choose(given[::-1]) == chosen
    # A class draws the same whatever other classes there are, as leave-one-out runs want it.
    assert method.choose([r for r in given if r.class_name == "tile"]) == [r for r in chosen if r.class_name == "tile"]
    assert build(backbone, normals=5, anomalies=1, seed=2).choose(given) != chosen
    more = build(backbone, normals=5, anomalies=10).choose(given)
    assert set(chosen) < set(more)


def test_a_set_without_one_kind_is_an_error_that_names_it(backbone):
    with pytest.raises(DataError, match="good training photos"):
        build(backbone).choose(invented("nut", train=0, bent=2))
    with pytest.raises(DataError, match="anomalous test photos"):
        build(backbone).choose(invented("nut"))


def test_anomalies_stand_ten_times_in_the_pool(backbone, records):
    method = build(backbone, iterations=10, batch_size=28)
    data = auxiliary(method, records)
    labels = Counter(example.label for example in data)
    faulty = labels[1]
    assert labels[0] == 9 and 4 <= faulty <= 6  # two of "nut", and three or four of "tile"
    batches = method.plan(data, torch.Generator().manual_seed(1))
    seen = Counter(index for batch in batches for index in batch)
    assert sum(seen.values()) == 280 and all(len({data.examples[i].grid for i in b}) == 1 for b in batches)
    rounds = 280 / (9 + 10 * faulty)
    for index, example in enumerate(data):
        expected = rounds * (10 if example.label else 1)
        assert abs(seen[index] - expected) <= (10 if example.label else 1), (index, seen[index], expected)
    assert batches != method.plan(data, torch.Generator().manual_seed(2))
    assert batches == method.plan(data, torch.Generator().manual_seed(1))


def test_balanced_draws_are_half_anomalous(backbone, records):
    method = build(backbone, iterations=5, batch_size=8, balanced=True)
    data = auxiliary(method, records)
    drawn = [i for batch in method.plan(data, torch.Generator().manual_seed(1)) for i in batch]
    assert len(drawn) == 40 and sum(data.examples[i].label for i in drawn) == 20


def test_an_episode_holds_one_class(backbone, records):
    method = build(backbone, iterations=6, batch_size=5, batches="episodes")
    data = auxiliary(method, records)
    classes = Counter()
    for batch in method.plan(data, torch.Generator().manual_seed(1)):
        (name,) = {data.records[data.examples[i].photo].class_name for i in batch}
        classes[name] += len(batch)
    assert classes == {"nut": 15, "tile": 15}


# Training -----------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_leaves_the_towers_and_global_randomness_alone(backbone, records):
    before = [p.clone() for tower in (backbone.vision, backbone.text) for p in tower.parameters()]
    method = build(backbone, epochs=12, standardise=True, dropout=0.0)
    data = auxiliary(method, records)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    history = method.train(data)
    assert torch.equal(torch.rand(3), expected)
    assert len(history) == 12 and np.mean(history[-3:]) < 0.8 * history[0]
    after = [p for tower in (backbone.vision, backbone.text) for p in tower.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))
    start = build(backbone)._build().state_dict()
    same = [k for k, v in method._net.state_dict().items() if torch.equal(v, start[k])]
    assert same == []  # every parameter was moved, and every statistic was set
    assert not any(parameter.requires_grad for parameter in method._net.parameters())


def test_the_loss_is_the_sum_over_branches_and_layers(backbone, records):
    """One batch of everything: the first epoch's loss against the formula, with the weights of the start."""
    for layers in ("all", "last"):
        method = build(backbone, epochs=1, iterations=1, batch_size=200, dropout=0.0, oversample=1, loss_layers=layers)
        data = auxiliary(method, records)
        plan = method.plan(data, torch.Generator().manual_seed(1))
        method.plan = lambda data, generator, plan=plan: plan[:1]
        (history,) = method.train(data)
        net, prompts, batch = method._build(), method.training_prompts(data), data.batch(plan[0])
        texts = [
            torch.cat([method.backbone.encode_texts([prompts[name][side]]) for name in batch.class_names])
            for side in (0, 1)
        ]
        with torch.no_grad():
            maps = net([batch.features.taps[layer] for layer in method.layers], *texts)
        total = sum(
            deviation_loss(top_mean(scores, 0.1, "down"), batch.labels).item()
            for level in (maps if layers == "all" else maps[-1:])
            for scores in level.values()
        )
        assert history == pytest.approx(total, rel=1e-4)


def test_standardising_uses_the_statistics_of_the_training_patches(backbone, records):
    method = build(backbone, epochs=1, standardise=True)
    data = auxiliary(method, records)
    method.train(data)
    for row, layer in enumerate(method.layers):
        patches = torch.cat([data.batch([i]).features.taps[layer][0, 1:] for i in range(len(data))]).double()
        assert torch.allclose(method._net.tap_mean[row].double(), patches.mean(0), atol=1e-5)
        assert torch.allclose(method._net.tap_scale[row].double(), patches.std(0, correction=0), rtol=1e-4)


def test_settings_of_training_change_what_is_learned(backbone, records):
    base = outcome(trained(backbone, records))
    assert torch.equal(outcome(trained(backbone, records)), base)
    for other in (
        {"seed": 3},
        {"optimiser": "adam", "weight_decay": 0.1},
        {"epochs": 1},
        {"iterations": 2},
        {"lr": 0.02},
        {"weight_decay": 0.3},
        {"decay_every": 1},
        {"decay_every": 1, "decay": 0.5},
        {"oversample": 2},
        {"balanced": True},
        {"batches": "episodes"},
        {"batch_size": 3},
        {"loss_layers": "last"},
        {"margin": 1.0},
        {"top_fraction": 0.5},
        {"top_rounding": "up"},
        {"dropout": 0.3},
        {"normals": 2},
        {"anomalies": 1},
        {"prompt_norm": 2.0},
        {"standardise": True},
        {"layers": (1, 2, 4)},
        {"film": "every"},
        {"score_heads": "shared"},
        {"scale_products": True},
        {"cmi": "off"},
        {"mask_last": False},
        {"ccl": False},
        {"width": 12},
        {"heads": 4},
        {"feedforward": 8},
    ):
        assert not torch.allclose(outcome(trained(backbone, records, **other)), base, atol=1e-6), other


def test_a_persons_words_do_not_change_what_is_learned(backbone, records):
    plain = trained(backbone, records).learned()
    own = trained(backbone, records, defects=("rust",), definition="a round thing", state_bank="none").learned()
    assert all(torch.equal(plain[name], own[name]) for name in plain)


def test_a_killed_training_goes_on_to_the_same_bits(backbone, records, tmp_path):
    values = {"epochs": 4, "standardise": True}
    whole = trained(backbone, records, **values)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", {"run": 1})

    def kill(done: int, total: int) -> None:
        if done > 7:
            raise KeyboardInterrupt

    method = build(backbone, **values)
    data = auxiliary(method, records)
    with pytest.raises(KeyboardInterrupt):
        method.train(data, checkpoint=checkpoint, progress=kill)
    with pytest.raises(ConfigError):  # a training that was not finished scores nothing
        method.score(view(method))
    resumed = build(backbone, **values)
    steps: list[int] = []
    history = resumed.train(data, checkpoint=checkpoint, progress=lambda done, total: steps.append(done))
    assert len(history) == 4 and steps[0] > 1
    assert all(torch.equal(value, resumed.learned()[name]) for name, value in whole.learned().items())


def test_it_cannot_train_on_nothing(backbone):
    with pytest.raises(ConfigError, match="labelled photos"):
        build(backbone).train(None)


# Scores -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(48, 48), (48, 24), (16, 48)])
def test_shapes_and_sums_for_any_grid(backbone, records, shape):
    method = trained(backbone, records)
    features = view(method, shape=shape)
    scores = method.score(features)
    assert scores.image.shape == (1,) and scores.map.shape == (1, *features.grid)
    maps = method._net(method._taps(features), method._normal[None], method._abnormal[None])[-1]
    places = features.grid[0] * features.grid[1]
    count = max(1, places // 10)
    tops = {side: values.flatten().topk(count).values.mean().item() for side, values in maps.items()}
    assert torch.allclose(scores.map.flatten(), (maps["normal"] + maps["abnormal"]).flatten(), atol=1e-5)
    assert {side: pytest.approx(value, abs=1e-4) for side, value in tops.items()} == {
        side: value.item() for side, value in scores.parts.items()
    }
    assert scores.image.item() == pytest.approx(sum(tops.values()), abs=1e-4)
    other = build(backbone, image_score="top_of_sum")
    other.load_learned(method.learned())
    summed = other.score(features)
    assert torch.equal(summed.map, scores.map)
    assert summed.image.item() == pytest.approx(scores.map.flatten().topk(count).values.mean().item(), abs=1e-4)


@pytest.mark.parametrize("branch", ["normal", "abnormal"])
def test_a_branch_alone_scores_alone(backbone, records, branch):
    method = trained(backbone, records, branches=branch)
    scores = method.score(view(method))
    assert list(scores.parts) == [branch] and torch.equal(scores.image, scores.parts[branch])
    assert {name.split(".")[2] for name in method.learned() if ".branches." in name} == {branch}


def test_nothing_scores_before_it_was_trained(backbone):
    method = build(backbone)
    for call in (lambda: method.score(view(method)), method.learned, method.state):
        with pytest.raises(ConfigError, match="promptad train"):
            call()


def test_words_are_ranked_for_views(backbone):
    method = build(backbone, defects=("rust", "bent [c]"), only_defects=True)
    ranked = method.words(view(method))
    assert ranked.words == ("with rust", "bent") and ranked.patches is None
    assert ranked.image.sum().item() == pytest.approx(1)


# Good photos --------------------------------------------------------------------------------------


def test_good_photos_take_the_place_of_the_normality_prototype(backbone, records):
    method = trained(backbone, records)
    alone = outcome(method)
    photos = [[view(method, 1)], [view(method, 2), view(method, 3)], [view(method, 4)]]
    method.fit(photos)
    assert not torch.allclose(outcome(method), alone)
    # By hand: unit image features, averaged over views, then over photos, brought to the mean length of the prompts.
    means = [np.mean([F.normalize(v.image[0], dim=0).numpy() for v in views], axis=0) for views in photos]
    lengths = [
        np.linalg.norm(backbone.encode_texts([normal]).numpy())
        for normal, _ in method.training_prompts(auxiliary(method, records)).values()
    ]
    features = view(method)
    for leave_out, kept in ((None, means), (0, means[1:]), (1, [means[0], means[2]])):
        mean = np.mean(kept, axis=0)
        prototype = torch.from_numpy(mean / np.linalg.norm(mean) * np.mean(lengths)).float()
        maps = method._net(method._taps(features), method._normal[None], method._abnormal[None], prototype[None])[-1]
        expected = (maps["normal"] + maps["abnormal"]).flatten()
        assert torch.allclose(outcome(method, leave_out)[1:], expected, atol=1e-4)
    method.fit(photos[:1])
    assert torch.equal(outcome(method, leave_out=0), alone)  # nothing is left: the prompt again
    with pytest.raises(ConfigError, match="good photo"):
        method.fit([])


def test_good_photos_only_set_the_threshold_when_few_shot_is_off(backbone, records):
    method = trained(backbone, records, few_shot="off")
    alone = outcome(method)
    method.fit([[view(method, 1)]])
    assert torch.equal(outcome(method), alone)


# Saving -------------------------------------------------------------------------------------------


def test_what_was_learned_and_seen_goes_through_tensors_and_back(backbone, records):
    method = trained(backbone, records, standardise=True)
    fresh = build(backbone, standardise=True)
    fresh.load_learned({name: tensor.clone() for name, tensor in method.learned().items()})
    assert torch.equal(outcome(fresh), outcome(method))
    method.fit([[view(method, 1)], [view(method, 2)]])
    assert set(method.learned()) == set(fresh.learned()) and set(method.state()) - set(method.learned()) == {
        "good.images",
        "prompts",
    }
    restored = build(backbone, standardise=True)
    restored.load_state({name: tensor.clone() for name, tensor in method.state().items()})
    for leave_out in (None, 1):
        assert torch.equal(outcome(restored, leave_out), outcome(method, leave_out))
    zero_shot = build(backbone, standardise=True)
    zero_shot.load_state(fresh.state())
    assert torch.equal(outcome(zero_shot), outcome(fresh))
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in method.state().values())


def test_tensors_that_do_not_fit_are_named(backbone, records):
    state = trained(backbone, records).state()
    name = "decoders.branches.normal.heads.0.weight"
    for broken, said in (
        ({k: v for k, v in state.items() if k != name}, "found nothing"),
        (state | {name: torch.zeros(1, 3)}, r"found \(1, 3\), expected \(1, 8\)"),
        (state | {"good.images": torch.zeros(2, 5)}, "good.images"),
        ({k: v for k, v in state.items() if k != "good.images"}, "good.images"),
    ):
        method = build(backbone)
        with pytest.raises(WeightsError, match=said) as caught:
            method.load_state(broken)
        assert "\n" not in str(caught.value)
        with pytest.raises(ConfigError):
            method.score(view(method))


def test_one_branch_alone_or_their_sum_is_scored(backbone, records):
    """Figure 5: both maps come from one network, and the fused one is their sum."""
    method = trained(backbone, records)
    learned, features = method.learned(), view(method)
    made = {}
    for scored in ("both", "abnormal", "normal"):
        other = build(backbone, scored=scored, few_shot="off")
        other.load_learned(learned)
        made[scored] = other.score(features)
    assert torch.allclose(made["abnormal"].map + made["normal"].map, made["both"].map, atol=1e-5)
    assert torch.allclose(made["abnormal"].image + made["normal"].image, made["both"].image, atol=1e-5)
    assert not torch.equal(made["abnormal"].map, made["normal"].map)
    with pytest.raises(ConfigError, match="scored=normal"):
        build(backbone, scored="normal", branches="abnormal", cmi="off")

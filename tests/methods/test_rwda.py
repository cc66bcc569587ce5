"""RWDA on a tiny random CLIP: the classifier, its training on words alone, and scores against a slow reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from promptad_cases import lively_backbone, photo
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.clip.preprocess import Preprocess
from promptad.data.tensor_file import read_saved, write_saved
from promptad.detector import Detector
from promptad.errors import ConfigError, WeightsError
from promptad.learning.epochs import Checkpoint
from promptad.learning.features import Encoder
from promptad.methods.contract import Trained
from promptad.methods.rwda import method as rwda
from promptad.methods.rwda.config import RWDAConfig
from promptad.methods.rwda.method import RWDA, Classifier, encode_side
from promptad.methods.settings import config_dict
from promptad.notices import collected_notices
from promptad.prompts.random_words import SIDES
from promptad.saved.prompts import read_learned, write_learned

SMALL = {"pairs": 40, "batch_pairs": 16, "hidden": (12, 10, 8), "lr": 0.01, "normalize_input": True}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


def build(backbone: Backbone, name: str = "object", **values: Any) -> RWDA:
    return RWDA(backbone, RWDAConfig(**(SMALL | values)), name)


@pytest.fixture(scope="module")
def trained(backbone) -> RWDA:
    method = build(backbone)
    method.train()
    return method


def encode(backbone: Backbone, *photos: np.ndarray, fit: str = "multicrop") -> list[list[Features]]:
    encoded = Encoder(backbone, Preprocess(48, 8, fit), RWDA(backbone, RWDAConfig()).request).encode(photos)
    return [photo_features.features for photo_features in encoded]


def views(backbone: Backbone, seed: int = 9) -> Features:
    """The views of one photo as one batch."""
    (own,) = encode(backbone, photo(seed, (60, 90)))
    return Features(torch.cat([view.image for view in own]), None, {}, own[0].grid)


# The classifier -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "count"), [(640, 494_337), (512, 428_801)])
def test_parameter_counts_of_the_papers_widths(width, count):
    network = Classifier(width, RWDAConfig().hidden, 0.5, normalize=True)
    assert sum(p.numel() for p in network.parameters()) == count
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 3 + ["Linear"]
    weights = [tuple(p.shape) for p in network.parameters() if p.ndim == 2]
    assert weights == [(512, width), (256, 512), (128, 256), (1, 128)]
    assert {layer.p for layer in network.layers if isinstance(layer, torch.nn.Dropout)} == {0.5}


def test_what_is_learned_are_weights_and_the_statistics_of_sentences(backbone):
    method = build(backbone, lr=1e-12, epochs=40, decay=1.0)
    method.train()
    tensors = method.learned()
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    assert shapes["classifier.layers.0.weight"] == (12, 24) and shapes["classifier.layers.12.weight"] == (1, 8)
    assert all(value.is_contiguous() and not value.requires_grad for value in tensors.values())
    # Nothing moved, so the running mean is that of the first layer over random batches of the sentences.
    assert int(tensors["classifier.layers.1.num_batches_tracked"]) == 40 * 3
    texts = torch.cat(
        [
            encode_side(backbone, method.config.random_words(), side, guide)
            for side, guide in zip(SIDES, method.config.guides, strict=True)
        ]
    )
    with torch.no_grad():
        reached = method._classifier.layers[0](torch.nn.functional.normalize(texts, dim=-1))
    spread = float(reached.std(0).mean())
    assert torch.allclose(tensors["classifier.layers.1.running_mean"], reached.mean(0), atol=0.3 * spread)
    assert torch.allclose(tensors["classifier.layers.1.running_var"], reached.var(0), rtol=0.3, atol=1e-8)


@pytest.mark.parametrize("normalize", [True, False])
def test_noise_has_the_length_asked_for_and_only_in_training(normalize):
    network = Classifier(400, (3,), 0.0, normalize=normalize, noise=2.0)
    seen: list[Tensor] = []
    network.layers[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    rows = 7 * torch.nn.functional.normalize(torch.randn(50, 400), dim=-1)
    network.train()(rows)
    network.eval()(rows)
    clean = rows / 7 if normalize else rows
    assert torch.allclose(seen[1], clean, atol=1e-6)
    lengths = (seen[0] - clean).norm(dim=-1) / clean.norm(dim=-1)
    assert lengths.mean() == pytest.approx(2, rel=0.05) and lengths.std() < 0.2


# Training on words alone --------------------------------------------------------------------------


def test_training_separates_words_it_has_never_seen(backbone):
    # Words of one letter: at a random text tower they drown the guide words less.
    words = {"shortest_word": 1, "longest_word": 1}
    method = build(backbone, pairs=300, epochs=30, batch_pairs=50, decay=1.0, dropout=0.0, hidden=(64, 32, 16), **words)
    history = method.train()
    assert len(history) == 30 and history[-1] < 0.1 * history[0]
    other = replace(method.config, seed=5, pairs=100)
    sides = [encode_side(backbone, other.random_words(), s, g) for s, g in zip(SIDES, other.guides, strict=True)]
    with torch.no_grad():
        normal, anomalous = (method._classifier(side) for side in sides)
    assert (normal < 0).float().mean() > 0.9 and (anomalous > 0).float().mean() > 0.9


def test_a_method_that_needs_nothing(backbone, trained):
    assert isinstance(trained, Trained) and trained.needs == "nothing"
    assert trained.choose([object()]) == []  # type: ignore[list-item]
    assert trained.request.local is None and not trained.request.taps
    with pytest.raises(ConfigError, match="words alone"):
        trained.train(object())  # type: ignore[arg-type]
    assert all(p.grad is None and not p.requires_grad for t in (backbone.vision, backbone.text) for p in t.parameters())


def test_both_sentences_of_a_pair_are_in_one_batch_and_every_pair_once_an_epoch(backbone, monkeypatch):
    rows = torch.arange(40.0).unsqueeze(1).expand(40, 24)
    monkeypatch.setattr(rwda, "encode_side", lambda b, words, side, guide, tick: rows if side == "normal" else -rows)
    batches: list[Tensor] = []
    monkeypatch.setattr(
        Classifier, "forward", lambda self, x, own=Classifier.forward: batches.append(x[:, 0]) or own(self, x)
    )
    method = build(backbone, normalize_input=False)
    method.train()
    assert [len(batch) for batch in batches] == [32, 32, 16] * 2
    orders = []
    for epoch in (batches[:3], batches[3:]):
        halves = [batch.chunk(2) for batch in epoch]
        assert all(torch.equal(normal, -anomalous) and (normal >= 0).all() for normal, anomalous in halves)
        orders.append([int(i) for normal, _ in halves for i in normal])
        assert sorted(orders[-1]) == list(range(40))
    assert orders[0] != orders[1]
    first, batches[:] = list(batches), []
    method.train()
    assert all(torch.equal(a, b) for a, b in zip(first, batches, strict=True))


def test_sentences_are_encoded_once_for_all_trainings_of_a_process(backbone, monkeypatch):
    monkeypatch.setattr(rwda, "_encoded", type(rwda._encoded)())
    counted: list[list[str]] = []
    original = rwda.encode_sentences
    monkeypatch.setattr(rwda, "encode_sentences", lambda b, s, tick: counted.append(s) or original(b, s, tick=tick))
    for values, expected in (
        ({}, 2),
        ({"lr": 0.1, "dropout": 0.0}, 2),
        ({"anomalous_words": "a broken"}, 3),
        ({"anomalous_words": "a broken", "normal_words": "a good"}, 4),
        ({"normal_words": "a good"}, 4),
        ({"seed": 112}, 6),
        ({"shortest_word": 4}, 8),
    ):
        build(backbone, **values).train()
        assert len(counted) == expected
    assert len(rwda._encoded) == 8
    build(backbone, pairs=41).train()
    assert len(rwda._encoded) == 8 and len(counted) == 10


def test_progress_counts_sentences_and_batches(backbone, monkeypatch):
    monkeypatch.setattr(rwda, "_encoded", type(rwda._encoded)())
    for _ in range(2):  # the second time the sentences are there already
        steps: list[tuple[int, int]] = []
        build(backbone, pairs=200, batch_pairs=50).train(
            progress=lambda done, total, steps=steps: steps.append((done, total))
        )
        assert {total for _, total in steps} == {16} and steps[-1] == (16, 16)
        done = [step for step, _ in steps]
        assert done == sorted(done) and 8 in done and len([d for d in done if d <= 8]) >= 2


def test_training_again_gives_the_same_and_seeds_differ(backbone, trained):
    again, other = build(backbone), build(backbone, seed=5)
    torch.manual_seed(1)  # the global generator does not matter
    assert again.train() == build(backbone).train() and other.train() != again.train()
    assert all(torch.equal(value, trained.learned()[name]) for name, value in again.learned().items())


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_killed_training_goes_on_to_the_same_bits(backbone, tmp_path, noise):
    whole = build(backbone, noise=noise)
    losses = whole.train()
    checkpoint = Checkpoint(tmp_path / "x.training.safetensors", {"config": config_dict(whole.config)})

    def kill(done: int, total: int) -> None:
        if done > total - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(backbone, noise=noise).train(checkpoint=checkpoint, progress=kill)
    resumed = build(backbone, noise=noise)
    assert resumed.train(checkpoint=checkpoint) == losses and len(losses) == 2
    assert all(torch.equal(value, whole.learned()[name]) for name, value in resumed.learned().items())
    assert torch.equal(resumed.score(views(backbone)).image, whole.score(views(backbone)).image)


# Scores -------------------------------------------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slow_scores(method: RWDA, image: Tensor, references: Tensor | None) -> dict[str, np.ndarray]:
    """Every part in float64, one photo at a time."""
    config, out = method.config, {"guided": [], "classifier": [], "reference": []}
    words = method.object if config.name_object else "object"
    texts = method.backbone.encode_texts(
        [f"a photo of a {words}".replace("a o", "an o"), f"a photo of a damaged {words}"]
    )
    texts = unit(texts.double().numpy())
    tensors = {k.removeprefix("classifier.layers."): v.double().numpy() for k, v in method.learned().items()}
    for row in image.double().numpy():
        cosines = texts @ unit(row)
        out["guided"].append(1 / (1 + np.exp(config.scale * (cosines[0] - cosines[1]))))
        x = unit(row) if config.normalize_input else row
        for layer in (0, 4, 8):
            x = tensors[f"{layer}.weight"] @ x + tensors[f"{layer}.bias"]
            norm = {k.split(".")[1]: v for k, v in tensors.items() if k.startswith(f"{layer + 1}.")}
            x = (x - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
            x = np.maximum(x, 0)
        out["classifier"].append(1 / (1 + np.exp(-(tensors["12.weight"] @ x + tensors["12.bias"])[0])))
        if references is not None:
            out["reference"].append(min((1 - unit(row) @ unit(r)) / 2 for r in references.double().numpy()))
    return {name: np.array(values) for name, values in out.items() if values}


@pytest.mark.parametrize("values", [{}, {"normalize_input": False}, {"scale": 20.0, "name_object": False}])
@pytest.mark.parametrize("good", [0, 2])
def test_scores_equal_a_slow_reference(backbone, values, good):
    method = build(backbone, "cable", reference_weight=3.0, **values)
    method.train()
    photos = encode(backbone, photo(1), photo(2, (60, 80)))[:good]
    if good:
        method.fit(photos)
    references = torch.cat([view.image for views_of_photo in photos for view in views_of_photo]) if good else None
    batch = views(backbone)
    assert len(batch) > 5
    ours, expected = method.score(batch), slow_scores(method, batch.image, references)
    assert ours.map is None and list(ours.parts) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(ours.parts[name].numpy(), value, atol=1e-6 if name == "reference" else 1e-4)
    weights = {"reference": 3.0}
    total = sum(weights.get(name, 1.0) * value for name, value in ours.parts.items())
    assert torch.allclose(ours.image, total) and ours.image.shape == (len(batch),)


@pytest.mark.parametrize(
    ("articles", "words", "training", "guiding"),
    [
        ("agree", "an", {"a", "an"}, "a photo of an object"),
        ("guide", "a", {"a"}, "a photo of an object"),
        ("guide", "an", {"an"}, "a photo of an object"),
        ("literal", "a", {"a"}, "a photo of a object"),
        ("literal", "an", {"an"}, "a photo of an object"),
    ],
)
def test_articles_follow_the_next_word_where_the_setting_says(backbone, articles, words, training, guiding):
    with collected_notices() as lines:
        method = build(backbone, "object", articles=articles, normal_words=words)
    assert [line for line in lines if "articles='literal'" in line] == lines
    assert len(lines) == (articles != "literal" and words == "an")
    sentences = replace(method.config.random_words(), pairs=60).sentences("normal", words)
    assert {sentence.split()[-2] for sentence in sentences} == training
    assert torch.allclose(method._normal, backbone.encode_texts([guiding])[0], atol=1e-5)


def test_one_part_alone(backbone, trained):
    batch, good = views(backbone), encode(backbone, photo(1))
    whole = trained.score(batch).parts
    assert list(whole) == ["guided", "classifier"]
    for part in ("guided", "classifier"):
        alone = build(backbone, parts=part)
        alone.load_learned(trained.learned())
        alone.fit(good)  # what good photos add belongs to the sum
        scores = alone.score(batch)
        assert list(scores.parts) == [part] and torch.equal(scores.image, whole[part])
    assert all(((value >= 0) & (value <= 1)).all() for value in whole.values())


def test_a_photo_is_scored_alone_as_in_company(backbone, trained):
    batch = views(backbone)
    single = torch.cat([trained.score(batch[i : i + 1]).image for i in range(len(batch))])
    assert torch.allclose(trained.score(batch).image, single, atol=1e-6)
    assert torch.equal(trained.score(batch).image, trained.score(batch).image)  # no dropout, no batch statistics


def test_the_objects_name_matters_to_the_guided_part_alone(backbone, trained):
    batch = views(backbone)
    parts = {}
    for name, values in (("object", {}), ("metal_nut", {}), ("cable", {"name_object": False})):
        method = build(backbone, name, **values)
        method.load_learned(trained.learned())
        parts[name] = method.score(batch).parts
    assert torch.equal(parts["object"]["guided"], parts["cable"]["guided"])
    assert not torch.allclose(parts["object"]["guided"], parts["metal_nut"]["guided"], atol=1e-4)
    assert all(torch.equal(scores["classifier"], parts["object"]["classifier"]) for scores in parts.values())


def test_good_photos_compare_with_all_views_but_their_own(backbone, trained):
    photos = encode(backbone, photo(1, (60, 90)), photo(2, (60, 90)))
    method = build(backbone)
    method.load_learned(trained.learned())
    method.fit(photos)
    for index, own in enumerate(photos):
        other = torch.nn.functional.normalize(torch.cat([v.image for v in photos[1 - index]]), dim=-1)
        for view in own:
            assert float(method.score(view).parts["reference"]) == pytest.approx(0, abs=1e-6)
            nearest = (1 - (torch.nn.functional.normalize(view.image, dim=-1) @ other.T).max()) / 2
            apart = float(method.score(view, leave_out=index).parts["reference"])
            assert apart == pytest.approx(float(nearest), abs=1e-3) and apart > 1e-3
    with pytest.raises(ConfigError, match="at least one"):
        method.fit([])


def test_words_rank_the_defects_of_the_view(backbone, trained):
    method = build(backbone, "cable", defects=("with scratch", "bent [c]"), only_defects=True)
    ranked = method.words(views(backbone))
    assert ranked.words == ("with scratch", "bent") and ranked.patches is None
    assert torch.allclose(ranked.image.sum(1), torch.ones(len(ranked.image)))


# Saving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [0, 2])
def test_state_goes_through_a_file(backbone, trained, tmp_path, good):
    method = build(backbone)
    method.load_learned(trained.learned())
    if good:
        method.fit(encode(backbone, photo(1), photo(2)))
    write_saved(tmp_path / "d.safetensors", {}, method.state())
    other = build(backbone)
    other.load_state(read_saved(tmp_path / "d.safetensors").tensors)
    for leave_out in (None, 0):
        ours, theirs = (m.score(views(backbone), leave_out=leave_out) for m in (method, other))
        assert torch.equal(ours.image, theirs.image) and list(ours.parts) == list(theirs.parts)
    assert not other._classifier.training


def test_what_was_learned_leaves_good_photos_out(backbone, trained):
    method = build(backbone)
    method.load_learned(trained.learned())
    method.fit(encode(backbone, photo(1)))
    assert set(method.learned()) == set(trained.learned()) == set(method.state()) - {"memory.rows", "memory.owners"}


def test_damaged_states_say_what_is_wrong(backbone, trained):
    method = build(backbone)
    for call in (lambda: method.score(views(backbone)), method.learned, method.state):
        with pytest.raises(ConfigError, match="promptad train rwda"):
            call()
    whole = dict(trained.learned())
    for name in ("classifier.layers.0.weight", "classifier.layers.1.running_mean"):
        for broken in ({k: v for k, v in whole.items() if k != name}, whole | {name: whole[name][:-1]}):
            with pytest.raises(WeightsError, match=name) as caught:
                method.load_learned(broken)
            assert "\n" not in str(caught.value)
    for broken in ({"memory.owners": torch.zeros(3)}, {"memory.rows": torch.zeros(3, 24)}):
        with pytest.raises(WeightsError, match=r"memory\.rows"):
            method.load_state(whole | broken)
    with pytest.raises(ConfigError):
        build(backbone).score(views(backbone))


def test_the_detector_trains_nothing_and_needs_no_photo(backbone, trained, tmp_path):
    path = tmp_path / "prompts.safetensors"
    write_learned(path, trained, trained.backbone, "clean", {})
    with pytest.raises(ConfigError, match="fixed when these prompts were trained"):
        read_learned(path).make_config({"anomalous_words": "a broken"})
    detector = Detector(weights=path, backbone=backbone, object="cable", reference_weight=2.0)
    picture = photo(4, (60, 90))
    before = detector.predict(picture)
    assert before.map is None and before.threshold is None and set(before.parts) == {"guided", "classifier"}
    single = [detector.method.score(view).image for view in detector.encode(picture).features]
    assert before.score == pytest.approx(float(torch.cat(single).mean()))  # mean over views
    detector.fit([photo(1), photo(2), photo(3)])
    after = detector.predict(picture)
    assert after.score > before.score and after.threshold is not None
    restored = Detector.load(detector.save(tmp_path / "cable.safetensors"), backbone=backbone)
    assert restored.predict(picture).score == after.score

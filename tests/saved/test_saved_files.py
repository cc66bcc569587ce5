"""Files of detectors and trained prompts: digests, pickles, earlier formats, and headers in which anything may stand."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mutations import metadata, rewritten
from promptad.detector import Detector, load
from promptad.errors import ConfigError, WeightsError
from promptad.notices import PromptadNotice
from promptad.prompts import words as words_module
from promptad.saved.prompts import SHIPPED, read_learned
from tiny import tiny_backbone

QUICK = {"epochs": 2, "input_size": 48, "memory_layers": (1, 3)}


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 130, (48, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def detector(backbone):
    return Detector(object="nut", only_defects=True, defects=["with scratch"], backbone=backbone, **QUICK).fit(
        [photo(i) for i in range(3)]
    )


@pytest.fixture(scope="module")
def path(detector, tmp_path_factory) -> Path:
    return detector.save(tmp_path_factory.mktemp("saved") / "nut.safetensors")


# Digests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["detector", "prompts"])
def test_every_flipped_bit_is_noticed(path, tmp_path, backbone, kind):
    source = path if kind == "detector" else SHIPPED / "anomalyclip.safetensors"
    content = source.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    rng = random.Random(0)
    places = [rng.randrange(start, len(content)) for _ in range(60)] + [rng.randrange(8, start) for _ in range(60)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        target = tmp_path / "damaged.safetensors"
        target.write_bytes(damaged)
        with pytest.raises(WeightsError) as caught:
            load(target, backbone=backbone) if kind == "detector" else read_learned(target)
        assert "\n" not in str(caught.value) and "damaged.safetensors" in str(caught.value)


def test_zeroed_tensors_are_noticed(path, tmp_path, backbone):
    for name in load_file(path):
        tensors = load_file(path)
        tensors[name] = torch.ones_like(tensors[name]) if not tensors[name].any() else torch.zeros_like(tensors[name])
        save_file(tensors, tmp_path / "zero.safetensors", metadata=metadata(path))
        with pytest.raises(WeightsError, match="content is not what was saved"):
            load(tmp_path / "zero.safetensors", backbone=backbone)


def test_a_file_of_the_first_format_still_loads_with_a_line(path, tmp_path, backbone, detector):
    header = json.loads(metadata(path)["promptad"]) | {"format": 1}
    del header["fitted"]
    old = rewritten(path, tmp_path / "old.safetensors", json.dumps(header), digest=False)
    with pytest.warns(PromptadNotice, match="without a digest"):
        again = load(old, backbone=backbone)
    assert again.predict(photo(9)).score == pytest.approx(detector.predict(photo(9)).score, abs=2e-4)
    rewritten(path, old, json.dumps(header | {"format": 3}), digest=False)
    with pytest.raises(WeightsError, match="written by a newer promptad"):
        load(old, backbone=backbone)


def test_settings_that_have_gone_to_the_benchmarks_are_read_over_in_old_files(path, tmp_path, backbone, detector):
    header = json.loads(metadata(path)["promptad"])
    header["config"] |= {"selection": "oracle_test", "shot_order": "directory"}
    old = rewritten(path, tmp_path / "old.safetensors", json.dumps(header))
    again = load(old, backbone=backbone)
    assert again.config == detector.config
    assert again.predict(photo(9)).score == detector.predict(photo(9)).score


def test_another_threshold_is_the_same_origin(detector, backbone, tmp_path):
    first = load(detector.save(tmp_path / "a.safetensors"), backbone=backbone)
    other = load(tmp_path / "a.safetensors", backbone=backbone)
    other.calibration = other.calibration.with_threshold(7.0)
    assert load(other.save(tmp_path / "b.safetensors"), backbone=backbone).origin == first.origin


# Words --------------------------------------------------------------------------------------------


def test_a_detector_keeps_its_words_when_the_file_they_came_from_is_gone(backbone, tmp_path):
    words = tmp_path / "words.toml"
    words.write_text('[classes]\nnut = ["[c] with rust", "bent [c]"]\n')
    made = Detector(object="nut", state_bank=str(words), backbone=backbone, **QUICK).fit([photo(1), photo(2)])
    path = made.save(tmp_path / "nut.safetensors")
    words.write_text('[classes]\nnut = ["[c] with another word"]\n')
    again = load(path, backbone=backbone)
    assert again.words == made.words and "with rust" in again.words.describe()
    words.unlink()
    assert load(path, backbone=backbone).predict(photo(3)).defects == again.predict(photo(3)).defects


@pytest.mark.parametrize("method", ["promptad", "clip"])
def test_words_of_the_package_that_changed_since_are_taken_from_the_file(backbone, tmp_path, monkeypatch, method):
    settings = QUICK if method == "promptad" else {"input_size": 48}
    with pytest.warns(PromptadNotice, match="MVTec AD"):
        made = Detector(method, object="bottle", backbone=backbone, **settings).fit([photo(1), photo(2)])
    path = made.save(tmp_path / "bottle.safetensors")
    original = words_module.bank
    changed = lambda name: original(name) | ({"states": {"eight": ["odd [c]"]}} if name == "generic" else {})  # noqa: E731
    monkeypatch.setattr(words_module, "bank", changed)
    with pytest.warns(PromptadNotice, match="those of the file are used"):
        again = load(path, backbone=backbone)
    monkeypatch.undo()
    assert {w.words for w in again.predict(photo(3)).defects} == {w.words for w in made.predict(photo(3)).defects}


# Pickles ------------------------------------------------------------------------------------------


def scores(detector: Detector) -> list[float]:
    return [detector.predict(photo(seed)).score for seed in range(3)]


def test_a_detector_goes_through_pickle_copy_and_another_process(detector):
    expected = scores(detector)
    for other in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        assert scores(other) == pytest.approx(expected, abs=2e-4)
        assert other.calibration == detector.calibration and other.good == detector.good
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(scores, [detector])[0] == pytest.approx(expected, abs=2e-4)


def test_a_detector_that_was_not_fitted_is_pickled_as_such(backbone):
    again = pickle.loads(pickle.dumps(Detector(object="nut", backbone=backbone, **QUICK)))
    with pytest.raises(ConfigError, match="call fit"):
        again.predict(photo(1))
    assert again.fit([photo(1), photo(2)]).predict(photo(1)).verdict in ("normal", "anomalous")


# Values that cannot be ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("calibration", "rate"), 7.0),
        (("calibration", "bound"), -1.0),
        (("calibration", "good"), -3),
        (("calibration", "map_high"), -1e9),
        (("good_photos",), [{"size": ["a", "b"]}]),
        (("good_photos",), [{"size": [1]}]),
        (("good_photos",), [{"name": 3}]),
        (("trained",), {"data": 5}),
        (("config", "input_size"), 1_000_000),
        (("config", "map_size"), 1_000_000),
        (("object",), "metal\nnut"),
        (("object",), "nut\u2028"),
        (("object",), "nut\x1b[2J"),
    ],
)
def test_values_of_the_right_kind_that_cannot_be_are_refused(path, tmp_path, backbone, place, value):
    """A whole file, digest and all, that says what no detector has; reports would show it, or the memory would go."""
    header = json.loads(metadata(path)["promptad"])
    within = header
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    with pytest.raises(WeightsError, match=r"its header does not fit") as caught:
        load(rewritten(path, tmp_path / "m.safetensors", json.dumps(header)), backbone=backbone)
    assert "\n" not in str(caught.value)


def test_a_detector_is_tied_to_how_its_weights_are_read(path, detector, tmp_path):
    """The same weights with another activation, other heads or another normalisation are another backbone."""
    clip = detector.backbone
    for change in (
        {"mean": (0.5, 0.5, 0.5)},
        {"sizes": replace(clip.sizes, activation="gelu")},
        {"sizes": replace(clip.sizes, vision=replace(clip.sizes.vision, heads=4))},
        {"input_size": 64},
    ):
        with pytest.raises(WeightsError, match=r"read otherwise \(.* differ") as caught:
            load(path, backbone=replace(clip, **change))
        assert "\n" not in str(caught.value)
    assert load(path, backbone=replace(clip)).backbone.fingerprint == clip.fingerprint

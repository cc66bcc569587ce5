"""Tuning on good photos with painted damage: what is painted, what the detector keeps of it, and who is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import promptad.tuning as tuning
from drawn_data import photo
from promptad import Detector, FitRequest, load
from promptad.data.damage_kinds import KINDS
from promptad.errors import ConfigError, PhotoError
from promptad.learning.painted import COVERED, damaged_patches, painted_copies
from promptad.saved.detectors import read_detector
from tiny import tiny_backbone

SIZE = (64, 80)


def good(count: int) -> list[np.ndarray]:
    return [photo(seed, size=SIZE) for seed in range(count)]


def detector(**settings: object) -> Detector:
    return Detector(object="part", backbone=tiny_backbone(), epochs=1, memory_layers=(2, 3), **settings)


def test_copies_are_of_every_photo_and_kind_and_differ_where_the_mask_says():
    photos = good(4)
    copies = painted_copies(photos, 36)
    assert 24 < len(copies) <= 36 and {copy.owner for copy in copies} == {0, 1, 2, 3}
    assert len({copy.kind for copy in copies}) >= len(KINDS) - 2
    for copy in copies:
        changed = (copy.photo != photos[copy.owner]).any(2)
        assert copy.mask.any() and not (changed & ~copy.mask).any()
    again = painted_copies(photos, 36)
    assert all((a.photo == b.photo).all() for a, b in zip(copies, again, strict=True))


def test_patches_are_damaged_from_a_quarter_on():
    made = detector()
    encoded = made.encode(good(1)[0], reference=True)
    mask = np.zeros(SIZE, bool)
    mask[20:44, 30:60] = True
    patches = damaged_patches(mask, encoded)
    assert [len(rows) for rows in patches] == [features.grid[0] * features.grid[1] for features in encoded.features]
    for rows, view, features in zip(patches, encoded.views, encoded.features, strict=True):
        left, top, right, bottom = view.region
        height, width = (bottom - top) / features.grid[0], (right - left) / features.grid[1]
        for number, hit in enumerate(rows.tolist()):
            y, x = top + number // features.grid[1] * height, left + number % features.grid[1] * width
            covered = (
                max(0, min(44, y + height) - max(20, y)) * max(0, min(60, x + width) - max(30, x)) / height / width
            )
            assert hit == (covered > COVERED) or abs(covered - COVERED) < 0.12  # the view's pixels are coarse


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path, list[tuple[int, int]]]:
    steps: list[tuple[int, int]] = []
    made = detector().fit(good(3), tune=True, progress=lambda done, total: steps.append((done, total)))
    return made, made.save(tmp_path_factory.mktemp("tuned") / "part.safetensors"), steps


def test_what_was_found_stands_in_the_detector_and_its_file(tuned):
    made, path, steps = tuned
    assert made.tuned is not None and made.tuned.photos == 3 and made.tuned.copies > 20
    questions = [answer.about for answer in made.tuned.answers]
    assert questions == ["orientations of each good photo", "windows of heat maps"]
    assert json.loads(json.dumps(made.tuned.to_dict()))["copies"] == made.tuned.copies
    again = load(path, backbone=tiny_backbone())
    assert again.tuned == made.tuned and again.config == made.config
    assert read_detector(path).tuned.lines() == made.tuned.lines()
    test = photo(99, True, SIZE)
    assert again.predict(test).score == made.predict(test).score
    assert steps[-1][0] == steps[-1][1] and all(a[0] <= b[0] for a, b in pairwise(steps))


def test_settings_that_were_chosen_are_used(monkeypatch):
    # Whatever these drawings say: the mechanism behind the choice.
    monkeypatch.setattr(tuning, "tune", lambda *given: ({"memory_turns": 8, "memory_best_turns": 2}, []))
    made = detector().fit(good(2), tune=True)
    assert made.config.memory_turns == 8 and made.method.config.memory_turns == 8 and made.calibration is not None
    plain = detector(memory_turns=8, memory_best_turns=2).fit(good(2))
    test = photo(99, True, SIZE)
    assert made.predict(test).score == plain.predict(test).score


def test_damage_outside_the_region_of_interest_says_nothing():
    roi = np.zeros(SIZE, bool)
    roi[:, :30] = True
    made, whole = detector(roi=roi).fit(good(3), tune=True), detector().fit(good(3), tune=True)
    assert 0 < made.tuned.copies < whole.tuned.copies and made.area == detector(roi=roi).area
    with pytest.raises(PhotoError, match="looked at"):
        corner = np.zeros(SIZE, bool)
        corner[0, 0] = True
        detector(roi=corner).fit(good(2), tune=True)


def test_without_it_nothing_is_said_of_tuning(tmp_path):
    made = detector().fit(good(2))
    assert made.tuned is None and load(made.save(tmp_path / "a"), backbone=tiny_backbone()).tuned is None


@pytest.mark.parametrize("photos", [good(1), [good(1)[0], good(1)[0]]], ids=["one", "one and its copy"])
def test_one_good_photo_tunes_nothing_and_says_so(photos):
    made = detector().fit(photos, tune=True)
    assert made.tuned.lines() == ["not at all: it compares good photos with each other, and there is one"]
    assert made.config.memory_turns == 1


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [("patchcore", {}, "promptad has"), ("clip", {}, "promptad has"), ("promptad", {"parts": "text"}, "parts=text")],
)
def test_who_has_nothing_to_tune_is_refused(method, settings, words):
    made = Detector(method, object="part", backbone=tiny_backbone(), **settings)
    with pytest.raises(ConfigError, match=words):
        made.fit(good(2), tune=True)


def test_photos_that_are_too_small_are_named():
    with pytest.raises(PhotoError, match="48"):
        detector().fit([photo(seed, size=(40, 44)) for seed in range(2)], tune=True)


def test_the_command_refuses_what_cannot_be_before_it_loads_anything(tmp_path):
    Image.fromarray(good(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"PatchCore.*promptad has"):
        FitRequest(good=(tmp_path,), method="patchcore", tune=True)

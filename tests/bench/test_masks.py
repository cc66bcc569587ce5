"""Masks at evaluation size, against Pillow, slow loops, and what OpenCV's nearest neighbour is defined to do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_data import SETTINGS, make_class
from promptad.bench.conventions import CONVENTIONS, Conventions, conventions_of
from promptad.bench.masks import evaluated_box, evaluated_mask, resized_mask, seen_box
from promptad.bench.testset import TestSet
from promptad.clip.preprocess import Preprocess
from promptad.data.datasets import load_dataset
from promptad.detector import Detector
from promptad.errors import ConfigError
from promptad.methods.registry import METHODS
from tiny import tiny_backbone

BACKBONE = tiny_backbone()
MASK = np.random.default_rng(0).random((37, 52)) < 0.4


def test_the_printed_presets_are_measured_as_their_codes_measure() -> None:
    for method in ("faprompt", "anomalyclip"):
        for preset in ("paper", "release"):
            assert conventions_of(method, preset) == Conventions(eval_size=518, masks="bilinear")
    release = conventions_of("promptad", "release")
    assert (release.masks, release.selection, release.shot_order) == ("nearest_1024", "oracle_test", "directory")
    assert conventions_of("promptad", "paper") == Conventions(pixels="inspected")
    assert conventions_of("promptad", "clean") == conventions_of("rwda", "paper") == Conventions()
    assert all(preset in METHODS[method].presets for method, preset in CONVENTIONS)


def test_presets_that_look_at_the_centre_crop_alone_are_measured_on_it() -> None:
    for method, entry in METHODS.items():
        for preset in entry.presets:
            cropped = entry.make_config(preset).fit == "crop"
            assert (conventions_of(method, preset).pixels == "inspected") is cropped, (method, preset)


@pytest.mark.parametrize("side", [20, 60, 518])
def test_nearest_is_the_pixel_under_each_centre(side: int) -> None:
    slow = [
        [MASK[math.floor((i + 0.5) * 37 / side), math.floor((j + 0.5) * 52 / side)] for j in range(side)]
        for i in range(side)
    ]
    np.testing.assert_array_equal(resized_mask(MASK, side, "nearest"), slow)


@pytest.mark.parametrize("side", [20, 400])
def test_nearest_over_1024_is_opencvs_nearest_twice(side: int) -> None:
    def opencv(mask: np.ndarray, size: int) -> np.ndarray:
        """INTER_NEAREST: source = floor(target * source size / target size)."""
        rows = [min(int(i * mask.shape[0] / size), mask.shape[0] - 1) for i in range(size)]
        columns = [min(int(j * mask.shape[1] / size), mask.shape[1] - 1) for j in range(size)]
        return mask[np.ix_(rows, columns)]

    np.testing.assert_array_equal(resized_mask(MASK, side, "nearest_1024"), opencv(opencv(MASK, 1024), side))
    assert (resized_mask(MASK, side, "nearest_1024") != resized_mask(MASK, side, "nearest")).any()


@pytest.mark.parametrize("side", [20, 518])
def test_bilinear_is_pillows_and_then_above_half(side: int) -> None:
    whole = Image.fromarray(np.where(MASK, np.uint8(255), np.uint8(0)))
    scaled = np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR)) / 255
    np.testing.assert_array_equal(resized_mask(MASK, side, "bilinear"), scaled > 0.5)


@pytest.mark.parametrize("rule", ["nearest", "nearest_1024", "bilinear"])
def test_a_crop_of_the_mask_is_resized_as_the_crop_alone_would_be(rule) -> None:
    box = (7.0, 0.0, 44.0, 37.0)
    inside = slice(1, -1) if rule == "bilinear" else slice(None)  # at its edge the filter reaches beyond the crop
    small, wanted = resized_mask(MASK, 20, rule, box), resized_mask(MASK[:, 7:44].copy(), 20, rule)
    np.testing.assert_array_equal(small[:, inside], wanted[:, inside])


@pytest.mark.parametrize("size", [(960, 1562), (100, 100), (300, 200)])
def test_the_box_is_what_the_centre_crop_looks_at(size: tuple[int, int]) -> None:
    [view] = Preprocess(240, 16, "crop").views(*size)
    box = seen_box(view, size)
    if size[0] == size[1]:
        assert box is None
        return
    assert box is not None
    short = min(size)
    assert box[2] - box[0] == pytest.approx(short, rel=0.01) and box[3] - box[1] == pytest.approx(short, rel=0.01)
    assert evaluated_box([view], size, Conventions()) is None
    assert evaluated_box([view], size, Conventions(pixels="inspected")) == box
    [whole] = Preprocess(240, 16, "squash").views(*size)
    assert evaluated_box([whole], size, Conventions(pixels="inspected")) is None


def test_at_photo_size_the_mask_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(MASK.astype(np.uint8) * 255).save(path)
    own = Conventions(eval_size="photo", masks="bilinear")
    np.testing.assert_array_equal(evaluated_mask(path, MASK.shape, own), MASK)
    np.testing.assert_array_equal(evaluated_mask(path, MASK.shape, own, (7.2, 0, 43.8, 37)), MASK[:, 7:44])


@pytest.mark.parametrize("eval_size", [20, "photo"])
def test_of_a_centre_crop_only_what_was_looked_at_is_counted_or_it_is_said(tmp_path: Path, eval_size) -> None:
    folder = make_class(tmp_path, "cup", good=1, bad=1)
    for path in [*folder.rglob("test/*/*.png"), *folder.rglob("ground_truth/*/*.png")]:
        narrow = Image.open(path)
        wide = Image.new(narrow.mode, (80, 48))
        wide.paste(narrow, (16, 0))
        wide.save(path)
    detector = Detector("promptad", object="cup", backbone=BACKBONE, **{**SETTINGS, "epochs": 1, "fit": "crop"})
    detector.fit(sorted((folder / "train/good").iterdir()))
    records = [record for record in load_dataset(folder) if record.split == "test"]
    inside, whole = (
        TestSet(records, detector.encoder, Conventions(eval_size=eval_size, pixels=pixels), {})
        for pixels in ("inspected", "photo")
    )
    square = 20 if eval_size == 20 else 48
    cropped = inside.measure(detector)
    assert cropped.result.map_sizes == ((square, square),) and cropped.notes == ()
    everything = whole.measure(detector)
    [note] = everything.notes
    assert note.startswith("up to 40% of a photo lies outside the centre crop")
    for (_, _, small), (record, _, full) in zip(inside.scores(detector), whole.scores(detector), strict=True):
        if eval_size == "photo":
            np.testing.assert_allclose(small, full[:, 16:64], atol=1e-5)
        assert inside.mask(record) is None or inside.mask(record).shape == small.shape


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eval_size": "big"}, "eval_size must be"),
        ({"masks": "soft"}, "masks must be one of"),
        ({"selection": "best"}, "selection must be one of last, oracle_test"),
        ({"maks": "nearest"}, "did you mean masks"),
    ],
)
def test_other_conventions_are_config_errors(values, words) -> None:
    with pytest.raises(ConfigError, match=words):
        Conventions().changed(values)

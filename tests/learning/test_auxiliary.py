"""A labelled set for training: which photos take part, what their masks become, and how batches are made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_data import make_class, photo, save, square
from promptad.clip.features import FeatureRequest, LocalStream
from promptad.clip.preprocess import Preprocess, View
from promptad.data.datasets import load_dataset
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.learning.auxiliary import AuxiliarySet, view_mask
from promptad.learning.features import Encoder, FeatureStore
from tiny import tiny_backbone

REQUEST = FeatureRequest(local=LocalStream(2))


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def encoder(backbone, fit: str = "squash", cache: FeatureStore | None = None) -> Encoder:
    return Encoder(backbone, Preprocess(48, 8, fit), REQUEST, cache=cache)


def labelled(root: Path) -> list[Record]:
    return [record for record in load_dataset(root) if record.split == "test"]


def test_examples_have_the_labels_masks_and_features_of_their_photos(tmp_path, backbone):
    make_class(tmp_path, "tile")
    seen = []
    data = AuxiliarySet(labelled(tmp_path), encoder(backbone), masks=True, tick=lambda: seen.append(1))
    assert len(data) == len(data.records) == len(seen) == 6 and not data.problems
    assert [example.label for example in data] == [record.label for record in data.records]
    batch = data.batch(range(6))
    assert batch.masks is not None and batch.masks.shape == (6, 48, 48)
    for row, record in enumerate(data.records):
        expected = np.zeros((48, 48), np.float32)
        if record.label:
            expected[square(sum(b"tile") * 1000 + 200 + int(record.path.stem))] = 1
        assert np.array_equal(batch.masks[row].numpy(), expected)
        direct = data.encoder.encode_files([record.path])[0].features[0]
        assert torch.allclose(batch.features.patches[row], direct.patches[0], atol=1e-5)
    assert batch.class_names == ("tile",) * 6
    assert len(set(data.hashes)) == 6


def test_photos_that_cannot_serve_get_one_line_each_and_the_rest_goes_on(tmp_path, backbone):
    folder = make_class(tmp_path, "tile", good=2, bad=5)
    (folder / "test/stain/000.png").write_bytes(b"")
    (folder / "ground_truth/stain/001_mask.png").unlink()
    save(folder / "ground_truth/stain", "002_mask.png", np.full((20, 30), 255, np.uint8))
    save(folder / "ground_truth/stain", "003_mask.png", np.zeros((48, 48), np.uint8))
    records = [*labelled(tmp_path), Record(folder / "train/good/000.png")]
    data = AuxiliarySet(records, encoder(backbone), masks=True)
    assert len(data) == 3
    lines = "\n".join(data.problems)
    assert len(data.problems) == 5 and all("\n" not in line for line in data.problems)
    for words in ("000.png: is empty", "001.png: anomalous, but has no mask", "30x20", "003_mask.png: an anomalous photo's",
                  "has no label"):  # fmt: skip
        assert words in lines, words
    # Masks do not matter to a method that needs labels alone.
    assert len(AuxiliarySet(records, encoder(backbone), masks=False)) == 6


@pytest.mark.parametrize(("kept", "words"), [("good", "are good"), ("stain", "are anomalous"), ("", "none of")])
def test_one_kind_of_photos_is_not_enough(tmp_path, backbone, kept, words):
    folder = make_class(tmp_path, "tile")
    for kind in ("good", "stain"):
        if kind != kept:
            for path in (folder / "test" / kind).iterdir():
                path.write_bytes(b"broken")
    with pytest.raises(DataError, match=words):
        AuxiliarySet(labelled(tmp_path), encoder(backbone), masks=True)


def test_batches_hold_one_grid_and_every_example_once(tmp_path, backbone):
    folder = make_class(tmp_path, "tile", good=5, bad=4)
    for number in range(4):
        save(folder / "test/good", f"wide{number}.png", photo(number, size=(36, 64)))
    data = AuxiliarySet(labelled(tmp_path), encoder(backbone, "letterbox"), masks=True)
    batches = data.shuffled(torch.Generator().manual_seed(1), 3)
    assert sorted(i for batch in batches for i in batch) == list(range(13))
    for batch in batches:
        assert len({data.examples[i].grid for i in batch}) == 1 and len(batch) <= 3
        assert data.batch(batch).features.image.shape[0] == len(batch)
    assert {example.grid for example in data} == {(6, 6), (3, 6)}
    assert batches != data.shuffled(torch.Generator().manual_seed(2), 3)
    assert batches == data.shuffled(torch.Generator().manual_seed(1), 3)


def test_a_tile_without_defect_is_a_good_example(tmp_path, backbone):
    folder = tmp_path / "strip"
    pixels = photo(1, size=(48, 160))
    save(folder / "test/good", "a.png", pixels)
    save(folder / "test/cut", "b.png", photo(2, size=(48, 160)))
    mask = np.zeros((48, 160), np.uint8)
    mask[10:20, 2:9] = 255
    save(folder / "ground_truth/cut", "b_mask.png", mask)
    data = AuxiliarySet(labelled(folder), encoder(backbone, "auto"), masks=True)
    labels = {(data.records[e.photo].path.name, e.view): e.label for e in data}
    assert labels["b.png", 0] == 1 and set(labels.values()) == {0, 1}
    assert [v for (name, view), v in labels.items() if name == "b.png" and view] == [0] * (len(labels) // 2 - 1)
    for example in data:
        assert example.mask.any() == bool(example.label)


def test_features_beyond_the_memory_limit_are_read_again(tmp_path, backbone):
    make_class(tmp_path / "set", "tile")
    cached = encoder(backbone, cache=FeatureStore(tmp_path / "cache"))
    small = AuxiliarySet(labelled(tmp_path / "set"), cached, masks=True, keep_bytes=0)
    large = AuxiliarySet(labelled(tmp_path / "set"), cached, masks=True)
    assert torch.equal(small.batch([4, 1]).features.patches, large.batch([4, 1]).features.patches)
    assert small.fingerprint == large.fingerprint


def test_the_fingerprint_follows_content_and_labels(tmp_path, backbone):
    first, second = make_class(tmp_path / "a", "tile"), make_class(tmp_path / "b", "tile")
    make = lambda root: AuxiliarySet(labelled(root), encoder(backbone), masks=True).fingerprint  # noqa: E731
    assert make(first) == make(second)
    mask = second / "ground_truth/stain/000_mask.png"
    with Image.open(mask) as image:
        pixels = np.array(image)
    pixels[-3:, -3:] = 255
    save(mask.parent, mask.name, pixels)
    assert make(first) != make(second)
    shutil.move(second / "test/stain/002.png", second / "test/good/moved.png")
    assert make(second) != make(first)


def test_a_mask_is_carried_to_the_view():
    mask = np.zeros((80, 100), np.bool_)
    mask[20:60, 50:100] = True
    view = View((50.0, 20.0, 100.0, 60.0), (16, 20), (0, 0, 16, 20))
    assert view_mask(mask, view).all()
    assert not view_mask(mask, View((0.0, 0.0, 48.0, 80.0), (16, 20), (0, 0, 16, 20))).any()
    whole = view_mask(mask, View((0.0, 0.0, 100.0, 80.0), (40, 50), (0, 10, 40, 40)))
    assert whole.shape == (40, 40) and whole.sum() == 20 * 25

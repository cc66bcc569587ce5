"""Class-aware copies of training photos: what they show, which photos meet, and that each is encoded once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_data import make_class
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest
from promptad.clip.preprocess import Preprocess
from promptad.data.datasets import load_dataset
from promptad.learning.augmented import AugmentedSet, Copy
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.epochs import epoch_generator
from promptad.learning.features import Encoder, FeatureStore
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    make_class(root, "tile", good=3, bad=3)
    make_class(root, "nut", good=4, bad=2)
    return root


def labelled(root: Path, backbone: Backbone, cache: FeatureStore | None = None, **options) -> AuxiliarySet:
    records = [record for record in load_dataset(root) if record.split == "test"]
    encoder = Encoder(backbone, Preprocess(48, 8, "squash"), FeatureRequest(taps=(2,)), cache=cache)
    return AuxiliarySet(records, encoder, masks=True, **options)


def pixels(data: AuxiliarySet, index: int) -> np.ndarray:
    return np.asarray(Image.open(data.records[index].path).convert("RGB"))


def mask(data: AuxiliarySet, index: int) -> np.ndarray:
    record = data.records[index]
    return np.asarray(Image.open(record.mask)) > 0 if record.mask else np.zeros(pixels(data, index).shape[:2], bool)


def resized(
    picture: np.ndarray, side: int, how: Image.Resampling, box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Pillow looks at pixels around a box too, which those of a cut would lack."""
    return np.asarray(Image.fromarray(picture).resize((side, side), how, box=box))


def explained(data: AuxiliarySet, copy: Copy, picture: tuple[np.ndarray, np.ndarray]) -> str:
    """Which mosaic or cell a picture is, found by trying all of them: "cell", or "mosaic" and its photos; "" for none."""
    shown, where = picture
    own = data.examples[copy.example].photo
    for side in (2, 3):
        small = 48 // side
        for y in range(side):
            for x in range(side):
                box = (x * small, y * small, (x + 1) * small, (y + 1) * small)
                if np.array_equal(shown, resized(pixels(data, own), 48, Image.Resampling.BICUBIC, box)):
                    whole = mask(data, own).astype(np.uint8) * 255
                    bits = resized(whole, 48, Image.Resampling.BILINEAR, box) > 127
                    return "cell" if np.array_equal(where, bits) else ""
        pictures = []
        for y in range(side):
            for x in range(side):
                cut = slice(y * small, (y + 1) * small), slice(x * small, (x + 1) * small)
                for index in range(len(data.records)):
                    bits = resized(mask(data, index).astype(np.uint8) * 255, small, Image.Resampling.BILINEAR) > 127
                    same = np.array_equal(shown[cut], resized(pixels(data, index), small, Image.Resampling.BICUBIC))
                    if same and np.array_equal(where[cut], bits):
                        pictures.append(index)
        if len(pictures) == side * side:
            return "mosaic " + " ".join(map(str, pictures))
    return ""


def test_every_copy_is_a_cell_or_a_mosaic_of_its_class_with_its_mask(root, backbone):
    data = labelled(root, backbone)
    mixed, kinds = AugmentedSet(data, 0.5, 6), Counter()
    for index, example in enumerate(data.examples):
        record = data.records[example.photo]
        for number in range(6):
            kind, *photos = explained(data, Copy(index, number), mixed.picture(Copy(index, number))).split()
            kinds[kind, len(photos)] += 1
            if kind == "mosaic":
                met = [data.records[int(photo)] for photo in photos]
                assert {record_met.class_name for record_met in met} == {record.class_name} and str(
                    example.photo
                ) in photos
                assert example.label or not any(record_met.label for record_met in met)
            elif example.label:
                assert mixed.picture(Copy(index, number))[1].any()  # a cell that the defect reaches
    assert set(kinds) == {("cell", 0), ("mosaic", 4), ("mosaic", 9)} and min(kinds.values()) > 5
    assert 0.3 < kinds["cell", 0] / sum(kinds.values()) < 0.7


def test_features_label_and_mask_are_those_of_the_picture(root, backbone):
    data = labelled(root, backbone)
    mixed = AugmentedSet(data, 1.0, 3)
    copies = [Copy(index, number) for index in (0, len(data) - 1) for number in range(3)]
    batch = mixed.batch([*copies, 1])
    for row, copy in enumerate(copies):
        shown, where = mixed.picture(copy)
        direct = data.encoder.encode([shown])[0].features[0]
        torch.testing.assert_close(batch.features.taps[2][row], direct.taps[2][0], atol=1e-5, rtol=1e-5)
        assert np.array_equal(batch.masks[row].numpy() > 0, where) and int(batch.labels[row]) == int(where.any())
    assert batch.class_names[0] == data.records[0].class_name
    torch.testing.assert_close(batch.features.taps[2][-1], data.batch([1]).features.taps[2][0])


def test_an_epoch_has_every_example_or_one_of_its_copies(root, backbone):
    data = labelled(root, backbone)
    mixed = AugmentedSet(data, 0.5, 2)
    plans = [mixed.shuffled(epoch_generator(7, epoch), 4) for epoch in range(1, 41)]
    for plan in plans:
        assert sorted(i if isinstance(i, int) else i.example for batch in plan for i in batch) == list(range(len(data)))
    copies = [item for plan in plans for batch in plan for item in batch if isinstance(item, Copy)]
    assert 0.4 < len(copies) / (40 * len(data)) < 0.6 and {copy.number for copy in copies} == {0, 1}
    assert plans[0] == mixed.shuffled(epoch_generator(7, 1), 4) != plans[1]
    assert not any(
        isinstance(i, Copy) for batch in AugmentedSet(data, 0.0, 2).shuffled(epoch_generator(7, 1), 4) for i in batch
    )


@pytest.mark.parametrize("room", [0, 10**9])
def test_a_copy_is_encoded_once_in_memory_or_in_the_cache(root, backbone, tmp_path, monkeypatch, room):
    data = labelled(root, backbone, FeatureStore(tmp_path), keep_bytes=room)
    mixed, copies = AugmentedSet(data, 1.0, 1), [Copy(0, 0), Copy(7, 0)]
    first = mixed.batch(copies)
    monkeypatch.setattr(Encoder, "_encoded", lambda *_: pytest.fail("encoded again"))
    again = mixed.batch(copies)
    assert torch.equal(first.features.taps[2], again.features.taps[2]) and torch.equal(first.masks, again.masks)
    other = AugmentedSet(data, 1.0, 1).batch(copies)  # another training of the same photos
    assert torch.equal(first.features.image, other.features.image)


def test_copies_do_not_follow_the_seed_of_a_training(root, backbone):
    data = labelled(root, backbone)
    first, second = (AugmentedSet(data, share, count).picture(Copy(3, 1)) for share, count in ((0.2, 2), (0.9, 5)))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], AugmentedSet(data, 0.2, 2).picture(Copy(3, 0))[0])

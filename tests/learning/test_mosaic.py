"""Mosaics of four training photos: what is pasted, which photos meet, and what of them is looked at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_data import make_class, photo, save
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest
from promptad.clip.preprocess import Preprocess
from promptad.data.datasets import load_dataset
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.epochs import epoch_generator
from promptad.learning.features import Encoder
from promptad.learning.mosaic import Mosaic, MosaicSet, two_by_two
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two classes, one of them with a second kind of damage and many good photos."""
    root = tmp_path_factory.mktemp("sets")
    make_class(root, "tile", good=2, bad=2)
    folder = make_class(root, "nut", good=6, bad=2)
    save(folder / "test/bent", "000.png", photo(77, defect=True))
    save(folder / "ground_truth/bent", "000_mask.png", np.full((48, 48), 255, np.uint8))
    return root


def labelled(root: Path, backbone: Backbone, fit: str = "squash", **layout) -> AuxiliarySet:
    records = [record for record in load_dataset(root) if record.split == "test"]
    encoder = Encoder(backbone, Preprocess(48, 8, fit, **layout), FeatureRequest(taps=(2, 4)))
    return AuxiliarySet(records, encoder, masks=True)


def rectangles(folder: Path, backbone: Backbone, shape: tuple[int, int], fit: str, **layout) -> AuxiliarySet:
    for kind, seeds in {"good": (1, 2), "stain": (3, 4)}.items():
        for seed in seeds:
            save(folder / "cup/test" / kind, f"{seed}.png", photo(seed, kind != "good", shape))
            if kind != "good":
                mask = np.zeros(shape, np.uint8)
                mask[seed : seed + 20, 5:30] = 255
                save(folder / "cup/ground_truth" / kind, f"{seed}_mask.png", mask)
    return labelled(folder, backbone, fit, **layout)


def pixels(data: AuxiliarySet, index: int) -> np.ndarray:
    return np.asarray(Image.open(data.records[index].path).convert("RGB"))


def true_mask(data: AuxiliarySet, index: int) -> np.ndarray:
    record = data.records[index]
    return np.asarray(Image.open(record.mask)) > 0 if record.mask else np.zeros(pixels(data, index).shape[:2], bool)


# -- what is pasted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 8, 3), (5, 7)])
def test_every_quadrant_is_its_source(shape):
    random = np.random.default_rng(0)
    four = [random.integers(0, 2 if len(shape) == 2 else 256, shape).astype(np.uint8) for _ in range(4)]
    four = [part.astype(bool) for part in four] if len(shape) == 2 else four
    whole = two_by_two(four)
    height, width = shape[:2]
    assert whole.shape[:2] == (2 * height, 2 * width) and whole.dtype == four[0].dtype
    places = [(slice(0, height), slice(0, width)), (slice(0, height), slice(width, None))]
    places += [(slice(height, None), slice(0, width)), (slice(height, None), slice(width, None))]
    assert all(np.array_equal(whole[place], part) for place, part in zip(places, four, strict=True))


def test_others_are_brought_to_the_size_of_the_first():
    random = np.random.default_rng(0)
    small, large = (random.integers(0, 256, (side, side, 3)).astype(np.uint8) for side in (10, 25))
    whole = two_by_two([small, large, small, large])
    expected = np.asarray(Image.fromarray(large).resize((10, 10), Image.Resampling.BICUBIC))
    assert np.array_equal(whole[:10, 10:], expected) and np.array_equal(whole[10:, :10], small)
    mask = np.zeros((25, 25), bool)
    mask[:, :15] = True
    assert np.array_equal(two_by_two([np.zeros((10, 10), bool), mask] * 2)[:10, 10:].sum(1), [6] * 10)


# -- what is looked at ---------------------------------------------------------------------------------------------------


def test_features_and_mask_are_those_of_the_pasted_photo(root, backbone):
    data = labelled(root, backbone)
    photos = tuple(i for i, r in enumerate(data.records) if r.class_name == "nut")[-4:]
    batch = MosaicSet(data, 0.5).batch([Mosaic(photos, 0), 0])
    rows = [np.hstack([pixels(data, photos[a]), pixels(data, photos[b])]) for a, b in ((0, 1), (2, 3))]
    pasted = np.vstack(rows)
    direct = data.encoder.encode([pasted])[0].features[0]
    for layer in (2, 4):
        torch.testing.assert_close(batch.features.taps[layer][0], direct.taps[layer][0], atol=1e-5, rtol=1e-5)
    mask = np.vstack([np.hstack([true_mask(data, photos[a]), true_mask(data, photos[b])]) for a, b in ((0, 1), (2, 3))])
    half = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((48, 48), Image.Resampling.BILINEAR)) > 127
    assert half.any() and np.array_equal(batch.masks[0].numpy() > 0, half)
    assert batch.class_names == ("nut", data.records[0].class_name)
    plain = data.batch([0])
    assert torch.equal(batch.features.taps[2][1], plain.features.taps[2][0])
    assert torch.equal(batch.masks[1], plain.masks[0])


@pytest.mark.parametrize(
    ("shape", "fit", "layout"),
    [
        ((60, 40), "letterbox", {}),
        ((48, 150), "tiles", {}),
        ((60, 80), "crop", {}),
        ((60, 80), "multicrop", {}),
        ((60, 80), "auto", {"finest": 5}),
        ((60, 80), "squash", {"pre_resize": 64}),
    ],
)
def test_a_mosaic_is_seen_through_the_views_of_its_photos_at_half_their_scale(backbone, tmp_path, shape, fit, layout):
    """What a view sees of four times the same photo is what it sees of that photo in a picture of twice its sides."""
    data = rectangles(tmp_path, backbone, shape, fit, **layout)
    views = data.encoder.preprocess.views(*shape)
    mosaics = MosaicSet(data, 0.5)
    double = np.vstack([np.hstack([pixels(data, 3)] * 2)] * 2)
    for number, view in enumerate(views):
        batch = mosaics.batch([Mosaic((3, 3, 3, 3), number)])
        assert batch.features.grid == (view.size[0] // 8, view.size[1] // 8)
        assert batch.masks.shape[1:] == view.size
        left, top, right, bottom = (2 * edge for edge in view.region)
        if not layout:  # the same cut by hand
            seen = np.asarray(
                Image.fromarray(double).resize(
                    view.size[::-1], Image.Resampling.BICUBIC, box=(left, top, right, bottom)
                )
            )
            ours = data.encoder.preprocess.pixels(double, mosaics._view(Mosaic((3, 3, 3, 3), number)))
            assert np.abs(ours.astype(int) - seen).mean() < 4
    epoch = mosaics.shuffled(torch.Generator().manual_seed(0), 3)
    assert sum(map(len, epoch)) == len(data) == 4 * len(views)
    for items in epoch:
        mosaics.batch(items)  # of one grid each


# -- which photos meet ---------------------------------------------------------------------------------------------------


def drawn(data: AuxiliarySet, share: float, epochs: int = 1, seed: int = 3) -> list:
    mosaics = MosaicSet(data, share)
    plans = [mosaics.shuffled(epoch_generator(seed, epoch), 4) for epoch in range(1, epochs + 1)]
    return [item for plan in plans for items in plan for item in items]


def test_kinds_of_damage_are_drawn_alike_however_many_photos_they_have(root, backbone):
    data = labelled(root, backbone)
    items = drawn(data, 0.2, epochs=800)
    made = [item for item in items if isinstance(item, Mosaic)]
    assert len(made) / len(items) == pytest.approx(0.2, abs=0.02)
    names = [{data.records[index].class_name for index in mosaic.photos} for mosaic in made]
    assert all(len(name) == 1 for name in names)
    photos = Counter(index for mosaic in made for index in mosaic.photos)
    nuts = {index: r.defect_type for index, r in enumerate(data.records) if r.class_name == "nut"}
    total = sum(photos[index] for index in nuts)
    for kind in ("good", "stain", "bent"):
        own = [photos[index] for index, name in nuts.items() if name == kind]
        assert sum(own) / total == pytest.approx(1 / 3, abs=0.02)
        assert max(own) < 1.3 * min(own)
    # As many mosaics of a class as its photos had places.
    share = sum(name == {"nut"} for name in names) / len(names)
    assert share == pytest.approx(len(nuts) / len(data.records), abs=0.04)


def test_an_epoch_follows_from_its_seed_and_number_alone(root, backbone):
    data = labelled(root, backbone)
    assert drawn(data, 0.5, epochs=3) == drawn(labelled(root, backbone), 0.5, epochs=3)
    assert drawn(data, 0.5, seed=3) != drawn(data, 0.5, seed=4)
    first, second = drawn(data, 0.5, epochs=2)[: len(data)], drawn(data, 0.5, epochs=2)[len(data) :]
    assert first != second


def test_without_mosaics_the_set_is_as_it_was(root, backbone):
    data = labelled(root, backbone)
    plain = data.shuffled(torch.Generator().manual_seed(8), 3)
    assert MosaicSet(data, 0.0).shuffled(torch.Generator().manual_seed(8), 3) == plain
    for batch in plain:
        ours, theirs = MosaicSet(data, 0.0).batch(batch), data.batch(batch)
        assert torch.equal(ours.features.taps[4], theirs.features.taps[4]) and torch.equal(ours.masks, theirs.masks)

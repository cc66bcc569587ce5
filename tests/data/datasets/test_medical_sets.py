"""The medical sets: which photos count, and which mask is whose."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import miniature_sets as sets
from loaded_sets import loaded
from promptad.data.datasets import load_dataset
from promptad.data.photos import photo_size, read_mask
from promptad.errors import DataError
from promptad.notices import PromptadNotice


def test_brainmri_once_and_with_every_suffix(tmp_path: Path) -> None:
    records, lines = loaded(sets.brainmri(tmp_path))
    assert Counter(record.label for record in records) == {0: 4, 1: 5}
    assert {record.path.name for record in records if record.label} >= {"Y92.jpeg", "Y92.png", "Y2.JPG"}
    assert all(record.split == "test" for record in records)
    assert any("brain_tumor_dataset beside yes and no are not used" in line for line in lines)
    assert not [line for line in lines if "byte for byte" in line]
    assert len(loaded(tmp_path / "brain_tumor_dataset")[0]) == 9


def test_br35h_without_its_further_folders(tmp_path: Path) -> None:
    records, lines = loaded(sets.br35h(tmp_path))
    assert Counter((record.label, record.path.parent.name) for record in records) == {(0, "no"): 3, (1, "yes"): 3}
    assert any("Br35H-Mask-RCNN, pred beside yes and no are not used" in line for line in lines)


def test_headct_by_its_table(tmp_path: Path) -> None:
    records, _ = loaded(sets.headct(tmp_path))
    assert [(record.path.name, record.label) for record in records] == [
        *(("000.png", 1), ("001.png", 1), ("002.png", 0), ("003.png", 0))
    ]
    (tmp_path / "labels.csv").write_text("id, hemorrhage\n0,1\n9,0\n")
    with pytest.raises(DataError, match="1 of 2 listed files are missing"):
        load_dataset(tmp_path)
    (tmp_path / "labels.csv").write_text("id, hemorrhage\n0,yes\n")
    with pytest.raises(DataError, match="expected a number and 0 or 1"):
        load_dataset(tmp_path)


def test_lag_without_attention_maps(tmp_path: Path) -> None:
    records, lines = loaded(sets.lag(tmp_path))
    assert Counter((record.split, record.label) for record in records) == {
        **{("train", 0): 3, ("test", 0): 2, ("test", 1): 2}
    }
    assert all(record.path.parent.name == "image" and record.mask is None for record in records)
    assert any("attention maps are where doctors looked" in line for line in lines)


@pytest.mark.parametrize("name", ["clinicdb", "colondb"])
def test_polyps_are_paired_by_name(tmp_path: Path, name: str) -> None:
    root = getattr(sets, name)(tmp_path)
    records, lines = loaded(root)
    assert [record.path.stem for record in records] == ["1", "10", "2"]
    assert all(record.path.stem == record.mask.stem and record.label == 1 for record in records)
    for record in records:
        columns = np.flatnonzero(read_mask(record.mask).any(axis=0))
        assert columns[0] == int(record.path.stem), "a stray mask shifts every pair that is made by position"
    assert any("1 masks belong to no photo, not used (first: 11.png)" in x for x in lines) == (name == "colondb")


def test_a_pack_may_be_asked_for_by_name(tmp_path: Path) -> None:
    root = sets.colondb(tmp_path).rename(tmp_path / "pack")
    assert len(loaded(root, "clinicdb")[0]) == len(loaded(root, "colondb")[0]) == 3


@pytest.mark.parametrize(("name", "box"), [("kvasir", (13, 10, 37, 29)), ("tn3k", (9, 10, 41, 29))])
def test_jpeg_masks_are_read_at_half(tmp_path: Path, name: str, box: tuple[int, int, int, int]) -> None:
    records, _ = loaded(getattr(sets, name)(tmp_path))
    for record in records:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptadNotice)
            mask = read_mask(record.masks, photo_size(record.photo))
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == box


def test_endotect_without_a_mask_for_one_photo(tmp_path: Path) -> None:
    records, lines = loaded(sets.endo(tmp_path))
    assert {record.path.stem: record.mask and record.mask.stem for record in records} == {
        **{"0f1": None, "b77": "b77", "c5a": "c5a"}
    }
    assert any("1 photos have no mask of their name (first: 0f1.jpg)" in line for line in lines)
    assert loaded(tmp_path / "EndoTect_2020_Segmentation_Test_Dataset")[0] == records


def test_isic_pairs_names_with_another_suffix(tmp_path: Path) -> None:
    records, _ = loaded(sets.isic(tmp_path))
    assert [(record.path.stem, record.mask.stem) for record in records] == [
        *(("ISIC_0000003", "ISIC_0000003_Segmentation"), ("ISIC_0000012", "ISIC_0000012_Segmentation"))
    ]


def test_tn3k_keeps_equal_numbers_of_its_splits_apart(tmp_path: Path) -> None:
    records, _ = loaded(sets.tn3k(tmp_path))
    assert Counter(record.split for record in records) == {"train": 3, "test": 2}
    assert all(record.mask.parent.name.split("-")[0] == record.path.parent.name.split("-")[0] for record in records)
    assert loaded(tmp_path / "Thyroid Dataset/tn3k")[0] == records

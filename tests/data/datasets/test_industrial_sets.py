"""KolektorSDD, AITEX, DAGM, ELPV, magnetic tiles, textile, and VisA's splits: the papers' rules and the archives' traps."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miniature_sets as sets
from loaded_sets import loaded
from promptad.data.datasets import load_dataset, visa
from promptad.data.photos import photo_size, read_mask
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import PromptadNotice


def masks_of(record: Record) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptadNotice)
        return read_mask(record.masks, photo_size(record.photo))


# KolektorSDD --------------------------------------------------------------------------------------------------------


def test_kolektor_is_cut_into_three_strips_at_the_released_rows(tmp_path: Path) -> None:
    records, lines = loaded(sets.kolektor(tmp_path))
    assert len(records) == 3 * 11
    first = [record for record in records if record.group == "kos01_Part0"]
    assert [record.crop for record in first] == [(0, 0, 20, 10), (0, 10, 20, 20), (0, 20, 20, 31)]
    assert [record.label for record in first] == [0, 1, 0]
    assert [record.label for record in records if record.group == "kos02_Part1"] == [0, 1, 1]
    assert any("strips of one photo lie in training and in test" in line for line in lines)


def test_kolektors_palette_labels_are_read_by_their_colours(tmp_path: Path) -> None:
    """Index 1 is white: raw indices with a threshold of 128 would lose every defect."""
    records, _ = loaded(sets.kolektor(tmp_path))
    defect = next(record for record in records if record.group == "kos01_Part0" and record.label == 1)
    expected = np.zeros((10, 20), bool)
    expected[2:4, 3:9] = True
    assert np.array_equal(masks_of(defect), expected)


def test_a_quarter_of_the_normal_strips_is_for_the_test(tmp_path: Path) -> None:
    records, _ = loaded(sets.kolektor(tmp_path))
    counts = Counter((record.split, record.label) for record in records)
    assert counts == {("test", 1): 3, ("test", 0): 8, ("train", 0): 22}  # ceil(30 / 4)
    whole, _ = loaded(tmp_path, "kolektor-whole")
    counts = Counter((record.split, record.label) for record in whole)
    assert counts == {("test", 1): 2, ("test", 0): 2, ("train", 0): 7}  # ceil(9 / 5)
    assert all(record.crop is None for record in whole)


def test_a_kolektor_photo_without_its_label_is_an_error(tmp_path: Path) -> None:
    sets.kolektor(tmp_path)
    (tmp_path / "kos03/Part1_label.bmp").unlink()
    for layout in ("kolektor", "kolektor-whole"):
        with pytest.raises(DataError, match=r"kos03/Part1\.jpg: has no Part1_label\.bmp beside it"):
            load_dataset(tmp_path, layout)


def test_the_packed_strips_keep_their_own_split(tmp_path: Path) -> None:
    records, _ = loaded(sets.kolektor_packed(tmp_path))
    assert Counter((record.split, record.label) for record in records) == {
        ("train", 0): 1,
        ("test", 0): 2,
        ("test", 1): 1,
    }
    assert {record.class_name for record in records} == {"electrical_commutators"}
    assert [record.mask.name for record in records if record.mask] == ["kos01_Part5_0.png"]
    assert loaded(tmp_path / "electrical commutators")[0] == records


def test_kolektor2_without_its_stray_copies(tmp_path: Path) -> None:
    records, lines = loaded(sets.kolektor2(tmp_path))
    assert Counter((record.split, record.label) for record in records) == {
        **{("train", 0): 4, ("train", 1): 1, ("test", 0): 2, ("test", 1): 2}
    }
    assert not [record for record in records if "copy" in record.path.name or record.path.stem.endswith("_GT")]
    assert any("2 files are called a copy of the file beside it" in line for line in lines)
    assert not [line for line in lines if "byte for byte" in line]


# AITEX --------------------------------------------------------------------------------------------------------------


def test_aitex_in_tiles_as_faprompt_counts(tmp_path: Path) -> None:
    records, lines = loaded(sets.aitex(tmp_path))
    assert Counter((record.split, record.label) for record in records) == {
        **{("train", 0): 18, ("test", 0): 6, ("test", 1): 5}
    }  # 24 tiles of six normal strips; 2 + 1 + 2 of the defect photos with one mask that marks
    assert all(photo_size(record.photo) == (256, 256) for record in records)
    defects = [record for record in records if record.label == 1]
    assert [(record.group, record.crop[0]) for record in defects] == [
        *(("0001_002_00", 0), ("0001_002_00", 256)),
        *(("0005_019_02", 256), ("0005_019_02", 512)),
        ("0094_027_05", 256),
    ]
    assert [record.defect_type for record in defects] == ["Broken_end"] * 2 + ["Fuzzyball"] * 2 + ["Knots"]
    text = "\n".join(lines)
    assert (
        "1 defect photos have two masks, which FAPrompt's counts leave out, not used (first: 0044_019_04.png)" in text
    )
    assert "1 defect photos have no mask, not used (first: 0100_025_08.png)" in text
    assert "1 defect photos have an empty mask, not used (first: 0106_010_03.png)" in text


def test_soft_edges_of_aitex_masks_are_defect(tmp_path: Path) -> None:
    """A tile that holds nothing but the edge counts (a pixel above 0), so its mask must not be empty."""
    records, _ = loaded(sets.aitex(tmp_path))
    edge = next(record for record in records if record.group == "0005_019_02" and record.crop[0] == 512)
    expected = np.zeros((256, 256), bool)
    expected[40:60, 0:2] = True
    assert np.array_equal(masks_of(edge), expected)


def test_aitex_with_united_masks(tmp_path: Path) -> None:
    records, _ = loaded(sets.aitex(tmp_path), "aitex-all")
    both = [record for record in records if record.group == "0044_019_04"]
    assert [record.crop[0] for record in both] == [0, 512] and all(len(record.masks) == 2 for record in both)
    assert masks_of(both[1])[10:20, 88:98].all() and masks_of(both[1]).sum() == 100
    assert len([record for record in records if record.label == 1]) == 7


def test_leaving_one_fabric_out(tmp_path: Path) -> None:
    records, lines = loaded(sets.aitex(tmp_path), "aitex-fabrics")
    kinds = Counter((record.class_name, record.split, record.label) for record in records)
    assert kinds["fabric_01", "train", 0] == 6 and kinds["fabric_01", "test", 0] == 2  # both of its strips
    assert kinds["fabric_04", "test", 1] == 2 and kinds["fabric_05", "test", 1] == 1
    assert "fabric_08" not in {record.class_name for record in records}
    assert not any("without normal strips" in line for line in lines)  # its one photo has no mask, so no tile
    sets.mask(tmp_path / "Mask_images/0100_025_08_mask.png", (0, 0, 5, 5), (1024, 256))
    _, lines = loaded(tmp_path, "aitex-fabrics")
    assert any("1 tiles are of a fabric without normal strips (08), left out" in line for line in lines)


# DAGM, ELPV, magnetic tiles, textile --------------------------------------------------------------------------------


def test_dagm_has_both_sides_and_its_classes_in_order(tmp_path: Path) -> None:
    root = sets.dagm(tmp_path)
    records, lines = loaded(root)
    assert list(dict.fromkeys(record.class_name for record in records)) == ["Class1", "Class2", "Class10"]
    counts = Counter((record.class_name, record.split, record.label) for record in records)
    assert (
        counts["Class10", "test", 1] == 1 and counts["Class10", "train", 1] == 2 and counts["Class10", "test", 0] == 3
    )
    assert all(record.mask.name == f"{record.path.stem}_label.PNG" for record in records if record.label)
    assert not [line for line in lines if "Thumbs" in line or "labelled otherwise" in line]
    assert loaded(root / "Class2")[0] == [record for record in records if record.class_name == "Class2"]


def test_dagm_single_classes_nested_in_themselves(tmp_path: Path) -> None:
    root = sets.dagm(tmp_path / "given")
    nested = tmp_path / "nested/Class1"
    nested.mkdir(parents=True)
    (root / "Class1").rename(nested / "Class1")
    records, _ = loaded(tmp_path / "nested")
    assert {record.class_name for record in records} == {"Class1"} and len(records) == 8


def test_dagms_list_is_compared_with_its_label_images(tmp_path: Path) -> None:
    root = sets.dagm(tmp_path)
    (root / "Class1/Test/Label/0002_label.PNG").unlink()
    records, lines = loaded(root / "Class1")
    assert Counter(record.label for record in records if record.split == "test") == {0: 4}
    assert any(
        "1 photos are labelled otherwise than by the label images, which count (first: 0002)" in x for x in lines
    )


def test_elpv_leaves_the_unsure_cells_out(tmp_path: Path) -> None:
    records, lines = loaded(sets.elpv(tmp_path))
    assert Counter((record.split, record.label) for record in records) == {
        **{("train", 0): 6, ("test", 0): 2, ("test", 1): 3}
    }
    assert {record.defect_type for record in records if record.label} == {"mono", "poly"}
    assert Counter(record.condition for record in records if record.label == 0) == {"mono": 3, "poly": 5}
    assert any("3 cells have a probability between 0 and 1 and are left out" in line for line in lines)


@pytest.mark.parametrize("place", ["src", "src/elpv_dataset", "src/elpv_dataset/data"])
def test_elpv_from_any_of_its_folders(tmp_path: Path, place: str) -> None:
    records, _ = loaded(sets.elpv(tmp_path))
    assert loaded(tmp_path / place)[0] == records


def test_a_row_of_elpv_that_is_none(tmp_path: Path) -> None:
    table = sets.elpv(tmp_path) / "src/elpv_dataset/data/labels.csv"
    table.write_text(table.read_text() + "images/cell0099.png 1.0\n")
    with pytest.raises(DataError, match=r"line 15: images/cell0099.png 1.0; expected `path probability type`"):
        load_dataset(tmp_path)


def test_magnetic_tiles(tmp_path: Path) -> None:
    records, _ = loaded(sets.magnetic_tile(tmp_path))
    assert Counter(record.defect_type for record in records) == {
        **{"good": 2, "blowhole": 2, "break": 2, "crack": 2, "fray": 2, "uneven": 2}
    }
    assert all(record.mask.suffix == ".png" and record.path.suffix == ".jpg" for record in records if record.label)
    empty = [record for record in records if record.label and not masks_of(record).any()]
    assert [record.defect_type for record in empty] == ["uneven"], "the folder's label holds"


def test_textile(tmp_path: Path) -> None:
    records, lines = loaded(sets.textile(tmp_path))
    assert [record.path.stem for record in records if record.split == "test" and not record.label] == [
        *("nominal_0000", "nominal_0004")
    ]
    assert Counter(record.defect_type for record in records) == {"good": 6, "local": 2, "global": 2}
    assert any("has no published split" in line for line in lines)


# VisA ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "train", "test"),
    [("visa", (3, 0), (1, 3)), ("visa-2cls-fewshot", (1, 1), (3, 2)), ("visa-2cls-highshot", (2, 2), (2, 1))],
)
def test_each_official_split_of_visa(
    tmp_path: Path, layout: str, train: tuple[int, int], test: tuple[int, int]
) -> None:
    records, _ = loaded(sets.visa(tmp_path), layout)
    candle = Counter((record.split, record.label) for record in records if record.class_name == "candle")
    assert tuple(candle["train", label] for label in (0, 1)) == train
    assert tuple(candle["test", label] for label in (0, 1)) == test
    assert all(masks_of(record).sum() == 30 for record in records if record.label), "class numbers look black"


def test_the_relaid_splits_have_masks_by_side(tmp_path: Path) -> None:
    records, _ = loaded(sets.visa_relaid(tmp_path), "visa-2cls-fewshot")
    bad = {record.split: record for record in records if record.label and record.class_name == "pcb1"}
    assert {split: record.mask.parent.parent.name for split, record in bad.items()} == {
        "train": "train",
        "test": "test",
    }
    assert len(records) == 8


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    sets.visa(tmp_path)
    (tmp_path / "split_csv/2cls_highshot.csv").unlink()
    with pytest.raises(DataError, match=r"expected split_csv/2cls_highshot\.csv or 2cls_highshot/<class>/"):
        load_dataset(tmp_path, "visa-2cls-highshot")
    assert visa.SPLITS == ("1cls", "2cls_fewshot", "2cls_highshot")


def test_masks_of_btad_have_other_suffixes_than_their_photos(tmp_path: Path) -> None:
    records, _ = loaded(sets.btad(tmp_path))
    pairs = {record.class_name: (record.path.suffix, record.mask.suffix) for record in records if record.label}
    assert pairs == {"01": (".bmp", ".png"), "02": (".png", ".png"), "03": (".bmp", ".bmp")}
    assert Image.open(next(record.mask for record in records if record.mask)).mode == "L"

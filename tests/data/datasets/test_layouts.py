"""Layouts as people have them: every photo and every mask is used, or named as not used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loaded_sets import loaded
from promptad.data import folder
from promptad.data.datasets import load_dataset, meta_json, visa
from promptad.data.datasets.names import NORMAL_FOLDERS, is_mask_folder, is_normal, without_mask_word
from promptad.data.photos import read_mask
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError

_count = iter(range(1, 10**6))


def picture(path: Path, *, mask: bool = False, marks: bool = True) -> None:
    """A small photo unlike every other one, or a mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((8, 8), np.uint8)
    if mask:
        values[2:4, 2:5] = 255 * marks
    else:
        values[:] = np.random.default_rng(next(_count)).integers(0, 256, (8, 8))
    Image.fromarray(values).save(path)


def make(root: Path, *names: str, masks: tuple[str, ...] = ()) -> Path:
    for name in names:
        picture(root / name)
    for name in masks:
        picture(root / name, mask=True)
    return root


BASE = ("train/good/0.png", "test/good/0.png", "test/bad/10.png", "test/bad/11.png")


def masks_of(records: list[Record]) -> dict[str, list[str]]:
    return {record.path.name: [mask.name for mask in record.masks] for record in records if record.label == 1}


@pytest.mark.parametrize(
    "form",
    [
        "ground_truth/bad/{}_mask.png",
        "ground_truth/bad/{}.png",
        "ground_truth/bad/{}_gt.png",
        "ground_truth/bad/{}_GT.bmp",
        "ground_truth/bad/{}-mask.png",
        "ground_truth/bad/{}_MASK.PNG",
        "ground_truth/bad/{}_label.png",
        "ground_truth/bad/{}_segmentation.png",
        "ground_truth/bad/{}_ground_truth.png",
        "ground_truth/bad/mask_{}.png",
        "ground_truth/bad/{}/000.png",
        "ground_truth/Bad/{}_mask.png",
        "ground_truth/test/bad/{}_mask.png",
        "ground_truth/{}_mask.png",
        "Ground_Truth/bad/{}_mask.png",
        "groundtruth/bad/{}_mask.png",
        "ground truth/bad/{}.png",
        "gt/bad/{}.png",
        "masks/bad/{}.png",
        "Masks/{}.png",
        "mask/bad/{}_mask.tif",
        "test/bad/{}_mask.png",
        "test/bad/masks/{}.png",
        "test/bad/ground_truth/{}_mask.png",
        "test/ground_truth/bad/{}_mask.png",
    ],
)
def test_masks_are_found_however_they_are_called(tmp_path: Path, form: str) -> None:
    root = make(tmp_path / "part", *BASE, masks=(form.format("10"), form.format("11")))
    records, lines = loaded(root)
    names = masks_of(records)
    assert len(records) == 4, "a mask is no photo"
    assert list(names) == ["10.png", "11.png"] and all(len(masks) == 1 for masks in names.values())
    assert lines == []


def test_mask_words() -> None:
    for stem in ("a_mask", "a-mask", "a.GT", "a mask", "mask_a", "a_masks", "a_seg", "a_mask1", "a_mask_2", "gt_a"):
        assert without_mask_word(stem) == "a", stem
    for stem in ("mask", "unmask", "a1", "gta", "label"):
        assert without_mask_word(stem) == stem


@pytest.mark.parametrize("name", ["10_x.png", "bad/12_mask.png", "dirt/10_mask.png", "good/10_mask.png"])
def test_masks_of_no_photo_are_counted_and_named(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "part", *BASE, masks=(f"ground_truth/{name}", "ground_truth/bad/11_mask.png"))
    records, lines = loaded(root)
    assert masks_of(records) == {"10.png": [], "11.png": ["11_mask.png"]}
    assert f"1 mask file belongs to no photo, not used (first: ground_truth/{name}" in lines[0]
    assert "1 of 2 photos of bad have no mask (first: 10.png)" in lines[1]


def test_two_masks_that_belong_to_no_photo(tmp_path: Path) -> None:
    root = make(tmp_path / "part", *BASE, masks=("ground_truth/bad/x.png", "ground_truth/bad/y.png"))
    assert "2 mask files belong to no photo" in loaded(root)[1][0]


@pytest.mark.parametrize(
    "nested", ["test/bad/lot2/11.png", "test/bad/a/b/11.png", "test/good/x/7.png", "train/good/x/1.png"]
)
def test_photos_in_deeper_folders_are_read(tmp_path: Path, nested: str) -> None:
    root = make(tmp_path / "part", *BASE[:3], nested, masks=("ground_truth/bad/10_mask.png",))
    records, _ = loaded(root)
    record = next(record for record in records if record.path.name == Path(nested).name and len(record.path.parts) > 0)
    assert any(record.path == root / nested for record in records)
    assert record.defect_type in ("bad", "good")


@pytest.mark.parametrize("place", ["ground_truth/bad/lot2/11_mask.png", "ground_truth/bad/11_mask.png", "masks/11.png"])
def test_masks_of_photos_in_deeper_folders(tmp_path: Path, place: str) -> None:
    root = make(tmp_path / "part", *BASE[:3], "test/bad/lot2/11.png", masks=("ground_truth/bad/10_mask.png", place))
    records, lines = loaded(root)
    assert masks_of(records) == {"10.png": ["10_mask.png"], "11.png": [Path(place).name]}
    assert lines == []


@pytest.mark.parametrize("photos", [("test/bad/5.png", "test/bad/5.jpg"), ("test/bad/a/5.png", "test/bad/b/5.png")])
def test_a_mask_that_fits_two_photos_belongs_to_none(tmp_path: Path, photos: tuple[str, str]) -> None:
    root = make(
        tmp_path / "part", "train/good/0.png", "test/good/0.png", *photos, masks=("ground_truth/bad/5_mask.png",)
    )
    records, lines = loaded(root)
    assert all(record.mask is None for record in records) and len(records) == 4
    assert "fits 2 photos equally well" in lines[0]


def test_numbers_that_every_type_has_are_kept_apart(tmp_path: Path) -> None:
    root = make(
        tmp_path / "part",
        *("train/good/000.png", "test/good/000.png", "test/cut/000.png", "test/hole/000.png"),
        masks=("ground_truth/cut/000_mask.png", "ground_truth/hole/000_mask.png"),
    )
    records, lines = loaded(root)
    assert [(record.defect_type, [m.parent.name for m in record.masks]) for record in records if record.label] == [
        ("cut", ["cut"]),
        ("hole", ["hole"]),
    ]
    assert lines == []


@pytest.mark.parametrize("names", [("10/000.png", "10/001.png"), ("10_mask1.png", "10_mask2.png")])
def test_several_masks_of_one_photo_are_united(tmp_path: Path, names: tuple[str, str]) -> None:
    root = make(tmp_path / "part", *BASE[:3])
    for place, name in enumerate(names):
        values = np.zeros((8, 8), np.uint8)
        values[place] = 40 + place  # LOCO: one number for each file
        (root / "ground_truth/bad" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / "ground_truth/bad" / name)
    records, lines = loaded(root)
    record = next(record for record in records if record.label)
    assert isinstance(record.mask, tuple) and lines == []
    assert read_mask(record.mask, (8, 8)).sum() == 16


def test_loco_validation_photos_are_named_as_not_used(tmp_path: Path) -> None:
    root = make(tmp_path / "part", *BASE, "validation/good/0.png", "validation/good/1.png", "cover.png")
    lines = loaded(root)[1]
    assert any("validation: 2 photos not used" in line for line in lines)
    assert any("1 photos outside train and test" in line and "cover.png" in line for line in lines)


@pytest.mark.parametrize("marks", [True, False])
def test_a_defect_mask_on_a_good_photo_is_said(tmp_path: Path, marks: bool) -> None:
    root = make(tmp_path / "part", *BASE, masks=("ground_truth/bad/10.png", "ground_truth/bad/11.png"))
    picture(root / "ground_truth/good/0_mask.png", mask=True, marks=marks)
    records, lines = loaded(root)
    assert all(record.mask is None for record in records if record.label == 0)
    assert [line for line in lines if "1 masks of good photos mark defects" in line] == lines
    assert bool(lines) == marks


@pytest.mark.parametrize("name", [*NORMAL_FOLDERS, "PASS", "Defect-Free", "defect_free", "OK", "No_Defect"])
def test_names_of_normal_folders(tmp_path: Path, name: str) -> None:
    assert is_normal(name)
    root = make(tmp_path / "part", "train/good/0.png", f"test/{name}/0.png", "test/bad/1.png")
    records, lines = loaded(root)
    assert {record.defect_type for record in records if record.label == 0} == {"good"} and len(records) == 3
    assert lines == []


def test_other_normal_names_are_given(tmp_path: Path) -> None:
    root = make(tmp_path / "part", "train/good/0.png", "test/gut/0.png", "test/bad/1.png")
    records, lines = loaded(root)
    assert [record.label for record in records] == [0, 1, 1]
    assert "no folder of test has the name of normal photos" in lines[0] and "(normal)" in lines[0]
    records, lines = loaded(root, normal=("Gut",))
    assert [(record.label, record.defect_type) for record in records] == [(0, "good"), (1, "bad"), (0, "good")]
    assert lines == []
    assert "no folder of normal photos is called 'gutt'" in loaded(root, normal=("gutt",))[1][-1]
    with pytest.raises(ConfigError, match=r"write \('gut',\)"):
        load_dataset(root, normal="gut")


@pytest.mark.parametrize("name", ["good_2", "00_good", "OK parts", "clean", "Healthy"])
def test_a_folder_called_nearly_like_normal_ones_is_said(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "part", *BASE, f"test/{name}/1.png")
    records, lines = loaded(root)
    assert [record.label for record in records if record.defect_type == name] == [1]
    assert len(lines) == 1 and f"test/{name} count as defects, though its name looks like" in lines[0]
    assert loaded(root, normal=(name,))[1] == []


@pytest.mark.parametrize("name", ["not_ok", "not good", "NOK", "bad_ok", "abnormal", "bypass"])
def test_names_of_defects_are_not_like_normal_ones(tmp_path: Path, name: str) -> None:
    assert loaded(make(tmp_path / "part", *BASE, f"test/{name}/1.png"))[1] == []


def test_the_first_of_several_masks_may_go_without_a_number(tmp_path: Path) -> None:
    masks = [f"ground_truth/bad/10_mask{number}.png" for number in ("", "2", "_3")]
    records, _ = loaded(make(tmp_path / "part", *BASE, masks=(*masks, "ground_truth/bad/11.png")))
    assert sorted(len(record.masks) for record in records if record.label) == [1, 3]


def test_splits_in_other_case_and_a_folder_in_a_folder_of_its_name(tmp_path: Path) -> None:
    make(tmp_path / "set/part", "Train/Good/0.png", "TEST/good/0.png", "TEST/bad/1.png")
    make(tmp_path / "set/screw/screw", *BASE)
    records, lines = loaded(tmp_path / "set")
    assert {record.class_name for record in records} == {"part", "screw"} and len(records) == 7
    assert lines == []


def test_a_folder_that_is_no_category_is_named_if_it_holds_photos(tmp_path: Path) -> None:
    make(tmp_path / "part", *BASE)
    make(tmp_path / "extra", "a/b/1.png")
    (tmp_path / "papers").mkdir()
    assert [line.split(":")[0] for line in loaded(tmp_path)[1]] == [str(tmp_path / "extra")]


def test_mask_folders() -> None:
    assert all(is_mask_folder(name) for name in ("ground_truth", "Ground Truth", "GT", "masks", "Labels"))
    assert not any(is_mask_folder(name) for name in ("train", "test", "good", "masked"))


def test_photos_in_both_splits_and_copies_are_said(tmp_path: Path) -> None:
    root = make(tmp_path / "part", *BASE)
    (root / "test/good/5.png").write_bytes((root / "train/good/0.png").read_bytes())
    (root / "test/bad/12.png").write_bytes((root / "test/bad/10.png").read_bytes())
    (root / "test/bad/13.png").write_bytes((root / "test/good/0.png").read_bytes())
    lines = loaded(root)[1]
    assert "1 photo, equal byte for byte, lie in both training and test split" in lines[0] and "5.png" in lines[0]
    assert "labelled normal in one place and anomalous in another" in lines[1] and "13.png" in lines[1]
    assert "there more than once" in lines[2] and "12.png" in lines[2]
    assert len(lines) == 3


def test_photos_in_formats_that_are_not_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "heif_available", lambda: False)
    root = make(tmp_path / "part", *BASE)
    for name in ("test/bad/12.heic", "test/bad/lot/13.CR2"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    records, lines = loaded(root)
    assert len(records) == 4
    assert "2 photos are left out (first: test/bad/12.heic: HEIC needs the package pillow-heif" in lines[0]


# -- lists ------------------------------------------------------------------------------------------------------


def entry(image: str, anomaly: int = 0, mask: str | list[str] = "") -> dict[str, object]:
    return {
        "img_path": image,
        "mask_path": mask,
        "cls_name": "x",
        "specie_name": "bad" if anomaly else "",
        "anomaly": anomaly,
    }


def listed(root: Path, content: object) -> Path:
    (root / "meta.json").write_text(json.dumps(content))
    return root


def test_a_photo_twice_and_two_spellings_of_a_split(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png")
    listed(
        tmp_path,
        {"Test": {"x": [entry("a.png"), entry("./a.png")]}, "TEST": {"x": [entry("b.png", 1), entry("a.png")]}},
    )
    records, lines = loaded(tmp_path)
    assert [record.path.name for record in records] == ["a.png", "b.png"]
    assert "has the keys Test and TEST; read together as test" in lines[0]
    assert "2 photos are listed more than once" in lines[1]
    assert "1 photo or mask below" in lines[2] and "c.png" in lines[2]
    listed(tmp_path, {"test": {"x": [entry("a.png"), entry("a.png", 1)]}})
    with pytest.raises(DataError, match="listed as normal and as anomalous in test"):
        load_dataset(tmp_path)


def test_a_photo_in_both_splits_of_a_list(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    listed(tmp_path, {"train": {"x": [entry("a.png")]}, "test": {"x": [entry("a.png")]}})
    records, lines = loaded(tmp_path)
    assert len(records) == 2 and "both training and test split" in lines[0]


def test_lists_with_several_masks_and_masks_of_good_photos(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", masks=("m1.png", "m2.png", "g.png"))
    listed(tmp_path, {"test": {"x": [entry("b.png", 1, ["m1.png", "m2.png"]), entry("a.png", 0, "g.png")]}})
    records, lines = loaded(tmp_path)
    assert records[0].masks == (tmp_path / "m1.png", tmp_path / "m2.png") and records[1].mask is None
    assert "1 masks of good photos mark defects" in lines[0]
    meta_json.write(records, tmp_path / "again.json")
    assert meta_json.load(tmp_path / "again.json") == records[::-1], "written in the order of names"


def test_visa_rows_twice_and_files_beside_the_table(tmp_path: Path) -> None:
    make(tmp_path, "v/0.png", "v/1.png", "v/2.png")
    (tmp_path / "split_csv").mkdir()
    rows = "object,split,label,image,mask\nv,train,normal,v/0.png,\nv,test,normal,v/1.png,\nv,test,normal,v/1.png,\n"
    (tmp_path / "split_csv/1cls.csv").write_text(rows)
    records, lines = loaded(tmp_path)
    assert len(records) == 2 == len(visa.load(tmp_path))
    assert "1 photo is listed more than once" in lines[0] and "2.png" in lines[1]


def test_real_sets_say_nothing(shared_data: Path) -> None:
    for name in ("cookies", "mvtec", "magnetic_tile"):
        assert loaded(shared_data / name)[1] == [], name

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from promptad.data.datasets.mvtec import find_categories, load
from promptad.data.photos import photo_size, read_mask
from promptad.data.records import Record
from promptad.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def make_category(folder: Path) -> None:
    touch(folder, "train/good/001.png", "train/good/000.png", "test/good/000.png")
    touch(folder, "test/crack/000.png", "test/crack/001.png", "test/bent/000.png", "readme.txt")
    touch(folder, "ground_truth/crack/000_mask.png", "ground_truth/crack/001_mask.png")


def test_a_category(tmp_path: Path) -> None:
    make_category(tmp_path / "bottle")
    bottle = tmp_path / "bottle"
    mask = bottle / "ground_truth" / "crack"
    assert load(bottle) == [
        Record(bottle / "train/good/000.png", 0, None, "bottle", "good", "train"),
        Record(bottle / "train/good/001.png", 0, None, "bottle", "good", "train"),
        Record(bottle / "test/bent/000.png", 1, None, "bottle", "bent", "test"),
        Record(bottle / "test/crack/000.png", 1, mask / "000_mask.png", "bottle", "crack", "test"),
        Record(bottle / "test/crack/001.png", 1, mask / "001_mask.png", "bottle", "crack", "test"),
        Record(bottle / "test/good/000.png", 0, None, "bottle", "good", "test"),
    ]


def test_a_root_with_categories_and_other_things(tmp_path: Path) -> None:
    for name in ("cable", "bottle"):
        make_category(tmp_path / name)
    touch(tmp_path, "license.txt", "papers/mvtec.pdf", ".cache/train/good/000.png")
    assert [folder.name for folder in find_categories(tmp_path)] == ["bottle", "cable"]
    records = load(str(tmp_path))
    assert Counter(record.class_name for record in records) == {"bottle": 6, "cable": 6}
    assert [record.class_name for record in records[:6]] == ["bottle"] * 6


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_category(tmp_path / "bottle")
    monkeypatch.chdir(tmp_path / "bottle")
    assert {record.class_name for record in load(".")} == {"bottle"}
    monkeypatch.chdir(tmp_path / "bottle" / "train")
    assert {record.class_name for record in load("..")} == {"bottle"}


def test_btad_names_and_masks(tmp_path: Path) -> None:
    touch(tmp_path, "01/train/ok/0.bmp", "01/test/ok/1.bmp", "01/test/ko/2.bmp", "01/test/ko/3.bmp")
    touch(tmp_path, "01/ground_truth/ko/2.png", "01/ground_truth/ko/3.BMP", "01/ground_truth/ok/1.png")
    train, *test = load(tmp_path)
    assert (train.label, train.defect_type, train.split) == (0, "good", "train")
    rows = [(r.path.name, r.label, r.defect_type, r.mask.name if r.mask else None) for r in test]
    assert rows == [
        ("2.bmp", 1, "ko", "2.png"),
        ("3.bmp", 1, "ko", "3.BMP"),
        ("1.bmp", 0, "good", None),
    ]


def test_only_a_test_split_or_only_a_train_split(tmp_path: Path) -> None:
    touch(tmp_path, "a/test/scratch/1.png", "b/train/Good/1.png")
    records = load(tmp_path)
    assert [(r.class_name, r.split, r.label) for r in records] == [("a", "test", 1), ("b", "train", 0)]


def test_hidden_and_other_files_are_no_photos(tmp_path: Path) -> None:
    touch(tmp_path, "a/train/good/1.png", "a/train/good/._1.png", "a/train/good/notes.txt", "a/train/.x/2.png")
    assert [record.path.name for record in load(tmp_path)] == ["1.png"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "not in the MVTec layout; expected <class>/train/good"),
        (["1.png", "sub/2.png"], "not in the MVTec layout"),
        (["train/good/readme.txt"], "hold no photos"),
        (
            ["train/good/1.png", "test/crack/1.png", "test/2.png", "test/3.png"],
            "label is unknown; .*and 1 more",
        ),
        (["test/ko/1.png", "ground_truth/ko/1.png", "ground_truth/ko/1.bmp"], "a second mask beside"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, files: list[str], says: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=says) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in the MVTec layout"):
        load(tmp_path / "gone")


def counts(records: list[Record]) -> dict[tuple[str, str], int]:
    return dict(Counter((record.split, record.defect_type) for record in records))


def test_real_bottle(shared_data: Path) -> None:
    records = load(shared_data / "mvtec")
    assert records == load(shared_data / "mvtec" / "bottle")
    assert counts(records) == {
        ("train", "good"): 40,
        ("test", "good"): 20,
        ("test", "broken_large"): 20,
        ("test", "broken_small"): 22,
        ("test", "contamination"): 21,
    }
    anomalous = [record for record in records if record.label == 1]
    assert all(record.mask is not None for record in anomalous)
    record = anomalous[0]
    size = photo_size(record.path)
    assert size == (900, 900)
    share = read_mask(record.mask, size=size).mean()
    assert 0 < share < 0.5


def test_real_cookies(shared_data: Path) -> None:
    records = load(shared_data / "cookies")
    assert counts(records) == {
        ("train", "good"): 31,
        ("test", "good"): 14,
        ("test", "broken"): 32,
        ("test", "broken_unmasked"): 8,
    }
    with_mask = {record.defect_type for record in records if record.mask}
    assert with_mask == {"broken"}
    assert sum(record.mask is not None for record in records) == 32
    for record in records:
        if record.mask:
            assert read_mask(record.mask, size=photo_size(record.path)).any()


def test_real_magnetic_tile(shared_data: Path) -> None:
    records = load(shared_data / "magnetic_tile")
    assert counts(records) == {
        ("train", "good"): 761,
        ("test", "good"): 191,
        ("test", "blowhole"): 115,
        ("test", "break"): 85,
        ("test", "crack"): 57,
        ("test", "fray"): 32,
        ("test", "uneven"): 103,
    }
    assert sum(record.mask is not None for record in records) == 392
    rng = np.random.default_rng(0)
    masked = [record for record in records if record.mask]
    for index in rng.permutation(len(masked))[:40]:
        assert read_mask(masked[index].mask, size=photo_size(masked[index].path)).any()

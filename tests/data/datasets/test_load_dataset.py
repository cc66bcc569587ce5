from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptad.data.datasets import LAYOUTS, load_dataset
from promptad.errors import ConfigError, DataError
from promptad.notices import PromptadNotice


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def make_mvtec(root: Path) -> None:
    touch(root, "tile/train/good/0.png", "tile/test/crack/1.png")


def make_meta(root: Path) -> None:
    touch(root, "a.png")
    entry = {"img_path": "a.png", "cls_name": "from-meta", "anomaly": 0}
    (root / "meta.json").write_text(json.dumps({"test": {"from-meta": [entry]}}))


def make_visa(root: Path) -> None:
    touch(root, "v/0.JPG", "split_csv/1cls.csv")
    (root / "split_csv/1cls.csv").write_text("object,split,label,image,mask\nfrom-visa,test,normal,v/0.JPG,\n")


def classes(path: Path, layout: str = "auto") -> set[str]:
    return {record.class_name for record in load_dataset(path, layout)}


def test_each_layout_is_detected(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec")
    make_meta(tmp_path / "meta")
    make_visa(tmp_path / "visa")
    touch(tmp_path, "relaid/1cls/candle/train/good/0.JPG")
    assert classes(tmp_path / "mvtec") == {"tile"}
    assert classes(tmp_path / "mvtec" / "tile") == {"tile"}
    assert classes(tmp_path / "meta") == {"from-meta"}
    assert classes(tmp_path / "meta" / "meta.json") == {"from-meta"}
    assert classes(tmp_path / "visa") == {"from-visa"}
    assert classes(tmp_path / "relaid") == {"candle"}
    assert classes(tmp_path / "relaid" / "1cls") == {"candle"}


def test_order_of_detection_and_naming_a_layout(tmp_path: Path) -> None:
    make_mvtec(tmp_path)
    assert classes(tmp_path) == {"tile"}
    make_visa(tmp_path)
    assert classes(tmp_path) == {"from-visa"}
    make_meta(tmp_path)
    with pytest.warns(PromptadNotice, match=r"read as it lies \(visa\); its meta.json is not used"):
        assert classes(tmp_path) == {"from-visa"}, "a list in a known set is derived from it"
    assert classes(tmp_path / "meta.json") == {"from-meta"}
    assert classes(tmp_path, "visa") == {"from-visa"}
    assert classes(tmp_path, "mvtec") == {"tile"}
    assert classes(tmp_path, "meta") == {"from-meta"}
    assert LAYOUTS[0] == "auto" and len(set(LAYOUTS)) == len(LAYOUTS) > 10


def test_no_layout_fits(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.png", "a.txt")
    for path in (tmp_path, tmp_path / "photos" / "a.png"):
        with pytest.raises(DataError) as caught:
            load_dataset(path)
        message = str(caught.value)
        assert "\n" not in message
        for looked_for in ("meta.json", "split_csv/1cls.csv", "kos01/Part0.jpg", "train/<type>", "<class>"):
            assert looked_for in message


def test_missing_folder_and_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such data set"):
        load_dataset(tmp_path / "gone")
    with pytest.raises(ConfigError, match="layout 'cocoa' is not known; expected one of auto, loco, ad2, "):
        load_dataset(tmp_path, "cocoa")


def test_real_folders(shared_data: Path) -> None:
    assert len(load_dataset(shared_data / "cookies")) == 85
    assert len(load_dataset(shared_data / "mvtec")) == 123
    # The folder of all data sets is itself a root: mvtec in it is no category, the two others are.
    assert classes(shared_data) == {"cookies", "magnetic_tile"}

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from promptad.data.datasets import meta_json, mvtec
from promptad.data.parts import FilePart
from promptad.data.records import Record
from promptad.errors import DataError
from promptad.notices import PromptadNotice, collected_notices


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def entry(image: str, anomaly: int = 0, mask: str = "", **other: object) -> dict[str, object]:
    kind = "crack" if anomaly else "good"
    return {
        "img_path": image,
        "mask_path": mask,
        "cls_name": "tile",
        "specie_name": kind,
        "anomaly": anomaly,
        **other,
    }


def write_json(root: Path, content: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "meta.json").write_text(json.dumps(content))
    return root


def test_reading(tmp_path: Path) -> None:
    touch(tmp_path, "tile/a.png", "tile/b.png", "tile/b_mask.png")
    content = {
        "train": {"tile": [entry("tile/a.png")]},
        "test": {"tile": [entry("tile/b.png", 1, "tile/b_mask.png")]},
    }
    expected = [
        Record(tmp_path / "tile/a.png", 0, None, "tile", "good", "train"),
        Record(tmp_path / "tile/b.png", 1, tmp_path / "tile/b_mask.png", "tile", "crack", "test"),
    ]
    write_json(tmp_path, content)
    assert meta_json.load(tmp_path) == expected
    assert meta_json.load(tmp_path / "meta.json") == expected


def test_keys_in_any_case_and_missing_fields(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    del (bare := entry("b.png", 1))["cls_name"], bare["specie_name"], bare["mask_path"]
    write_json(tmp_path, {"Train": {"tile": [entry("a.png")]}, "TEST": {"tile2": [bare]}, "note": "x"})
    assert meta_json.load(tmp_path) == [
        Record(tmp_path / "a.png", 0, None, "tile", "good", "train"),
        Record(tmp_path / "b.png", 1, None, "tile2", "", "test"),
    ]


def test_absolute_paths_count_if_they_exist(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.png")
    photo = tmp_path / "photos" / "a.png"
    write_json(tmp_path / "lists", {"test": {"tile": [entry(str(photo))]}})
    assert meta_json.load(tmp_path / "lists")[0].path == photo
    write_json(tmp_path / "lists", {"test": {"tile": [entry("/home/author/a.png")]}})
    with pytest.raises(DataError, match=r"absolute path /home/author/a\.png; expected a path that exists"):
        meta_json.load(tmp_path / "lists")


def test_mask_of_a_normal_photo_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    write_json(tmp_path, {"test": {"tile": [entry("a.png", 0, "never-made.png")]}})
    assert meta_json.load(tmp_path)[0].mask is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "found a list; expected an object"),
        ({"val": {}}, "keys val; expected train and test"),
        ({}, "keys none"),
        ({"test": {}}, "lists no photos"),
        ({"test": []}, "test: found a list; expected an object"),
        ({"test": {"tile": {}}}, "test tile: found an object; expected a list"),
        ({"test": {"tile": ["a.png"]}}, "test tile entry 0: found text; expected an object"),
        ({"test": {"tile": [entry("a.png", 2)]}}, "entry 0: anomaly is 2; expected 0 or 1"),
        ({"test": {"tile": [entry("a.png"), {"img_path": "a.png"}]}}, "entry 1: anomaly is None"),
        ({"test": {"tile": [entry("a.png", img_path=3)]}}, "img_path: found a number; expected text"),
        ({"test": {"tile": [entry("")]}}, "lists no photos"),
        ({"test": {"tile": [entry("../a.png")]}}, "leads out of"),
        ({"test": {"tile": [entry("a.png", 1, "x/../../m.png")]}}, "leads out of"),
        ({"test": {"tile": [entry("a.png"), entry("gone.png")]}}, "1 of 2 listed files are missing"),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, content: object, says: str) -> None:
    touch(tmp_path, "a.png")
    write_json(tmp_path, content)
    with pytest.raises(DataError) as caught:
        meta_json.load(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_and_missing_json(tmp_path: Path) -> None:
    for text in ("{", "[" * 100_000):
        (tmp_path / "meta.json").write_text(text)
        with pytest.raises(DataError, match="is not JSON") as caught:
            meta_json.load(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        meta_json.load(tmp_path / "gone")


def test_keys_that_stand_twice_or_are_none_of_the_splits_are_not_lost_in_silence(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    write_json(tmp_path, {"train": {"tile": [entry("a.png")]}, "valid": {"tile": [entry("b.png")]}})
    with pytest.warns(PromptadNotice, match="entries under valid are not used; expected train or test: rename the key"):
        assert len(meta_json.load(tmp_path)) == 1
    part = json.dumps({"tile": [entry("a.png")]})
    for text in (
        f'{{"train": {part}, "train": {part}}}',
        f'{{"test": {{"tile": [], "tile": [{json.dumps(entry("b.png"))}]}}}}',
    ):
        (tmp_path / "meta.json").write_text(text)
        with pytest.raises(DataError, match=r"is not JSON \(the key '(train|tile)' stands twice in one object\)"):
            meta_json.load(tmp_path)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "test/crack/1.png", "test/good/写.png", "ground_truth/crack/1_mask.png"):
        touch(tmp_path, f"tile/{name}", f"bottle/{name}")
    records = mvtec.load(tmp_path)
    assert len(records) == 6
    meta_json.write(records, tmp_path)
    back = meta_json.load(tmp_path)
    assert sorted(back, key=lambda record: record.path) == sorted(records, key=lambda record: record.path)

    content = json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
    assert list(content) == ["train", "test"]
    assert list(content["test"]) == ["bottle", "tile"]
    assert content["test"]["tile"][0] == {
        "img_path": "tile/test/crack/1.png",
        "mask_path": "tile/ground_truth/crack/1_mask.png",
        "cls_name": "tile",
        "specie_name": "crack",
        "anomaly": 1,
    }
    assert content["train"]["tile"][0]["mask_path"] == ""


def test_written_elsewhere_the_paths_are_absolute(tmp_path: Path) -> None:
    touch(tmp_path, "tile/train/good/0.png")
    records = mvtec.load(tmp_path / "tile")
    meta_json.write(records, tmp_path / "lists" / "list.json")
    assert meta_json.load(tmp_path / "lists" / "list.json") == records
    meta_json.write(records, tmp_path / "lists" / "list.json", root=tmp_path)
    text = (tmp_path / "lists" / "list.json").read_text()
    assert '"tile/train/good/0.png"' in text


def test_records_without_label_or_class_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: has no label"):
        meta_json.write([Record(tmp_path / "a.png", class_name="tile")], tmp_path)
    with pytest.raises(DataError, match=r"a\.png: has no class name"):
        meta_json.write([Record(tmp_path / "a.png", 0)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def loaded(root: Path) -> tuple[list[Record], list[str]]:
    with collected_notices() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptadNotice)
        return meta_json.load(root), lines


def test_the_key_of_the_class_decides(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    write_json(tmp_path, {"test": {"electrical commutators": [entry("a.png")]}})
    [record], lines = loaded(tmp_path)
    assert record.class_name == "electrical commutators"
    assert (
        "1 entries have another cls_name than the class that they stand under, which counts (first: tile)" in lines[0]
    )


def test_placeholders_without_a_photo_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    write_json(tmp_path, {"train": {"tile": [entry("")]}, "test": {"tile": [entry("a.png")]}})
    records, lines = loaded(tmp_path)
    assert [record.path.name for record in records] == ["a.png"]
    assert "1 entries have an empty img_path and are passed over" in lines[0]


@pytest.mark.parametrize("start", ["/data/mm/br35h/", "C:\\\\sets\\\\br35h\\\\", "/"])
def test_paths_of_another_machine_are_found_by_their_end(tmp_path: Path, start: str) -> None:
    touch(tmp_path, "yes/y0.jpg", "y0.jpg")
    separator = "\\" if "\\" in start else "/"
    write_json(tmp_path, {"test": {"brain": [entry(f"{start}yes{separator}y0.jpg", 1, cls_name="brain")]}})
    [record], lines = loaded(tmp_path)
    assert record.path == tmp_path / "yes/y0.jpg", "the longest end, not the file of the same name at the top"
    assert "1 paths are those of another machine" in lines[0]


def test_masks_that_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "masks/x.png")
    rows = [entry("a.png", 1, "masks"), entry("b.png", 1, ""), entry("c.png", 1, "masks/x.png")]
    write_json(tmp_path, {"test": {"tile": rows}})
    records, lines = loaded(tmp_path)
    assert [record.mask for record in records] == [None, None, tmp_path / "masks/x.png"]
    assert "1 mask paths are folders and no masks" in lines[0]


def test_a_list_none_of_whose_masks_is_there_is_of_photos_without_masks(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    write_json(tmp_path, {"test": {"tile": [entry("a.png", 1, "gt/a.png"), entry("b.png", 1, "gt/b.png")]}})
    records, lines = loaded(tmp_path)
    assert [record.mask for record in records] == [None, None]
    assert "none of its 2 masks is there" in lines[0]
    touch(tmp_path, "gt/a.png")
    with pytest.raises(DataError, match="1 of 4 listed files are missing"):
        meta_json.load(tmp_path)


def test_what_only_our_records_have_survives(tmp_path: Path) -> None:
    touch(tmp_path, "strip.png", "strip_mask.png", "good.png")
    crop = (0, 0, 256, 256)
    records = [
        Record(tmp_path / "good.png", 0, None, "cloth", "good", "validation", "s7", "overexposed"),
        Record(tmp_path / "strip.png", 1, FilePart(tmp_path / "strip_mask.png", crop, 0), "cloth", "nep", crop=crop),
        Record(tmp_path / "strip.png", 0, None, "cloth", "good", "train", crop=(256, 0, 512, 256)),
    ]
    meta_json.write(records, tmp_path)
    assert sorted(meta_json.load(tmp_path), key=lambda r: (r.path, r.crop)) == records
    for wrong in ([1, 2, 3], [0, 0, 1.5, 2], "0,0,1,1"):
        write_json(tmp_path, {"test": {"tile": [entry("good.png", crop=wrong)]}})
        with pytest.raises(DataError, match="crop"):
            meta_json.load(tmp_path)

"""Photos with annotations: COCO, YOLO, labelme, manifests of Amazon's labelling tools, and folders of images and masks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loaded_sets import loaded
from promptad.data.datasets import load_dataset, open_dataset
from promptad.data.photos import read_mask
from promptad.data.records import Record
from promptad.errors import DataError

SIZE = (20, 30)


def photo(path: Path, level: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)) + level)
    Image.fromarray(rng.integers(level, level + 60, (*SIZE, 3), dtype=np.uint8)).save(path)
    return path


def marked(record: Record) -> int:
    """Pixels of the photo's mask."""
    assert record.mask is not None
    return int(read_mask(record.mask, SIZE).sum())


# COCO ---------------------------------------------------------------------------------------------------------------


def coco(file: Path, images: list[str], annotations: list[dict[str, Any]], categories: dict[int, str]) -> Path:
    content = {
        "images": [{"id": n, "file_name": name, "width": SIZE[1], "height": SIZE[0]} for n, name in enumerate(images)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


BOX = [[2, 3, 8, 3, 8, 7, 2, 7]]
RUNS = {"size": list(SIZE), "counts": [20 * 20 + 3, 5, 20 * 30 - 20 * 20 - 8]}


def test_coco_with_a_folder_of_annotations(tmp_path: Path) -> None:
    root = tmp_path / "gear"
    for name in ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "unlisted.jpg"):
        photo(root / "images" / name)
    coco(root / "annotations/instances_train.json", ["0.jpg"], [], {1: "scratch"})
    drawn = [
        {"image_id": 1, "category_id": 1, "segmentation": BOX},
        {"image_id": 1, "category_id": 2, "segmentation": RUNS},
        {"image_id": 2, "category_id": 3, "segmentation": BOX},
        {"image_id": 9, "category_id": 1, "segmentation": BOX},
    ]
    names = ["1.jpg", "elsewhere/2.jpg", "3.jpg"]
    coco(root / "annotations/instances_test.json", names, drawn, {1: "scratch", 2: "dent", 3: "good"})
    records, lines = loaded(root)
    by_name = {record.path.name: record for record in records}
    assert Counter((r.split, r.label) for r in records) == {("train", 0): 1, ("test", 0): 2, ("test", 1): 1}
    assert {r.class_name for r in records} == {"gear"} and by_name["2.jpg"].defect_type == "scratch+dent"
    assert by_name["3.jpg"].label == 0  # its category is called good
    assert marked(by_name["2.jpg"]) == 6 * 4 + 5
    assert any("1 annotations are of photos that it does not list" in line for line in lines)
    assert any("lie elsewhere than it says" in line for line in lines)


def test_coco_beside_the_photos_with_validation_alone(tmp_path: Path) -> None:
    for split, name in (("train", "a.png"), ("valid", "b.png"), ("valid", "c.png")):
        photo(tmp_path / split / name)
    coco(tmp_path / "train/_annotations.coco.json", ["a.png"], [], {1: "dent"})
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4], "segmentation": []}]
    coco(tmp_path / "valid/_annotations.coco.json", ["b.png", "c.png"], boxes, {1: "dent"})
    records, lines = loaded(tmp_path)
    assert Counter((r.split, r.label) for r in records) == {("train", 0): 1, ("test", 0): 1, ("test", 1): 1}
    assert all(record.mask is None for record in records)
    assert any("those of validation are the test" in line for line in lines)
    assert any("1 anomalous photos have boxes alone" in line for line in lines)


def test_one_coco_file_is_recognised_by_its_keys(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    file = coco(tmp_path / "labels.json", ["a.png"], [{"image_id": 0, "category_id": 1, "segmentation": BOX}], {1: "x"})
    assert open_dataset(file, "auto").layout == "coco"
    assert [marked(record) for record in loaded(file)[0]] == [24]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), "not an annotation in COCO's form"),
        (lambda c: c["annotations"][0].pop("category_id"), "annotation 0: is not of COCO's form"),
        (lambda c: c["annotations"][0].update(category_id=8), "category 8 is not listed"),
        (lambda c: c["images"][0].update(file_name="gone.png"), "1 files that it names are not below"),
        (lambda c: c["images"][0].update(file_name="../x.png"), "leads out of its folder"),
        (lambda c: c["annotations"][0].update(segmentation={"counts": "P"}), "counts are not those"),
    ],
)
def test_coco_of_another_form_is_one_line(tmp_path: Path, change: Callable[[Any], Any], words: str) -> None:
    photo(tmp_path / "a.png")
    file = coco(tmp_path / "l.json", ["a.png"], [{"image_id": 0, "category_id": 1, "segmentation": BOX}], {1: "x"})
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words) as caught:
        load_dataset(file, "coco")
    assert "\n" not in str(caught.value)


# YOLO and labelme ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["names: [scratch, dent]\n", "names:\n  - scratch\n  - dent\n", "names:\n  0: scratch\n  1: dent\n", "names: {0: scratch, 1: dent}\n"])  # fmt: skip
def test_yolo_with_outlines_boxes_and_photos_without_a_file(tmp_path: Path, names: str) -> None:
    root = tmp_path / "kolektor"
    for split, name in (("train", "0.jpg"), ("val", "1.jpg"), ("val", "2.jpg"), ("val", "3.jpg")):
        photo(root / "images" / split / name)
    (root / "labels/val").mkdir(parents=True)
    (root / "labels/val/1.txt").write_text("1 0.1 0.25 0.5 0.25 0.5 0.75 0.1 0.75\n")
    (root / "labels/val/2.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "labels/val/3.txt").write_text("\n")
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\n{names}")
    records, lines = loaded(root)
    by_name = {record.path.name: record for record in records}
    assert {name: (r.split, r.label, r.defect_type) for name, r in by_name.items()} == {
        "0.jpg": ("train", 0, "good"),
        "1.jpg": ("test", 1, "dent"),
        "2.jpg": ("test", 1, "scratch"),
        "3.jpg": ("test", 0, "good"),
    }
    assert marked(by_name["1.jpg"]) == 12 * 10 and by_name["2.jpg"].mask is None
    assert any("no outline of every defect" in line for line in lines)
    (root / "labels/val/1.txt").write_text("1 0.1 0.25 0.5\n")
    with pytest.raises(DataError, match=r"1\.txt line 1: 1 0\.1 0\.25 0\.5; expected a class and a box"):
        load_dataset(root)


def test_yolo_as_roboflow_writes_it(tmp_path: Path) -> None:
    for split in ("train", "test"):
        photo(tmp_path / split / "images" / "a.jpg")
        (tmp_path / split / "labels").mkdir()
    (tmp_path / "test/labels/a.txt").write_text("0 0 0 1 0 1 1 0 1\n")
    (tmp_path / "data.yaml").write_text("nc: 1\nnames: ['crack']\n")
    records, _ = loaded(tmp_path)
    assert [(r.split, r.label) for r in sorted(records, key=lambda r: r.split)] == [("test", 1), ("train", 0)]


def test_labelme(tmp_path: Path) -> None:
    for name in ("0.png", "1.png", "2.png", "nobody.png"):
        photo(tmp_path / name)
    shapes = {
        "0": [],
        "1": [
            {"label": "scratch", "points": [[2, 3], [8, 7]], "shape_type": "rectangle"},
            {"label": "dent", "points": [[15, 10], [18, 10]], "shape_type": "circle"},
        ],
        "2": [{"label": "scratch", "points": [[2, 3], [8, 7]], "shape_type": "line"}],
    }
    for name, drawn in shapes.items():
        content = {
            "shapes": drawn,
            "imagePath": f"C:\\photos\\{name}.png",
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    records, lines = loaded(tmp_path)
    by_name = {record.path.name: record for record in records}
    assert {name: r.label for name, r in by_name.items()} == {"0.png": 0, "1.png": 1, "2.png": 1}
    assert by_name["1.png"].defect_type == "scratch+dent"
    assert marked(by_name["1.png"]) == 24 + 32  # pixels whose centre is within 3 of a corner
    assert any("1 photos have no JSON file, so nobody looked at them" in line for line in lines)
    assert any("shapes of the type line are no areas" in line for line in lines)


# Manifests ----------------------------------------------------------------------------------------------------------


def line(ref: str, label: int, mask: str = "", colours: dict[str, tuple[str, str]] | None = None) -> str:
    name = "anomaly" if label else "normal"
    entry: dict[str, Any] = {
        "source-ref": ref,
        "part-label": label,
        "part-label-metadata": {"class-name": name, "type": "groundtruth/image-classification", "creation-date": "?"},
    }
    if mask:
        table = {key: {"class-name": kind, "hex-color": code} for key, (kind, code) in (colours or {}).items()}
        entry |= {
            "part-mask-ref": mask,
            "part-mask-ref-metadata": {"internal-color-map": table, "type": "groundtruth/semantic-segmentation"},
        }
    return json.dumps(entry)


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    root = tmp_path / "cookie"
    for name in ("train/0.jpg", "test/1.jpg", "test/2.jpg", "test/3.jpg"):
        photo(root / name)
    mask = np.zeros((*SIZE, 4), np.uint8)
    mask[..., 3] = 255
    mask[4:9, 10:20, :3] = (0x23, 0xA4, 0x36)
    (root / "masks").mkdir()
    Image.fromarray(mask, "RGBA").save(root / "masks/1.png")
    Image.new("RGB", SIZE[::-1], "white").save(root / "masks/white.png")
    both = {"0": ("BACKGROUND", "#ffffff"), "1": ("cracked", "#23A436")}
    (root / "train.manifest").write_text(line("s3://bucket/set/train/0.jpg", 0) + "\n")
    (root / "test.manifest").write_text(
        "\n".join(
            [
                line("s3://bucket/set/test/1.jpg", 1, "s3://bucket/set/masks/1.png", both),
                line("test/2.jpg", 0, "masks/white.png", {"0": ("BACKGROUND", "#ffffff")}),
                line("test/3.jpg", 1),
                "",
            ]
        )
    )
    return root


def test_a_manifest_of_each_split(manifests: Path) -> None:
    records, _ = loaded(manifests)
    by_name = {record.path.name: record for record in records}
    assert {name: (r.split, r.label) for name, r in by_name.items()} == {
        **{"0.jpg": ("train", 0), "1.jpg": ("test", 1), "2.jpg": ("test", 0), "3.jpg": ("test", 1)}
    }
    assert marked(by_name["1.jpg"]) == 50 and by_name["1.jpg"].defect_type == "cracked"
    assert by_name["2.jpg"].mask is None  # white all over, and normal
    assert {record.class_name for record in records} == {"cookie"}


def test_one_manifest_is_for_training_or_named_for_the_test(manifests: Path) -> None:
    (manifests / "train.manifest").unlink()
    (manifests / "test.manifest").rename(manifests / "output.manifest")
    records, lines = loaded(manifests)
    assert {record.split for record in records} == {"train"} and any("has no split" in text for text in lines)
    assert {record.split for record in loaded(manifests / "output.manifest", "manifest-test")[0]} == {"test"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "test.manifest line 1: is not a line of a manifest"),
        ('{"source-ref": "test/1.jpg"}', "no label"),
        (line("test/1.jpg", 3), "part-label is 3"),
        (line("test/9.jpg", 1), "1 files that it names"),
        (line("test/1.jpg", 1, "masks/1.png", {"1": ("x", "green")}), "hex-color 'green'"),
        ("", "has no lines"),
    ],
)
def test_a_manifest_of_another_form_is_one_line(manifests: Path, text: str, words: str) -> None:
    (manifests / "test.manifest").write_text(text + "\n")
    with pytest.raises(DataError, match=words) as caught:
        load_dataset(manifests)
    assert "\n" not in str(caught.value)


# Images and masks ---------------------------------------------------------------------------------------------------


def test_folders_of_images_and_masks(tmp_path: Path) -> None:
    for name in ("good/1.jpg", "2.jpg", "3.jpg", "4.jpg"):
        photo(tmp_path / "images" / name)
    for name, level in (("2.png", 255), ("3.png", 0)):
        mask = np.zeros(SIZE, np.uint8)
        mask[2:6, 3:9] = level
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    records, lines = loaded(tmp_path)
    by_name = {record.path.name: record for record in records}
    assert {name: (r.split, r.label) for name, r in by_name.items()} == {
        **{"1.jpg": ("test", 0), "2.jpg": ("test", 1), "3.jpg": ("test", 0), "4.jpg": ("test", None)}
    }
    assert marked(by_name["2.jpg"]) == 24
    assert any("1 photos have no mask, so their label is not known" in text for text in lines)

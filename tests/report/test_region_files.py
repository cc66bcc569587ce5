"""Files of regions, read by the programs that they are for, or by the rules that those have written down."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from promptad.data.datasets.coco import load
from promptad.data.outlines import filled, rings_of, signed_area, simplified
from promptad.prediction import DefectWord, Prediction
from promptad.report.region_files import COLUMNS, coco, label_studio, write_region_files
from promptad.report.rows import Row
from promptad.scoring.regions import RegionRule

SIZE = (48, 64)


def row(name: str, seed: int, words: str = "bent", level: float = 0.08) -> Row:
    noise = np.random.default_rng(seed).normal(size=SIZE)
    values = ndimage.gaussian_filter(noise, 3).astype(np.float32)
    rule = RegionRule(4, 0.5)
    defects = (DefectWord(words, 0.5, None),) if words else ()
    made = Prediction(Path(name), 0.3, 0.2, values, level, defects, SIZE, rule=rule)
    return replace(Row.of(made), sha256="0" * 64)


def rows() -> list[Row]:
    return [
        row("b/2.png", 2, "=rust & <dirt>"),
        row("a/1.png", 1),
        row("c.png", 3, "", level=9.0),
        row("d.png", 4, ""),
        Row.failed("broken.png", "unreadable"),
    ]


def written(folder: Path) -> Path:
    write_region_files(folder, ("mask", "coco", "labelstudio", "csv"), rows(), lambda row: row.photo[:-4])
    return folder


def union(row: Row) -> np.ndarray:
    drawn = np.zeros(SIZE, np.bool_)
    for region in row.regions or ():
        drawn |= region.mask(SIZE)
    return drawn


def test_masks_are_the_regions_and_those_of_photos_without_are_black(tmp_path: Path) -> None:
    masks = written(tmp_path) / "masks"
    assert {str(path.relative_to(masks)) for path in masks.rglob("*.*")} == {"a/1.png", "b/2.png", "c.png", "d.png"}
    for known in rows()[:4]:
        with Image.open(masks / known.photo) as image:
            assert image.mode == "L" and np.array_equal(np.asarray(image), 255 * union(known).astype(np.uint8))
    assert not np.asarray(Image.open(masks / "c.png")).any()


def test_coco_itself_reads_the_same_pixels_boxes_and_areas(tmp_path: Path) -> None:
    api = pytest.importorskip("pycocotools.coco").COCO(str(written(tmp_path) / "coco.json"))
    photos = {photo.photo: photo for photo in rows() if photo.regions is not None}
    assert {image["file_name"] for image in api.imgs.values()} == set(photos)
    for image in api.imgs.values():
        known = photos[image["file_name"]]
        annotations = api.loadAnns(api.getAnnIds(imgIds=[image["id"]]))
        assert len(annotations) == len(known.regions or ())
        drawn = np.zeros(SIZE, np.bool_)
        for annotation, region in zip(annotations, known.regions or (), strict=True):
            mask = api.annToMask(annotation).astype(bool)
            assert np.array_equal(mask, region.mask(SIZE)) and mask.sum() == annotation["area"]
            assert tuple(annotation["bbox"]) == region.box
            assert api.cats[annotation["category_id"]]["name"] == (region.words or "defect")
            drawn |= mask
        assert np.array_equal(drawn, union(known))


def test_our_own_reader_of_annotations_reads_them_back(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for known in rows()[:4]:
        (folder / known.photo).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(folder / known.photo)
    (folder / "test.json").write_text(json.dumps(coco(sorted(rows()[:4], key=lambda row: row.photo))))
    records = {record.path.name: record for record in load(folder / "test.json")}
    assert records["c.png"].label == 0
    assert {records[name].label for name in ("1.png", "2.png", "d.png")} == {1}


def test_label_studio_gets_tasks_by_its_rules(tmp_path: Path) -> None:
    folder = written(tmp_path)
    tasks = json.loads((folder / "label-studio.json").read_text(encoding="utf-8"))
    config = ElementTree.parse(folder / "label-studio.xml").getroot()
    controls = config.findall("PolygonLabels")
    assert [(c.get("name"), c.get("toName")) for c in controls] == [("defect", "image")]
    assert config.findall("Image")[0].get("value") == "$image"
    labels = {label.get("value") for label in controls[0]}
    photos = {photo.photo: photo for photo in rows() if photo.regions is not None}
    assert len(tasks) == len(photos)
    for task in tasks:
        assert task["data"]["image"].startswith("/data/local-files/?d=")
        known = photos[task["data"]["image"].partition("?d=")[2]]
        (prediction,) = task["predictions"]
        assert isinstance(prediction["model_version"], str) and prediction["score"] == known.score
        ids = [result["id"] for result in prediction["result"]]
        assert len(ids) == len(set(ids))
        drawn = np.zeros(SIZE, np.bool_)
        for result in prediction["result"]:
            assert (result["type"], result["from_name"], result["to_name"]) == ("polygonlabels", "defect", "image")
            assert (result["original_height"], result["original_width"], result["image_rotation"]) == (*SIZE, 0)
            points = np.array(result["value"]["points"])
            assert points.shape[1] == 2 and len(points) >= 3 and (points >= 0).all() and (points <= 100).all()
            assert set(result["value"]["polygonlabels"]) <= labels and len(result["value"]["polygonlabels"]) == 1
            drawn |= filled(points * [SIZE[1] / 100, SIZE[0] / 100], SIZE)
        near = ndimage.binary_dilation(union(known), np.ones((3, 3)), 1) & ~ndimage.binary_erosion(
            union(known), np.ones((3, 3))
        )
        assert not (drawn ^ ndimage.binary_fill_holes(union(known), np.ones((3, 3))))[~near].any()


def test_the_table_is_one_line_a_region_and_safe_for_spreadsheets(tmp_path: Path) -> None:
    text = (written(tmp_path) / "regions.csv").read_text(encoding="utf-8-sig")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert tuple(lines[0]) == COLUMNS
    expected = [(r.photo, region) for r in sorted(rows()[:4], key=lambda r: r.photo) for region in r.regions or ()]
    assert len(lines) == len(expected) > 3
    for line, (photo, region) in zip(lines, expected, strict=True):
        assert (line["photo"], int(line["area"]), float(line["area_mm2"])) == (photo, region.area, region.area / 4)
        assert tuple(int(line[name]) for name in ("left", "top", "width", "height")) == region.box
    assert {line["words"] for line in lines} == {"bent", "'=rust & <dirt>", ""}


def test_only_what_is_asked_for_is_written_and_nothing_half(tmp_path: Path) -> None:
    write_region_files(tmp_path, ("csv",), rows(), lambda row: row.photo)
    assert [path.name for path in tmp_path.iterdir()] == ["regions.csv"]
    assert label_studio([]) == [] and coco([])["annotations"] == []


@pytest.mark.parametrize("seed", range(6))
def test_simplified_rings_stay_within_a_pixel_and_lose_most_corners(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=SIZE)
    mask = ndimage.gaussian_filter(noise, 4) > 0
    for ring in rings_of(mask):
        fewer = simplified(ring)
        assert {tuple(corner) for corner in fewer.tolist()} <= {tuple(corner) for corner in ring.tolist()}
        ends = np.roll(fewer, -1, axis=0)
        for corner in ring:
            along = (ends - fewer).astype(float)
            share = ((corner - fewer) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-9)
            near = fewer + np.clip(share, 0, 1)[:, None] * along
            assert np.hypot(*(near - corner).T).min() <= 1.0 + 1e-9
        assert len(ring) < 20 or len(fewer) < len(ring) / 2
    areas = [signed_area(ring) for ring in rings_of(mask)]
    assert sum(areas) == mask.sum() and max(areas) > 0

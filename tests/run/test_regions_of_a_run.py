"""Regions from the detector to the row, the page and the next run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_cases import BACKBONE, draw, fitted, pixels, run

from promptad.detector import Detector
from promptad.prediction import DefectWord, Prediction, at_odds
from promptad.report.log import read_results
from promptad.report.page_data import region_lines
from promptad.report.rows import Row
from promptad.run.inspection import Output, inspect
from promptad.run.remarks import is_said_anew, region_remark
from promptad.scoring.place_words import PlaceWords, ViewWords
from promptad.scoring.regions import RegionRule


def spotted(**changes: object) -> Prediction:
    values = np.zeros((6, 8), np.float32)
    values[1, 1:3], values[4, 6] = (0.7, 0.9), 0.8
    made = Prediction(Path("a.jpg"), 0.7, 0.5, values, 0.5, (DefectWord("bent", 0.6, None),), (6, 8))
    return replace(made, **changes)


def test_regions_carry_the_words_of_their_place_or_of_the_photo() -> None:
    first, second = spotted().regions or ()
    assert (first.box, first.at, first.words, first.probability) == ((1, 1, 2, 1), (1, 2), "bent", None)
    best, share = np.zeros((3, 4), np.int16), np.full((3, 4), 0.25, np.float32)
    best[2, 3], share[2, 3] = 1, 0.75
    places = PlaceWords(("bent", "rusty"), [ViewWords((0, 0, 8, 6), best, share)])
    first, second = spotted(places=places).regions or ()
    assert (first.words, first.probability, second.words, second.probability) == ("bent", 0.25, "rusty", 0.75)
    assert spotted(map_threshold=None).regions is None and spotted(map=None).regions is None
    assert spotted(map_threshold=0.95).regions == ()


def test_small_places_are_neither_regions_nor_in_the_mask() -> None:
    large = spotted(rule=RegionRule(2))
    assert [region.area for region in large.regions or ()] == [2]
    assert large.mask is not None and large.mask.sum() == 2


def test_of_two_views_the_one_in_whose_middle_a_place_lies_says_its_words() -> None:
    left = ViewWords((0, 0, 10, 10), np.zeros((2, 2), np.int16), np.ones((2, 2), np.float32))
    right = replace(left, region=(6, 0, 16, 10), best=np.ones((2, 2), np.int16))
    places = PlaceWords(("on the left", "on the right"), [left, right])
    assert [places.at(4, x)[0] for x in (0, 7, 8, 15)] == ["on the left", "on the left", "on the right", "on the right"]


def test_what_verdict_and_regions_disagree_on_is_said_and_said_anew() -> None:
    odd = Row.of(spotted(map_threshold=0.95, rule=RegionRule(3)))
    assert region_remark(odd)[0].startswith("Anomalous without a region") and "3 pixels" in region_remark(odd)[0]
    normal = Row.of(spotted(score=0.2))
    assert region_remark(normal)[0].startswith("Normal with 2 regions")
    assert all(is_said_anew(region_remark(row)[0]) for row in (odd, normal))
    assert region_remark(Row.of(spotted())) == () == region_remark(Row.of(spotted(map=None)))
    assert at_odds("no threshold", [], 0.5, 1) == at_odds("anomalous", None, 0.5, 1) == ""


def test_a_row_knows_its_regions_after_the_log_and_under_another_rule() -> None:
    row = Row.of(spotted(rule=RegionRule(1, 0.5)))
    assert Row.from_dict(row.to_dict()) == row and [region.area_mm2 for region in row.regions or ()] == [0.5, 0.25]
    assert row.knows_regions(0.5, RegionRule(2)) and not row.knows_regions(0.6, RegionRule())
    fewer = row.judged(0.9, 0.5, RegionRule(2, 2.0))
    assert [region.area_mm2 for region in fewer.regions or ()] == [8.0]
    assert not fewer.knows_regions(0.5, RegionRule()) and fewer.judged(0.9, 0.4).regions is None
    old = {name: value for name, value in row.to_dict().items() if name not in ("regions", "region_rule")}
    assert Row.from_dict(old).regions is None and not Row.from_dict(old).knows_regions(0.5, RegionRule())


def test_a_run_writes_regions_and_judges_again_only_where_they_are_not_known(tmp_path: Path) -> None:
    detector, photos = fitted(), draw(tmp_path / "photos", ["a.png", "b.png"])
    calibration = detector.calibration
    assert calibration is not None
    maps = [detector.predict(path).map for path in sorted(photos.iterdir())]
    level = min(float(np.quantile(values, 0.9)) for values in maps if values is not None)
    detector.calibration = replace(calibration, map_threshold=level)
    run(detector, photos, tmp_path / "out")
    rows = read_results(tmp_path / "out" / "results.jsonl")
    assert all(row.regions and row.rule == RegionRule() for row in rows)
    for row in rows:
        again = detector.predict(photos / row.photo)
        assert row.regions == again.regions and all(region.words for region in again.regions or ())
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'class="found' in page and region_lines(rows[0])[0][0] in page

    detector.set_regions(least_area=50, scale=0.1)
    assert run(detector, photos, tmp_path / "out").reused == 2
    for row in read_results(tmp_path / "out" / "results.jsonl"):
        assert all(region.area >= 50 and region.area_mm2 for region in row.regions or ())
    detector.set_regions(least_area=1)
    assert run(detector, photos, tmp_path / "out").reused == 0  # smaller ones were not kept
    detector.set_threshold(9.0)
    report = run(detector, photos, tmp_path / "out")
    assert report.reused == 2
    assert all(row.remarks[-1].startswith("Normal with ") for row in report.rows)


def test_a_saved_detector_keeps_what_counts_as_a_region(tmp_path: Path) -> None:
    path = fitted().set_regions(least_area=7, scale=0.25).save(tmp_path / "nut.safetensors")
    assert Detector.load(path, backbone=BACKBONE).region_rule == RegionRule(7, 0.25)
    result = Detector.load(path, backbone=BACKBONE).predict(pixels(3))
    assert result.rule == RegionRule(7, 0.25)


@pytest.mark.parametrize("maps", [True, False])
def test_words_by_place_are_those_of_the_hottest_patch_too(maps: bool) -> None:
    detector = fitted(smoothing=0.0)
    result = detector.predict(pixels(20), maps=maps)
    if not maps:
        assert result.places is None and result.regions is None
        return
    assert result.places is not None and result.hottest is not None
    words, probability = result.places.at(*result.hottest)
    assert words == result.defects[0].words
    assert probability == pytest.approx(result.defects[0].region_probability)


def test_files_of_regions_come_with_the_run_and_with_the_one_that_goes_on(tmp_path: Path) -> None:
    detector, photos = fitted(), draw(tmp_path / "photos", ["a.png", "sub/b.png"])
    detector.set_map_threshold(0.0)
    wanted = tmp_path / "regions", ("mask", "coco", "csv")
    earlier: dict[str, bytes] = {}
    for reused in (0, 2):
        files = sorted(photos.rglob("*.png"))
        report = inspect(detector, files, Output(tmp_path / "out", regions=wanted))  # type: ignore[arg-type]
        assert report.reused == reused and not report.unwritten
        names = {str(path.relative_to(tmp_path / "regions")) for path in (tmp_path / "regions").rglob("*.*")}
        assert names == {"coco.json", "masks/a.png.png", "masks/sub/b.png.png", "regions.csv"}
        kept = {name: (tmp_path / "regions" / name).read_bytes() for name in names}
        assert not reused or kept == earlier
        earlier = kept
        (tmp_path / "regions" / "coco.json").unlink()


def test_files_of_regions_that_cannot_be_written_are_told_and_the_results_stand(tmp_path: Path) -> None:
    detector, photos = fitted(), draw(tmp_path / "photos", ["a.png"])
    (tmp_path / "regions").write_text("a file")
    told: list[str] = []
    output = Output(tmp_path / "out", regions=(tmp_path / "regions", ("csv",)))
    report = inspect(detector, [photos / "a.png"], output, failed=told.append)
    assert report.unwritten == 1 and "regions" in told[0] and report.page.is_file()

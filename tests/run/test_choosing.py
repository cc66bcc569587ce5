"""Photos chosen at a false discovery rate: in log, table and page, with a whole batch, and only where good photos allow it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_cases import BACKBONE, QUICK, draw, fitted, pixels, results, table
from scipy.stats import false_discovery_control

from promptad import InspectRequest
from promptad.data.folder import find_photos
from promptad.detector import Detector
from promptad.errors import ConfigError
from promptad.notices import collected_notices
from promptad.run.inspection import Output, Report, inspect


def choose(detector: Detector, photos: Path, out: Path, rate: float | None, **options) -> Report:
    return inspect(detector, find_photos(photos).photos, Output(out, heatmaps="none", fdr=rate), **options)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Learned from three photos, with 24 held out."""
    learned = [pixels(i) for i in range(3)]
    return Detector(object="nut", backbone=BACKBONE, **QUICK).fit(learned, held_out=[pixels(i) for i in range(50, 74)])


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six photos of noise, and two that are much unlike."""
    from PIL import Image

    folder = draw(tmp_path / "photos", [f"{n}.png" for n in range(6)], first=100)
    for name, seed in (("bad-1.png", 1), ("bad-2.png", 2)):
        loud = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(loud).save(folder / name)
    return folder


def test_the_chosen_stand_in_log_table_and_page_and_are_scipys(detector, photos, tmp_path):
    report = choose(detector, photos, tmp_path / "out", 0.4)
    scores = {row.photo: row.score for row in report.rows}
    good = np.array(detector.calibration.scores)
    assert len(good) == 24
    p = {name: (1 + (good >= score).sum()) / 25 for name, score in scores.items()}
    adjusted = dict(zip(p, false_discovery_control(list(p.values()), method="bh"), strict=True))
    chosen = {name for name in p if adjusted[name] <= 0.4}
    assert 2 <= len(chosen) < len(p) and {"bad-1.png", "bad-2.png"} <= chosen
    assert report.discoveries.count == len(chosen)
    lines, cells = results(tmp_path / "out"), table(tmp_path / "out")
    for name in p:
        assert lines[name]["p_value"] == pytest.approx(p[name]) == float(cells[name]["p_value"])
        assert lines[name]["discovery"] == {"rate": 0.4, "chosen": name in chosen}
        assert (cells[name]["discovery_rate"], cells[name]["chosen"]) == ("0.4", str(int(name in chosen)))
    page = report.page.read_text("utf-8")
    data = json.loads(page.split('type="application/json"')[1].split(">", 1)[1].split("</script>")[0])
    assert {row["name"]: (row["p"], row["chosen"]) for row in data["rows"]} == {
        name: (pytest.approx(p[name]), name in chosen) for name in p
    }
    assert f"<b>{len(chosen)}</b><span>chosen at a false discovery rate of 40 %" in page
    assert f"p {p['bad-1.png']:.2g}, chosen" in page and " × threshold" in page


def test_a_later_run_chooses_anew_from_the_whole_batch_and_one_without_a_rate_takes_the_choice_back(
    detector, photos, tmp_path
):
    choose(detector, photos, tmp_path / "out", 0.4)
    draw(photos, ["late.png"], first=300)
    again = choose(detector, photos, tmp_path / "out", 0.4)
    assert again.reused == 8 and len(again.discoveries.p) == 9
    assert all(line["discovery"]["rate"] == 0.4 for line in results(tmp_path / "out").values())
    plain = choose(detector, photos, tmp_path / "out", None)
    assert plain.discoveries is None and plain.reused == 9
    lines = results(tmp_path / "out").values()
    assert all(line["discovery"] is None and line["p_value"] is not None for line in lines)


def test_too_few_good_photos_are_said(photos, tmp_path):
    with collected_notices() as said:
        report = choose(fitted(), photos, tmp_path / "out", 0.1)
    assert report.discoveries.count == 0
    assert any("nothing can be chosen from 8 photos" in line and "1/5 = 0.2" in line for line in said)
    assert any("hold approximately" in line for line in said)


def test_photos_that_were_learned_from_are_no_part_of_the_batch(tmp_path):
    photos = draw(tmp_path / "photos", [f"{n}.png" for n in range(4)], first=100)
    detector = Detector(object="nut", backbone=BACKBONE, **QUICK).fit([photos / "0.png", photos / "1.png"])
    report = choose(detector, photos, tmp_path / "out", 0.3)
    by_name = {row.photo: row for row in report.rows}
    assert len(report.discoveries.p) == 2
    assert by_name["0.png"].p_value is None and by_name["0.png"].discovery is None
    assert by_name["2.png"].p_value is not None and by_name["2.png"].discovery is not None


def test_a_run_that_is_interrupted_chooses_nothing(detector, photos, tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with collected_notices() as said:
        report = choose(detector, photos, tmp_path / "out", 0.4, progress=stop)
    assert report.interrupted and report.discoveries is None and any("none is chosen" in line for line in said)
    assert all(line["discovery"] is None for line in results(tmp_path / "out").values())


def test_without_good_photos_there_is_no_rate(photos, tmp_path):
    alone = Detector(object="nut", backbone=BACKBONE, **QUICK).fit([pixels(0)])
    with pytest.raises(ConfigError, match="different good photos"):
        choose(alone, photos, tmp_path / "out", 0.1)
    assert not (tmp_path / "out").exists()
    for values, words in (
        ({"fdr": 0.0, "good": "good"}, "above 0 and below 1"),
        ({"fdr": 0.1, "method": "clip"}, "give some"),
    ):
        with pytest.raises(ConfigError, match=words):
            InspectRequest(photos="photos", **values)


def test_a_prediction_knows_its_p_value(detector, photos):
    prediction = detector.predict(photos / "bad-1.png")
    assert prediction.p_value == pytest.approx(1 / 25) == prediction.to_dict()["p_value"]
    assert prediction.judged_by(None).p_value is None

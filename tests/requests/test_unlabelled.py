"""`inspect --unlabelled`: a folder of good and defective photos ranked by itself."""

from __future__ import annotations

import shutil

import pytest

from drawn_data import photo, save
from promptad import Detector, InspectRequest
from promptad.errors import PromptadError
from promptad.notices import collected_notices
from promptad.report.log import read_results
from tiny import tiny_backbone


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr("promptad.detector.load_backbone", lambda *_, **__: tiny_backbone())


@pytest.fixture
def mixed(tmp_path):
    """14 photos of one texture in other noise, of which two have a square."""
    for seed in range(14):
        pixels = photo(1).astype(int) + photo(seed + 50).astype(int) // 20
        if seed in (3, 8):
            pixels[10:30, 5 + seed : 25 + seed] = 10 * seed
        save(tmp_path / "mixed", f"{seed:02}.png", pixels.clip(0, 255).astype("uint8"))
    return tmp_path / "mixed"


def run(photos, output, **options):
    with collected_notices() as said:
        detector, report = InspectRequest(photos=photos, output=output, unlabelled=True, object="nut", **options).run(
            said=str
        )
    return detector, report, said


def test_defects_rank_first_without_a_verdict_and_the_ranking_says_what_it_is_worth(mixed, tmp_path):
    detector, report, said = run(mixed, tmp_path / "out")
    assert [row.photo for row in report.rows[:2]] in (["03.png", "08.png"], ["08.png", "03.png"])
    assert {row.verdict for row in report.rows} == {"no threshold"} and detector.calibration is None
    lines = [line for line in said if "halves of the photos" in line]
    assert len(lines) == 1 and lines[0] in report.page.read_text("utf8").replace("&#39;", "'")
    assert all({"half 1", "half 2"} <= set(row.parts) for row in read_results(report.log))
    assert not any("learned from" in remark.lower() for row in report.rows for remark in row.remarks)
    _, again, repeated = run(mixed, tmp_path / "out")
    assert again.reused == 14 and [line for line in repeated if "halves of the photos" in line] == lines
    assert [row.score for row in again.rows] == [row.score for row in report.rows]


def test_a_photo_scores_the_same_whether_it_is_a_reference_or_a_copy(mixed, tmp_path):
    _, report, _ = run(mixed, tmp_path / "out")
    shutil.copy(mixed / "03.png", mixed / "copy.png")
    _, again, _ = run(mixed, tmp_path / "out-2")
    scores = {row.photo: row.score for row in again.rows}
    assert scores["copy.png"] == scores["03.png"] == {row.photo: row.score for row in report.rows}["03.png"]


def test_references_are_bounded_and_named(mixed, tmp_path):
    detector, report, said = run(mixed, tmp_path / "out", settings={"references": 5})
    assert len(detector.good) == 5 and len(report.rows) == 14
    assert any("5 of the 14" in line and "references=5" in line for line in said)


def test_good_photos_that_are_held_out_set_a_threshold_in_python(mixed, tmp_path):
    detector = Detector("musc", object="nut").fit(mixed)
    assert detector.calibration is None
    held = [save(tmp_path / "held", f"{seed}.png", photo(1) // 2 + photo(seed + 90) // 2) for seed in range(3)]
    assert Detector("musc", object="nut").fit(mixed, held_out=held).calibration is not None


def test_a_threshold_by_hand_gives_verdicts(mixed, tmp_path):
    _, report, _ = run(mixed, tmp_path / "out", threshold=0.0)
    assert report.counts["anomalous"] == 14


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"good": "mixed"}, "unlabelled"),
        ({"method": "clip"}, "musc"),
        ({"method": "promptad"}, "musc"),
        ({"false_alarms": 0.1}, "good"),
        ({"model": "a.safetensors"}, "leave out"),
    ],
)
def test_what_does_not_go_with_unlabelled_photos_is_refused(mixed, tmp_path, options, words):
    with pytest.raises(PromptadError, match=words) as refused:
        run(mixed, tmp_path / "out", **options)
    assert "\n" not in str(refused.value)


def test_a_single_content_is_refused(mixed, tmp_path):
    save(tmp_path / "one", "a.png", photo(1))
    shutil.copy(tmp_path / "one/a.png", tmp_path / "one/b.png")
    with pytest.raises(PromptadError, match="compared with each other"):
        run(tmp_path / "one", tmp_path / "out")

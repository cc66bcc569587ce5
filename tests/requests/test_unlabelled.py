"""`inspect --unlabelled`: a folder of good and defective photos ranked by itself."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from drawn_data import photo, save
from promptad import Detector, InspectRequest
from promptad.cli.inspect import inspect, show
from promptad.errors import PromptadError
from promptad.methods.catalogue import FACTS
from promptad.methods.musc.method import MAP_RANGE
from promptad.methods.registry import METHODS
from promptad.notices import collected_notices
from promptad.prediction import DefectWord
from promptad.report.log import read_results
from promptad.run.inspection import way_to_threshold
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


def test_the_way_to_a_threshold_is_one_that_sets_it(mixed, tmp_path, capsys):
    detector, report, _ = run(mixed, tmp_path / "out")
    show(report, detector)
    said = capsys.readouterr().out
    assert "do with other methods" in said and "do with other methods" in report.page.read_text("utf8")
    for name, facts in FACTS.items():
        learned = SimpleNamespace(entry=SimpleNamespace(facts=facts))
        other = re.search(r"method='?([\w-]+)", way_to_threshold(learned))
        assert bool(other) == facts.unlabelled and not (other and FACTS[other[1]].unlabelled), name


def test_both_probabilities_that_rank_the_words_are_printed(mixed, tmp_path, capsys):
    detector, report, _ = run(mixed, tmp_path / "out")
    word = DefectWord("with scratch", 0.97, 0.01)
    show(replace(report, rows=tuple(replace(row, defects=(word,)) for row in report.rows)), detector)
    assert "(whole photo, hottest region)" in (said := capsys.readouterr().out) and "with scratch (97%, 1%)" in said
    show(
        replace(
            report, rows=tuple(replace(row, defects=(replace(word, region_probability=None),)) for row in report.rows)
        ),
        detector,
    )
    assert "(whole photo)" in (said := capsys.readouterr().out) and "with scratch (97%)" in said


@pytest.mark.parametrize("unlabelled", [True, False])
def test_progress_calls_only_good_photos_good(mixed, tmp_path, capsys, unlabelled):
    good = {"good": [str(mixed / "00.png"), str(mixed / "01.png")], "method": "patchcore"}
    asked = {"unlabelled": True} if unlabelled else good
    inspect(photos=[str(mixed)], output=str(tmp_path / "out"), object="nut", **asked)
    said = capsys.readouterr().err
    assert ("learning from good photos" in said) != unlabelled
    assert ("learning from unlabelled photos" in said) == unlabelled


@pytest.mark.parametrize("preset", METHODS["musc"].presets)
def test_colours_of_heat_maps_are_those_of_the_distance(preset):
    entry = METHODS["musc"]
    config = entry.config(**entry.presets[preset])
    low, high = entry.map_range_of(config)
    if config.distance == "euclidean":  # half of a squared distance of unit vectors is one minus their cosine
        low, high = (low / 2) ** 2, (high / 2) ** 2
    assert (low, high) == pytest.approx(MAP_RANGE)


def test_a_single_content_is_refused(mixed, tmp_path):
    save(tmp_path / "one", "a.png", photo(1))
    shutil.copy(tmp_path / "one/a.png", tmp_path / "one/b.png")
    with pytest.raises(PromptadError, match="compared with each other"):
        run(tmp_path / "one", tmp_path / "out")

"""What `inspect` learned from good photos lies in its folder, and the same request learns nothing twice."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

from drawn_data import photo, save
from promptad import Detector, InspectRequest
from promptad.notices import PromptadNotice, collected_notices
from promptad.report.log import read_results
from promptad.requests import kept
from tiny import tiny_backbone

SETTINGS = {"epochs": 2, "input_size": 48, "memory_layers": (1, 3)}


def photo_file(path: Path, seed: int) -> None:
    save(path.parent, path.name, photo(seed))


@pytest.fixture
def fits(monkeypatch):
    """Fits that were made; the backbone is a tiny one."""
    made, whole = [], Detector.fit
    monkeypatch.setattr("promptad.detector.load_backbone", lambda *_, **__: tiny_backbone())
    monkeypatch.setattr(Detector, "fit", lambda self, *a, **o: (made.append(self), whole(self, *a, **o))[1])
    return made


@pytest.fixture
def ask(tmp_path):
    for name, seeds in (("good", range(4)), ("photos", range(4, 8)), ("bad", range(8, 10))):
        for seed in seeds:
            photo_file(tmp_path / name / f"{seed}.png", seed)

    def run(failed=None, **options):
        fixed = {"photos": tmp_path / "photos", "good": tmp_path / "good", "object": "nut", "output": tmp_path / "out"}
        with collected_notices() as said:
            detector, report = InspectRequest(**{**fixed, "settings": SETTINGS, **options}).run(said=str, failed=failed)
        return detector, report, said

    return run


def scores(report) -> dict[str, float]:
    return {row.photo: row.score for row in read_results(report.log)}


def test_another_threshold_or_rate_learns_nothing_and_says_the_same(ask, fits, tmp_path):
    detector, report, said = ask()
    threshold, known, photos = detector.calibration.threshold, scores(report), len(report.rows)
    for options in ({}, {"threshold": threshold * 100}, {"false_alarms": 0.3}, {}):
        again, report, lines = ask(**options)
        assert len(fits) == 1 and report.reused == photos and scores(report) == known and lines == said
        fresh = Detector(object="nut", **SETTINGS).fit([tmp_path / "good" / f"{i}.png" for i in range(4)])
        fits.pop()
        if "threshold" in options:
            fresh.set_threshold(options["threshold"])
        if "false_alarms" in options:
            fresh.set_false_alarms(options["false_alarms"])
        assert again.calibration == fresh.calibration and again.good == fresh.good
        assert again.identity() == fresh.identity()


def test_further_photos_are_judged_as_if_it_had_learned_again(ask, fits, tmp_path):
    ask()
    photo_file(tmp_path / "photos" / "more.png", 20)
    _, report, _ = ask()
    assert len(fits) == 1 and report.reused == 4
    _, other, _ = ask(output=tmp_path / "other")
    assert len(fits) == 2 and scores(report) == scores(other)


@pytest.mark.parametrize(
    "change", ["photo", "settings", "object", "held_out", "defective", "method", "fresh", "renamed"]
)
def test_whatever_decides_what_is_learned_or_said_learns_again(change, ask, fits, tmp_path):
    ask()
    options = {
        "settings": {"settings": {**SETTINGS, "epochs": 3}},
        "object": {"object": "bolt"},
        "held_out": {"held_out": tmp_path / "bad"},
        "defective": {"defective": tmp_path / "bad"},
        "method": {"method": "patchcore", "settings": {"input_size": 48, "layers": (1, 3)}},
        "fresh": {"fresh": True},
    }.get(change, {})
    if change == "photo":
        photo_file(tmp_path / "good" / "3.png", 30)
    if change == "renamed":
        shutil.move(tmp_path / "good" / "3.png", tmp_path / "good" / "three.png")
    ask(**options)
    assert len(fits) == 2


def test_a_good_photo_that_cannot_be_read_is_told_each_time(ask, fits, tmp_path):
    (tmp_path / "good" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    lines: list[str] = []
    for number in (1, 2):
        ask(failed=lines.append)
        assert len(fits) == number and len(lines) == number and "broken.png" in lines[-1]
    assert not (tmp_path / "out" / kept.NAME).exists()


@pytest.mark.parametrize("how", ["cut", "flipped", "folder"])
def test_a_damaged_file_is_said_and_not_used(how, ask, fits, tmp_path):
    ask()
    path: Path = tmp_path / "out" / kept.NAME
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    else:
        path.write_bytes(content[:-50] if how == "cut" else content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    with pytest.warns(PromptadNotice, match="cannot be used .*learned from again"):
        ask()
    assert len(fits) == 2
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "cannot be used", PromptadNotice)
        if how != "folder":
            ask()
            assert len(fits) == 2


def test_a_large_detector_is_not_kept(ask, fits, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_BYTES", 1000)
    for number in (1, 2):
        ask()
        assert len(fits) == number and not (tmp_path / "out" / kept.NAME).exists()

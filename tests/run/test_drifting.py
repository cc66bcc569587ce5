"""Drift where people meet it: in a watch (killed or not), in `inspect` and on its page, with old detectors."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from run_cases import BACKBONE, QUICK, fitted, pixels, run
from watch_cases import entries, watch

from promptad.detector import Detector
from promptad.notices import collected_notices
from promptad.report.audit import AuditLog
from promptad.run.drifting import StreamDrift, drift_of
from promptad.run.watch import Watch
from promptad.saved.detectors import read_detector

GOOD = 12


@pytest.fixture(scope="module")
def detector() -> Detector:
    good = [lit(seed) for seed in range(500, 500 + GOOD)]
    return Detector(object="nut", backbone=BACKBONE, **QUICK).fit(good)


def lit(seed: int, factor: float = 1.0) -> np.ndarray:
    """A photo whose light differs a little from that of the others."""
    usual = 1 + 0.03 * np.random.default_rng(seed).normal()
    return np.clip(pixels(seed) * usual * factor, 0, 255).astype(np.uint8)


def draw_line(folder: Path, count: int, first: int = 0, factor: float = 1.0, blur: float = 0.0) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        photo = Image.fromarray(lit(number, factor))
        (photo.filter(ImageFilter.GaussianBlur(blur)) if blur else photo).save(folder / f"{number:04d}.png")
    return folder


def test_a_watch_says_when_the_light_falls_and_the_audit_log_and_receivers_have_it(detector, tmp_path):
    inbox, out, said, events = draw_line(tmp_path / "inbox", 60), tmp_path / "out", [], []

    class Receiver:
        name = "line control"

        def send(self, event):
            events.append(event)

        def close(self):
            pass

    assert watch(detector, inbox, out, [Receiver()], said=said.append, heatmaps="none").changes == [] and said == []
    draw_line(inbox, 50, 60, factor=0.85)
    report = watch(detector, inbox, out, [Receiver()], said=said.append, heatmaps="none")
    assert report.changes == said and "the photos no longer look like the good ones: they are darker" in said[0]
    drifts = entries(out, "drift")
    assert [entry["text"] for entry in drifts] == said
    assert drifts[0]["since"][:10] == entries(out)[0]["time"][:10] and drifts[0]["since"] in said[0]
    assert [event["text"] for event in events if event["kind"] == "drift"] == said
    assert all(set(entry["camera"]) == {"brightness", "sharpness", "warmth", "tint", "size"} for entry in entries(out))


class Killed(BaseException):
    """Ends a watch as a signal does that nobody catches."""


@pytest.mark.parametrize("kept", [True, False])
def test_a_watch_that_is_killed_says_each_change_once(kept, detector, tmp_path, monkeypatch):
    """Killed between the entry of the photo that shows a change and the entry of the change itself."""
    inbox, out, said = draw_line(tmp_path / "inbox", 60), tmp_path / "out", []
    watch(detector, inbox, out, said=said.append, heatmaps="none")
    if not kept:
        (out / ".promptad.drift.json").unlink()
    draw_line(inbox, 50, 60, blur=1.5)
    real = AuditLog.add

    def add(self, kind, **values):
        if kind == "drift":
            raise Killed
        return real(self, kind, **values)

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "add", add)
        with pytest.raises(Killed):
            watch(detector, inbox, out, said=said.append, heatmaps="none")
    assert said == [] and len(entries(out)) < 110
    for _ in range(2):
        watch(detector, inbox, out, said=said.append, heatmaps="none")
    texts = [entry["text"] for entry in entries(out, "drift")]
    assert texts == said and len({text for text in texts if "softer" in text}) == 1 == sum("softer" in t for t in texts)
    assert len(entries(out)) == 110


def test_what_a_watch_keeps_is_what_the_log_says(detector, tmp_path):
    inbox, out = draw_line(tmp_path / "inbox", 40), tmp_path / "out"
    watch(detector, inbox, out, heatmaps="none")
    stream = StreamDrift(detector, "0" * 64, out / "audit.jsonl")
    (out / ".promptad.drift.json").unlink()
    anew = StreamDrift(detector, "0" * 64, out / "audit.jsonl")
    assert stream.drift.to_dict() == anew.drift.to_dict()
    assert StreamDrift(detector, "1" * 64, out / "audit.jsonl").drift.to_dict() == drift_of(detector).to_dict()


def test_inspect_says_it_with_the_photo_on_the_page_too(detector, tmp_path):
    photos = draw_line(draw_line(tmp_path / "photos", 60), 40, 60, factor=0.8)
    with warnings.catch_warnings(record=True), collected_notices() as lines:
        warnings.simplefilter("always")
        run(detector, photos, tmp_path / "out", heatmaps="none")
    [line] = [line for line in lines if "no longer look like" in line]
    number = int(line.split("(photo ")[1].split()[0])
    assert line.startswith("since 00") and abs(number - 61) <= 4 and "of 100 by their names" in line
    assert "no longer look like the good ones: they are darker" in (tmp_path / "out/report.html").read_text("utf-8")
    again = run(detector, photos, tmp_path / "out", heatmaps="none")  # taken over from the log, statistics too
    assert again.reused == 100 and any("no longer look like" in line for line in again.notices)


def test_photos_that_stay_alike_are_not_remarked(detector, tmp_path):
    report = run(detector, draw_line(tmp_path / "photos", 100), tmp_path / "out", heatmaps="none")
    assert not [line for line in report.notices if "no longer look" in line]


def test_a_detector_keeps_its_photos_statistics_and_an_old_one_says_that_it_lacks_them(detector, tmp_path):
    path = detector.save(tmp_path / "nut.safetensors")
    kept = [entry["camera"] for entry in read_detector(path).good]
    assert len(kept) == GOOD and kept == [entry["camera"] for entry in detector.good]
    old = fitted()
    for entry in old.good:
        del entry["camera"]
    with pytest.warns(UserWarning, match="saved by an earlier promptad, without brightness"):
        drift = drift_of(old)
    assert drift.to_dict()["good"] is False
    line = json.dumps(drift.to_dict())
    assert "ranks" in line and Watch is not None

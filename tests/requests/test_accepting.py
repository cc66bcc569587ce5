"""`promptad accept` on a tiny backbone: which photos count, and that the detector stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from drawn_data import photo, save
from promptad import AcceptRequest, Detector, FitRequest
from promptad.calibration.acceptance import accept
from promptad.cli import build
from promptad.data.files import sha256_file
from promptad.data.labels import Box, Label, write_labels
from promptad.errors import ConfigError, DataError, PromptadError
from promptad.notices import collected_notices
from promptad.run.acceptance import union_area
from promptad.saved.detectors import SavedDetector, read_detector
from tiny import tiny_backbone

SETTINGS = {"epochs": 1, "input_size": 48, "memory_layers": (1, 3)}


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A detector of four good photos; good photos, defective ones of two kinds with masks of one, and labels."""
    root = tmp_path_factory.mktemp("accept")
    for name, seeds in (("own", range(4)), ("good", range(4, 9)), ("bad/hole", range(20, 23)), ("bad/crack", (30, 31))):
        for seed in seeds:
            save(root / name, f"{seed}.png", photo(seed))
    for seed in (20, 21):
        size = Image.open(root / "bad/hole" / f"{seed}.png").size
        mask = np.zeros(size[::-1], np.uint8)
        mask[:10, : seed - 10] = 255  # 100 and 110 pixels
        save(root / "masks/hole", f"{seed}_mask.png", mask)
    detector = Detector(object="nut", backbone=tiny_backbone(), **SETTINGS).fit(root / "own")
    detector.save(root / "part.safetensors")
    return root


@pytest.fixture
def place(template, tmp_path, monkeypatch) -> Path:
    import shutil

    shutil.copytree(template, tmp_path / "place")
    monkeypatch.setattr(SavedDetector, "backbone", lambda *_: tiny_backbone())
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def test_photos_are_judged_by_the_detectors_own_threshold_and_the_detector_stays_as_it_is(place):
    before = sha256_file(place / "part.safetensors")
    done = AcceptRequest(model="part.safetensors", good="good", bad="bad", masks="masks").run()
    assert sha256_file(place / "part.safetensors") == before == done.digest
    detector = Detector.load(place / "part.safetensors")
    for entry in done.tested:
        assert entry.score == pytest.approx(detector.predict(place / entry.photo).score)
        assert entry.defective == entry.photo.startswith("bad/") and sha256_file(place / entry.photo) == entry.sha256
    assert {entry.kind for entry in done.tested} == {"", "hole", "crack"}
    areas = {entry.photo: (entry.area, entry.area_from) for entry in done.tested if entry.defective}
    assert areas["bad/hole/20.png"] == (100, "mask") and areas["bad/hole/21.png"] == (110, "mask")
    mask = detector.predict(place / "bad/hole/22.png").mask
    assert areas["bad/hole/22.png"] == (int(mask.sum()), "region")
    assert done.result == accept(done.tested, detector.calibration.threshold)


def test_photos_that_the_detector_learned_from_and_copies_do_not_count(place):
    (place / "good/copy.png").write_bytes((place / "good/4.png").read_bytes())
    (place / "good/learned.png").write_bytes((place / "own/0.png").read_bytes())
    with collected_notices() as lines:
        done = AcceptRequest(model="part.safetensors", good="good", bad="bad").run()
    assert done.result.alarmed.photos == 5 and [photo.photo for photo in done.left_out] == ["good/learned.png"]
    assert any("the detector learned from them" in line for line in lines)
    assert any("each content counts once" in line for line in lines)


def test_labels_give_photos_boxes_and_words(place):
    def label(name: str, said: str, **other) -> Label:
        return Label(name, sha256_file(place / name), said, **other)

    boxes = (Box(0, 0, 4, 4), Box(2, 2, 4, 4))
    labels = [
        label("good/4.png", "good"),
        label("bad/hole/20.png", "defect", boxes=boxes, words="with a hole"),
        label("bad/crack/30.png", "defect"),
        label("bad/crack/31.png", "unsure"),
        label("good/5.png", "good", who="Ada"),
        label("good/5.png", "defect", who="Eve"),
    ]
    write_labels(place / "labels.csv", labels)
    done = AcceptRequest(model="part.safetensors", labels="labels.csv").run()
    assert {(e.photo, e.kind, e.area) for e in done.tested if e.area_from != "region"} == {
        ("good/4.png", "", None),
        ("bad/hole/20.png", "with a hole", 28),
    }
    assert [e.kind for e in done.tested if e.photo == "bad/crack/30.png"] == ["without words"]
    assert sorted(photo.why for photo in done.left_out) == ["people are unsure", "people disagree"]
    assert union_area((*boxes, Box(20, 0, 1, 1))) == 29
    (place / "good/4.png").rename(place / "masks/elsewhere.png")
    failed: list[str] = []
    AcceptRequest(model="part.safetensors", labels="labels.csv", output="2.html").run(failed=failed.append)
    assert len(failed) == 1 and "labelled, and not where it was" in failed[0]
    again = AcceptRequest(model="part.safetensors", labels="labels.csv", photos="masks", output="3.html").run()
    assert again.result.alarmed.photos == 1


def test_what_cannot_be_read_is_told_and_does_not_count(place):
    (place / "bad/hole/torn.png").write_bytes(b"no photo")
    failed: list[str] = []
    done = AcceptRequest(model="part.safetensors", bad="bad").run(failed=failed.append)
    assert done.result.missed.photos == 5 and len(failed) == 1 and "torn.png" in failed[0]
    assert [photo.photo for photo in done.left_out] == ["hole/torn.png"]
    assert done.result.alarmed.photos == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "there is nothing to accept"),
        ({"model": "part.safetensors"}, "on photos that people know"),
        ({"model": "part.safetensors", "good": "good", "masks": "masks"}, "masks: are of the defective photos"),
        ({"model": "part.safetensors", "good": "good", "photos": "good"}, "where labelled photos are looked for"),
        ({"model": "part.safetensors", "good": "good", "confidence": 0.2}, "from 0.5 and below 1"),
        ({"model": "part.safetensors", "good": "good", "defect_share": 0.1}, "is about costs"),
        ({"model": "part.safetensors", "good": "good", "defect_share": 2.0, "cost_miss": 1}, "above 0 and below 1"),
        ({"model": "part.safetensors", "bad": "bad", "masks": "nowhere"}, "is no folder of masks"),
        ({"model": "none.safetensors", "bad": "bad"}, "no such saved detector"),
        ({"model": "part.safetensors", "good": "own"}, "no photo is left"),
        ({"model": "part.safetensors", "good": "good", "bad": "good/4.png"}, "one of them is said to be good"),
    ],
    ids=str,
)
def test_inputs_that_cannot_be_are_one_line(place, values, words):
    with pytest.raises(PromptadError, match=words) as caught:
        AcceptRequest(**values).run()
    assert isinstance(caught.value, ConfigError | DataError | PromptadError) and "\n" not in str(caught.value)


def test_a_folder_called_as_good_ones_are_among_the_defective_is_refused(place):
    (place / "good").rename(place / "bad/good")
    with pytest.raises(DataError, match="is called as good ones are"):
        AcceptRequest(model="part.safetensors", bad="bad").run()


def test_costs_that_are_not_given_are_assumed_with_a_line(place):
    with collected_notices() as lines:
        done = AcceptRequest(model="part.safetensors", good="good", bad="bad", cost_miss=20).run()
    assert done.result.costs is not None and done.result.costs.share == pytest.approx(0.5)
    assert any("what a false alarm costs" in line for line in lines) and any("0.5 is assumed" in line for line in lines)
    with collected_notices() as lines:
        AcceptRequest(
            model="part.safetensors",
            good="good",
            cost_miss=20,
            cost_alarm=1,
            defect_share=0.1,
            output="2.html",
            who="Ada",
        ).run()
    assert lines == []


def test_the_command_that_makes_the_cheapest_threshold_permanent_works(place):
    arguments = [
        "accept",
        "part.safetensors",
        "--good",
        "good",
        "--bad",
        "bad",
        "--cost-miss",
        "1000",
        "--cost-alarm",
        "1",
    ]
    done = CliRunner().invoke(build(), arguments)
    assert done.exit_code == 0, done.output
    [permanent] = [line for line in done.output.splitlines() if line.startswith("permanent")]
    before = sha256_file(place / "part.safetensors")
    again = CliRunner().invoke(build(), permanent.split()[2:])
    assert again.exit_code == 0 and "only the threshold is another one" in again.output
    made = read_detector(place / "part-cheapest.safetensors")
    assert sha256_file(place / "part.safetensors") == before == made.parents[0]["sha256"]
    threshold = made.calibration.threshold
    assert f"{threshold!r}" in permanent
    result = AcceptRequest(model="part-cheapest.safetensors", good="good", bad="bad", output="2.html").run().result
    assert result.missed.mistakes == 0


def test_a_given_threshold_teaches_nothing(place):
    for other in ({"good": "good"}, {"false_alarms": 0.2}, {"labels": "labels.csv"}):
        with pytest.raises(ConfigError, match="the threshold is given"):
            FitRequest(model="part.safetensors", threshold=0.1, output="x", **other)
    with pytest.raises(ConfigError, match="go with a saved detector"):
        FitRequest(good="good", threshold=0.1)

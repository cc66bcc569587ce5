"""`promptad fit --model ... --labels ...` and `promptad review`, on a tiny backbone."""

from __future__ import annotations

from pathlib import Path

import pytest

from drawn_data import photo, save
from promptad import Detector, FitRequest, InspectRequest, ReviewRequest
from promptad.calibration.between import between
from promptad.data.files import sha256_file
from promptad.data.labels import Label, write_labels
from promptad.errors import ConfigError, DataError
from promptad.saved.detectors import SavedDetector, read_detector
from tiny import tiny_backbone

SETTINGS = {"epochs": 2, "input_size": 48, "memory_layers": (1, 3)}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr("promptad.detector.load_backbone", lambda *_, **__: tiny_backbone())
    monkeypatch.setattr(SavedDetector, "backbone", lambda *_: tiny_backbone())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Four good photos and a detector of them; eight photos to judge."""
    for name, seeds in (("good", range(4)), ("photos", range(4, 12))):
        for seed in seeds:
            save(tmp_path / name, f"{seed}.png", photo(seed))
    fit(tmp_path, good=tmp_path / "good", object="nut", settings=SETTINGS, output=tmp_path / "part")
    return tmp_path


def fit(place: Path, **options) -> Detector:
    return FitRequest(**options).run(said=str)[0]


def labelled(place: Path, labels: dict[str, str], name: str = "labels.csv", who: str = "Ada") -> Path:
    lines = [Label(photo, sha256_file(place / photo), label, who=who) for photo, label in labels.items()]  # type: ignore[arg-type]
    write_labels(place / name, lines)
    return place / name


MARKED = {"photos/4.png": "good", "photos/5.png": "good", "photos/6.png": "defect", "photos/7.png": "unsure"}


def refit(place: Path, labels: Path, output: str = "part-2", **options):
    request = FitRequest(model=place / "part.safetensors", labels=labels, output=place / output, **options)
    return request.refit(said=str)


def test_marked_good_photos_are_learned_as_if_they_had_been_there_from_the_start(place):
    old = Detector.load(place / "part.safetensors")
    content = (place / "part.safetensors").read_bytes()
    done, output = refit(place, labelled(place, MARKED))
    files = [*(place / "good" / f"{i}.png" for i in range(4)), *(place / "photos" / f"{i}.png" for i in (4, 5))]
    anew = Detector(object="nut", memory_budget=10000, **SETTINGS).fit(files, defective=place / "photos/6.png")
    again = Detector.load(output)
    for file in (place / "photos").iterdir():
        assert again.predict(file).score == pytest.approx(anew.predict(file).score, abs=1e-7)
    expected = between(anew.calibration, anew.calibration.defective)
    assert again.calibration.threshold == pytest.approx(expected.threshold) and again.calibration.note == expected.note
    assert (done.joined, done.left_out, done.rows) == (2, 0, 10000)
    by_name = {Path(entry.photo).name: entry for entry in done.judgements}
    assert {name: entry.label.label for name, entry in by_name.items()} == {
        Path(name).name: label for name, label in MARKED.items()
    }
    for name, entry in by_name.items():
        assert entry.before == pytest.approx(old.predict(place / "photos" / name).score)
    # A photo that was learned from is judged without itself, another one by all.
    assert by_name["4.png"].after == pytest.approx(anew.calibration.scores[4])
    assert by_name["7.png"].after == pytest.approx(anew.predict(place / "photos/7.png").score, abs=1e-7)
    assert by_name["7.png"].right_now is None
    assert (place / "part.safetensors").read_bytes() == content


def test_a_detector_names_its_parents_and_overwrites_none(place):
    _, second = refit(place, labelled(place, MARKED))
    request = {"model": second, "good": place / "photos/8.png", "output": place / "part-3"}
    done, third = FitRequest(**request).refit(said=str)
    digests = [sha256_file(second), sha256_file(place / "part.safetensors")]
    parents = read_detector(third).parents
    assert [entry["sha256"] for entry in parents] == digests
    assert [entry["name"] for entry in parents] == ["part-2.safetensors", "part.safetensors"]
    assert Detector.load(third).parents == parents and done.joined == 1 and len(done.detector.good) == 7
    for output in ("part", "part-2"):
        with pytest.raises(
            DataError, match="is there already, and a detector that is made from another overwrites none"
        ):
            refit(place, place / "labels.csv", output)


def test_photos_are_looked_for_by_content_where_they_lie_now(place):
    labels = labelled(place, MARKED)
    (place / "good").rename(place / "moved")
    with pytest.raises(
        DataError, match=r"4 of the photos \(0.png, 1.png, 2.png and 1 more\) that it learned from are not"
    ):
        refit(place, labels)
    (place / "moved" / "0.png").rename(place / "moved" / "another name.png")
    done, _ = refit(place, labels, photos=place / "moved")
    assert len(done.detector.good) == 6
    lines: list[str] = []
    (place / "photos/4.png").rename(place / "elsewhere.png")
    request = FitRequest(model=place / "part.safetensors", labels=labels, photos=place / "moved", output=place / "4")
    assert request.refit(said=str, failed=lines.append)[0].joined == 1
    assert lines == ["photos/4.png: labelled, and not where it was; name its folder (photos)"]


def test_what_people_disagree_on_is_left_out_and_a_good_photo_that_is_none_goes(place):
    first = labelled(place, {**MARKED, "good/0.png": "defect"})
    second = labelled(place, {"photos/4.png": "defect"}, "second.csv", who="Bob")
    with pytest.warns(UserWarning, match=r"people disagree on 1 photos \(photos/4.png\), which are left out"):
        done, _ = refit(place, (first, second))  # type: ignore[arg-type]
    assert (done.disputed, done.joined, done.left_out) == (1, 1, 1)
    assert [entry["name"] for entry in done.detector.good] == ["1.png", "2.png", "3.png", "5.png"]


def test_the_memory_is_bounded(place):
    done, _ = refit(place, labelled(place, MARKED), budget=20)
    rows = {name: len(tensor) for name, tensor in done.detector.method.state().items() if name.endswith(".rows")}
    assert rows and set(rows.values()) == {20} and done.rows == 20


def test_where_good_photos_are_not_learned_the_threshold_alone_changes(place):
    fit(place, good=place / "good", object="nut", method="clip", output=place / "clip")
    labels = labelled(place, MARKED)
    request = FitRequest(model=place / "clip.safetensors", labels=labels, output=place / "clip-2")
    with pytest.warns(UserWarning, match="does not learn from good photos, so only the threshold changes"):
        done, _ = request.refit(said=str)
    old, new = Detector.load(place / "clip.safetensors"), done.detector
    fresh = [old.predict(place / name).score for name in ("photos/4.png", "photos/5.png")]
    assert new.calibration.scores == pytest.approx((*old.calibration.scores, *fresh))
    assert new.predict(place / "photos/9.png").score == old.predict(place / "photos/9.png").score
    with pytest.raises(ConfigError, match="has no memory whose size can be given"):
        FitRequest(model=place / "clip.safetensors", labels=labels, output=place / "c", budget=9).refit(said=str)


def test_what_does_not_go_together_is_refused():
    for options, words in (
        ({"labels": "l.csv", "good": "g"}, "go with a saved detector"),
        ({"model": "m", "labels": "l.csv", "method": "clip"}, "brings its own"),
        ({"model": "m"}, "nothing says what is new"),
    ):
        with pytest.raises(ConfigError, match=words):
            FitRequest(**options, output="o")


def test_review_shows_where_labels_verdicts_and_people_differ(place):
    request = InspectRequest(photos=place / "photos", model=place / "part.safetensors", output=place / "out")
    report = request.run(said=str)[1]
    middle = sorted(row.score for row in report.rows)[4]
    InspectRequest(**{**vars(request), "threshold": middle}).run(said=str)
    verdicts = {
        row.photo: row.verdict for row in InspectRequest(**{**vars(request), "threshold": middle}).run(said=str)[1].rows
    }
    wrong = {f"photos/{name}": "good" if verdict == "anomalous" else "defect" for name, verdict in verdicts.items()}
    first = labelled(place, {**wrong, "photos/4.png": "good", "good/1.png": "good"})
    second = labelled(place, {"photos/4.png": "defect", "photos/5.png": "unsure"}, "second.csv", who="Bob")
    reviewed = ReviewRequest(folder=place / "out", labels=(first, second)).run()
    assert reviewed.rows == 8 and reviewed.people == {"Ada": 9, "Bob": 2}
    assert [label.photo for label in reviewed.outside] == ["good/1.png"]
    assert [[label.who, label.label] for said in reviewed.disputed.values() for label in said] == [
        ["Ada", "good"],
        ["Bob", "defect"],
    ]
    assert len(reviewed.disagreements) == 7 == len(reviewed.agreed)
    alarms = [entry.row.score for entry in reviewed.disagreements if entry.what == "false alarm"]
    missed = [entry.row.score for entry in reviewed.disagreements if entry.what == "missed"]
    assert alarms == sorted(alarms, reverse=True) and missed == sorted(missed) and min(alarms) > middle >= max(missed)

"""The protocol of an acceptance test: what was changed in it since shows, and what another machine rounds otherwise does not."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from run_cases import draw
from watch_cases import saved_detector

from browser import opened
from promptad import AcceptRequest, VerifyRequest
from promptad.cli import build
from promptad.detector import Detector
from promptad.errors import ConfigError, DataError
from promptad.report.protocol import digest_of, is_wrong, read_protocol, write_protocol
from promptad.run.protocol_check import check_protocol
from promptad.run.recomputing import TOLERANCE


@pytest.fixture(scope="module")
def tested(tmp_path_factory) -> Path:
    """A folder with a detector, photos of known truth and the protocol of a test with them."""
    root = tmp_path_factory.mktemp("tested")
    model = saved_detector(root / "model")
    draw(root / "photos/good", [f"{number}.png" for number in range(4)], first=300)
    draw(root / "photos/bad/hole", ["a.png", "b.png"], first=400)
    draw(root / "photos/bad/crack", ["a.png"], first=500)
    detector = Detector.load(model, backbone=str(root / "model/tiny.pt"))
    middle = sorted(detector.predict(path).score for path in (root / "photos").rglob("*.png"))[3]
    detector.set_threshold(middle).save(model)  # so that some are judged wrong
    AcceptRequest(
        **{"model": model, "good": root / "photos/good", "bad": root / "photos/bad", "output": root / "p.html"},
        **{"cost_miss": 20, "cost_alarm": 1, "defect_share": 0.1, "who": "A. Person <b>", "command": "promptad accept"},
    ).run()
    return root


@pytest.fixture
def place(tested, tmp_path) -> Path:
    shutil.copytree(tested / "photos", tmp_path / "photos")
    shutil.copy(tested / "p.html", tmp_path / "p.html")
    return tmp_path


def check(tested: Path, place: Path, **other: Any) -> Any:
    given = {"photos": [place / "photos"], "model": tested / "model/nut.safetensors", **other}
    return VerifyRequest(file=place / "p.html", **given).run()


def rewritten(place: Path, change: Any) -> None:
    """The protocol written anew with other data, every digest right: what whoever holds the file can do."""
    protocol = read_protocol(place / "p.html")
    values = json.loads(json.dumps(protocol.values))
    change(values)
    write_protocol(
        place / "p.html", {k: v for k, v in values.items() if k not in ("promptad", "version")}, protocol.pictures
    )


def edited(place: Path, before: str, after: str, count: int = 1) -> None:
    text = (place / "p.html").read_text("utf-8")
    assert before in text
    (place / "p.html").write_text(text.replace(before, after, count), "utf-8")


def test_what_was_not_changed_holds(tested, place):
    done = check(tested, place)
    assert (done.faults, done.photos, done.present, done.recomputed, done.doubtful) == (0, 7, 7, 7, 0)
    assert done.largest < 1e-6 and done.page and done.who == "A. Person <b>"
    assert check(tested, place, kept=done.digest).faults == 0
    assert VerifyRequest(file=place / "p.html").run().present is None


def test_a_number_that_was_changed_on_the_page_or_in_the_data_shows(tested, place):
    shown = re.search(r'<div class="tile missed"><b>(\d+)</b>', (place / "p.html").read_text())
    edited(place, shown.group(), shown.group().replace(shown.group(1), "0" if shown.group(1) != "0" else "1"))
    [fault] = check(tested, place).told
    assert "what it shows was altered" in fault
    shutil.copy(tested / "p.html", place / "p.html")
    edited(place, '"kind":"hole"', '"kind":"hill"')
    assert any("a number or a word in them was altered" in line for line in check(tested, place).told)


def test_a_page_that_was_given_a_new_digest_shows_against_its_data(tested, place):
    text = (place / "p.html").read_text("utf-8")
    before = read_protocol(place / "p.html").page
    after = before.replace("What is proved", "What was proved")
    text = text.replace(digest_of(before), digest_of(after)).replace("What is proved", "What was proved")
    (place / "p.html").write_text(text, "utf-8")
    protocol = read_protocol(place / "p.html")
    assert protocol.page_holds and protocol.data_hold
    [fault] = check(tested, place).told
    assert "shows something else than its data" in fault


def test_counts_that_were_written_anew_with_all_digests_show_in_the_scores(tested, place):
    head = check(tested, place).digest

    def fewer(values: dict[str, Any]) -> None:
        values["results"]["missed"]["mistakes"] -= 1

    assert read_protocol(place / "p.html").values["results"]["missed"]["mistakes"] > 0
    rewritten(place, fewer)
    told = check(tested, place, kept=head).told
    assert any("missed.mistakes is" in line and "its photos give" in line for line in told)
    assert any("that was kept is not that of its data" in line for line in told)


def test_a_score_or_a_truth_that_was_written_anew_shows(tested, place):
    def other(values: dict[str, Any]) -> None:
        values["photos"][0]["score"] *= 1.001

    rewritten(place, other)
    assert any("comes out" in line for line in check(tested, place).told)
    shutil.copy(tested / "p.html", place / "p.html")

    def truth(values: dict[str, Any]) -> None:
        values["photos"][0]["defective"] = not values["photos"][0]["defective"]

    rewritten(place, truth)
    assert check(tested, place).faults > 0


@pytest.mark.parametrize(("change", "faults"), [(1e-7, 0), (TOLERANCE / 2, 0), (TOLERANCE * 3, 1)])
def test_what_another_machine_rounds_otherwise_is_no_fault(tested, place, change, faults, monkeypatch):
    detector = Detector.load(tested / "model/nut.safetensors", backbone=str(tested / "model/tiny.pt"))
    predict, first = Detector.predict, []

    class Moved:
        def __init__(self, prediction: Any) -> None:
            first.append(prediction)
            self.score = prediction.score * (1 + (change if len(first) == 1 else 0))

    monkeypatch.setattr(Detector, "predict", lambda self, path, **options: Moved(predict(self, path, **options)))
    protocol = read_protocol(place / "p.html")
    contents = {photo["sha256"]: place / "photos" / photo["photo"] for photo in protocol.values["photos"]}
    digest = protocol.values["detector"]["sha256"]
    done = check_protocol(place / "p.html", contents, detector, digest)
    assert done.faults == faults and done.recomputed == 7
    assert done.largest == pytest.approx(change, rel=0.05, abs=1e-7) or faults


def test_a_photo_that_was_changed_is_told_apart_from_one_that_is_not_there(tested, place):
    photo = place / "photos/bad/hole/a.png"
    draw(photo.parent, ["a.png"], first=900)
    done = check(tested, place)
    assert done.present == 6 and done.faults == 1 and "with another content" in done.told[0]
    photo.unlink()
    done = check(tested, place)
    assert done.present == 6 and done.faults == 0


def test_another_detector_is_told(tested, place):
    other = Detector.load(tested / "model/nut.safetensors", backbone=str(tested / "model/tiny.pt")).set_threshold(0.9)
    other.save(place / "other.safetensors")
    done = check(tested, place, model=place / "other.safetensors")
    assert done.faults == 1 and "the detector is another one" in done.told[0]


@pytest.mark.parametrize("spoil", ["", '{"values":', "[]", '{"values":{"promptad":"acceptance protocol","version":9}}'])
def test_data_that_cannot_be_read_are_one_line(place, spoil):
    text = (place / "p.html").read_text("utf-8")
    start = text.index('id="acceptance-protocol">') + len('id="acceptance-protocol">')
    (place / "p.html").write_text(text[:start] + spoil + text[text.index("</script>", start) :], "utf-8")
    with pytest.raises(DataError, match="cannot be read as a protocol") as caught:
        VerifyRequest(file=place / "p.html").run()
    assert "\n" not in str(caught.value)


def test_data_that_do_not_fit_together_are_a_fault(tested, place):
    rewritten_values = {"area": "wide", "score": "high", "kind": 3}
    for name, value in rewritten_values.items():
        shutil.copy(tested / "p.html", place / "p.html")
        text = (place / "p.html").read_text("utf-8")
        (place / "p.html").write_text(
            re.sub(f'"{name}":("[0-9a-f]{{64}}"|[^,}}]+)', f'"{name}":{json.dumps(value)}', text, count=1), "utf-8"
        )
        assert any("do not fit together" in line for line in VerifyRequest(file=place / "p.html").run().told)


def test_a_protocol_is_not_written_over_and_is_a_page(tested, place, monkeypatch):
    given = {"model": tested / "model/nut.safetensors", "good": place / "photos/good"}
    with pytest.raises(DataError, match="is there already"):
        AcceptRequest(**given, output=place / "p.html").run()
    with pytest.raises(ConfigError, match=r"ends with \.html"):
        AcceptRequest(**given, output=place / "p.txt").run()


def test_the_page_stands_alone_and_fits_on_a_phone(tested):
    protocol = read_protocol(tested / "p.html")
    wrong = [p for p in protocol.values["photos"] if is_wrong(p, protocol.values["results"]["threshold"])]
    assert wrong and {p["sha256"] for p in wrong} == set(protocol.pictures)
    assert "<b>" not in protocol.page.split("Tested by")[1][:60] and "http" not in protocol.page.replace(
        "http-equiv", ""
    )
    for width in (1280, 390):
        with opened(tested / "p.html", width=width) as window:
            assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
            pictures = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
            assert window.evaluate(pictures)


def test_the_command_says_what_holds_and_ends_with_its_code(tested, place, capsys):
    arguments = ["verify", str(place / "p.html"), "--photos", str(place / "photos")]
    arguments += ["--model", str(tested / "model/nut.safetensors")]
    build()(arguments, standalone_mode=False)
    out = capsys.readouterr().out
    assert "7 of 7 are there" in out and "recomputed 7 scores" in out and "result     holds" in out
    edited(place, '"kind":"hole"', '"kind":"hill"')
    with pytest.raises(SystemExit) as ended:
        build()(arguments, standalone_mode=False)
    assert ended.value.code == 3 and "altered" in capsys.readouterr().err

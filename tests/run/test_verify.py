"""An audit log against its photos and its detector: what was changed since shows, wherever it was changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from run_cases import draw
from watch_cases import entries, saved_detector, start, watch

from promptad import VerifyRequest
from promptad.cli import build
from promptad.detector import Detector
from promptad.errors import ConfigError, DataError
from promptad.report.audit import AuditLog
from promptad.run.recomputing import differences


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Path:
    """A folder with a detector, photos and what a watch made of them: one of them cannot be read."""
    root = tmp_path_factory.mktemp("watched")
    model = saved_detector(root / "model")
    inbox = draw(root / "inbox", [f"{number}.png" for number in range(5)])
    (inbox / "torn.png").write_bytes((inbox / "0.png").read_bytes()[:-200])
    assert start(model, inbox, root / "out", "--once", "--patience", "0.3").wait(timeout=100) == 3
    return root


@pytest.fixture
def place(watched, tmp_path, monkeypatch) -> Path:
    shutil.copytree(watched / "out", tmp_path / "out")
    shutil.copytree(watched / "inbox", tmp_path / "inbox")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verified(watched: Path, place: Path, **other):
    given = {"photos": [place / "inbox"], "model": watched / "model/nut.safetensors", **other}
    return VerifyRequest(file=place / "out/audit.jsonl", **given).run()


def test_what_was_not_changed_holds(watched, place):
    check = verified(watched, place)
    assert (check.faults, check.photos, check.present, check.recomputed, check.others, check.moved) == (
        0,
        6,
        6,
        6,
        0,
        0,
    )
    assert check.begins == 1 and check.first <= check.last
    assert verified(watched, place, kept=check.head).faults == 0


def test_a_chain_is_checked_without_photos_and_photos_without_a_detector(place):
    assert VerifyRequest(file=place / "out/audit.jsonl").run().present is None
    (place / "inbox/1.png").unlink()
    check = VerifyRequest(file=place / "out/audit.jsonl", photos=[place / "inbox"]).run()
    assert (check.faults, check.present, check.recomputed) == (0, 5, 0)


def forged(path: Path, line: int, **changes) -> None:
    """Writes the log anew with a changed entry, every digest right: what whoever holds the file can do."""
    old = [json.loads(text) for text in path.read_text().splitlines()[1:]]
    path.unlink()
    log = AuditLog(path)
    for number, values in enumerate(old, start=2):
        values = {**values, **(changes if number == line else {})}
        kept = {name: v for name, v in values.items() if name not in ("entry", "time", "version", "previous", "digest")}
        log.add(kept.pop("kind"), **kept)
    log.close()


def test_a_verdict_that_was_written_anew_with_all_digests_shows_in_the_photos_and_against_a_kept_digest(watched, place):
    head = verified(watched, place).head
    entry = entries(place / "out")[2]
    other = {"normal": "anomalous", "anomalous": "normal"}[entry["verdict"]]
    forged(place / "out/audit.jsonl", 5, verdict=other)
    check = verified(watched, place, kept=head)
    assert check.faults == 2 and f"the entry says {other}, {entry['verdict']} comes out" in check.told[0]
    assert "cut off, or it was written anew" in check.told[1]


def test_a_score_that_was_written_anew_shows(watched, place):
    entry = entries(place / "out")[2]
    forged(place / "out/audit.jsonl", 5, score=entry["score"] * 1.001)
    [fault] = verified(watched, place).told
    assert "line 5" in fault and "comes out" in fault and entry["photo"] in fault


def test_an_end_that_was_cut_off_shows_against_a_kept_digest(watched, place):
    head = verified(watched, place).head
    path = place / "out/audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert verified(watched, place).faults == 0 and verified(watched, place, kept=head).faults == 1


def test_what_another_detector_judged_is_counted_and_a_threshold_by_hand_named(watched, place, tmp_path):
    detector = Detector.load(watched / "model/nut.safetensors", backbone=str(watched / "model/tiny.pt"))
    forged(place / "out/audit.jsonl", 4, detector="0" * 64)
    detector.set_threshold(-1.0)
    inbox = draw(tmp_path / "more", ["x.png"], first=70)
    watch(detector, inbox, place / "out")
    check = verified(watched, place, photos=[place / "inbox", inbox])
    assert check.others == 2 and check.present == 7 and check.faults == 0
    [last] = entries(place / "out")[-1:]
    assert last["threshold"] == -1.0 and last["verdict"] == "anomalous"


@pytest.mark.parametrize(
    ("score", "entry", "count"),
    [
        (0.5, {"score": 0.5, "threshold": 0.4, "verdict": "anomalous"}, 0),
        (0.500001, {"score": 0.5, "threshold": 0.4, "verdict": "anomalous"}, 0),
        (0.501, {"score": 0.5, "threshold": 0.4, "verdict": "anomalous"}, 1),
        (0.3, {"score": 0.5, "threshold": 0.4, "verdict": "anomalous"}, 2),
        (0.400001, {"score": 0.4, "threshold": 0.4, "verdict": "normal"}, 0),  # the last digit on the threshold itself
        (None, {"score": None, "threshold": 0.4, "verdict": "failed"}, 0),
        (0.3, {"score": None, "threshold": 0.4, "verdict": "failed"}, 2),
        (None, {"score": 0.3, "threshold": None, "verdict": "no threshold"}, 2),
        (0.3, {"score": 0.3, "threshold": None, "verdict": "no threshold"}, 0),
    ],
)
def test_in_what_an_entry_differs(score, entry, count):
    assert len(differences(entry, score)) == count


def test_other_files_and_inputs_that_do_not_go_together_are_refused(place):
    (place / "page.html").write_text("<html>")
    for path, words in (
        (place / "page.html", "no audit log of a watch and no protocol"),
        (place / "none.jsonl", "cannot be read"),
        (place, "cannot be read"),
    ):
        with pytest.raises(DataError, match=words):
            VerifyRequest(file=path).run()
    with pytest.raises(ConfigError, match="recomputed from photos"):
        VerifyRequest(file=place / "out/audit.jsonl", model="x.safetensors")
    with pytest.raises(ConfigError, match="is about a detector"):
        VerifyRequest(file=place / "out/audit.jsonl", device="cuda")


def test_the_command_says_what_holds_and_ends_with_its_code(watched, place, capsys):
    arguments = ["verify", str(place / "out/audit.jsonl"), "--photos", str(place / "inbox")]
    arguments += ["--model", str(watched / "model/nut.safetensors")]
    build()(arguments, standalone_mode=False)
    out = capsys.readouterr().out
    assert "6 photos" in out and "recomputed 6 verdicts" in out and "result     holds" in out
    path = place / "out/audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"photo": "2.png"', b'"photo": "3.png"'))
    with pytest.raises(SystemExit) as ended:
        build()(arguments, standalone_mode=False)
    assert ended.value.code == 3 and "it was altered" in capsys.readouterr().err

"""A watched folder: every photo once, whole, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from run_cases import draw, fitted, pixels
from watch_cases import entries, judged_once, saved_detector, start, watch

from promptad.errors import ConfigError, DataError
from promptad.report.audit import AuditLog
from promptad.report.log import read_results
from promptad.run.judged import Judged
from promptad.run.watch import Watch


@pytest.fixture(scope="module")
def detector():
    return fitted()


def test_every_photo_is_judged_once_and_a_later_watch_adds_the_new_ones(detector, tmp_path):
    inbox = draw(tmp_path / "inbox", ["a.png", "sub/b.png", "sub/c.png"])
    first = watch(detector, inbox, tmp_path / "out")
    assert sum(first.counts.values()) == 3 and first.before == 0
    judged_once(tmp_path / "out", inbox)
    draw(inbox, ["d.png"], first=50)
    second = watch(detector, inbox, tmp_path / "out")
    assert sum(second.counts.values()) == 1 and second.before == 3 and second.repeats == 0
    judged_once(tmp_path / "out", inbox)
    assert detector.predict(inbox / "a.png").score == pytest.approx(entries(tmp_path / "out")[0]["score"], rel=1e-6)
    assert [path.name[:5] for path in sorted((tmp_path / "out/heatmaps").iterdir())] == ["a.png", "d.png", "sub"]


def test_a_content_is_judged_once_whatever_its_name(detector, tmp_path):
    inbox = draw(tmp_path / "inbox", ["a.png"])
    shutil.copy(inbox / "a.png", inbox / "again.png")
    report = watch(detector, inbox, tmp_path / "out")
    assert sum(report.counts.values()) == 1 and report.repeats == 1
    shutil.copy(inbox / "a.png", inbox / "later.png")
    assert watch(detector, inbox, tmp_path / "out").counts == {}
    assert len(entries(tmp_path / "out")) == 1


def test_a_name_used_again_is_another_photo(detector, tmp_path):
    inbox = draw(tmp_path / "inbox", ["image.png"])
    watch(detector, inbox, tmp_path / "out", sort="copy")
    draw(inbox, ["image.png"], first=99)
    watch(detector, inbox, tmp_path / "out", sort="copy")
    contents = {entry["sha256"] for entry in entries(tmp_path / "out")}
    assert len(contents) == 2 and {row.photo for row in read_results(tmp_path / "out/results.jsonl")} == {"image.png"}
    assert len([path for folder in ("NG", "OK") for path in (tmp_path / "out" / folder).glob("*")]) == 2
    assert len(list((tmp_path / "out/heatmaps").iterdir())) == 2


@pytest.mark.parametrize("how", ["copy", "link"])
def test_photos_lie_among_ng_and_ok_by_their_verdict(how, detector, tmp_path):
    inbox = draw(tmp_path / "inbox", [f"{number}.png" for number in range(6)])
    (inbox / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    scores = sorted(detector.predict(path).score for path in inbox.glob("*.png"))
    middle = detector.__class__.from_saved  # the same detector with a threshold that parts them
    halved = middle(*_saved(detector))
    halved.set_threshold((scores[2] + scores[3]) / 2)
    watch(halved, inbox, tmp_path / "out", sort=how)
    verdicts = {entry["photo"]: entry["verdict"] for entry in entries(tmp_path / "out")}
    for folder, verdict in (("NG", "anomalous"), ("OK", "normal"), ("failed", "failed")):
        names = sorted(path.name for path in (tmp_path / "out" / folder).iterdir())
        assert names == sorted(name for name, word in verdicts.items() if word == verdict) and names
        for path in (tmp_path / "out" / folder).iterdir():
            assert path.is_symlink() == (how == "link") and path.read_bytes() == (inbox / path.name).read_bytes()


def _saved(detector):
    from promptad.saved.detectors import detector_from_bytes

    return detector_from_bytes(detector.to_bytes()), detector.backbone, None


def test_sorting_needs_a_threshold(tmp_path):
    detector = fitted()
    detector.calibration = None
    with pytest.raises(ConfigError, match=r"no threshold.*give one"):
        watch(detector, draw(tmp_path / "inbox", ["a.png"]), tmp_path / "out", sort="copy")


# Files that are not whole ---------------------------------------------------------------------------------------------


def in_pieces(path: Path, data: bytes, pause: float, pieces: int = 4) -> str:
    """Code of a process that writes a file slowly."""
    return (
        f"import time\ndata = open({str(path) + '.whole'!r}, 'rb').read()\nstep = len(data) // {pieces} + 1\n"
        f"with open({str(path)!r}, 'wb', buffering=0) as file:\n"
        f"    for at in range(0, len(data), step):\n        file.write(data[at:at + step]); time.sleep({pause})\n"
    )


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp"])
def test_a_photo_that_is_written_slowly_is_judged_when_it_is_whole(kind, detector, tmp_path):
    inbox, source = tmp_path / "inbox", tmp_path / f"slow.{kind}.whole"
    inbox.mkdir()
    Image.fromarray(pixels(5)).save(source, format={"jpg": "JPEG"}.get(kind, kind.upper()))
    writer = subprocess.Popen([sys.executable, "-c", in_pieces(tmp_path / f"slow.{kind}", b"", 0.15)], cwd=tmp_path)
    os.symlink(tmp_path / f"slow.{kind}", inbox / f"slow.{kind}")  # there before its content, as a name on a share is
    while not (tmp_path / f"slow.{kind}").exists():
        time.sleep(0.01)
    watch(detector, inbox, tmp_path / "out", patience=5.0)
    writer.wait()
    [entry] = entries(tmp_path / "out")
    assert entry["verdict"] != "failed"
    assert entry["score"] == pytest.approx(detector.predict(source).score, rel=1e-6)


def test_a_file_whose_room_was_set_aside_before_is_waited_for(detector, tmp_path):
    """Some systems give a copy its full size at once: half of a BMP with zeros behind decodes without complaint."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    Image.fromarray(pixels(5)).save(tmp_path / "whole.bmp")
    data = (tmp_path / "whole.bmp").read_bytes()
    (inbox / "half.bmp").write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import time; time.sleep(0.6); open({str(inbox / 'half.bmp')!r}, 'wb').write(open({str(tmp_path / 'whole.bmp')!r}, 'rb').read())",
        ]
    )
    watch(detector, inbox, tmp_path / "out", patience=3.0)
    process.wait()
    [entry] = entries(tmp_path / "out")
    assert entry["score"] == pytest.approx(detector.predict(tmp_path / "whole.bmp").score, rel=1e-6)


def test_other_names_are_not_looked_at_until_they_are_a_photos(detector, tmp_path):
    inbox = draw(tmp_path / "inbox", ["a.png"])
    for name in ("b.png.part", ".c.png.Xy12", "d.tmp", "note.txt"):
        (inbox / name).write_bytes((inbox / "a.png").read_bytes()[:50])
    said = []
    (inbox / "raw.dng").write_bytes(b"raw")
    watch(detector, inbox, tmp_path / "out", said=said.append)
    assert [entry["photo"] for entry in entries(tmp_path / "out")] == ["a.png"]
    assert len(said) == 1 and "raw.dng: DNG is not read; convert it" in said[0]


def test_a_file_that_stays_unreadable_is_said_to_have_failed_once(detector, tmp_path):
    inbox = draw(tmp_path / "inbox", ["a.png"])
    (inbox / "cut.png").write_bytes((inbox / "a.png").read_bytes()[:-300])
    began = time.monotonic()
    report = watch(detector, inbox, tmp_path / "out", patience=0.4)
    assert time.monotonic() - began > 0.4 and report.counts["failed"] == 1
    assert watch(detector, inbox, tmp_path / "out").counts == {}
    [failed] = [entry for entry in entries(tmp_path / "out") if entry["verdict"] == "failed"]
    assert failed["photo"] == "cut.png" and failed["score"] is None and "cut" in failed["error"]
    shutil.copy(inbox / "a.png", inbox / "cut.png")  # the copy went on after all
    draw(inbox, ["cut.png"], first=77)
    watch(detector, inbox, tmp_path / "out")
    assert [entry["verdict"] == "failed" for entry in entries(tmp_path / "out")].count(False) == 2


def test_results_inside_the_inbox_are_no_photos(detector, tmp_path):
    inbox = draw(tmp_path / "inbox", ["a.png", "b.png"])
    for _ in range(2):
        watch(detector, inbox, inbox / "out", sort="copy", heatmaps="png")
    assert len(entries(inbox / "out")) == 2


# Kills and disks ------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a watch as a signal does that nobody catches."""


@pytest.mark.parametrize("place", ["log", "table", "audit", "index", "file"])
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_between_any_two_writes_leaves_one_line_of_each(place, before, detector, tmp_path, monkeypatch):
    inbox, out = draw(tmp_path / "inbox", ["a.png", "b.png", "c.png"]), tmp_path / "out"
    seen = []

    def kill(real):
        def call(self, *arguments, **values):
            counts = place != "audit" or arguments[:1] == ("photo",)
            seen.append(counts)
            if counts and before and sum(seen) == 2:
                raise Killed
            result = real(self, *arguments, **values)
            if counts and sum(seen) == 2:
                raise Killed
            return result

        return call

    with monkeypatch.context() as patch:
        if place in ("audit", "index", "file"):
            kind, name = {"audit": (AuditLog, "add"), "index": (Judged, "add"), "file": (Judged, "note_file")}[place]
            patch.setattr(kind, name, kill(getattr(kind, name)))
        else:
            name = {"log": "encoded", "table": "table_line"}[place]
            real = getattr(sys.modules[Watch.__module__], name)
            patch.setattr(f"{Watch.__module__}.{name}", lambda row: kill(lambda _, row: real(row))(None, row))
        with pytest.raises(Killed):
            watch(detector, inbox, out)
    watch(detector, inbox, out)
    judged_once(out, inbox)


def test_kills_at_random_moments_lose_nothing_and_judge_nothing_twice(tmp_path):
    model, inbox, out = saved_detector(tmp_path / "model"), tmp_path / "inbox", tmp_path / "out"
    rng, total = random.Random(3), 0
    for _ in range(4):
        draw(inbox, [f"{total + number:03d}.png" for number in range(25)], first=total)
        total += 25
        process = start(model, inbox, out)
        assert "watching" in process.stdout.readline()
        for _ in range(rng.randrange(1, 15)):  # so many photos, then some way into the next
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.wait()
    assert start(model, inbox, out, "--once").wait(timeout=120) == 0
    judged_once(out, inbox)
    assert len(entries(out)) == 100 and 4 <= len(entries(out, "begin")) <= 5


def test_a_full_disk_is_waited_for(detector, tmp_path, monkeypatch):
    inbox, out, said, refused = draw(tmp_path / "inbox", ["a.png", "b.png"]), tmp_path / "out", [], []
    real = os.fsync

    def full(number):
        if len(refused) < 3:
            refused.append(number)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(number)

    monkeypatch.setattr("promptad.data.whole_lines.os.fsync", full)
    monkeypatch.setattr("promptad.run.watch.AuditLog.__init__", _unforced_header(AuditLog.__init__))
    watch(detector, inbox, out, said=said.append)
    judged_once(out, inbox)
    assert (
        len(said) == 2 and "waiting for room, nothing is lost" in said[0] and "again" in said[1] and len(refused) == 3
    )


def _unforced_header(real):
    """The log itself can be made; what is added later cannot."""

    def init(self, path):
        path.exists() or path.write_bytes(b'{"promptad": "audit", "version": 1}\n')
        real(self, path)

    return init


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk: needs root"
)
def test_a_disk_that_really_is_full_is_waited_for(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(small)], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        model = saved_detector(tmp_path / "model")
        inbox = draw(tmp_path / "inbox", [f"{number:02d}.png" for number in range(30)])
        filler = small / "filler"
        process = start(model, inbox, small / "out", "--once")
        for _ in range(6):
            process.stdout.readline()
        filler.write_bytes(bytes(1 << 20))
        with pytest.raises(OSError), filler.open("ab", buffering=0) as file:
            while file.write(bytes(4096)) == 4096 or file.write(b"0"):
                pass
        lines = []
        while "waiting for room" not in "".join(lines):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        time.sleep(0.3)
        assert process.poll() is None
        filler.unlink()
        assert process.wait(timeout=60) == 0
        judged_once(small / "out", inbox)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_an_inbox_that_is_away_is_waited_for(detector, tmp_path):
    inbox, said = draw(tmp_path / "inbox", ["a.png"]), []
    (tmp_path / "inbox").rename(tmp_path / "away")
    back = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, time; time.sleep(0.5); os.rename({str(tmp_path / 'away')!r}, {str(inbox)!r})",
        ]
    )
    watch(detector, inbox, tmp_path / "out", said=said.append)
    back.wait()
    judged_once(tmp_path / "out", inbox)
    assert len(said) == 2 and "waiting for it" in said[0] and "can be read again" in said[1]


@pytest.mark.parametrize("harm", ["gone", "damaged", "another's"])
def test_the_index_is_made_anew_where_it_is_not_the_logs(harm, detector, tmp_path):
    inbox, out = draw(tmp_path / "inbox", ["a.png", "b.png"]), tmp_path / "out"
    watch(detector, inbox, out)
    index = out / ".promptad.judged.sqlite"
    if harm == "gone":
        index.unlink()
    elif harm == "damaged":
        index.write_bytes(b"no data base" * 100)
    else:
        watch(detector, draw(tmp_path / "other", [f"{i}.png" for i in range(5)], first=60), tmp_path / "out2")
        shutil.copy(tmp_path / "out2" / index.name, index)
    assert watch(detector, inbox, out).counts == {}
    judged_once(out, inbox)


def test_what_stands_in_the_folder_already_is_not_written_over(detector, tmp_path):
    inbox, out = draw(tmp_path / "inbox", ["a.png"]), tmp_path / "out"
    for name in ("audit.jsonl", "results.csv", "results.jsonl"):
        out.mkdir(exist_ok=True)
        (out / name).write_text("mine\n")
        with pytest.raises(DataError, match=name):
            watch(detector, inbox, out)
        assert (out / name).read_text() == "mine\n"
        (out / name).unlink()

"""Fetching release files: resuming, broken servers, full disks, files in the way, the starter."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback import (
    BODY,
    HUB,
    RELEASE,
    SHA,
    Server,
    cache,
    failing,
    isolate,
    release_server,
    serving,
    use,
)

from promptad.clip import pull as puller
from promptad.clip import zoo
from promptad.clip.pins import Pin, pin_path, read_pin, write_pin
from promptad.clip.pull import part_path, pull
from promptad.errors import WeightsError


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(tmp_path, monkeypatch)


@pytest.fixture
def start() -> Iterator[Callable[[], Server]]:
    with serving() as start_one:
        yield start_one


@pytest.fixture
def release(start: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    return release_server(start, monkeypatch)


# Release files ------------------------------------------------------------------------------------


def test_a_full_pull_verifies_pins_and_reports_progress(release: Server) -> None:
    steps: list[tuple[int, int | None]] = []
    path = pull("vit-b-16:LAION400M_e32", progress=lambda done, total: steps.append((done, total)))
    assert path == cache(RELEASE) / "x.pt"
    assert path.read_bytes() == BODY
    pin = read_pin(path)
    assert (pin.checkpoint, pin.sha256, pin.size) == (RELEASE, SHA, len(BODY))
    assert (pin.source, pin.verified_against) == (f"{release.address}/w/x.pt", "sha256 in the zoo")
    assert steps[-1] == (len(BODY), len(BODY))
    assert [entry[0] for entry in steps] == sorted({entry[0] for entry in steps})
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["x.pt", "x.pt.sha256.json"]
    assert [entry.status for entry in zoo.check(RELEASE)] == ["ok"]
    assert zoo.locate(RELEASE).weights == path


def test_what_is_there_is_not_fetched_again(release: Server, tmp_path: Path) -> None:
    first = pull(RELEASE, tmp_path / "a" / "b")
    assert first == tmp_path / "a" / "b" / "x.pt"
    assert pull(RELEASE, tmp_path / "a" / "b") == first
    assert len(release.asked) == 1


def test_a_partial_file_is_continued(release: Server) -> None:
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:1_000_000])
    steps: list[tuple[int, int | None]] = []
    path = pull(RELEASE, progress=lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == BODY
    assert release.asked[0].range == "bytes=1000000-"
    assert release.sent() == [2_000_000]
    assert steps[0][0] > 1_000_000 and steps[-1] == (3_000_000, 3_000_000)
    assert not part.exists()


def test_a_server_without_ranges_starts_again_from_zero(release: Server) -> None:
    release.ranges = False
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 1_000_000)  # wrong bytes, so that appending would be noticed
    assert pull(RELEASE).read_bytes() == BODY
    assert release.sent() == [3_000_000]


def test_connections_that_break_are_taken_up_again(release: Server) -> None:
    release.cuts = [1_000_000, 0, 500_000]
    assert pull(RELEASE).read_bytes() == BODY
    assert release.sent() == [1_000_000, 0, 500_000, 1_500_000]
    assert [entry.range for entry in release.asked] == ["", "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]


def test_a_bad_line_is_no_reason_to_give_up_while_bytes_arrive(release: Server) -> None:
    release.cuts = [300_000] * 9
    assert pull(RELEASE).read_bytes() == BODY
    assert len(release.asked) == 10 > 2 * puller.ATTEMPTS


def test_it_gives_up_after_failures_without_progress_and_keeps_the_part(release: Server) -> None:
    release.cuts = [1_000_000, 0, 0, 0, 0, 0]
    text = failing()
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    assert "closed after 1000000 of 3000000 bytes" in text and f"1000000 bytes are kept in {part}" in text
    assert len(release.asked) == puller.ATTEMPTS
    assert part.read_bytes() == BODY[:1_000_000]
    release.cuts = []
    assert pull(RELEASE).read_bytes() == BODY  # the next day
    assert release.sent()[-1] == 2_000_000


def test_a_server_that_always_breaks_at_the_same_place_does_not_loop(release: Server) -> None:
    release.ranges, release.cuts = False, [1_000_000] * 20
    assert "closed after 1000000" in failing()
    assert len(release.asked) == puller.ATTEMPTS


def test_interrupted_by_the_user_then_resumed(release: Server) -> None:
    def ctrl_c(done: int, total: int | None) -> None:
        if done > 1_500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(RELEASE, progress=ctrl_c)
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    kept = part.stat().st_size
    assert kept > 1_500_000 and part.read_bytes() == BODY[:kept]
    assert not (cache(RELEASE) / "x.pt").exists()
    assert pull(RELEASE).read_bytes() == BODY
    assert release.asked[-1].range == f"bytes={kept}-" and release.sent()[-1] == 3_000_000 - kept


def test_a_wrong_checksum_deletes_the_part_and_says_so(release: Server) -> None:
    release.files["/w/x.pt"] = BODY[:-1] + b"!"
    text = failing()
    assert f"expected {SHA[:8]}" in text and "partial file was deleted" in text
    assert list(cache(RELEASE).iterdir()) == []


def test_a_part_of_another_version_cannot_slip_in(release: Server) -> None:
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 1_000_000)
    assert "partial file was deleted" in failing()
    assert pull(RELEASE).read_bytes() == BODY  # clean at the second try


def test_a_part_that_is_complete_or_too_long(release: Server) -> None:
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY)
    assert pull(RELEASE).read_bytes() == BODY
    assert release.sent() == [0]  # the server said 416, and the file was whole
    (cache(RELEASE) / "x.pt").unlink()
    pin_path(cache(RELEASE) / "x.pt").unlink()
    part.write_bytes(BODY + b"more")
    assert pull(RELEASE).read_bytes() == BODY
    assert release.sent() == [0, 0, 3_000_000]


def test_a_server_that_continues_at_another_place_is_not_believed(release: Server) -> None:
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:1_000_000])
    release.wrong_place = True
    assert pull(RELEASE).read_bytes() == BODY
    assert [entry.range for entry in release.asked] == ["bytes=1000000-", ""]


def test_an_answer_without_a_length(release: Server) -> None:
    release.says_length = False
    steps: list[tuple[int, int | None]] = []
    assert pull(RELEASE, progress=lambda done, total: steps.append((done, total))).read_bytes() == BODY
    assert steps[-1] == (3_000_000, None)


def test_not_found_is_final_and_names_the_other_places(release: Server) -> None:
    release.files.clear()
    text = failing()
    assert f"{release.address}/w/x.pt answers HTTP 404" in text
    assert zoo.find_checkpoint(RELEASE).alternatives[0] in text and "backbone='/path/to/" in text
    assert len(release.asked) == 1


def test_a_busy_server_is_asked_again(release: Server) -> None:
    release.errors = [503, 429, 500]
    assert pull(RELEASE).read_bytes() == BODY
    assert len(release.asked) == 4
    shutil.rmtree(cache(RELEASE))
    release.errors = [503] * 10
    assert "answers HTTP 503" in failing()


def test_connection_refused(release: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, not listening: nobody answers on this port
        taken.bind(("127.0.0.1", 0))
        row = zoo.find_checkpoint(RELEASE)
        use(monkeypatch, dataclasses.replace(row, url=f"http://127.0.0.1:{taken.getsockname()[1]}/x.pt"))
        text = failing()
    assert "cannot be reached" in text and "refused" in text


def test_a_server_that_never_answers(release: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puller, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(puller, "ATTEMPTS", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        row = zoo.find_checkpoint(RELEASE)
        use(monkeypatch, dataclasses.replace(row, url=f"http://127.0.0.1:{silent.getsockname()[1]}/x.pt"))
        assert "timed out" in failing()


def test_too_little_space_is_said_before_anything_is_written(release: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    assert "1 MB free, 3 MB more are needed" in failing()
    assert part_path(cache(RELEASE) / "x.pt", SHA[:8]).stat().st_size == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_said_in_one_line(release: Server, tmp_path: Path) -> None:
    with Path("/dev/full").open("ab", buffering=0) as full:
        remote = puller.Remote("x", f"{release.address}/w/x.pt", SHA, "test")
        with pytest.raises(WeightsError, match="disk full; make room"):
            puller._stream(full, remote, tmp_path / "x.part", None)


def test_a_folder_that_cannot_be_made(release: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot write to" in failing(to=tmp_path / "file" / "folder")
    assert "cannot write to" in failing(to=tmp_path / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="no flock there")
def test_two_processes_do_not_write_one_part(release: Server) -> None:
    part = part_path(cache(RELEASE) / "x.pt", SHA[:8])
    part.parent.mkdir(parents=True)
    with part.open("ab") as other:
        puller._lock(other, part)
        assert "another process is fetching" in failing()
    assert pull(RELEASE).read_bytes() == BODY


# What lies in the target folder already -----------------------------------------------------------


def test_a_right_file_placed_by_hand_is_pinned_without_the_network(release: Server) -> None:
    path = cache(RELEASE) / "x.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert pull(RELEASE, offline=True) == path
    assert read_pin(path).verified_against == "zoo, first 8 digits"
    assert release.asked == []


def test_a_foreign_file_is_never_overwritten(release: Server, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"precious")
    for offline in (False, True):
        assert "was not pulled by promptad" in failing(to=tmp_path, offline=offline)
        assert (tmp_path / "x.pt").read_bytes() == b"precious"


def test_a_pulled_file_that_was_damaged_is_replaced(release: Server) -> None:
    path = pull(RELEASE)
    path.write_bytes(b"damaged")
    assert "differs from its pin" in failing(offline=True)
    assert pull(RELEASE).read_bytes() == BODY
    assert [entry.status for entry in zoo.check(RELEASE)] == ["ok"]


def test_the_starter_is_copied_not_fetched(tmp_path: Path) -> None:
    assert pull("starter", offline=True) == zoo.STARTER_FOLDER / "model.safetensors"
    weights = pull("starter", tmp_path / "usb", offline=True)
    names = {entry.name for entry in weights.parent.iterdir() if not entry.name.endswith(".sha256.json")}
    assert names == {"model.safetensors", "config.json", "tokenizer.json"}
    located = zoo.locate(tmp_path / "usb")
    assert located.checkpoint.name == "starter" and located.folder == tmp_path / "usb"
    assert pull("starter", tmp_path / "usb") == weights  # again: nothing in the way
    (tmp_path / "usb" / "config.json").write_text("{}")
    assert "config.json exists and is another file" in failing("starter", to=tmp_path / "usb")


def test_pins_are_plain_json(release: Server) -> None:
    path = pull(RELEASE)
    assert json.loads(pin_path(path).read_text())["sha256"] == SHA
    write_pin(path, Pin(HUB, SHA, len(BODY), "s", "r", "v", "2026-11-20"))
    assert f"holds '{HUB}'" in failing()

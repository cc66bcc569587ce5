"""Fetching from a hub, and what the offline switches forbid."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback import (
    BODY,
    COMMIT,
    HUB,
    HUB_ID,
    RELEASE,
    SHA,
    Server,
    cache,
    failing,
    hub_server,
    isolate,
    offer,
    release_server,
    serving,
)

from promptad.clip import pull as puller
from promptad.clip import zoo
from promptad.clip.pins import read_pin
from promptad.clip.pull import part_path, pull


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


@pytest.fixture
def hub(start: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    return hub_server(start, monkeypatch)


# No network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["PROMPTAD_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("name", [RELEASE, HUB])
def test_the_offline_switches_forbid_the_network(
    release: Server, hub: Server, monkeypatch: pytest.MonkeyPatch, switch: str, name: str
) -> None:
    monkeypatch.setenv(switch, "1")
    text = failing(name)
    row = zoo.find_checkpoint(name)
    assert text.startswith(f"{switch} is set: ")
    assert row.files[0].name in text and str(zoo.folder_of(row)) in text and "backbone='/path/to/" in text
    assert release.asked == [] and hub.asked == [] and hub.storage.asked == []
    monkeypatch.setenv(switch, "0")
    assert puller.offline_switch() == ""
    assert pull(name).read_bytes() == BODY


def test_offline_by_argument_and_a_file_placed_by_hand(hub: Server) -> None:
    assert failing(HUB, offline=True).startswith("offline: ")
    path = cache(HUB) / "open_clip_pytorch_model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    assert pull(HUB, offline=True) == path
    assert read_pin(path) is None  # nobody vouched for it
    assert hub.asked == []


def test_two_checkpoints_do_not_share_a_folder(hub: Server, tmp_path: Path) -> None:
    path = pull(HUB, tmp_path)
    before = path.read_bytes()
    text = failing("ViT-B-16/openai", to=tmp_path)
    assert f"holds '{HUB}'" in text and "give another folder" in text
    assert path.read_bytes() == before


# The hub ------------------------------------------------------------------------------------------


def test_hub_pull_compares_with_the_announced_checksum(hub: Server) -> None:
    steps: list[tuple[int, int | None]] = []
    path = pull(HUB, progress=lambda done, total: steps.append((done, total)))
    assert path == cache(HUB) / "open_clip_model.safetensors"
    assert path.read_bytes() == BODY and steps[-1] == (3_000_000, 3_000_000)
    pin = read_pin(path)
    assert (pin.sha256, pin.revision) == (SHA, COMMIT)
    assert pin.verified_against == "sha256 announced by the hub"
    assert pin.source == f"{hub.address}/{HUB_ID}/resolve/{COMMIT}/open_clip_model.safetensors"
    # first the announcement for main, then the bytes of that very commit, although main may move meanwhile
    assert [(entry.method, entry.path.split("/")[4]) for entry in hub.asked] == [("HEAD", "main"), ("GET", COMMIT)]
    requests = len(hub.asked)
    assert pull(HUB) == path and len(hub.asked) == requests
    assert [entry.status for entry in zoo.check(HUB)] == ["ok"]


def test_hub_pull_resumes(hub: Server) -> None:
    part = part_path(cache(HUB) / "open_clip_model.safetensors", SHA)
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:2_000_000])
    assert pull(HUB).read_bytes() == BODY
    assert hub.storage.asked[-1].range == "bytes=2000000-" and hub.storage.sent() == [1_000_000]


def test_hub_pull_interrupted_then_resumed(hub: Server) -> None:
    def ctrl_c(done: int, total: int | None) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(HUB, progress=ctrl_c)
    kept = part_path(cache(HUB) / "open_clip_model.safetensors", SHA).stat().st_size
    assert pull(HUB).read_bytes() == BODY
    assert hub.storage.sent()[-1] == 3_000_000 - kept < 2_000_000


def test_hub_bytes_that_differ_from_the_announced_checksum(hub: Server) -> None:
    offer(hub, "open_clip_model.safetensors", hub.storage, sha256="ab" * 32)
    text = failing(HUB)
    assert "expected abababab" in text and "partial file was deleted" in text
    assert list(cache(HUB).iterdir()) == []


def test_hub_falls_back_to_the_older_file_name(hub: Server) -> None:
    path = f"/{HUB_ID}/resolve/main/open_clip_model.safetensors"
    del hub.redirects[path]
    hub.headers[path] = {"X-Repo-Commit": COMMIT, "X-Error-Code": "EntryNotFound"}
    assert f"{HUB_ID} on the hub has no open_clip_model.safetensors or" in wanting_fallback(hub)
    offer(hub, "open_clip_pytorch_model.bin", hub.storage)
    assert pull(HUB).name == "open_clip_pytorch_model.bin"


def wanting_fallback(hub: Server) -> str:
    missing = f"/{HUB_ID}/resolve/main/open_clip_pytorch_model.bin"
    hub.headers[missing] = {"X-Repo-Commit": COMMIT, "X-Error-Code": "EntryNotFound"}
    return failing(HUB)


def test_hub_trouble_is_one_line(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.heads = [503, 502]
    assert pull(HUB).read_bytes() == BODY  # passing trouble is waited out
    shutil.rmtree(cache(HUB))
    hub.heads = [403]
    assert "answers HTTP 403" in failing(HUB)
    hub.heads = [503] * 10
    assert "answers HTTP 503" in failing(HUB)
    hub.heads = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert "cannot be reached" in failing(HUB)


def test_a_page_that_is_no_hub_is_not_saved_as_weights(hub: Server) -> None:
    path = f"/{HUB_ID}/resolve/main/open_clip_model.safetensors"
    del hub.redirects[path], hub.headers[path]
    hub.files[path] = b"<html>Please sign in to the guest network</html>"
    assert "does not answer like a Hugging Face hub" in failing(HUB)
    assert list(cache(HUB).iterdir()) == []


def test_a_hub_that_announces_no_sha256_is_pinned_as_such(hub: Server) -> None:
    offer(hub, "open_clip_model.safetensors", hub.storage, sha256="f" * 40)  # a git blob id
    assert read_pin(pull(HUB)).verified_against == "nothing: the hub announced no sha256"


def test_the_token_reaches_the_hub_but_not_the_storage_behind_it(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull(HUB)
    assert {entry.authorization for entry in hub.asked} == {"Bearer hf_secret"}
    assert {entry.authorization for entry in hub.storage.asked} == {""}


def test_a_hub_file_placed_by_hand_is_compared_with_the_announcement(hub: Server) -> None:
    path = cache(HUB) / "open_clip_model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    assert "was not pulled by promptad" in failing(HUB)
    assert path.read_bytes() == b"something else"
    path.write_bytes(BODY)
    assert pull(HUB) == path
    assert read_pin(path).verified_against == "sha256 announced by the hub"
    assert hub.storage.asked == []


def test_what_another_program_pulled_from_the_hub_is_copied(hub: Server, tmp_path: Path) -> None:
    repo = tmp_path / "hub-cache" / f"models--{HUB_ID.replace('/', '--')}"
    blob = repo / "blobs" / SHA
    link = repo / "snapshots" / COMMIT / "open_clip_model.safetensors"
    for folder in (blob.parent, link.parent, repo / "refs"):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    blob.write_bytes(BODY)
    link.symlink_to(blob)
    path = pull(HUB, offline=True)
    assert path.read_bytes() == BODY and not path.is_symlink()
    assert (read_pin(path).sha256, read_pin(path).revision) == (SHA, COMMIT)
    assert hub.asked == []

    shutil.rmtree(cache(HUB))
    blob.write_bytes(b"damaged")
    assert failing(HUB, offline=True).startswith("offline: ")
    assert pull(HUB).read_bytes() == BODY and len(hub.asked) == 2

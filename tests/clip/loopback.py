"""Servers on 127.0.0.1 that can misbehave in the ways real ones do, for the tests of fetching checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from promptad.clip import pull as puller
from promptad.clip import zoo
from promptad.clip.pull import pull
from promptad.errors import WeightsError

BODY = random.Random(0).randbytes(3_000_000)
SHA = hashlib.sha256(BODY).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = "someone/clip"
RELEASE, HUB = "ViT-B-16/laion400m_e32", "ViT-L-14-336/openai"


@dataclass
class Asked:
    """One request as the server saw it, and how many body bytes it sent."""

    method: str
    path: str
    range: str
    authorization: str
    sent: int = 0


@dataclass
class Server:
    """What the server holds and how it behaves; each list is used up by one entry a GET (`heads`: a HEAD)."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    says_length: bool = True
    wrong_place: bool = False
    cuts: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    storage: Server | None = None

    def sent(self) -> list[int]:
        return [entry.sent for entry in self.asked if entry.method == "GET"]


class Handler(BaseHTTPRequestHandler):
    server: LoopbackServer

    def log_message(self, *_: object) -> None:
        return

    def do_HEAD(self) -> None:
        self.answer(self.server.plan.heads)

    def do_GET(self) -> None:
        self.answer(self.server.plan.errors)

    def answer(self, errors: list[int]) -> None:
        plan = self.server.plan
        asked = Asked(self.command, self.path, self.headers.get("Range", ""), self.headers.get("Authorization", ""))
        plan.asked.append(asked)
        if errors and (code := errors.pop(0)) != 200:
            return self.send_error(code)
        if self.path in plan.redirects:
            self.send_response(302)
            for key, value in plan.headers.get(self.path, {}).items():
                self.send_header(key, value)
            self.send_header("Location", plan.redirects[self.path])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if self.path not in plan.files:
            self.send_response(404)
            for key, value in plan.headers.get(self.path, {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body, start = plan.files[self.path], 0
        if plan.ranges and asked.range:
            start = int(asked.range.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            start = 7 if plan.wrong_place else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if plan.says_length:
            self.send_header("Content-Length", str(len(body) - start))
        for key, value in plan.headers.get(self.path, {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        piece = body[start:][: plan.cuts.pop(0) if plan.cuts else None]
        self.wfile.write(piece)
        asked.sent = len(piece)
        self.close_connection = True
        return None


class LoopbackServer(ThreadingHTTPServer):
    plan: Server
    daemon_threads = True


@contextmanager
def serving() -> Iterator[Callable[[], Server]]:
    """Yield a function that starts a server; all of them are stopped at the end."""
    running: list[LoopbackServer] = []

    def start_one() -> Server:
        server = LoopbackServer(("127.0.0.1", 0), Handler)
        server.plan = Server(address=f"http://127.0.0.1:{server.server_port}")
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server.plan

    try:
        yield start_one
    finally:
        for entry in running:
            entry.shutdown()
            entry.server_close()


def isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own cache, no proxy, no token, no waiting."""
    monkeypatch.setenv("PROMPTAD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("PROMPTAD_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(puller, "BACKOFF_S", 0.001)
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


def use(monkeypatch: pytest.MonkeyPatch, row: zoo.Checkpoint) -> None:
    rows = tuple(row if entry.name == row.name else entry for entry in zoo.list_checkpoints())
    monkeypatch.setattr(zoo, "list_checkpoints", lambda: rows)


def release_server(start: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with the file of RELEASE, whose zoo row knows the first eight digits of the checksum."""
    server = start()
    server.files["/w/x.pt"] = BODY
    row = zoo.find_checkpoint(RELEASE)
    file = zoo.ZooFile("x.pt", SHA[:8])
    use(monkeypatch, dataclasses.replace(row, url=f"{server.address}/w/x.pt", files=(file,)))
    return server


def hub_server(start: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that answers like the hub for a large file: a redirect to storage, announcing the SHA-256."""
    server, storage = start(), start()
    use(monkeypatch, dataclasses.replace(zoo.find_checkpoint(HUB), hub_id=HUB_ID))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    offer(server, "open_clip_model.safetensors", storage)
    return server


def offer(server: Server, name: str, storage: Server, sha256: str = SHA) -> None:
    storage.files[f"/blob/{name}"] = BODY
    for revision in ("main", COMMIT):
        path = f"/{HUB_ID}/resolve/{revision}/{name}"
        server.redirects[path] = f"{storage.address}/blob/{name}"
        server.headers[path] = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(BODY)),
            "ETag": '"of-the-redirect"',
        }
    server.storage = storage


def cache(name: str) -> Path:
    return zoo.folder_of(zoo.find_checkpoint(name))


def failing(name: str = RELEASE, **options: Any) -> str:
    with pytest.raises(WeightsError) as error:
        pull(name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)

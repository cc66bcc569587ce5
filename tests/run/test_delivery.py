"""Events reach a web server and a broker, each at least once, whatever is away or killed meanwhile."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from run_cases import draw, fitted
from watch_cases import entries, saved_detector, start, watch

from promptad.errors import ConfigError
from promptad.report.audit import AuditLog
from promptad.run import delivery
from promptad.run.delivery import Delivery, NotDelivered, Refused
from promptad.run.receivers import Mqtt, Webhook, check_url

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


class Server:
    """A web server that keeps what it gets. `answers`: codes of the next answers, then 200."""

    def __init__(self, port: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code = outer.answers.pop(0) if outer.answers else 200
                if code == 200:
                    outer.events.append(body)
                    outer.headers.append(dict(self.headers))
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/events"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(delivery, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr("promptad.run.watch.LAST_CHANCE", 2.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def detector():
    return fitted()


def log_with(folder: Path, count: int) -> AuditLog:
    log = AuditLog(folder / "audit.jsonl")
    for number in range(count):
        log.add("drift", text=f"event {number}", since="")
    return log


def test_a_server_gets_every_entry_of_the_audit_log_in_order(detector, server, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTAD_WEBHOOK_TOKEN", "secret")
    inbox = draw(tmp_path / "inbox", ["a.png", "b.png"])
    report = watch(detector, inbox, tmp_path / "out", [Webhook(server.url)])
    assert [event["kind"] for event in server.events] == ["begin", "photo", "photo"] and report.waiting == {}
    photos = server.events[1:]
    assert [{k: v for k, v in event.items() if k != "id"} for event in photos] == entries(tmp_path / "out")
    assert len({event["id"] for event in server.events}) == 3
    assert server.headers[1]["Idempotency-Key"] == server.events[1]["id"]
    assert server.headers[1]["Authorization"] == "Bearer secret"
    assert "secret" not in "".join(path.read_text("latin-1") for path in (tmp_path / "out").glob("*.json*"))


def test_an_event_is_tried_until_it_arrives(server, tmp_path):
    log, said = log_with(tmp_path, 3), []
    server.answers = [500, 503, 429, 401, 200, 404]
    sender = Delivery(Webhook(server.url), log.path, 100, 0, said.append)
    sender.start()
    assert sender.drain(10)
    sender.stop()
    assert [event["text"] for event in server.events] == ["event 0", "event 1", "event 2"] and sender.given_up == 0
    assert [("takes no events" in line, "there again" in line) for line in said] == [(True, False), (False, True)] * 2


def test_an_event_that_the_server_will_never_take_does_not_hold_up_the_others(server, tmp_path):
    log, said = log_with(tmp_path, 3), []
    server.answers = [200, 422]
    sender = Delivery(Webhook(server.url), log.path, 100, 0, said.append)
    sender.start()
    assert sender.drain(10)
    sender.stop()
    assert [event["text"] for event in server.events] == ["event 0", "event 2"] and sender.given_up == 1
    assert len(said) == 1 and "refuses entry 2 of the audit log for good" in said[0] and "422" in said[0]


def test_a_server_that_is_away_delays_no_verdict_and_gets_all_later(detector, tmp_path):
    gone = Server()
    gone.close()
    inbox = draw(tmp_path / "inbox", ["a.png", "b.png"])
    plan = {"said": (said := []).append}
    report = watch(detector, inbox, tmp_path / "out", [Webhook(gone.url)], **plan)
    assert len(entries(tmp_path / "out")) == 2 and report.waiting == {gone.url: 3}
    assert "refused" in said[0] and "photos are judged meanwhile" in said[0]
    back = Server(gone.port)
    assert watch(detector, inbox, tmp_path / "out", [Webhook(back.url)]).waiting == {}
    assert [event["entry"] for event in back.events] == [1, 2, 3, 4]
    back.close()


def test_of_too_many_that_wait_the_oldest_are_given_up_with_a_line(tmp_path):
    log, said, taken = log_with(tmp_path, 10), [], []

    class Picky:
        name = "picky"

        def send(self, event):
            taken.append(event["text"])

        def close(self):
            pass

    sender = Delivery(Picky(), log.path, 4, 0, said.append)
    sender.start()
    assert sender.drain(5)
    sender.stop()
    assert taken == [f"event {number}" for number in range(6, 10)] and sender.given_up == 6
    assert "6 events waited beyond the 4" in said[0]


def test_a_receiver_that_stays_away_does_not_let_the_queue_grow(tmp_path):
    log, said, taken, away = log_with(tmp_path, 2), [], [], [True]

    class Away:
        name = "away"

        def send(self, event):
            if away:
                raise NotDelivered("not now")
            taken.append(event["text"])

        def close(self):
            pass

    sender = Delivery(Away(), log.path, 4, 0, said.append)
    sender.start()
    time.sleep(0.3)
    for number in range(2, 12):
        log.add("drift", text=f"event {number}", since="")
    time.sleep(0.5)
    away.clear()
    assert sender.drain(5)
    sender.stop()
    assert taken == [f"event {number}" for number in range(8, 12)] and sender.given_up == 8


def test_a_receiver_that_is_new_gets_what_comes_from_then_on(tmp_path, server):
    log = log_with(tmp_path, 3)
    sender = Delivery(Webhook(server.url), log.path, 100, log.end, str)
    log.add("drift", text="new", since="")
    sender.start()
    assert sender.drain(5)
    sender.stop()
    assert [event["text"] for event in server.events] == ["new"]


def test_a_kill_between_receipt_and_note_sends_the_same_id_again(tmp_path, server, monkeypatch):
    log = log_with(tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "_note", lambda self: None)
        first = Delivery(Webhook(server.url), log.path, 100, 0, str)
        first.start()
        assert first.drain(5)
        first.stop()
    again = Delivery(Webhook(server.url), log.path, 100, 0, str)
    again.start()
    assert again.drain(5)
    again.stop()
    ids = [event["id"] for event in server.events]
    assert len(ids) == 4 and ids[:2] == ids[2:]


def test_killed_watches_deliver_every_event(tmp_path):
    """The command in processes of its own, killed; what was judged before the last kill reaches the server too."""
    server = Server()
    model, inbox, out = saved_detector(tmp_path / "model"), tmp_path / "inbox", tmp_path / "out"
    for round_ in range(3):
        draw(inbox, [f"{round_}-{number}.png" for number in range(8)], first=20 * round_)
        process = start(model, inbox, out, "--webhook", server.url)
        for _ in range(5):
            process.stdout.readline()
        process.kill()
        process.wait()
    assert start(model, inbox, out, "--once", "--webhook", server.url).wait(timeout=60) == 0
    photos = {event["sha256"] for event in server.events if event["kind"] == "photo"}
    assert photos == {entry["sha256"] for entry in entries(out)} and len(photos) == 24
    assert len({event["id"] for event in server.events}) >= 24
    server.close()


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "host", "http://", "http://host:99999/", "http://[::1", "http://me:pw@host/"]
)
def test_addresses_that_cannot_be_are_refused(url):
    with pytest.raises(ConfigError, match="webhook"):
        check_url("webhook", url, ("https", "http"))


# MQTT -----------------------------------------------------------------------------------------------------------------


@contextmanager
def broker(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A mosquitto of its own that keeps what it holds for a client that is away."""
    folder.mkdir(exist_ok=True)
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
        + ("user root\n" if os.geteuid() == 0 else "")  # else it gives its rights to this folder up
    )
    process = subprocess.Popen(
        [MOSQUITTO, "-c", folder / "mosquitto.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def subscriber(port: int, topic: str) -> Iterator[list[dict[str, Any]]]:
    """The messages that a client of paho's own gets, as they come."""
    from paho.mqtt import client

    messages: list[dict[str, Any]] = []
    ready = threading.Event()
    reader = client.Client(client.CallbackAPIVersion.VERSION2, client_id="line-control", clean_session=False)
    reader.on_message = lambda *got: messages.append(json.loads(got[2].payload))
    reader.on_subscribe = lambda *_: ready.set()
    reader.on_connect = lambda *_: reader.subscribe(topic, qos=1)
    reader.connect("127.0.0.1", port)
    reader.loop_start()
    assert ready.wait(10)
    try:
        yield messages
    finally:
        reader.disconnect()
        reader.loop_stop()


def wait_for(messages: list[Any], count: int) -> None:
    until = time.monotonic() + 10
    while len(messages) < count and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt-get install mosquitto")
def test_a_broker_gets_every_event(detector, tmp_path):
    pytest.importorskip("paho.mqtt.client", reason='needs paho-mqtt: pip install "promptad[mqtt]"')
    port = free_port()
    inbox = draw(tmp_path / "inbox", ["a.png", "b.png"])
    with broker(tmp_path / "broker", port), subscriber(port, "line/3") as messages:
        receiver = Mqtt(f"mqtt://127.0.0.1:{port}/line/3", "unused")
        assert watch(detector, inbox, tmp_path / "out", [receiver]).waiting == {}
        wait_for(messages, 3)
    assert [message["kind"] for message in messages] == ["begin", "photo", "photo"]
    assert [{k: v for k, v in message.items() if k != "id"} for message in messages[1:]] == entries(tmp_path / "out")


@pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt-get install mosquitto")
def test_a_broker_that_goes_and_comes_again_gets_all(tmp_path, monkeypatch):
    pytest.importorskip("paho.mqtt.client", reason='needs paho-mqtt: pip install "promptad[mqtt]"')
    monkeypatch.setattr("promptad.run.receivers.TIMEOUT", 1.0)
    port, said = free_port(), []
    log = log_with(tmp_path, 2)
    sender = Delivery(Mqtt(f"mqtt://127.0.0.1:{port}", "promptad/nut"), log.path, 100, 0, said.append)
    with broker(tmp_path / "broker", port), subscriber(port, "promptad/#") as messages:
        sender.start()
        assert sender.drain(10)
        wait_for(messages, 2)
    for number in range(2, 5):  # nobody is there
        log.add("drift", text=f"event {number}", since="")
    sender.wake()
    time.sleep(1.5)
    assert sender.waiting == 3 and "takes no events" in said[0]
    with broker(tmp_path / "broker", port), subscriber(port, "promptad/#") as later:
        assert sender.drain(20)
        wait_for(later, 3)
    sender.stop()
    texts = [message["text"] for message in messages + later]
    assert list(dict.fromkeys(texts)) == [f"event {number}" for number in range(5)]


def test_refused_is_a_kind_of_not_delivered():
    """Whoever waits for the one is told of the other."""
    assert issubclass(Refused, NotDelivered)

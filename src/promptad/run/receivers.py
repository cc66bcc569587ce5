"""Who takes events: a web server (HTTP POST) and an MQTT broker. Passwords come from the environment, never from options.

MQTT 3.1.1, section 4.3.2: with quality of service 1 a message arrives at least once.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from promptad.data.files import one_line
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.run.delivery import NotDelivered, Refused

TIMEOUT = 10.0
"""Seconds for one try."""

TOKEN, USER, PASSWORD = "PROMPTAD_WEBHOOK_TOKEN", "PROMPTAD_MQTT_USER", "PROMPTAD_MQTT_PASSWORD"
"""Variables of the environment: what a web server gets as `Authorization: Bearer ...`, and who promptad is for a broker."""

_REFUSALS = (400, 410, 413, 415, 422)
"""Answers about the event itself: a second try would get the same."""


def check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    """Raises ConfigError where an address cannot be one, or holds a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, good = None, False
    if not good:
        raise ConfigError(f"{argument(name)} {url!r}: is no address such as {schemes[0]}://host/name")
    if parts is not None and parts.password is not None:
        raise ConfigError(
            f"{argument(name)}: holds a password, which would stand in logs; give it in the environment "
            f"({TOKEN if name == 'webhook' else f'{USER}, {PASSWORD}'})"
        )


class Webhook:
    """A web server that gets each event as JSON with POST, its id in the header `Idempotency-Key` too."""

    def __init__(self, url: str) -> None:
        self.name = self.url = url

    def send(self, event: dict[str, Any]) -> None:
        """Any answer of 200 to 299 is a receipt. Raises NotDelivered, Refused."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": event["id"], "User-Agent": "promptad"}
        if token := os.environ.get(TOKEN):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url, json.dumps(event).encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            error.close()
            kind = Refused if error.code in _REFUSALS else NotDelivered
            raise kind(f"it answers {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise NotDelivered(
                one_line(error.reason) if isinstance(error.reason, BaseException) else error.reason
            ) from error
        except Exception as error:  # a broken answer is an HTTPException, a broken connection an OSError
            raise NotDelivered(one_line(error)) from error

    def close(self) -> None:
        """Nothing is kept open."""


class Mqtt:
    """An MQTT broker that gets each event as JSON under one topic, with quality of service 1.

    Raises:
        ConfigError: paho-mqtt is not installed.
    """

    def __init__(self, url: str, topic: str) -> None:
        try:
            from paho.mqtt import client
        except ImportError as error:
            raise ConfigError(f'{argument("mqtt")} needs paho-mqtt: pip install "promptad[mqtt]"') from error
        parts = urlsplit(url)
        self._mqtt: Any = client
        self._secure = parts.scheme == "mqtts"
        self._host, self._port = str(parts.hostname), parts.port or (8883 if self._secure else 1883)
        self.topic = parts.path.strip("/") or topic
        self.name = f"{parts.scheme}://{self._host}:{self._port}/{self.topic}"
        self._id = f"promptad-{secrets.token_hex(4)}"
        self._client: Any = None

    def send(self, event: dict[str, Any]) -> None:
        """Returns when the broker has acknowledged it. Raises NotDelivered."""
        try:
            if self._client is None:
                self._client = self._connected()
            sent = self._client.publish(self.topic, json.dumps(event), qos=1)
            sent.wait_for_publish(TIMEOUT)
            if not sent.is_published():
                raise NotDelivered("no receipt from the broker")
        except NotDelivered:
            self.close()
            raise
        except Exception as error:  # paho raises OSError, ValueError and RuntimeError
            self.close()  # what it may hold back would come twice
            raise NotDelivered(one_line(error)) from error

    def _connected(self) -> Any:
        client = self._mqtt.Client(self._mqtt.CallbackAPIVersion.VERSION2, client_id=self._id)
        if user := os.environ.get(USER):
            client.username_pw_set(user, os.environ.get(PASSWORD))
        if self._secure:
            client.tls_set()
        client.connect_timeout = TIMEOUT
        client.connect(self._host, self._port)
        client.loop_start()
        return client

    def close(self) -> None:
        """Ends the connection."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.disconnect()
                client.loop_stop()

"""Events on their way to other programs: each entry of the audit log, in order, at least once.

The audit log is the queue: a small file beside it remembers how far a receiver is. So nothing is lost when promptad is killed or
the receiver is away, nothing is written twice, and a receiver that is away delays no verdict. An event may come twice (killed
between its arrival and the note of it); its id, the digest of its entry, tells.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from promptad.data.files import one_line, write_atomic
from promptad.errors import DataError
from promptad.parsing import parsed_json
from promptad.report.audit import Line, audit_lines

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before an event is tried again: doubled from try to try."""


class NotDelivered(Exception):
    """The receiver could not be reached or asks for another try; one line that says why."""


class Refused(NotDelivered):
    """The receiver will never take this event."""


class Receiver(Protocol):
    """What takes events.

    Attributes:
        name: for lines that people read, without passwords.
    """

    name: str

    def send(self, event: dict[str, Any]) -> None:
        """Hands one event over; returns when the receiver has it. Raises NotDelivered, Refused."""

    def close(self) -> None:
        """Lets the connection go."""


class Delivery(threading.Thread):
    """Sends the entries of an audit log to a receiver.

    Args:
        receiver: takes them. log: exists. most: events that may wait; of more, the oldest are given up, with a line.
        begin: bytes of the log; of a receiver that is new in this folder, entries before that are not its own.
        said: called with one line about what happens, from this thread.
    """

    def __init__(self, receiver: Receiver, log: Path, most: int, begin: int, said: Callable[[str], None]) -> None:
        super().__init__(name=f"delivery to {receiver.name}", daemon=True)
        self.receiver, self.log, self.most, self.said = receiver, log, most, said
        key = hashlib.sha256(receiver.name.encode()).hexdigest()[:12]
        self._path = log.parent / f".promptad.sent-{key}.json"
        self._wake, self._stopping, self._drained = threading.Event(), threading.Event(), threading.Event()
        self.sent = self.given_up = 0
        self._away = False
        self._end = self._read(begin)

    @property
    def waiting(self) -> int:
        """Events that are not delivered."""
        return sum(1 for _ in audit_lines(self.log, self._end))

    def wake(self) -> None:
        """There is a new entry."""
        self._drained.clear()
        self._wake.set()

    def drain(self, seconds: float) -> bool:
        """Waits until nothing waits any more; whether it came to that."""
        self.wake()
        return self._drained.wait(seconds)

    def stop(self) -> None:
        """Ends the thread; what waits is sent by the next run in this folder."""
        self._stopping.set()
        self._wake.set()
        if self.is_alive():
            self.join(15)
        self.receiver.close()

    def run(self) -> None:
        """Sends until it is stopped."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._send_waiting()
            except DataError as error:  # the disk is away; the entries are on it
                self._say_away(str(error))
                self._stopping.wait(FIRST_WAIT)
                continue
            if not self._wake.is_set():
                self._drained.set()
                self._wake.wait(5)

    def _send_waiting(self) -> None:
        for number, line in enumerate(audit_lines(self.log, self._end)):
            if number == 0:
                self._give_up_oldest()
            if self._stopping.is_set():
                return
            if line.end <= self._end:  # given up
                continue
            if line.values and not self._sent(line):
                return
            self._end = max(self._end, line.end)  # beyond it where events were given up meanwhile
            self._note()

    def _sent(self, line: Line) -> bool:
        """Tries until the receiver has it; False when it is time to stop."""
        wait = FIRST_WAIT
        while True:
            try:
                self.receiver.send({"id": line.digest, **line.values})
                self.sent += 1
                if self._away:
                    self._away = False
                    self.said(f"{self.receiver.name}: is there again; events that waited are sent")
                return True
            except Refused as error:
                self.given_up += 1
                self.said(
                    f"{self.receiver.name}: refuses entry {line.values['entry']} of the audit log for good ({error})"
                )
                return True
            except NotDelivered as error:
                self._say_away(str(error))
            if self._stopping.wait(wait):
                return False
            wait = min(2 * wait, LONGEST_WAIT)
            if wait == LONGEST_WAIT and self._give_up_oldest() and line.end <= self._end:
                return True

    def _give_up_oldest(self) -> bool:
        """Passes over events beyond those that may wait."""
        excess = self.waiting - self.most
        if excess <= 0:
            return False
        self._end = next(islice(audit_lines(self.log, self._end), excess - 1, None)).end
        self.given_up += excess
        self.said(
            f"{self.receiver.name}: {excess} events waited beyond the {self.most} that may and are given up, the oldest "
            "first; the audit log has them"
        )
        self._note()
        return True

    def _say_away(self, reason: str) -> None:
        if not self._away:
            self._away = True
            self.said(f"{self.receiver.name}: takes no events ({reason}); they wait, and photos are judged meanwhile")

    def _read(self, begin: int) -> int:
        try:
            return int(parsed_json(self._path.read_text())["end"])
        except FileNotFoundError:
            self._end = begin
            self._note()
            return begin
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.said(
                f"{self._path.name}: cannot be read ({one_line(error)}); all events of the audit log are sent again"
            )
            return 0

    def _note(self) -> None:
        """A note that cannot be written (a full disk) leads to an event that comes twice, which is allowed."""
        try:
            write_atomic(self._path, json.dumps({"receiver": self.receiver.name, "end": self._end}))
        except DataError as error:
            self._say_away(str(error))

"""A folder watched: every photo that comes is judged once, and stays judged whatever happens to the process or the disk.

What is written about a photo, in this order: its files and its place among NG and OK (done once more, they are as before), its line
in `results.jsonl`, its row in `results.csv`, its entry in the audit log. A photo is judged when its entry stands. A watch that
was killed in between finds the last line of `results.jsonl` without an entry and writes what is missing from it.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from promptad.data.files import one_line, prepare_folder, sha256_file, shown
from promptad.data.whole_lines import last_line
from promptad.detector import Detector
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.report.audit import NAME as AUDIT
from promptad.report.audit import AuditLog
from promptad.report.log import encoded, last_result, open_results, run_key
from promptad.report.rows import Row, RowVerdict
from promptad.report.table import open_table, table_line
from promptad.run.arrivals import Arrival, Inbox
from promptad.run.delivery import Delivery, Receiver
from promptad.run.drifting import StreamDrift
from promptad.run.inspection import sweep
from promptad.run.judged import Judged
from promptad.run.judging import Files, HeatmapKind, MapKind, judge, learned_contents
from promptad.run.naming import picture_name, relative_path
from promptad.run.remarks import UNWRITTEN, region_remark, remarks_of
from promptad.run.sorting import Altered, Sort, sort_photo

LAST_CHANCE = 10.0
"""Seconds that receivers get for what waits when a watch ends."""

T = TypeVar("T")
_FULL = (errno.ENOSPC, errno.EDQUOT)

MOST_RESERVED = 64 << 20
"""Bytes of the disk that stay free: below that, or a twentieth of a small disk, a watch waits."""


@dataclass(frozen=True)
class WatchPlan:
    """How a folder is watched.

    Attributes:
        inbox: the folder that photos come to. folder: of the results, locked by the caller.
        heatmaps, maps, sort: what is written about a photo. every: seconds between two looks. settle, patience: see `run.arrivals`.
        once: end when everything that is there is judged. queue: events that may wait for a receiver.
    """

    inbox: Path
    folder: Path
    heatmaps: HeatmapKind = "jpg"
    maps: MapKind = "none"
    sort: Sort = "none"
    every: float = 1.0
    settle: float = 1.0
    patience: float = 30.0
    once: bool = False
    queue: int = 100_000


@dataclass
class Watched:
    """What a watch did.

    Attributes:
        counts: photos by verdict. repeats: files whose content was judged already. before: photos that earlier watches judged here.
        interrupted: ended by Ctrl-C. waiting: events that are not delivered, by receiver.
        changes: sentences about drift (`calibration.drift`).
    """

    counts: dict[RowVerdict, int] = field(default_factory=dict)
    repeats: int = 0
    before: int = 0
    interrupted: bool = False
    waiting: dict[str, int] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)


class Watch:
    """A watch of one folder.

    Args:
        detector: judges. digest: SHA-256 of its file, for the audit log. receivers: get every entry of that log.
        said: called with a line about what happens (a full disk, a folder that is away), also from other threads.
        judged: called with the row of each photo when it is on disk.

    Raises:
        ConfigError: photos cannot be sorted without a threshold. DataError: the folders cannot be used, or hold other files.
    """

    def __init__(
        self,
        detector: Detector,
        digest: str,
        plan: WatchPlan,
        receivers: Sequence[Receiver] = (),
        *,
        said: Callable[[str], None] = notice,
        judged: Callable[[Row], None] | None = None,
    ) -> None:
        if plan.sort != "none" and detector.calibration is None:
            raise ConfigError(
                f"{argument('sort', plan.sort)}: the detector has no threshold, so no photo is NG or OK; give one ({argument('threshold')})"
            )
        prepare_folder(plan.folder)
        sweep(plan.folder)
        self.detector, self.digest, self.plan, self.said = detector, digest, plan, said
        self.key = run_key(detector.identity())
        self.report = Watched()
        self._judged_line = judged
        self._stopping = threading.Event()
        self._away: set[str] = set()
        self._reserve = min(MOST_RESERVED, shutil.disk_usage(plan.folder).total // 20)
        self._learned, self._entered = learned_contents(detector), ""
        try:
            self.audit = AuditLog(plan.folder / AUDIT)
            self.index = Judged(plan.folder, self.audit.path)
            self._drift = StreamDrift(detector, digest, self.audit.path)
            self._unsaid = self._drift.unsaid
            self._log, self._table = (
                open_results(plan.folder / "results.jsonl"),
                open_table(plan.folder / "results.csv"),
            )
        except OSError as error:
            raise DataError(f"{shown(plan.folder)}: cannot be written ({one_line(error)}); check the disk") from error
        self.report.before = len(self.index)
        self._inbox = Inbox(plan.inbox, plan.folder, self.index, plan.settle, plan.patience)
        begin = self.audit.end
        self._deliveries = [Delivery(each, self.audit.path, plan.queue, begin, said) for each in receivers]

    def stop(self) -> None:
        """Ends the watch after the photo that it is at; from another thread or a handler of signals."""
        self._stopping.set()

    def run(self) -> Watched:
        """Watches until everything is judged (`once`), or until it is stopped (Ctrl-C is caught)."""
        for delivery in self._deliveries:
            delivery.start()
        try:
            self._until(self._begin, "the results")
            self._until(self._say_changes, "the results")
            self._finish_last()
            while not self._stopping.is_set():
                if self._round() and self.plan.once:
                    break
                self._stopping.wait(self.plan.every)
        except KeyboardInterrupt:
            self.report.interrupted = True
        finally:
            self._end()
        return self.report

    def _round(self) -> bool:
        """One look at the inbox, and the photos that are whole; whether nothing is left to wait for."""
        try:
            arrivals = self._inbox.look()
            self._back("inbox", f"{shown(self.plan.inbox)}: can be read again")
        except OSError as error:
            self._say_away(
                "inbox",
                f"{shown(self.plan.inbox)}: cannot be read ({one_line(error)}); waiting for it, nothing is lost",
            )
            return False
        for name, line in self._inbox.unread.items():
            self._say_away(f"unread {name}", line)
        for arrival in arrivals:
            if self._stopping.is_set():
                return False
            with suppress(Altered):
                self._handle(arrival)
        return self._inbox.waiting == 0

    def _handle(self, arrival: Arrival) -> None:
        """Judges a file unless its content is judged, or it is not whole yet after all."""
        try:
            sha256 = sha256_file(arrival.path)
            if not arrival.patient and arrival.ends_in_zeros():
                return
        except (DataError, OSError):  # gone, or its drive is away: it is looked at again
            return
        if sha256 in self.index:
            self.report.repeats += 1
            self._until(lambda: self._inbox.settled(arrival), "the results")
            return
        row = self._until(lambda: self._row(arrival, sha256), "the results")
        if row.verdict == "failed" and not arrival.patient:
            return
        self._until(lambda: self._sort(arrival, sha256, row.verdict), "the results")
        self._until(lambda: self._log.add(encoded(row)), "the results")
        self._until(lambda: self._record(row), "the results")
        self._until(lambda: self._inbox.settled(arrival), "the results")

    def _row(self, arrival: Arrival, sha256: str) -> Row:
        """The row of a photo, its files written. Raises OSError where the disk has no room for them."""
        free = shutil.disk_usage(self.plan.folder).free
        if free < self._reserve:
            raise OSError(f"only {free >> 20} MiB are free")
        root = relative_path(self.plan.inbox, self.plan.folder)
        known: dict[str, Any] = {"photo": arrival.place, "root": root, "run": self.key, "sha256": sha256}
        name = picture_name(arrival.place, sha256)
        files = Files(self.plan.folder, self.plan.heatmaps, self.plan.maps, name)
        row = judge(self.detector, arrival.path, files, known, pictured=lambda score: False)
        for remark in row.remarks:
            if remark.startswith(UNWRITTEN) and any(os.strerror(number) in remark for number in _FULL):
                raise OSError(remark)
        learned = row.score is not None and sha256 in self._learned
        said = (*remarks_of(row.size, self.detector.good_sizes, learned=learned), *region_remark(row))
        return replace(row, remarks=(*said, *row.remarks))

    def _sort(self, arrival: Arrival, sha256: str, verdict: RowVerdict) -> None:
        """Raises Altered where the file is not what was judged any more, or is gone."""
        if not arrival.is_unchanged():
            if not arrival.path.exists() and self.plan.inbox.exists():
                self.said(
                    f"{shown(arrival.path)}: went away while it was judged; leave photos there until their verdict is written"
                )
            raise Altered
        sort_photo(arrival.path, sha256, verdict, self.plan.folder, self.plan.sort)

    def _record(self, row: Row) -> None:
        """What follows from a row in `results.jsonl`: the table, and the entry of the audit log, which makes it judged."""
        line = table_line(row)
        if last_line(self._table.path) != line:
            self._table.add(line)
        assert row.sha256 is not None
        if row.sha256 not in self.index and row.sha256 != self._entered:
            entry = self.audit.add(
                "photo",
                photo=row.photo,
                sha256=row.sha256,
                detector=self.digest,
                score=row.score,
                threshold=row.threshold,
                verdict=row.verdict,
                error=row.error,
                camera=row.camera,
            )
            self._entered = row.sha256
            self._unsaid += self._drift.add(entry)
            self.report.counts[row.verdict] = self.report.counts.get(row.verdict, 0) + 1
            self._wake()
            if self._judged_line is not None:
                self._judged_line(row)
        self._say_changes()
        self._drift.keep(self.audit.end)
        self.index.add(row.sha256, self.audit.end, self.audit.entries)

    def _say_changes(self) -> None:
        """Entries and lines of changes that were noticed."""
        while self._unsaid:
            text = self._unsaid[0].text
            self.audit.add("drift", text=text, since=self._unsaid[0].since)
            del self._unsaid[0]
            self.report.changes.append(text)
            self._wake()
            self.said(text)

    def _begin(self) -> None:
        calibration, detector = self.detector.calibration, self.detector
        self.audit.add(
            "begin",
            detector=self.digest,
            run=self.key,
            object=detector.object,
            method=f"{detector.entry.title}, preset {detector.preset}",
            threshold=calibration.threshold if calibration else None,
        )
        self._wake()

    def _finish_last(self) -> None:
        """What an earlier watch did not come to: the row that stands last in the log without an entry."""
        row = last_result(self.plan.folder / "results.jsonl")
        if row is not None and row.run == self.key and row.sha256 is not None and row.sha256 not in self.index:
            self._until(lambda: self._record(row), "the results")

    def _until(self, step: Callable[[], T], what: str) -> T:
        """Does a step of writing; where the disk refuses, says so and tries again until it is done.

        Raises:
            KeyboardInterrupt: it is to end meanwhile.
        """
        while True:
            try:
                done = step()
            except OSError as error:
                self._say_away(
                    what,
                    f"{shown(self.plan.folder)}: {what} cannot be written ({one_line(error)}); waiting for room, nothing is lost",
                )
                if self._stopping.wait(max(self.plan.every, 0.2)):
                    raise KeyboardInterrupt from error
                continue
            self._back(what, f"{shown(self.plan.folder)}: {what} can be written again")
            return done

    def _say_away(self, what: str, line: str) -> None:
        if what not in self._away:
            self._away.add(what)
            self.said(line)

    def _back(self, what: str, line: str) -> None:
        if what in self._away:
            self._away.remove(what)
            self.said(line)

    def _wake(self) -> None:
        for delivery in self._deliveries:
            delivery.wake()

    def _end(self) -> None:
        """Gives receivers a last chance, and closes everything."""
        until = time.monotonic() + LAST_CHANCE
        for delivery in self._deliveries:
            if delivery.is_alive():
                delivery.drain(max(0.0, until - time.monotonic()))
        for delivery in self._deliveries:
            delivery.stop()
            if waiting := delivery.waiting:
                self.report.waiting[delivery.receiver.name] = waiting
        if not self._unsaid:  # else the next watch finds them once more
            self._drift.keep(self.audit.end, now=True)
        for file in (self._log, self._table, self.audit, self.index):
            file.close()

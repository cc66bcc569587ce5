"""Photos of a folder as they arrive, each when it is whole.

A folder on a network drive tells nobody of new files, so the folder is gone through again and again. A file counts as whole when

* its name is a photo's and not hidden: who writes under another name first (`photo.jpg.part`, `.photo.jpg.Xy12`) and renames is safe;
* its size and time of change were the same in two looks, `settle` seconds apart;
* it decodes to its last pixel (`data.complete`), and does not end in zeros, as a file does whose room was set aside before it was
  written. A file that fails in this is looked at again, and is said to have failed when it has not changed for `patience` seconds.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from promptad.data.files import one_line, shown
from promptad.data.folder import is_litter, is_photo_name, reason_not_read
from promptad.run.judged import Judged

MOST_WAITING = 4096
"""Files that are waited for at a time; the others have their turn when these are judged, so memory stays the same."""

MOST_AT_ONCE = 64
"""Files that are handed over before the folder is looked at again."""

_TAIL = 512


@dataclass(frozen=True)
class Arrival:
    """A file that seems whole.

    Attributes:
        path: where it lies. place: the same below the inbox, with forward slashes. size, changed: bytes, and nanoseconds of its time of change.
        patient: whether it has been waited for as long as for any file, so that what is wrong with it now is said.
    """

    path: Path
    place: str
    size: int
    changed: int
    patient: bool

    def is_unchanged(self) -> bool:
        """Whether the file still is what it was."""
        try:
            info = self.path.stat()
        except OSError:
            return False
        return (info.st_size, info.st_mtime_ns) == (self.size, self.changed)

    def ends_in_zeros(self) -> bool:
        """Whether its last bytes are zeros, as those of a file that is still being filled. Raises OSError."""
        with open(self.path, "rb") as file:
            file.seek(max(0, self.size - _TAIL))
            return not any(file.read(_TAIL))


class Inbox:
    """A folder to which photos come.

    Args:
        folder: searched to the bottom; what is in `without`, the folder of the results, is no photo to judge.
        judged: knows the files that need no second look. settle, patience: seconds, see the head of this module.
    """

    def __init__(self, folder: Path, without: Path, judged: Judged, settle: float, patience: float) -> None:
        self.folder, self.judged, self.settle, self.patience = folder, judged, settle, patience
        self._without = os.path.realpath(without)
        self._waiting: dict[str, tuple[int, int, float]] = {}  # place -> size, time of change, since when so
        self.more = False  # whether files had to be left for a later look
        self.unread: dict[
            str, str
        ] = {}  # what is a photo and cannot be read, or a folder: why, each said once by the caller

    @property
    def waiting(self) -> int:
        """How many files are waited for, or were left for a later look."""
        return len(self._waiting) + self.more

    def look(self) -> list[Arrival]:
        """Goes through the folder and gives files that seem whole now, the longest unchanged first.

        Raises:
            OSError: the folder cannot be read, as when its drive is away.
        """
        self.judged.begin_look()
        self._entered: set[tuple[int, int]] = set()
        self._whole = True
        now, there, ready = time.monotonic(), set[str](), list[Arrival]()
        self.more = False
        for place, path, info in self._files(self.folder, "", os.stat(self.folder)):
            size, changed = info.st_size, info.st_mtime_ns
            if self.judged.knows(place, size, changed):
                self._waiting.pop(place, None)
                continue
            known = self._waiting.get(place)
            if known is None and len(self._waiting) >= MOST_WAITING:
                self.more = True
                continue
            there.add(place)
            if known is None or known[:2] != (size, changed):
                self._waiting[place] = (size, changed, now)
                known = self._waiting[place]
            if now - known[2] >= self.settle:
                ready.append(Arrival(path, place, size, changed, now - known[2] >= self.settle + self.patience))
        for place in self._waiting.keys() - there:
            del self._waiting[place]
        if self._whole:
            self.judged.end_look()
        ready.sort(key=lambda arrival: (arrival.changed, arrival.place))
        # The patient ones last: a file that cannot be read must not stand before those that can.
        return sorted(ready, key=lambda arrival: arrival.patient)

    def settled(self, arrival: Arrival) -> None:
        """The file is judged, or needs no judgement. Raises OSError: it cannot be noted."""
        self.judged.note_file(arrival.place, arrival.size, arrival.changed)
        self._waiting.pop(arrival.place, None)

    def _files(self, folder: Path, below: str, of: os.stat_result) -> Iterator[tuple[str, Path, os.stat_result]]:
        if (of.st_dev, of.st_ino) in self._entered:  # a link back to a folder that was gone through
            return
        self._entered.add((of.st_dev, of.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_litter(entry.name):
                    continue
                path, place = folder / entry.name, f"{below}{entry.name}"
                try:
                    info = entry.stat()
                except OSError:  # gone, or a link to nowhere yet
                    continue
                if stat.S_ISDIR(info.st_mode):
                    yield from self._inside(path, place, info)
                elif not stat.S_ISREG(info.st_mode):
                    continue
                elif is_photo_name(path) and info.st_size:
                    yield place, path, info
                elif (reason := reason_not_read(path)) is not None:
                    self.unread.setdefault(path.suffix.lower(), f"{shown(path)}: {reason}")

    def _inside(self, folder: Path, place: str, info: os.stat_result) -> Iterator[tuple[str, Path, os.stat_result]]:
        """A folder below the inbox; one that cannot be read keeps nothing else from being judged."""
        if os.path.realpath(folder) == self._without:
            return
        try:
            yield from self._files(folder, f"{place}/", info)
        except OSError as error:
            self._whole = False
            self.unread.setdefault(place, f"{shown(folder)}: cannot be read ({one_line(error)}); check its rights")

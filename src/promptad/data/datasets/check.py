"""A data set looked through: what it is, what is in it, what was left out and why, and what cannot be read."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promptad.data.datasets import DataSet, open_dataset
from promptad.data.datasets.facts import counted
from promptad.data.files import shown
from promptad.data.parts import PhotoRef
from promptad.data.photos import photo_size, read_mask, read_photo
from promptad.data.records import Record
from promptad.errors import PhotoError
from promptad.notices import PromptadNotice, collected_notices
from promptad.steps import Progress

_SHOWN_CLASSES = 40
_SHOWN_DIFFERENCES = 20


@dataclass(frozen=True)
class MaskCounts:
    """Masks of anomalous photos, and how many of them mark nothing."""

    anomalous: int
    masked: int
    empty: int


@dataclass(frozen=True)
class Checked:
    """What :func:`check_dataset` found.

    Attributes:
        data: the set. notes: every line that was said while it was read: what is left out, assumed, doubtful.
        sizes: (width, height) -> photo files; parts: the same of parts of files. masks: see :class:`MaskCounts`.
        unreadable: a line for each photo or mask that cannot be read. whole: whether photos were decoded, not only opened.
    """

    data: DataSet
    notes: tuple[str, ...]
    sizes: Counter[tuple[int, int]]
    parts: Counter[tuple[int, int]]
    masks: MaskCounts
    unreadable: tuple[str, ...]
    whole: bool

    def lines(self) -> list[str]:
        """All of it but `unreadable` as lines for people."""
        facts = self.data.facts
        evidence = f" ({self.data.evidence})" if self.data.evidence else " (asked for)"
        lines = [f"layout     {self.data.layout}{evidence}"]
        if facts is not None:
            lines.append(f"set        {facts.title}; had from: {facts.where}")
            lines.append(f"licence    {facts.stated_licence}")
        else:
            lines.append("set        none of the public sets that are known here, so no licence is known")
        lines += _table(self.data.records)
        lines += self._comparison()
        lines.append(f"photos     {_sizes(self.sizes)}{'' if self.whole else ', by their headers'}")
        if self.parts:
            lines.append(f"parts      {_sizes(self.parts)}")
        lines.append(self._masks())
        lines += [f"note       {note}" for note in self.notes]
        return lines

    def _comparison(self) -> list[str]:
        facts, layout = self.data.facts, self.data.layout
        if facts is None or not facts.counts.get(layout):
            return []
        differences = self.data.differences
        if not differences:
            return [f"numbers    those of {facts.title}"]
        more = len(differences) - _SHOWN_DIFFERENCES
        rest = [f"           and {more} more"] if more > 0 else []
        first = f"numbers    not those of the whole {facts.title}:"
        return [first, *(f"           {line}" for line in differences[:_SHOWN_DIFFERENCES]), *rest]

    def _masks(self) -> str:
        masks = self.masks
        if not masks.masked:
            return "masks      none, so there are no pixel metrics"
        empty = f", {masks.empty} of them empty" if masks.empty else ""
        return f"masks      {masks.masked} of {masks.anomalous} anomalous photos have one{empty}"


def check_dataset(
    path: Path,
    layout: str = "auto",
    normal: Sequence[str] = (),
    *,
    whole: bool = False,
    progress: Progress | None = None,
) -> Checked:
    """Reads a data set, and opens every photo and mask of it; masks are decoded.

    Args:
        path, layout, normal: as :func:`~promptad.data.datasets.open_dataset`. whole: also decode every photo.
        progress: called with photos done and in all.

    Raises:
        DataError, ConfigError: as :func:`~promptad.data.datasets.open_dataset`.
    """
    with collected_notices() as notes, warnings.catch_warnings():
        # They are the result.
        warnings.simplefilter("ignore", PromptadNotice)
        data = open_dataset(path, layout, normal, compare=False)
        looked = _Looked(whole)
        for done, record in enumerate(data.records, 1):
            looked.at(record)
            if progress is not None:
                progress(done, len(data.records))
        unreadable = dict.fromkeys(looked.unreadable)
        return Checked(data, tuple(notes), looked.sizes, looked.parts, looked.masks, tuple(unreadable), whole)


class _Looked:
    """Photos and masks, each looked at once."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.parts: Counter[tuple[int, int]] = Counter()
        self.unreadable: list[str] = []
        self._anomalous = self._masked = self._empty = 0
        self._files: dict[Path, tuple[int, int] | None] = {}

    @property
    def masks(self) -> MaskCounts:
        """Masks so far."""
        return MaskCounts(self._anomalous, self._masked, self._empty)

    def at(self, record: Record) -> None:
        """Opens a record's photo and reads its mask."""
        if record.path not in self._files:
            self._files[record.path] = size = self._size(record.path)
            if size is not None:
                self.sizes[size[::-1]] += 1
        size = self._files[record.path]
        if size is not None and record.crop is not None:
            size = self._size(record.photo, decode=False)
            if size is not None:
                self.parts[size[::-1]] += 1
        if record.label == 1:
            self._anomalous += 1
            self._mask(record, size)

    def _size(self, photo: PhotoRef, decode: bool = True) -> tuple[int, int] | None:
        try:
            if self.whole and decode:
                height, width = read_photo(photo).shape[:2]
                return height, width
            return photo_size(photo)
        except PhotoError as error:
            self.unreadable.append(str(error))
            return None

    def _mask(self, record: Record, size: tuple[int, int] | None) -> None:
        if not record.masks:
            return
        self._masked += 1
        try:
            self._empty += not read_mask(record.masks, size).any()
        except PhotoError as error:
            self.unreadable.append(str(error))


def _table(records: Sequence[Record]) -> list[str]:
    """Classes and splits: good, anomalous and unlabelled photos."""
    classes = counted(records)
    splits = list(dict.fromkeys(split for row in classes.values() for split in row))
    kinds: dict[str, Counter[str]] = {}
    for record in records:
        if record.label == 1:
            kinds.setdefault(record.class_name, Counter())[record.defect_type] += 1
    lines = [f"classes    {len(classes)}, {len(records)} photos"]
    for name, row in list(classes.items())[:_SHOWN_CLASSES]:
        parts = [f"{split} {_numbers(row[split])}" for split in splits if split in row]
        lines.append(f"           {shown(name) or '(no name)'}: {'; '.join(parts)}{_kinds(kinds.get(name))}")
    if len(classes) > _SHOWN_CLASSES:
        lines.append(f"           and {len(classes) - _SHOWN_CLASSES} more")
    return lines


def _numbers(numbers: tuple[int, ...]) -> str:
    words = zip(numbers, ("good", "anomalous", "without label"), strict=True)
    return " + ".join(f"{number} {word}" for number, word in words if number) or "none"


def _kinds(kinds: Counter[str] | None) -> str:
    if kinds is None or len(kinds) < 2:
        return ""
    most = [f"{shown(kind)} {number}" for kind, number in kinds.most_common(8)]
    return f" ({', '.join(most)}{f', {len(kinds) - 8} more kinds' if len(kinds) > 8 else ''})"


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    total = sum(sizes.values())
    files = "1 file" if total == 1 else f"{total} files"
    if len(sizes) == 1:
        [(width, height)] = sizes
        return f"{files} of {width}x{height}"
    if not sizes:
        return "none can be opened"
    widths, heights = zip(*sizes, strict=True)
    return (
        f"{files} in {len(sizes)} sizes, {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high "
        f"(most: {'x'.join(map(str, sizes.most_common(1)[0][0]))})"
    )

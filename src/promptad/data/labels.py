"""What people say of photos: `labels.csv`, as the report page saves it, a line for each photo and person.

Columns: ``photo`` (path, as seen from the report), ``sha256`` (of the photo's content, by which it is known wherever it lies),
``label`` ("good", "defect" or "unsure"), ``box`` ("x,y,width,height" in photo pixels, several with blanks and ``;`` between),
``words`` (of the defect), ``when`` (ISO 8601) and ``who``. Only ``photo`` and ``label`` must be there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from promptad.data.files import one_line, sha256_file, shown, write_atomic
from promptad.data.folder import find_photos
from promptad.errors import DataError
from promptad.notices import notice

Verdict = Literal["good", "defect", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

COLUMNS: tuple[str, ...] = ("photo", "sha256", "label", "box", "words", "when", "who")
"""The columns of a written file, in this order."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Box(NamedTuple):
    """A rectangle in photo pixels: left and upper corner, width and height, all whole numbers, sides at least 1."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.width * self.height


@dataclass(frozen=True)
class Label:
    """What a person says of a photo.

    Attributes:
        photo: path as it was written. sha256: of the photo's content, 64 hexadecimal digits.
        label: "good", "defect" or "unsure". boxes: of the defects, () where none was drawn. words: of the defect.
        when: ISO 8601 with or without a time zone, "" where nobody wrote it. who: name of the person, or "".
    """

    photo: str
    sha256: str
    label: Verdict
    boxes: tuple[Box, ...] = ()
    words: str = ""
    when: str = ""
    who: str = ""


@dataclass(frozen=True)
class Settled:
    """Labels after each person's last word on each photo.

    Attributes:
        agreed: of each photo (by SHA-256) the newest label, where all who spoke of it agree; those who are unsure do not
            count against others.
        disputed: of each other photo the labels of all who spoke of it, oldest first.
    """

    agreed: Mapping[str, Label]
    disputed: Mapping[str, tuple[Label, ...]]

    def of(self, label: Verdict) -> list[Label]:
        """Those agreed labels that say so."""
        return [entry for entry in self.agreed.values() if entry.label == label]


def read_labels(path: Path | str) -> list[Label]:
    """The labels of a file, in its order. Commas or semicolons, with or without a byte order mark.

    A line without a content hash is about the photo at its path, as seen from the file's folder.

    Raises:
        DataError: no such file, no CSV with these columns, or a line that cannot be; it names the line and the way out.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{shown(path)}: cannot be read as a list of labels ({one_line(error)}); save it on the report page, or as CSV "
            "in UTF-8"
        ) from error
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        missing = [name for name in ("photo", "label") if name not in columns]
        if missing:
            raise DataError(
                f"{shown(path)}: has no column {missing[0]!r}; labels have the columns {', '.join(COLUMNS)}, of which photo "
                "and label must be there"
            )
        reader.fieldnames = columns
        if unknown := [name for name in columns if name not in COLUMNS]:
            notice(
                f"{shown(path)}: the column{'s' if len(unknown) > 1 else ''} {', '.join(unknown)} of the labels are not used"
            )
        return [_label(path, reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{shown(path)}: line {reader.line_num}: {one_line(error)}; save it as CSV again") from error


def _label(path: Path, line: int, cells: Mapping[str | None, str | list[str] | None]) -> Label:
    """One line of the file. Raises DataError."""
    place = f"{shown(path)}: line {line}"
    if None in cells:
        raise DataError(f"{place}: has more cells than there are columns; put texts with commas in quotes")
    known = {name: _plain(str(cells.get(name) or "")) for name in COLUMNS}
    label = known["label"].lower()
    if label not in VERDICTS:
        raise DataError(f"{place}: the label is {known['label']!r}; expected {', '.join(VERDICTS)}")
    digest = known["sha256"].lower()
    if digest and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise DataError(f"{place}: sha256 is {digest[:80]!r}; expected 64 hexadecimal digits, or an empty cell")
    if not digest:
        photo = path.parent / known["photo"]
        if not known["photo"] or not photo.is_file():
            raise DataError(
                f"{place}: has no sha256, and no photo lies at {shown(photo)}; give the path as seen from the file, or the hash"
            )
        digest = sha256_file(photo)
    boxes = _boxes(place, known["box"])
    if boxes and label != "defect":
        raise DataError(f"{place}: has a box, and the label is {label}; boxes are drawn around defects")
    _check_time(place, known["when"])
    return Label(known["photo"], digest, label, boxes, known["words"], known["when"], known["who"])


def _boxes(place: str, text: str) -> tuple[Box, ...]:
    try:
        boxes = [Box(*map(int, part.replace(",", " ").split())) for part in text.split(";") if part.strip()]
    except (TypeError, ValueError):
        boxes = [Box(0, 0, 0, 0)]
    if any(box.x < 0 or box.y < 0 or box.width < 1 or box.height < 1 for box in boxes):
        raise DataError(f"{place}: the box is {text[:80]!r}; expected x,y,width,height in pixels, such as 40,12,30,18")
    return tuple(boxes)


def _check_time(place: str, text: str) -> None:
    try:
        _ = datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise DataError(f"{place}: when is {text[:80]!r}; expected a date such as 2026-03-02T14:05:00+01:00") from error


def _plain(text: str) -> str:
    """A cell without the apostrophe that keeps spreadsheets from running it."""
    return (text[1:] if text[:1] == "'" and text[1:2] in _FORMULA else text).strip()


def write_labels(path: Path | str, labels: Iterable[Label]) -> None:
    """Writes labels as :func:`read_labels` reads them, complete or not at all: UTF-8 with a byte order mark, commas.

    Raises:
        DataError: the file cannot be written.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for entry in labels:
        box = "; ".join(",".join(map(str, box)) for box in entry.boxes)
        cells = (entry.photo, entry.sha256, entry.label, box, entry.words, entry.when, entry.who)
        writer.writerow(["'" + cell if cell[:1] in _FORMULA else cell for cell in cells])
    write_atomic(path, b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8", "backslashreplace"))


def settle(labels: Iterable[Label]) -> Settled:
    """Each person's last word on each photo (the later in time, and where times are equal or missing the later line), joined.

    Photos come in the order in which they are first spoken of.
    """
    spoken: dict[str, dict[str, Label]] = {}
    for entry in labels:
        by_person = spoken.setdefault(entry.sha256, {})
        before = by_person.get(entry.who)
        if before is None or _moment(entry) >= _moment(before):
            by_person[entry.who] = entry
    agreed: dict[str, Label] = {}
    disputed: dict[str, tuple[Label, ...]] = {}
    for digest, by_person in spoken.items():
        ordered = sorted(by_person.values(), key=_moment)
        sure = [entry for entry in ordered if entry.label != "unsure"]
        if len({entry.label for entry in sure}) > 1:
            disputed[digest] = tuple(ordered)
        else:
            agreed[digest] = (sure or ordered)[-1]
    return Settled(agreed, disputed)


def _moment(label: Label) -> float:
    """Seconds since 1970; a time without a zone is that of this machine, a label without a time is the oldest."""
    return datetime.fromisoformat(label.when).timestamp() if label.when else float("-inf")


def photos_of(wanted: Mapping[str, Sequence[Path]], folders: Sequence[Path] = ()) -> tuple[dict[str, Path], list[str]]:
    """Where photos of known content lie now.

    Args:
        wanted: of each SHA-256 the places where the photo may lie, looked at first.
        folders: files and folders that are searched for the rest, by content.

    Returns:
        A file for each content that is there, and the SHA-256 of all that are not.

    Raises:
        DataError: one of `folders` is not there.
    """
    there: dict[str, Path] = {}
    for digest, places in wanted.items():
        for place in places:
            if digest not in there and place.is_file() and sha256_file(place) == digest:
                there[digest] = place
    if folders and len(there) < len(wanted):
        for path in find_photos(folders).photos:
            digest = sha256_file(path)
            if digest in wanted:
                there.setdefault(digest, path)
    return there, [digest for digest in wanted if digest not in there]

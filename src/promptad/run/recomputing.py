"""Verdicts recomputed: whether an audit log is whole, and whether its photos under its detector give what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptad.data.files import sha256_file, shown
from promptad.detector import Detector
from promptad.errors import DataError, PromptadError
from promptad.report.audit import Line, audit_lines
from promptad.steps import Progress

TOLERANCE = 1e-4
"""Share by which a score may differ on another machine: sums of a tower in another order differ by a hundredth of that."""

MOST_TOLD = 20
"""Faults that are kept with their words; all are counted."""


@dataclass(kw_only=True)
class Check:
    """What every check counts.

    Attributes:
        faults: what does not hold. told: the first of it in words.
        present: photos whose content is in the folders that were given; None without folders. recomputed: photos that were judged again.
    """

    faults: int = 0
    told: list[str] = field(default_factory=list)
    present: int | None = None
    recomputed: int = 0

    def fault(self, line: str) -> None:
        """Counts a fault."""
        self.faults += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(line)


@dataclass
class AuditCheck(Check):
    """What a check of an audit log showed.

    Attributes:
        photos, begins, drifts: entries by their kind. first, last: times. head: digest of the last line, to be kept elsewhere.
        others: photos that another detector judged. moved: those whose threshold is not the detector's own, so was given when the watch
            began. Faults are lines that do not fit into the chain, and photos that give another verdict or score.
    """

    photos: int = 0
    begins: int = 0
    drifts: int = 0
    first: str = ""
    last: str = ""
    head: str = ""
    others: int = 0
    moved: int = 0


def photos_by_content(
    photos: Iterable[Path], failed: Callable[[str], None], done: Callable[[], None]
) -> dict[str, Path]:
    """SHA-256 -> a photo of that content; `failed` is called with a line for each that cannot be read."""
    known: dict[str, Path] = {}
    for path in photos:
        try:
            known.setdefault(sha256_file(path), path)
        except DataError as error:
            failed(str(error))
        done()
    return known


def check_audit(
    path: Path,
    contents: Mapping[str, Path] | None = None,
    detector: Detector | None = None,
    digest: str = "",
    *,
    kept: str | None = None,
    progress: Progress | None = None,
) -> AuditCheck:
    """Goes through an audit log.

    Args:
        contents: photos by their SHA-256. detector: judges those again that it judged then; `digest`: SHA-256 of its file.
        kept: a digest that was kept elsewhere and must be in the log. progress: called with lines done and in all.

    Raises:
        DataError: it is no audit log, or cannot be read.
    """
    check = AuditCheck(present=None if contents is None else 0)
    with open(path, "rb") as file:
        total = max(0, sum(1 for _ in file) - 1)
    kept_there = kept is None
    for done, line in enumerate(audit_lines(path), start=1):
        if line.fault:
            check.fault(f"line {line.number}: {line.fault}")
        kept_there = kept_there or (line.digest == kept and not line.fault)
        if line.values:
            _count(check, line)
            if line.values["kind"] == "photo" and contents is not None:
                _photo(check, line, contents, detector, digest)
        if progress is not None:
            progress(done, total)
    if not kept_there:
        check.fault(
            f"the digest {str(kept)[:16]}... that was kept is not in the log: its end was cut off, or it was written anew"
        )
    return check


def _count(check: AuditCheck, line: Line) -> None:
    kind = line.values["kind"]
    check.photos += kind == "photo"
    check.begins += kind == "begin"
    check.drifts += kind == "drift"
    check.first, check.last, check.head = check.first or line.values["time"], line.values["time"], line.digest


def _photo(check: AuditCheck, line: Line, contents: Mapping[str, Path], detector: Detector | None, digest: str) -> None:
    """Whether a photo is there, and gives what its entry says."""
    values = line.values
    path = contents.get(values["sha256"])
    assert check.present is not None
    check.present += path is not None
    if detector is None:
        return
    if values["detector"] != digest:
        check.others += 1
        return
    if path is None:
        return
    check.recomputed += 1
    own = detector.calibration.threshold if detector.calibration else None
    check.moved += values["score"] is not None and values["threshold"] != own
    try:
        score: float | None = detector.predict(path, maps=False).score
    except PromptadError:
        score = None
    for fault in differences(values, score):
        check.fault(f"line {line.number}, {shown(values['photo'])}: {fault}")


def differences(entry: Mapping[str, Any], score: float | None) -> Sequence[str]:
    """In what an entry differs from a score that was computed again; None: the photo cannot be judged."""
    said, threshold = entry["score"], entry["threshold"]
    verdict = (
        "failed"
        if score is None
        else "no threshold"
        if threshold is None
        else "anomalous"
        if score > threshold
        else "normal"
    )
    faults = []
    if said is None or score is None:
        if said is not score:
            faults.append(f"the entry's score is {said}, {score} comes out")
    elif abs(score - said) > TOLERANCE * max(abs(said), 1e-3):
        faults.append(f"the entry's score is {said:.6g}, {score:.6g} comes out")
    # On the threshold itself, another machine's last digit may decide.
    near = None not in (said, score, threshold) and abs(said - threshold) <= TOLERANCE * max(abs(threshold), 1e-3)
    if verdict != entry["verdict"] and not near:
        faults.append(f"the entry says {entry['verdict']}, {verdict} comes out")
    return faults

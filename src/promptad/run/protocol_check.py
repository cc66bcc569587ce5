"""A protocol recomputed: whether its digests hold, its counts follow from its scores, and its scores from photos and detector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from promptad import __version__
from promptad.annotations import checked_value
from promptad.calibration.acceptance import Trial, accept
from promptad.calibration.trade_off import Costs
from promptad.data.files import one_line, shown
from promptad.detector import Detector
from promptad.errors import ConfigError, PromptadError
from promptad.report.protocol import Protocol, page_of, read_protocol
from promptad.run.recomputing import TOLERANCE, Check
from promptad.steps import Progress

_SAME = 1e-9
"""Share by which numbers that follow from the same scores may differ where another SciPy computes them."""


@dataclass
class ProtocolCheck(Check):
    """What a check of a protocol showed.

    Attributes:
        photos: that count. when, who: as it says. digest: of its data. page: whether the page could be compared with its data; it cannot where
            another version of promptad made it.
        largest: share by which their scores differ at most, of those that are no faults. doubtful: photos so near to the threshold that
            another machine may judge otherwise.
    """

    photos: int = 0
    when: str = ""
    who: str = ""
    digest: str = ""
    page: bool = True
    largest: float = 0.0
    doubtful: int = 0


def check_protocol(
    path: Path,
    contents: Mapping[str, Path] | None = None,
    detector: Detector | None = None,
    digest: str = "",
    *,
    kept: str | None = None,
    progress: Progress | None = None,
) -> ProtocolCheck:
    """Goes through a protocol.

    Args:
        contents: photos by their SHA-256. detector: judges them again; `digest`: SHA-256 of its file. kept: digest that was kept elsewhere.
        progress: called with photos done and in all.

    Raises:
        DataError: it is no protocol, or cannot be read.
    """
    protocol = read_protocol(path)
    values = protocol.values
    check = ProtocolCheck(len(values["photos"]), values["when"], values["who"], protocol.digest)
    if not protocol.data_hold:
        check.fault("its data are not what their digest was made of: a number or a word in them was altered")
    if not protocol.page_holds:
        check.fault("its page is not what its digest was made of: what it shows was altered")
    if kept is not None and kept != protocol.digest:
        check.fault(f"the digest {kept[:16]}... that was kept is not that of its data: it was written anew")
    try:
        trials = [_trial(number, photo) for number, photo in enumerate(values["photos"], start=1)]
        _counts(check, protocol, trials)
        _page(check, protocol)
    except (KeyError, TypeError, ValueError, ConfigError, ArithmeticError, PromptadError) as error:
        check.fault(f"its data do not fit together ({one_line(error)[:200]})")
        return check
    if contents is not None:
        _photos(check, trials, contents, values["results"]["threshold"], detector, progress)
    if detector is not None and digest != values["detector"].get("sha256"):
        check.fault(
            f"the detector is another one than the protocol's (SHA-256 {digest[:8]}, not {str(values['detector'].get('sha256'))[:8]})"
        )
    return check


_KINDS: dict[str, Any] = {
    "photo": str,
    "sha256": str,
    "defective": bool,
    "kind": str,
    "score": float,
    "area": int | None,
    "area_from": str | None,
}


def _trial(number: int, photo: Mapping[str, Any]) -> Trial:
    """A photo of the data. Raises ConfigError, TypeError."""
    known = {name: checked_value(f"photo {number}, {name}", kind, photo.get(name)) for name, kind in _KINDS.items()}
    if set(photo) != set(known):
        raise ValueError(f"photo {number} has the fields {', '.join(photo)}")
    return Trial(**known)


def _counts(check: ProtocolCheck, protocol: Protocol, trials: Sequence[Trial]) -> None:
    """Whether results follow from the scores."""
    if not trials:
        raise ValueError("no photos")
    said, costs = protocol.values["results"], protocol.values["results"]["costs"]
    if len({trial.sha256 for trial in trials}) < len(trials):
        check.fault("a photo is counted twice")
    result = accept(
        trials,
        checked_value("threshold", float, said["threshold"]),
        costs=Costs(**{name: checked_value(name, float, value) for name, value in costs.items()}) if costs else None,
        confidence=checked_value("confidence", float, said["confidence"]),
    )
    if said["threshold"] != protocol.values["detector"].get("threshold"):
        check.fault("the threshold is not that of its detector")
    for place, before, after in _differences("", said, result.to_dict()):
        check.fault(f"{place} is {_short(before)}, its photos give {_short(after)}")


def _differences(place: str, said: Any, computed: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two results differ by more than the last digits of numbers."""
    if isinstance(said, dict) and isinstance(computed, dict) and set(said) == set(computed):
        for name in said:
            yield from _differences(f"{place}.{name}" if place else name, said[name], computed[name])
    elif isinstance(said, list) and isinstance(computed, list | tuple) and len(said) == len(computed):
        for number, (a, b) in enumerate(zip(said, computed, strict=True), start=1):
            yield from _differences(f"{place} {number}", a, b)
    elif isinstance(said, float) and isinstance(computed, float | int):
        if not math.isclose(said, computed, rel_tol=_SAME, abs_tol=1e-12):
            yield place, said, computed
    elif said != computed:
        yield place, said, computed


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]


def _page(check: ProtocolCheck, protocol: Protocol) -> None:
    """Whether the page shows its data; told by the version that made it alone."""
    check.page = protocol.values["made_with"] == __version__
    comparable = check.page and protocol.page_holds and protocol.data_hold
    if comparable and page_of(protocol.values, protocol.digest, protocol.pictures) != protocol.page:
        check.fault("its page shows something else than its data, or another build of this version made it")


def _photos(
    check: ProtocolCheck,
    trials: Sequence[Trial],
    contents: Mapping[str, Path],
    threshold: float,
    detector: Detector | None,
    progress: Progress | None,
) -> None:
    """Whether photos are there, and give the scores that it says."""
    check.present = 0
    names: dict[str, list[tuple[str, ...]]] = {}
    for file in contents.values():
        names.setdefault(file.name, []).append(file.resolve().parts)
    for done, trial in enumerate(trials, start=1):
        path = contents.get(trial.sha256)
        if path is None:
            parts = PurePosixPath(trial.photo).parts
            if any(place[-len(parts) :] == parts for place in names.get(parts[-1] if parts else "", ())):
                check.fault(f"{shown(trial.photo)}: is there with another content than the one that was tested")
        else:
            check.present += 1
            if detector is not None:
                _score(check, trial, path, threshold, detector)
        if progress is not None:
            progress(done, len(trials))


def _score(check: ProtocolCheck, trial: Trial, path: Path, threshold: float, detector: Detector) -> None:
    """Whether a photo gives its score again, but for what another machine rounds otherwise."""
    check.recomputed += 1
    try:
        score = detector.predict(path, maps=False).score
    except PromptadError as error:
        check.fault(
            f"{shown(trial.photo)}: the score is {trial.score:.6g}, and it cannot be judged now ({one_line(error)[:100]})"
        )
        return
    apart = abs(score - trial.score) / max(abs(trial.score), 1e-3)
    if apart > TOLERANCE:
        check.fault(f"{shown(trial.photo)}: the score is {trial.score:.6g}, {score:.6g} comes out")
        return
    check.largest = max(check.largest, apart)
    check.doubtful += (score > threshold) != (trial.score > threshold)

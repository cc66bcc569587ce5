"""A detector made anew from one that is there and from what people said of photos: `promptad fit --model ... --labels ...`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from promptad.calibration.between import between
from promptad.calibration.threshold import Calibration, calibrate
from promptad.data.files import sha256_file, shown
from promptad.data.labels import Label, Settled, photos_of, read_labels, settle
from promptad.errors import ConfigError, DataError, PhotoError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.requests.asked import Lines, require_file
from promptad.saved.detectors import SavedDetector, read_detector
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.detector import Detector

BUDGET = 10000
"""Most patches that the memory of a layer keeps after a refit, unless another number is given."""
_NAMED = 3


@dataclass(frozen=True)
class Judgement:
    """A labelled photo before and after.

    Attributes:
        photo: its path. label: what people say of it. before, after: scores; `after` is None where the photo repeats another
            good one. A good photo is judged without itself. was, now: whether the detector called it anomalous.
    """

    photo: str
    label: Label
    before: float
    after: float | None
    was: bool | None
    now: bool | None

    @property
    def right_before(self) -> bool | None:
        """Whether the old verdict was that of the label; None without one."""
        return None if self.was is None or self.label.label == "unsure" else self.was == (self.label.label == "defect")

    @property
    def right_now(self) -> bool | None:
        """The same of the new verdict."""
        return None if self.now is None or self.label.label == "unsure" else self.now == (self.label.label == "defect")


@dataclass
class Refit:
    """What a refit gave.

    Attributes:
        detector: the new one. parent: the old one's file. threshold_before: of the old one, None where it had none.
        judgements: all labelled photos that could be read. joined: good photos that joined. left_out: good photos of the old
            detector that people call defective. disputed: photos on which people disagree. rows: most patches that the
            memory of a layer keeps, 0 where there is no such limit. digest: SHA-256 of the parent's file. files: of all photos that
            the new detector learned from.
    """

    detector: Detector
    parent: Path
    threshold_before: float | None
    digest: str
    judgements: list[Judgement] = field(default_factory=list)
    joined: int = 0
    left_out: int = 0
    disputed: int = 0
    rows: int = 0
    files: tuple[Path, ...] = ()

    @property
    def worse(self) -> list[Judgement]:
        """Photos that were judged right and are not any more."""
        return [entry for entry in self.judgements if entry.right_before and entry.right_now is False]

    def mistakes(self) -> tuple[int, int]:
        """How many labelled photos were judged wrong, before and now."""
        both = [entry for entry in self.judgements if entry.right_before is not None and entry.right_now is not None]
        return sum(not entry.right_before for entry in both), sum(not entry.right_now for entry in both)


@dataclass(frozen=True)
class _Photos:
    """Files of everything that a refit needs: by content."""

    good: dict[str, Path]
    anomalies: dict[str, Path]
    labelled: dict[str, Path]


def refit(
    model: Path,
    labels: Sequence[Path],
    good: Sequence[Path],
    folders: Sequence[Path],
    *,
    rows: int | None,
    false_alarms: float | None,
    load: Mapping[str, Any],
    progress: Progress | None,
    lines: Lines,
) -> Refit:
    """A new detector of the same method, settings and backbone.

    Photos that people call good join the good photos, and the memory keeps `rows` patches a layer of all, those farthest apart
    (PatchCore's coreset); photos that people call defective set the other side of the threshold (`calibration.between`). Where good
    photos are not learned, the threshold alone changes. Photos are known by content.

    Args:
        labels: files of labels. good: files of further good photos. folders: where photos are looked for that are not where they were.
        rows: None takes :data:`BUDGET` where nothing is kept of the settings. false_alarms: None takes the old rate.
        load: backbone, memory_backbone and device for `Detector.load`.

    Raises:
        PromptadError: a file is missing, or a good photo of the old detector cannot be found; one line with the way out.
    """
    require_file(model, "saved detector")
    saved = read_detector(model)
    settled = settle(label for path in labels for label in read_labels(path))
    if settled.disputed:
        names = [entries[0].photo for entries in settled.disputed.values()]
        notice(
            f"people disagree on {len(names)} photos ({_some(names)}), which are left out; `promptad review` shows who said what"
        )
    from promptad.detector import Detector
    from promptad.learning.features import FeatureStore

    with TemporaryDirectory(prefix="promptad-refit-") as place:
        cache = FeatureStore(Path(place))
        old = Detector.load(model, cache=cache, **load)
        if old.entry.facts.unlabelled:
            raise ConfigError(
                f"{shown(model)}: {old.entry.title} learns from the photos that it judges, so labels teach it nothing; fit a detector "
                f"to the photos that are marked good ({argument('good')})"
            )
        refitting = _Refitting(saved, old, settled, rows, false_alarms)
        photos = refitting.find(labels, good, folders, lines)
        done = Refit(old, model, old.calibration.threshold if old.calibration else None, sha256_file(model))
        before = refitting.scores(old, photos.labelled, lines)
        done.detector = refitting.made(photos, load, cache, progress, lines)
        after = refitting.after(done.detector, photos, lines)
    _tell(done, refitting, photos, before, after)
    done.detector.encoder.cache = None
    return done


def with_threshold(model: Path, threshold: float, load: Mapping[str, Any]) -> Refit:
    """The same detector with a threshold that a person chose; nothing is learned.

    Raises:
        PromptadError: it cannot be loaded.
    """
    from promptad.detector import Detector

    require_file(model, "saved detector")
    saved = read_detector(model)
    detector = Detector.load(model, **load)
    before = detector.calibration.threshold if detector.calibration else None
    done = Refit(detector.set_threshold(threshold), model, before, sha256_file(model))
    places = [saved.path.parent / place for place in saved.places.values()]
    done.files = tuple(path for path in places if path.is_file())
    detector.parents = [{"sha256": done.digest, "name": model.name}, *saved.parents]
    return done


class _Refitting:
    """A refit from what is asked to what comes of it."""

    def __init__(
        self, saved: SavedDetector, old: Detector, settled: Settled, rows: int | None, false_alarms: float | None
    ) -> None:
        self.saved, self.old, self.settled, self.rate = saved, old, settled, false_alarms
        self.learns = old.entry.good_photos != "unused"
        self.known = {e["sha256"]: e["name"] for e in saved.good if "sha256" in e and "copy_of" not in e}
        self.marked_good = [label.sha256 for label in settled.of("good")]
        self.marked_bad = [label.sha256 for label in settled.of("defect")]
        self.rows = self._rows(rows)

    def _rows(self, asked: int | None) -> int:
        """How many patches the memory keeps of a layer; 0 where the method bounds it by itself or keeps none."""
        bounded = self.learns and "memory_budget" in self.old.entry.setting_names
        if asked is not None and not bounded:
            raise ConfigError(
                f"{argument('budget')}: {self.old.entry.title} has no memory whose size can be given; leave it out"
            )
        return (asked or self.saved.config.memory_budget or BUDGET) if bounded else 0

    def find(self, labels: Sequence[Path], good: Sequence[Path], folders: Sequence[Path], lines: Lines) -> _Photos:
        """The files of all photos. Raises DataError where a good photo of the old detector is in none of the places."""
        bases = [Path(), *(path.parent for path in labels)]
        wanted = {digest: [base / entry.photo for base in bases] for digest, entry in self.settled.agreed.items()}
        bad = set(self.marked_bad)
        entries = {e["sha256"]: e["name"] for e in self.saved.anomalies if "sha256" in e}
        needed = {**self.known, **entries} if self.learns else entries
        for digest in needed:
            at = self.saved.places.get(digest)
            wanted.setdefault(digest, []).extend([self.saved.path.parent / at] if at else [])
        further = {sha256_file(path): path for path in good}
        wanted = {
            digest: [*places, *([further[digest]] if digest in further else [])] for digest, places in wanted.items()
        }
        there, missing = photos_of(wanted, folders)
        lost = [needed[digest] for digest in missing if digest in needed and digest not in bad]
        if lost or (self.learns and len(self.known) < sum("copy_of" not in e for e in self.saved.good)):
            what = (
                f"{len(lost)} of the photos ({_some(lost)})"
                if lost
                else "some of the good photos, which lay in no file,"
            )
            raise DataError(
                f"{shown(self.saved.path)}: {what} that it learned from are not where they were; name the folder in which they lie "
                f"({argument('photos')})"
            )
        for digest in missing:
            if digest not in needed:
                lines.fail(
                    f"{shown(self.settled.agreed[digest].photo)}: labelled, and not where it was; name its folder ({argument('photos')})"
                )
        learned = {digest: there[digest] for digest in self.known if digest in there} if self.learns else {}
        joining = {digest: there[digest] for digest in self.marked_good if digest in there}
        chosen = {d: path for d, path in {**learned, **joining, **further}.items() if d not in bad}
        return _Photos(
            chosen,
            {d: there[d] for d in dict.fromkeys([*entries, *self.marked_bad]) if d in there and d not in joining},
            {d: there[d] for d in self.settled.agreed if d in there},
        )

    def scores(self, detector: Detector, photos: Mapping[str, Path], lines: Lines) -> dict[str, float]:
        """The score of each photo; one that cannot be read is told and left out."""
        out = {}
        for digest, path in photos.items():
            try:
                out[digest] = detector.predict(path, maps=False).score
            except PhotoError as error:
                lines.fail(str(error))
        return out

    def made(
        self, photos: _Photos, load: Mapping[str, Any], cache: Any, progress: Progress | None, lines: Lines
    ) -> Detector:
        """The new detector with its threshold."""
        from promptad.detector import Detector

        calibration = self.old.calibration
        rate = self.rate or (calibration.rate if calibration and calibration.how != "by hand" else None)
        saved = self.saved
        if self.rows:
            saved = replace(saved, config=replace(saved.config, memory_budget=self.rows))
        detector = Detector.from_saved(
            saved, saved.backbone(load["backbone"], load["device"], load["memory_backbone"]), cache
        )
        bad = [photos.labelled[digest] for digest in self.marked_bad if digest in photos.labelled]
        if self.learns:
            faulty = list(photos.anomalies.values()) if detector.entry.learns_anomalies else bad
            good = list(photos.good.values())
            detector.fit(good, defective=faulty, false_alarms=rate, progress=progress, unreadable=lines.fail)
            if detector.calibration is not None:
                detector.calibration = between(detector.calibration, detector.calibration.defective)
        else:
            notice(f"{detector.entry.title} does not learn from good photos, so only the threshold changes")
            self._calibrate(detector, photos, list(bad), rate, lines)
        if detector.calibration is not None:
            detector.calibration = detector.calibration.with_pixels_of(calibration)
        return detector

    def _calibrate(
        self, detector: Detector, photos: _Photos, bad: Sequence[Path], rate: float | None, lines: Lines
    ) -> None:
        """The threshold from the good photos of before, whose scores are known, and the new ones."""
        known = detector.calibration
        fresh = [path for digest, path in photos.good.items() if digest not in self.known]
        judged = []
        for path in fresh:
            try:
                judged.append(detector.judged(detector.encode(path)))
            except PhotoError as error:
                lines.fail(str(error))
        scores = [*(known.scores if known else ()), *(entry.score for entry in judged)]
        if not scores:
            return
        made: Calibration = calibrate(
            scores,
            [*(known.map_peaks if known else ()), *(e.map_peak for e in judged if e.map_peak is not None)],
            [*(known.map_tops if known else ()), *(e.map_top for e in judged if e.map_top is not None)],
            "held-out",
            rate,
            kind=known.kind if known else detector.entry.kind_of(detector.config),
            method=detector.method.name,
            unlike=known.unlike if known else "",
        )
        faulty = self.scores(detector, {str(path): path for path in bad}, lines)
        detector.calibration = between(made, list(faulty.values()))
        sizes = [
            {"name": path.name, "sha256": digest, "size": detector.encode(path).size}
            for digest, path in photos.good.items()
            if path in fresh
        ]
        detector.good = [*detector.good, *({**entry, "size": list(entry["size"])} for entry in sizes)]

    def after(self, detector: Detector, photos: _Photos, lines: Lines) -> dict[str, float]:
        """Scores under the new detector; those of good photos that it learned from are the ones without themselves."""
        calibration = detector.calibration
        entries = [entry for entry in detector.good if "copy_of" not in entry]
        out: dict[str, float] = {}
        if (
            self.learns
            and calibration
            and calibration.how == "leave-one-out"
            and len(entries) == len(calibration.scores)
        ):
            out = {e["sha256"]: score for e, score in zip(entries, calibration.scores, strict=True) if "sha256" in e}
            copies = {entry.get("sha256") for entry in detector.good if "copy_of" in entry}
            rest = {d: p for d, p in photos.labelled.items() if d not in out and d not in copies}
            return {**out, **self.scores(detector, rest, lines)}
        return self.scores(detector, photos.labelled, lines)


def _tell(
    done: Refit, refitting: _Refitting, photos: _Photos, before: Mapping[str, float], after: Mapping[str, float]
) -> None:
    """Fills in what changed, and the parents of the new detector."""
    detector = done.detector
    limit = detector.calibration.threshold if detector.calibration else None
    for digest, score in before.items():
        label, now = refitting.settled.agreed[digest], after.get(digest)
        done.judgements.append(
            Judgement(
                str(photos.labelled[digest]),
                label,
                score,
                now,
                None if done.threshold_before is None else score > done.threshold_before,
                None if limit is None or now is None else now > limit,
            )
        )
    known = refitting.known
    done.files = (*photos.good.values(), *photos.anomalies.values())
    done.joined = sum(digest not in known for digest in photos.good)
    done.left_out = sum(digest in known for digest in refitting.marked_bad)
    done.disputed, done.rows = len(refitting.settled.disputed), refitting.rows
    detector.tuned = refitting.saved.tuned  # its settings are those that were chosen then
    detector.parents = [{"sha256": done.digest, "name": done.parent.name}, *refitting.saved.parents]


def places_of(photos: Iterable[Path], folder: Path, detector: Detector) -> dict[str, str]:
    """SHA-256 -> the way from a folder to the photo, of photos that a detector learned from and that is saved there."""
    learned = {entry.get("sha256") for entry in [*detector.good, *detector.anomalies]}
    out = {}
    for path in photos:
        try:
            digest, way = sha256_file(path), os.path.relpath(path, folder)
        except (ValueError, DataError):  # another drive, or a photo that cannot be read, which is told elsewhere
            continue
        if digest in learned and shown(way) == way:  # a name that is no text is no place in a header
            out[digest] = Path(way).as_posix()
    return out


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")

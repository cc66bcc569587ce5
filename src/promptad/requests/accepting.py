"""The request to prove how many defects a saved detector misses: `promptad accept`."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from promptad.annotations import Above0
from promptad.data.files import sha256_file, shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.requests.asked import Lines, Request, Said, asked, require_file
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.calibration.trade_off import Costs
    from promptad.data.labels import Label
    from promptad.detector import Detector
    from promptad.run.acceptance import Accepted, Candidate, LeftOut

NO_WORDS = "without words"
"""Kind of labelled defects of which nobody said what they are."""


@dataclass(frozen=True)
class AcceptRequest(Request):
    """A saved detector, and photos of which people know whether they are good."""

    model: Path | None = asked("The detector, as `promptad fit` saved it.", None, place="argument")
    good: tuple[Path, ...] = asked("Good photos or folders of them that the detector did not learn from; repeat.", ())
    bad: tuple[Path, ...] = asked(
        "Defective photos or folders of them; folders inside are kinds of defects; repeat.", ()
    )
    labels: tuple[Path, ...] = asked("Labels of photos, as the report saves them, with boxes and words; repeat.", ())
    photos: tuple[Path, ...] = asked(
        "Folders in which labelled photos are looked for, by content, where they are not where they were; repeat.", ()
    )
    masks: Path | None = asked(
        "Folder with masks of the defective photos, under their names and folders: sizes of defects.", None
    )
    cost_miss: Above0 | None = asked("What a missed defect costs, in any unit.", None)
    cost_alarm: Above0 | None = asked("What a false alarm costs, in the same unit.", None)
    defect_share: float | None = asked(
        "Share of defective parts where the detector works, for the costs. Default: that of the photos here.", None
    )
    output: Path = asked(
        "The protocol, one HTML file; one that is there is not written over.",
        Path("acceptance.html"),
        option="-o --output",
    )
    who: str | None = asked("Name of the person who signs the protocol. Default: the account's.", None)
    confidence: float = asked("Of all intervals and promises.", 0.95)
    backbone: str | None = asked("Where the detector's CLIP weights lie now. Default: where they were.", None)
    memory_backbone: str | None = asked("The same of its second image tower.", None)
    device: str = asked("cpu, cuda, cuda:1, mps.", "cpu")
    command: str = asked("Shown in the protocol.", "", place="hidden")

    def check(self) -> None:
        """There must be a detector and photos."""
        if self.model is None:
            raise ConfigError(
                f"there is nothing to accept; name a detector saved by `promptad fit` ({argument('model')})"
            )
        if not (self.good or self.bad or self.labels):
            raise ConfigError(
                f"a detector is tested on photos that people know: give good ones ({argument('good')}) and defective ones "
                f"({argument('bad')}), or labels ({argument('labels', 'labels.csv')})"
            )
        if not self.labels:
            self.refuse(["photos"], f"is where labelled photos are looked for; give labels ({argument('labels')})")
        if not self.bad:
            self.refuse(["masks"], f"are of the defective photos; give some ({argument('bad')})")
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(
                f"{argument('confidence')} must be from 0.5 and below 1, such as 0.95; got {self.confidence:g}"
            )
        if self.defect_share is not None:
            if not 0 < self.defect_share < 1:
                raise ConfigError(
                    f"{argument('defect_share')} must be above 0 and below 1, such as 0.02 for 2 %; got {self.defect_share:g}"
                )
            if self.cost_miss is None and self.cost_alarm is None:
                self.refuse(
                    ["defect_share"], f"is about costs; give them ({argument('cost_miss')}, {argument('cost_alarm')})"
                )

    def run(
        self, *, progress: Progress | None = None, said: Said | None = None, failed: Said | None = None
    ) -> Accepted:
        """Judges the photos with the detector's own threshold, which nothing here changes, and writes the protocol.

        Args:
            progress: called with photos done and in all. said: called with a line for each file that is no photo. failed: the same for
                each photo or mask that cannot be read; `said` where it is not given. Without either, such a line is a notice.

        Raises:
            PromptadError: whatever cannot be, on one line.
        """
        assert self.model is not None
        require_file(self.model, "saved detector")
        if self.output.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(
                f"{argument('output', str(self.output))}: the protocol is a page; give it a name that ends with .html"
            )
        if self.output.exists():
            raise DataError(
                f"{shown(self.output)}: is there already, and a protocol is not written over; choose another name ({argument('output')})"
            )
        from promptad.data.lock import prepared_folder
        from promptad.notices import collected_notices

        with prepared_folder(self.output.parent), collected_notices(earlier=True) as notices:
            return self._tested(self.model, Lines(said, failed), progress, notices)

    def _tested(self, model: Path, lines: Lines, progress: Progress | None, notices: Sequence[str]) -> Accepted:
        """The test and its protocol."""
        photos, left_out = self._candidates(lines)
        from promptad.calibration.acceptance import accept
        from promptad.report.protocol import write_protocol
        from promptad.run.acceptance import Accepted, Pictures, judge_candidates, permanent_command, without_learned

        digest, detector = sha256_file(model), self._detector(model)
        assert detector.calibration is not None
        photos, learned = without_learned(detector, photos)
        _say_learned(learned)
        pictures, who = Pictures(detector), self._name()
        tested, unread = judge_candidates(detector, photos, failed=lines.fail, seen=pictures, progress=progress)
        if not tested:
            raise DataError(
                "no photo is left that could be judged and that the detector did not learn from; give others"
            )
        costs = self._costs(sum(photo.defective for photo in tested), len(tested))
        result = accept(tested, detector.calibration.threshold, costs=costs, confidence=self.confidence)
        accepted = Accepted(model, digest, detector, result, tested, [*left_out, *learned, *unread])
        accepted.permanent = permanent_command(model, result)
        values = accepted.values(who=who, command=self.command, notices=notices)
        accepted.protocol, accepted.protocol_digest = (
            self.output,
            write_protocol(self.output, values, pictures.by_content),
        )
        return accepted

    def _name(self) -> str:
        """Who signs; an account's name is assumed with a line."""
        if self.who is not None:
            return self.who
        try:
            name = getpass.getuser()
        except (OSError, KeyError, ImportError):  # an account without a name
            name = ""
        told = f"the account {name!r} signs the protocol" if name else "the protocol is signed by nobody"
        notice(f"{told}; give the name of the person who tests ({argument('who', 'A. Person')})")
        return name

    def _detector(self, model: Path) -> Detector:
        from promptad.detector import Detector

        detector = Detector.load(
            model, backbone=self.backbone, memory_backbone=self.memory_backbone, device=self.device
        )
        if detector.calibration is None:
            raise ConfigError(
                f"{shown(model)}: has no threshold, so it gives no verdicts that could be accepted; give it one with `promptad fit` "
                f"({argument('model', str(model))} {argument('threshold', '0.5')})"
            )
        return detector

    def _costs(self, bad: int, photos: int) -> Costs | None:
        """What mistakes cost; what is not given is assumed with a line."""
        from promptad.calibration.trade_off import Costs

        if self.cost_miss is None and self.cost_alarm is None:
            return None
        costs = {}
        for name, what in (("cost_miss", "a missed defect"), ("cost_alarm", "a false alarm")):
            costs[name] = getattr(self, name) or 1.0
            if getattr(self, name) is None:
                notice(f"nothing says what {what} costs, so 1 is assumed; name it ({argument(name, '1')})")
        share = self.defect_share
        if share is None:
            share = min(max(bad / photos, 1 / (photos + 1)), photos / (photos + 1))
            notice(
                f"nothing says how many parts are defective where the detector works, so {share:.3g} is assumed, as among these "
                f"photos; there it is mostly far less, and the cheapest threshold higher: name it ({argument('defect_share', '0.01')})"
            )
        return Costs(costs["cost_miss"], costs["cost_alarm"], share)

    def _candidates(self, lines: Lines) -> tuple[list[Candidate], list[LeftOut]]:
        """All photos, each content once, under their ways from the folder that holds all; and those left out."""
        from promptad.run.acceptance import named
        from promptad.run.naming import common_folder, relative_path

        photos = [*_from_folders(self.good, False, None, lines), *_from_folders(self.bad, True, self.masks, lines)]
        labelled, left_out = self._labelled(lines)
        photos = _once([*photos, *labelled])
        folder = common_folder([photo.path for photo in photos])
        return named(photos, [relative_path(photo.path, folder) for photo in photos]), left_out

    def _labelled(self, lines: Lines) -> tuple[list[Candidate], list[LeftOut]]:
        from promptad.data.labels import photos_of, read_labels, settle
        from promptad.run.acceptance import Candidate, LeftOut

        if not self.labels:
            return [], []
        settled = settle(label for path in self.labels for label in read_labels(path))
        sure = {digest: label for digest, label in settled.agreed.items() if label.label != "unsure"}
        unsure = [label for label in settled.agreed.values() if label.label == "unsure"]
        disputed = [labels[-1] for labels in settled.disputed.values()]
        for labels, why in ((unsure, "people are unsure of"), (disputed, "people disagree on")):
            if labels:
                notice(f"{len(labels)} photos that {why} ({_some(labels)}) are left out")
        bases = [Path(), *(path.parent for path in self.labels)]
        wanted = {digest: [base / label.photo for base in bases] for digest, label in sure.items()}
        there, missing = photos_of(wanted, self.photos)
        for digest in missing:
            lines.fail(
                f"{shown(sure[digest].photo)}: labelled, and not where it was; name its folder ({argument('photos')})"
            )
        return [
            Candidate(path, "", digest, sure[digest].label == "defect", _kind(sure[digest]), sure[digest].boxes)
            for digest, path in there.items()
        ], [
            *(LeftOut(label.photo, label.sha256, "people are unsure") for label in unsure),
            *(LeftOut(label.photo, label.sha256, "people disagree") for label in disputed),
            *(LeftOut(sure[digest].photo, digest, "it is not where it was") for digest in missing),
        ]


def _kind(label: Label) -> str:
    return "" if label.label == "good" else label.words or NO_WORDS


def _some(labels: Sequence[Label]) -> str:
    names = ", ".join(shown(label.photo) for label in labels[:3])
    return names + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def _say_learned(learned: Sequence[LeftOut]) -> None:
    if learned:
        names = ", ".join(shown(photo.photo) for photo in learned[:3]) + (" ..." if len(learned) > 3 else "")
        notice(
            f"{len(learned)} photos ({names}) are left out: the detector learned from them, so they say nothing about new ones"
        )


def _from_folders(paths: Sequence[Path], defective: bool, masks: Path | None, lines: Lines) -> list[Candidate]:
    """Photos of files and folders. Raises DataError where a folder of defective photos is called as good ones are."""
    from promptad.data.datasets.names import is_normal
    from promptad.requests.detecting import photo_files
    from promptad.run.acceptance import Candidate

    photos, kinds = list[Candidate](), dict[Path, tuple[str, ...]]()
    for root in paths:
        for path in photo_files((root,), lines):
            folders = path.relative_to(root).parts[:-1] if root.is_dir() else ()
            kinds[path] = folders or ((root if root.is_dir() else root.parent).resolve().name or NO_WORDS,)
            if defective and folders and is_normal(folders[0]):
                raise DataError(
                    f"{shown(root / folders[0])}: lies among the defective photos ({argument('bad')}) and is called as good ones "
                    f"are; name the folders of defective ones, or rename it"
                )
            try:
                digest = sha256_file(path)
            except DataError as error:
                lines.fail(str(error))
                continue
            photos.append(Candidate(path, "", digest, defective, kinds[path][0] if defective else ""))
    if masks is None:
        return photos
    pairs = _masks(kinds, masks)
    return [replace(photo, masks=pairs.get(photo.path, ())) for photo in photos]


def _masks(photos: Mapping[Path, tuple[str, ...]], folder: Path) -> Mapping[Path, tuple[Path, ...]]:
    """Masks of photos by their names and folders; what belongs to none is told."""
    from promptad.data.datasets.names import photos_below
    from promptad.data.datasets.pairing import MaskFile, PhotoFile, pair, say_left_over

    if not folder.is_dir():
        raise DataError(f"{shown(folder)}: is no folder of masks; check the path ({argument('masks')})")
    files = [PhotoFile(path, "test", kinds[0], kinds[1:], False) for path, kinds in photos.items()]
    masks = [MaskFile(path, path.relative_to(folder).parts[:-1]) for path in photos_below(folder, masks=True)]
    pairs = pair(files, masks)
    say_left_over(folder, pairs.orphans)
    return pairs.masks


def _once(photos: Sequence[Candidate]) -> list[Candidate]:
    """Each content once; what its later mentions add (boxes, masks) is kept. Raises DataError where it is good and defective."""
    known: dict[str, Candidate] = {}
    again = 0
    for photo in photos:
        before = known.setdefault(photo.sha256, photo)
        if before is photo:
            continue
        if before.defective != photo.defective:
            raise DataError(
                f"{shown(photo.path)}: has the content of {shown(before.path)}, and one of them is said to be good, the other "
                "defective; settle it"
            )
        again += 1
        known[photo.sha256] = replace(before, boxes=before.boxes or photo.boxes, masks=before.masks or photo.masks)
    if again:
        notice(f"{again} of {len(photos)} photos have the content of another one; each content counts once")
    return list(known.values())

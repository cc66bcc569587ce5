"""Photos of known truth through a saved detector: their scores, and the sizes of their defects."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from promptad import __version__
from promptad.calibration.acceptance import Acceptance, AreaFrom, Trial
from promptad.data.files import shown
from promptad.data.labels import Box
from promptad.data.photos import read_mask, read_photo
from promptad.detector import Detector
from promptad.errors import PromptadError
from promptad.prediction import Prediction
from promptad.report.audit import now
from promptad.report.heatmap import overlay
from promptad.report.thumbnails import thumbnail
from promptad.run.judging import color_scale, learned_contents
from promptad.steps import Progress


@dataclass(frozen=True)
class Candidate:
    """A photo that is to be tested.

    Attributes:
        path: the file. name: as people know it. sha256: of its content. defective, kind: as in `Trial`. boxes: of the defects in photo
            pixels. masks: files of its defects' masks.
    """

    path: Path
    name: str
    sha256: str
    defective: bool
    kind: str = ""
    boxes: tuple[Box, ...] = ()
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A photo that does not count, and why. sha256: "" where it cannot be read."""

    photo: str
    sha256: str
    why: str


LEARNED = "the detector learned from it"


@dataclass
class Accepted:
    """An acceptance test.

    Attributes:
        model: file of the detector. digest: SHA-256 of that. detector: itself. tested: the photos that count. left_out: the others. result:
            what they show. permanent: the command that saves a detector with the cheapest threshold, "" where there is none. protocol: the file
        of the protocol. protocol_digest: of its data.
    """

    model: Path
    digest: str
    detector: Detector
    result: Acceptance
    tested: list[Trial] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    permanent: str = ""
    protocol: Path = Path()
    protocol_digest: str = ""

    def values(self, *, who: str, command: str, notices: Sequence[str]) -> dict[str, Any]:
        """The data of the protocol, JSON-ready."""
        detector, calibration = self.detector, self.detector.calibration
        assert calibration is not None
        backbone = detector.backbone
        return {
            "made_with": __version__,
            "when": now(),
            "who": who,
            "command": command,
            "detector": {
                "file": shown(self.model.name),
                "sha256": self.digest,
                "object": detector.object,
                "method": f"{detector.entry.title}, preset {detector.preset}",
                "backbone": backbone.identity,
                "backbone_sha256": backbone.sha256,
                "memory_backbone_sha256": backbone.memory.sha256 if backbone.memory is not None else "",
                "threshold": calibration.threshold,
                "threshold_note": calibration.note,
                "good": sum("copy_of" not in entry for entry in detector.good),
                "parents": detector.parents,
            },
            "notices": list(notices),
            "photos": [asdict(trial) for trial in self.tested],
            "left_out": [asdict(photo) for photo in self.left_out],
            "results": self.result.to_dict(),
            "permanent": self.permanent,
        }


class Pictures:
    """Small pictures of photos that were judged wrong, at most so many of each kind of mistake."""

    def __init__(self, detector: Detector, most: int = 24) -> None:
        self.detector, self.most = detector, most
        self.by_content: dict[str, tuple[str, str]] = {}
        self._counts = {True: 0, False: 0}

    def __call__(self, photo: Candidate, prediction: Prediction) -> None:
        """Takes those of a photo."""
        if prediction.is_anomalous == photo.defective or self._counts[photo.defective] >= self.most:
            return
        self._counts[photo.defective] += 1
        preprocess = self.detector.preprocess
        pixels = read_photo(photo.path, preprocess.max_pixels, preprocess.input_range or None)
        heatmap = ""
        if prediction.map is not None:
            scale = color_scale(self.detector, prediction.map_threshold)
            outline, seen = scale.outline, prediction.inspected
            drawn = overlay(pixels, prediction.map, scale.low, scale.high, map_threshold=outline, inspected=seen)
            heatmap = thumbnail(drawn, EDGE, 70).uri
        self.by_content[photo.sha256] = (thumbnail(pixels, EDGE, 70).uri, heatmap)


EDGE = 260
"""Long edge of the small pictures in pixels."""


def permanent_command(model: Path, result: Acceptance) -> str:
    """The command that saves a detector with the cheapest threshold beside the tested one; "" where that is its own."""
    if result.cheapest is None or result.cheapest == result.present:
        return ""
    output = model.with_name(f"{model.stem}-cheapest.safetensors")
    options = {"model": str(model), "threshold": repr(result.cheapest.threshold), "output": str(output)}
    return shlex.join(["promptad", "fit", *(word for name, value in options.items() for word in (f"--{name}", value))])


def without_learned(detector: Detector, photos: Sequence[Candidate]) -> tuple[list[Candidate], list[LeftOut]]:
    """The photos that say something about new ones, and those that the detector learned from."""
    learned = learned_contents(detector) | {entry.get("sha256") for entry in detector.anomalies}
    kept = [photo for photo in photos if photo.sha256 not in learned]
    return kept, [LeftOut(photo.name, photo.sha256, LEARNED) for photo in photos if photo.sha256 in learned]


def judge_candidates(
    detector: Detector,
    photos: Sequence[Candidate],
    *,
    failed: Callable[[str], None],
    seen: Callable[[Candidate, Prediction], None] | None = None,
    progress: Progress | None = None,
) -> tuple[list[Trial], list[LeftOut]]:
    """Judges each photo; gives those that could be judged, and the others.

    Args:
        failed: called with a line for each photo or mask that cannot be read. seen: called with each prediction, its map included.
    """
    tested, left_out = list[Trial](), list[LeftOut]()
    for done, photo in enumerate(photos, start=1):
        try:
            prediction = detector.predict(photo.path)
            area, source = _area(photo, prediction, failed) if photo.defective else (None, None)
            entry = Trial(photo.name, photo.sha256, photo.defective, photo.kind, prediction.score, area, source)
            tested.append(entry)
            if seen is not None:
                seen(photo, prediction)
        except PromptadError as error:
            failed(str(error))
            left_out.append(LeftOut(photo.name, photo.sha256, "it cannot be read or judged"))
        if progress is not None:
            progress(done, len(photos))
    return tested, left_out


def _area(
    photo: Candidate, prediction: Prediction, failed: Callable[[str], None]
) -> tuple[int | None, AreaFrom | None]:
    """Area of the defect in photo pixels, and what it is that of: boxes before masks, and these before what the detector found."""
    if photo.boxes:
        return union_area(photo.boxes), "box"
    if photo.masks:
        try:
            if marked := int(read_mask(photo.masks, prediction.size).sum()):
                return marked, "mask"
            failed(f"{shown(photo.masks[0])}: marks nothing, though its photo is a defective one; mend or remove it")
        except PromptadError as error:
            failed(str(error))
    mask = prediction.mask
    return (None, None) if mask is None else (int(mask.sum()), "region")


def union_area(boxes: Sequence[Box]) -> int:
    """Pixels inside any of the boxes."""
    rows = sorted({edge for box in boxes for edge in (box.y, box.y + box.height)})
    area = 0
    for top, bottom in pairwise(rows):
        spans = sorted((b.x, b.x + b.width) for b in boxes if b.y <= top and b.y + b.height >= bottom)
        reached = covered = 0
        for left, right in spans:
            covered += max(0, right - max(left, reached))
            reached = max(reached, right)
        area += covered * (bottom - top)
    return area


def named(photos: Sequence[Candidate], names: Sequence[str]) -> list[Candidate]:
    """The photos under other names."""
    return [replace(photo, name=name) for photo, name in zip(photos, names, strict=True)]

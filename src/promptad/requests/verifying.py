"""The request to check what promptad wrote as evidence: `promptad verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptad.data.files import one_line, sha256_file, shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.requests.asked import Lines, Request, Said, asked, require_file
from promptad.requests.detecting import photo_files
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.run.protocol_check import ProtocolCheck
    from promptad.run.recomputing import AuditCheck


@dataclass(frozen=True)
class VerifyRequest(Request):
    """A file that promptad wrote as evidence, and what it is checked against."""

    file: Path | None = asked(
        "The audit log of a watch (audit.jsonl), or the protocol of an acceptance test.", None, place="argument"
    )
    photos: tuple[Path, ...] = asked("Photos, or folders of them: whether the contents that were judged are there.", ())
    model: Path | None = asked("The detector: the verdicts that it gave are recomputed from the photos.", None)
    kept: str | None = asked(
        "A digest that was kept elsewhere (the id of an event, or what `verify` printed before): the log must hold it, or its end was "
        "cut off or all of it written anew.",
        None,
    )
    backbone: str | None = asked("Where the detector's CLIP weights lie now. Default: where they were.", None)
    memory_backbone: str | None = asked("The same of its second image tower.", None)
    device: str = asked("cpu, cuda, cuda:1, mps.", "cpu")

    def check(self) -> None:
        """There must be a file, and photos to recompute verdicts from."""
        if self.file is None:
            raise ConfigError(f"there is nothing to verify; name a file ({argument('file')})")
        if self.model is not None and not self.photos:
            raise ConfigError(
                f"{argument('model', str(self.model))}: verdicts are recomputed from photos; give them ({argument('photos')})"
            )
        if self.model is None:
            self.refuse(
                ("backbone", "memory_backbone", "device"),
                f"is about a detector; give it ({argument('model')}), or leave it out",
            )

    def run(self, *, progress: Progress | None = None, failed: Said | None = None) -> AuditCheck | ProtocolCheck:
        """Checks the file.

        Args:
            progress: called with steps done and in all: a photo's content, then a line of the log or a photo of the protocol. failed: called with a line for each
                photo that cannot be read; without it such a line is a notice.

        Raises:
            PromptadError: the file is nothing that can be verified, or the detector cannot be loaded.
        """
        from promptad.run.protocol_check import check_protocol
        from promptad.run.recomputing import check_audit, photos_by_content

        assert self.file is not None
        check = check_protocol if _is_protocol(self.file) else check_audit
        lines, contents = Lines(None, failed), None
        if self.photos:
            paths = photo_files(self.photos, lines)
            steps = iter(range(1, len(paths) + 1))
            contents = photos_by_content(
                paths, lines.fail, lambda: progress(next(steps), len(paths)) if progress is not None else None
            )
        detector, digest = self._detector() if self.model is not None else (None, "")
        return check(self.file, contents, detector, digest, kept=self.kept, progress=progress)

    def _detector(self) -> tuple[Detector, str]:
        from promptad.detector import Detector

        assert self.model is not None
        require_file(self.model, "saved detector")
        detector = Detector.load(
            self.model, backbone=self.backbone, memory_backbone=self.memory_backbone, device=self.device
        )
        return detector, sha256_file(self.model)


def _is_protocol(path: Path) -> bool:
    """Whether a file is a protocol, not an audit log. Raises DataError where it is none of those that can be verified."""
    from promptad.report.audit import is_audit
    from promptad.report.protocol import is_protocol

    try:
        audit, protocol = is_audit(path), is_protocol(path)
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read ({one_line(error)}); check the path") from error
    if not (audit or protocol):
        raise DataError(
            f"{shown(path)}: is no audit log of a watch and no protocol of an acceptance test; give an audit.jsonl or the page that "
            "`promptad accept` wrote"
        )
    return protocol

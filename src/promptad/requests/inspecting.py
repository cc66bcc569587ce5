"""The request for judging photos with a detector: `promptad inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from promptad.annotations import Positive
from promptad.data.files import shown
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.methods.catalogue import method_facts
from promptad.notices import notice
from promptad.requests.asked import (
    Lines,
    Said,
    asked,
    require_file,
)
from promptad.requests.detecting import BROUGHT, DetectorRequest
from promptad.requests.unlabelled import METHODS as UNLABELLED
from promptad.requests.unlabelled import fit_to_all, say_ranking
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.run.inspection import Report

# What a saved detector brings with it.
_BROUGHT = ("good", "held_out", "defective", *BROUGHT)


@dataclass(frozen=True)
class InspectRequest(DetectorRequest):
    """Photos judged by a detector, a saved one or one that is made now, and everything written about them."""

    photos: tuple[Path, ...] = asked("Photos, or folders of them (searched to the bottom).", (), place="argument")
    model: Path | None = asked("A detector saved by `promptad fit`.", None)
    output: Path = asked("Folder for table, heat maps and page.", Path("out"), option="-o --output")
    unlabelled: bool = asked(
        "The photos are good and defective ones of one product, nobody knows which: each is compared with the others. Gives a "
        "ranking without verdicts, and says whether it can be trusted.",
        False,
    )
    threshold: float | None = asked("Your own threshold, instead of the learned one.", None)
    fdr: float | None = asked(
        "Choose photos from the whole batch so that at most this share of the chosen is good on average, e.g. 0.1 (false discovery rate, "
        "Benjamini-Hochberg over p-values against the good photos).",
        None,
    )
    heatmaps: Literal["jpg", "png", "none"] = asked("jpg, png or none.", "jpg")
    maps: Literal["npy", "png", "none"] = asked(
        "Raw anomaly maps at photo size: npy, png (16 bit, the scale stands in the file) or none.", "none"
    )
    regions_out: Path | None = asked(
        "Folder for files of the regions, for other programs: masks, COCO, Label Studio, a table.", None
    )
    regions_format: tuple[Literal["mask", "coco", "labelstudio", "csv"], ...] = asked(
        "Which of them, with commas: mask (PNG), coco (JSON with run lengths), labelstudio (JSON with polygons), csv. Default: all.",
        (),
        commas=True,
    )
    max_pictures: Positive = asked("Photos with pictures on the page.", 200)
    fresh: bool = asked("Judge every photo again, whatever an earlier run left.", False)
    command: str = asked("Shown on the page.", "", place="hidden")

    def check(self) -> None:
        """A saved detector brings its own inputs; without one there must be good photos or a method that needs none."""
        if not self.photos:
            raise ConfigError(f"there is nothing to judge; name photos or folders ({argument('photos')})")
        if self.threshold is not None:
            self.refuse(["false_alarms"], f"the threshold is given ({argument('threshold')}); leave one of the two out")
        if self.fdr is not None and not 0 < self.fdr < 1:
            raise ConfigError(f"{argument('fdr')} must be above 0 and below 1, such as 0.1 for 10 %; got {self.fdr:g}")
        if self.regions_out is None:
            self.refuse(
                ["regions_format"], f"nothing says where they go; name a folder ({argument('regions_out', 'regions')})"
            )
        if self.model is not None:
            self.check_regions()
            self.refuse(
                (*_BROUGHT, "unlabelled"),
                f"the saved detector ({argument('model')}) brings its own; leave out one of the two",
            )
            return
        if self.unlabelled:
            self._check_unlabelled()
        super().check()
        if self.good:
            return
        rates = ["false_alarms", "region_false_alarms"]
        self.refuse(rates, f"is about the threshold from good photos; give some ({argument('good')})")
        self.refuse(["fdr"], f"compares photos with good ones; give some ({argument('good')})")
        facts, unlabelled = method_facts(self.method_name), argument("unlabelled", "True")
        if self.weights is None and facts.good_photos == "needed" and not self.unlabelled:
            raise ConfigError(
                f"{facts.title} learns from good photos: give some ({argument('good')}), a saved detector "
                f"({argument('model')}), or a method that needs neither ({argument('method', 'faprompt')})"
                + (f"; or {unlabelled} ranks a mixed folder" if self.method_name in UNLABELLED else "")
            )

    @property
    def method_name(self) -> str:
        """The method in use: one for unlabelled photos where they are that."""
        return self.method or (UNLABELLED[0] if self.unlabelled else "promptad")

    def _check_unlabelled(self) -> None:
        """What unlabelled photos exclude."""
        what = f"the photos are unlabelled ({argument('unlabelled', 'True')})"
        self.refuse(["good", "held_out", "defective", "weights"], f"{what}; leave one of the two out")
        if self.method_name not in UNLABELLED:
            raise ConfigError(
                f"{what}, of which {self.method_name} learns nothing; take {', '.join(UNLABELLED)} "
                f"or leave the method out ({argument('method', UNLABELLED[0])})"
            )

    def run(
        self,
        *,
        learning: Progress | None = None,
        judging: Progress | None = None,
        said: Said | None = None,
        failed: Said | None = None,
    ) -> tuple[Detector, Report]:
        """Judges all photos and writes the results; gives the detector and the report.

        Args:
            learning, judging: called with steps, and photos, done and in all.
            said: called with a line for each file that is no photo. failed: the same for each photo that cannot be read or
                judged, and each file that cannot be written; `said` where it is not given. Without either, such a line is a notice.

        Raises:
            PromptadError: whatever stops the run, on one line.
        """
        from promptad.data.lock import only_one, prepared_folder

        with prepared_folder(self.output), only_one(self.output):  # learning too, which takes minutes
            return self._judged(learning, judging, Lines(said, failed))

    def _judged(self, learning: Progress | None, judging: Progress | None, lines: Lines) -> tuple[Detector, Report]:
        from promptad.data.folder import find_photos

        files = find_photos(self.photos)
        if self.model is not None:
            require_file(self.model, "saved detector")
            if self.backbone is not None or self.memory_backbone is not None:
                self.require_backbone()
            detector = self._loaded(self.model)
        elif self.unlabelled:
            self.require_files()
            detector = self.new_detector()
            fit_to_all(detector, files.photos, learning, lines)
        else:
            detector = self.fitted_detector(learning, lines, self.output, fresh=self.fresh)
        from promptad.run.inspection import Output, inspect

        if self.threshold is not None:
            detector.set_threshold(self.threshold)
        self.with_regions(detector)
        self._say_missing_maps(detector)
        title = f"{detector.object}: inspection"
        output = Output(
            self.output,
            self.heatmaps,
            self.maps,
            self.max_pictures,
            self.fresh,
            self.command,
            title,
            held=True,
            fdr=self.fdr,
            regions=self._region_files(detector),
        )
        report = inspect(
            detector,
            files.photos,
            output,
            skipped=files.skipped,
            unreadable=files.failed,
            progress=judging,
            failed=lines.fail,
            concluded=say_ranking if self.unlabelled else None,
        )
        for path, reason in files.failed:
            lines.fail(f"{shown(path)}: {reason}")
        for path, reason in files.skipped:
            lines.skip(f"{shown(path)}: {reason}")
        return detector, report

    def _region_files(self, detector: Detector) -> tuple[Path, tuple[Any, ...]] | None:
        """Folder and forms of the files of regions; None where none are asked for, or there can be none, which is said."""
        if self.regions_out is None:
            return None
        if detector.calibration is None or detector.calibration.map_threshold is None:
            notice(
                f"{argument('regions_out', str(self.regions_out))}: there are no regions without a pixel threshold, so nothing is written there; "
                f"good photos set one ({argument('good')}) for methods with maps"
            )
            return None
        return self.regions_out, self.regions_format or ("mask", "coco", "labelstudio", "csv")

    def _say_missing_maps(self, detector: Detector) -> None:
        """Says which files that are asked for do not come from a method without maps."""
        asked_for = [name for name in self.given(("heatmaps", "maps")) if getattr(self, name) != "none"]
        if asked_for and not detector.entry.facts.maps:
            named = " and ".join(argument(name, getattr(self, name)) for name in asked_for)
            notice(f"{detector.entry.title} gives no anomaly maps, so none are written or drawn ({named})")

    def _loaded(self, model: Path) -> Detector:
        from promptad.detector import Detector

        detector = Detector.load(
            model, backbone=self.backbone, memory_backbone=self.memory_backbone, device=self.device
        )
        if self.object not in ("object", detector.object):
            raise ConfigError(
                f"{shown(model)}: was made for {detector.object!r}; leave {argument('object')} out, or fit one for "
                f"{self.object!r}"
            )
        if self.false_alarms is not None:
            detector.set_false_alarms(self.false_alarms)
        return detector

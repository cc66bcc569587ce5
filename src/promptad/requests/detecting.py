"""Requests for a detector and for judging photos with one: `promptad fit` and `promptad inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from promptad.annotations import Above0, Positive, Seed
from promptad.data.files import shown
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.methods.catalogue import method_facts, names, names_for_anomalies, require_anomalies, require_memory
from promptad.notices import notice
from promptad.requests.asked import (
    INPUT_RANGE,
    Lines,
    Said,
    TowersRequest,
    add_once,
    asked,
    require_file,
    tensors_file,
)
from promptad.requests.unlabelled import METHODS as UNLABELLED
from promptad.requests.unlabelled import fit_to_all, say_ranking
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.run.inspection import Report

# What a saved detector brings with it.
_BROUGHT = (
    *("good", "held_out", "defective", "defects", "only_defects", "words", "method", "weights", "preset"),
    *("activation", "precision", "seed", "input_range", "finest_defect", "settings"),
)


@dataclass(frozen=True)
class DetectorRequest(TowersRequest):
    """How a detector comes about."""

    good: tuple[Path, ...] = asked(
        "Good photos or folders of them, to learn from and to set the threshold; repeat.", ()
    )
    held_out: tuple[Path, ...] = asked(
        "Further good photos or folders that only set the threshold; repeat for more.", ()
    )
    defective: tuple[Path, ...] = asked(
        f"Photos known to be defective; repeat. {names_for_anomalies()} learn from them; for all others they set nothing, "
        "and the threshold's note says how many it misses.",
        (),
    )
    false_alarms: float | None = asked("Share of good photos that may be called anomalous, e.g. 0.01.", None)
    object: str = asked('What the photos show, in words: "metal nut".', "object")
    defects: tuple[str, ...] = asked(
        'A defect in words, such as "with scratch" or "bent [c]"; repeat for more.', (), option="--defect"
    )
    only_defects: bool = asked("Use the given defects alone, without the general ones.", False)
    words: Path | None = asked("TOML file with your own defect words; see docs, Your own words.", None)
    method: str | None = asked(
        f"{names('needed')} learn from good photos, {names('optional', 'unused')} do without. Default: promptad.",
        None,
    )
    weights: Path | None = asked("Trained prompts from `promptad train`, instead of those in the package.", None)
    preset: str | None = asked("clean (recommended), paper or release. Default: clean, or the file's.", None)
    input_range: Above0 | None = asked(INPUT_RANGE, None)
    finest_defect: Positive | None = asked(
        "Side in photo pixels of the smallest defect that has to be seen: photos are then looked at in tiles. Default: the "
        "photo as a whole.",
        None,
    )
    seed: Seed | None = asked("Seed of the prompts' initial values.", None)
    settings: Mapping[str, Any] = asked(
        "Any setting of the method as key=value, e.g. epochs=200; repeat for more.", {}, option="--set"
    )

    def check(self) -> None:
        """Inputs that belong together, before anything is loaded."""
        if self.false_alarms is not None and not 0 < self.false_alarms < 1:
            raise ConfigError(
                f"{argument('false_alarms')} must be above 0 and below 1, such as 0.01 for 1 %; got {self.false_alarms:g}"
            )
        if not self.good:
            self.refuse(("held_out", "defective"), f"need good photos to learn from; give some ({argument('good')})")
        if self.only_defects:
            replaced = "leaves all words out but the given defects"
            self.refuse(["words"], f"{argument('only_defects', 'True')} {replaced}; leave one of the two out")
            if not self.defects and "defects" not in self.settings:
                raise ConfigError(
                    f"{argument('only_defects')} {replaced}; name some ({argument('defects', 'with scratch')})"
                )
        if self.words is not None and self.words.suffix != ".toml":
            raise ConfigError(f"{shown(self.words)}: the word file must be a .toml file")
        if self.method is not None or self.weights is None:
            facts = method_facts(self.method_name)
            if self.memory_backbone is not None:
                require_memory(self.method_name)
            if self.good:
                require_anomalies(self.method_name, len(self.defective))
            if facts.trained_on is None and self.weights is not None:
                raise ConfigError(
                    f"{argument('weights')}: {self.method} is not trained once, so it takes no trained prompts; leave "
                    "them out, or name their method"
                )
            if self.seed is not None and not facts.seed:
                self.refuse(["seed"], f"nothing in {facts.title} is drawn; leave it out")
        self.method_settings()

    @property
    def method_name(self) -> str:
        """The method in use where no file of trained prompts names it."""
        return self.method or "promptad"

    def method_settings(self) -> dict[str, Any]:
        """All settings of the method, those among them that are inputs of their own.

        Raises:
            ConfigError: one is given twice.
        """
        values = dict(self.settings)
        if self.words is not None:
            add_once(values, "state_bank", str(self.words), "words")
        if self.defects:
            add_once(values, "defects", self.defects, "defects")
        for name in ("only_defects", "seed", "input_range", "finest_defect"):
            value = getattr(self, name)
            if value not in (None, False):
                add_once(values, name, value, name)
        return values

    def require_files(self) -> None:
        """Asks for every file that is named, before the seconds that loading takes.

        Raises:
            ConfigError: no such word file, or one that cannot be read. WeightsError: no such prompts or backbone.
        """
        from promptad.prompts.words import resolved_words

        if self.words is not None:
            resolved_words(str(self.words))
        if self.weights is not None:
            require_file(self.weights, "file of trained prompts")
        self.require_backbone()

    def given_photos(self, lines: Lines) -> GivenPhotos:
        """The photo files among those to learn from, the held out and the defective ones; the others are told.

        Raises:
            DataError: nothing there, or nothing that is a photo.
        """
        groups = (photo_files(paths, lines) for paths in (self.good, self.held_out, self.defective))
        return GivenPhotos(*groups)

    def new_detector(self) -> Detector:
        """The detector before it has seen a good photo.

        Raises:
            PromptadError: as `Detector` does.
        """
        from promptad.detector import Detector

        if not self.given(["object"]):
            notice(
                "nothing says what the photos show, so it is called 'object' in sentences and words of defects; name it "
                f"({argument('object', 'metal nut')})"
            )
        return Detector(
            self.method if self.weights is not None else self.method_name,
            object=self.object,
            preset=self.preset,
            backbone=self.backbone or "starter",
            memory_backbone=self.memory_backbone,
            precision=self.precision,
            device=self.device,
            activation=self.activation,
            weights=self.weights,
            **self.method_settings(),
        )

    def fitted_detector(
        self, progress: Progress | None, lines: Lines, kept_in: Path | None = None, *, fresh: bool = False
    ) -> Detector:
        """A new detector, fitted if there are good photos; what cannot be read is told and left out.

        What is not there is asked for first, before anything is loaded.

        Args:
            kept_in: folder of a run, which keeps what is learned (`promptad.requests.kept`). fresh: take nothing from there.

        Raises:
            PromptadError: whatever cannot be, on one line.
        """
        self.require_files()
        photos = self.given_photos(lines)
        if self.false_alarms is not None:
            from promptad.calibration.bounds import check_rate

            check_rate(self.false_alarms, len(photos.held_out) or len(photos.good))
        detector = self.new_detector()
        if photos.good and kept_in is not None:
            from promptad.requests.kept import fit_or_take

            rate = self.false_alarms
            fit_or_take(detector, photos, kept_in, rate=rate, progress=progress, lines=lines, fresh=fresh)
        elif photos.good:
            detector.fit(
                photos.good,
                held_out=photos.held_out,
                defective=photos.defective,
                false_alarms=self.false_alarms,
                progress=progress,
                unreadable=lines.fail,
            )
        return detector


@dataclass(frozen=True)
class GivenPhotos:
    """Photo files that a detector learns from, is proved with, and is tried on."""

    good: list[Path]
    held_out: list[Path]
    defective: list[Path]


def photo_files(paths: tuple[Path, ...], lines: Lines) -> list[Path]:
    """Photo files in files and folders; what is none, or cannot be read, is told.

    Raises:
        DataError: nothing there.
    """
    from promptad.data.folder import find_photos

    if not paths:
        return []
    photos, skipped, unreadable = find_photos(paths)
    for path, reason in unreadable:
        lines.fail(f"{shown(path)}: {reason}")
    for path, reason in skipped:
        lines.skip(f"{shown(path)}: {reason}")
    return photos


@dataclass(frozen=True)
class FitRequest(DetectorRequest):
    """A detector from good photos, saved."""

    output: Path | None = asked("The detector, one .safetensors file.", None, option="-o --output")

    def check(self) -> None:
        """There must be good photos."""
        super().check()
        if not self.good:
            raise ConfigError(f"a detector is fitted to good photos; give at least one ({argument('good')})")

    def run(
        self, *, progress: Progress | None = None, said: Said | None = None, failed: Said | None = None
    ) -> tuple[Detector, Path | None]:
        """Fits and saves; gives the detector and its file.

        Args:
            progress: called with steps done and in all: photos, epochs, scores for the threshold.
            said: called with a line for each file that is no photo. failed: the same for each photo that cannot be read;
                `said` where it is not given. Without either, such a line is a notice.

        Raises:
            PromptadError: whatever cannot be, on one line.
        """
        from promptad.data.files import refuse_foreign, write_atomic
        from promptad.data.lock import only_writer, prepared_folder

        output = tensors_file(self.output) if self.output is not None else None
        if output is not None:
            refuse_foreign(output)
        with prepared_folder(output.parent if output is not None else None), only_writer(output):
            detector = self.fitted_detector(progress, Lines(said, failed))
            if output is not None:
                write_atomic(output, detector.to_bytes())  # as `save` does, in the lock that is held already
        return detector, output


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
    heatmaps: Literal["jpg", "png", "none"] = asked("jpg, png or none.", "jpg")
    maps: Literal["npy", "png", "none"] = asked(
        "Raw anomaly maps at photo size: npy, png (16 bit, the scale stands in the file) or none.", "none"
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
        if self.model is not None:
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
        self.refuse(["false_alarms"], f"is about the threshold from good photos; give some ({argument('good')})")
        facts = method_facts(self.method_name)
        if self.weights is None and facts.good_photos == "needed" and not self.unlabelled:
            raise ConfigError(
                f"{facts.title} learns from good photos: give some ({argument('good')}), a saved detector "
                f"({argument('model')}), or a method that needs neither ({argument('method', 'faprompt')})"
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
                f"{what}, of which {method_facts(self.method_name).title} learns nothing; take {', '.join(UNLABELLED)} "
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
        self._say_missing_maps(detector)
        title = f"{detector.object}: inspection"
        output = Output(
            self.output, self.heatmaps, self.maps, self.max_pictures, self.fresh, self.command, title, held=True
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

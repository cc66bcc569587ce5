"""Requests for a detector: how it comes about, for every job that needs one, and `promptad fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptad.annotations import Above0, Positive, Seed
from promptad.data.files import shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.methods.catalogue import (
    method_facts,
    names,
    names_for_anomalies,
    require_anomalies,
    require_memory,
    require_tuned,
)
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
from promptad.requests.regions import RegionsRequest
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.requests.refitting import Refit


@dataclass(frozen=True)
class DetectorRequest(RegionsRequest, TowersRequest):
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
        self.check_regions()
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
        self.require_masks()
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
            roi=self.roi,
            ignore=self.ignore,
            **self.method_settings(),
        )

    def fitted_detector(
        self,
        progress: Progress | None,
        lines: Lines,
        kept_in: Path | None = None,
        *,
        fresh: bool = False,
        tune: bool = False,
    ) -> Detector:
        """A new detector, fitted if there are good photos; what cannot be read is told and left out.

        What is not there is asked for first, before anything is loaded.

        Args:
            kept_in: folder of a run, which keeps what is learned (`promptad.requests.kept`). fresh: take nothing from there.
            tune: choose settings on the good photos first; not together with `kept_in`.

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
                tune=tune,
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


# What a saved detector brings with it, and what a refit keeps of it beside that.
BROUGHT = (
    *("defects", "only_defects", "words", "method", "weights", "preset"),
    *("activation", "precision", "seed", "input_range", "finest_defect", "settings", "roi", "ignore"),
)
_KEPT = ("held_out", "defective", "tune", "object", *BROUGHT)


@dataclass(frozen=True)
class FitRequest(DetectorRequest):
    """A detector from good photos, or made anew from one that is there and from labels, saved."""

    output: Path | None = asked("The detector, one .safetensors file.", None, option="-o --output")
    tune: bool = asked(
        "Choose settings of promptad's memory for this product first: on the good photos, each compared with the others, and on copies "
        "of them with painted damage. Needs two good photos; four take about a minute.",
        False,
    )
    model: Path | None = asked("A saved detector to make a new one from, with labels or further good photos.", None)
    labels: tuple[Path, ...] = asked(
        "Labels of photos, as the report saves them: good ones join the good photos of the saved detector, defects set the threshold's "
        "other side; repeat for more.",
        (),
    )
    photos: tuple[Path, ...] = asked(
        "Folders in which the photos of labels and saved detector are looked for, by content, where they are not where they were; repeat.",
        (),
    )
    budget: Positive | None = asked(
        "Most patches of good photos that the memory of a layer of the new detector keeps, those farthest apart. Default: as the "
        "saved one says, else 10000.",
        None,
    )

    threshold: float | None = asked(
        "Your own threshold for the saved detector, which stays as it is in everything else: what the report or `promptad accept` shows.",
        None,
    )

    def check(self) -> None:
        """There must be good photos, or a detector and labels or a threshold."""
        if self.model is not None:
            self.check_regions()
            self.refuse(_KEPT, f"the saved detector ({argument('model')}) brings its own; leave out one of the two")
            if self.threshold is not None:
                self.refuse(
                    ("labels", "good", "photos", "budget", "false_alarms"),
                    f"the threshold is given ({argument('threshold')}) and nothing is learned; leave one of the two out",
                )
                return
            if not self.labels and not self.good:
                raise ConfigError(
                    f"nothing says what is new; give labels ({argument('labels', 'labels.csv')}) or good photos ({argument('good')})"
                )
            if self.false_alarms is not None and not 0 < self.false_alarms < 1:
                raise ConfigError(f"{argument('false_alarms')} must be above 0 and below 1; got {self.false_alarms:g}")
            return
        self.refuse(
            ("labels", "photos", "budget", "threshold"), f"go with a saved detector; name it ({argument('model')})"
        )
        super().check()
        if self.tune:
            require_tuned(self.method_name)
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
        if self.model is not None:
            done, output = self.refit(progress=progress, said=said, failed=failed)
            return done.detector, output
        lines = Lines(said, failed)
        return self._saved(lambda: self.fitted_detector(progress, lines, tune=self.tune))

    def refit(
        self, *, progress: Progress | None = None, said: Said | None = None, failed: Said | None = None
    ) -> tuple[Refit, Path | None]:
        """Makes a new detector from `model` and saves it; gives what changed, and its file. Listeners as in :meth:`run`.

        Raises:
            ConfigError: there is no `model`. DataError: a file of that name is there already. PromptadError: whatever else cannot be.
        """
        from promptad.requests.refitting import refit, with_threshold

        if self.model is None:
            raise ConfigError(f"there is no detector to make a new one from; name it ({argument('model')})")
        output = tensors_file(self.output) if self.output is not None else None
        if output is not None and output.exists():
            raise DataError(
                f"{shown(output)}: is there already, and a detector that is made from another overwrites none; choose another name "
                f"({argument('output')})"
            )
        model, load = self.model, {name: getattr(self, name) for name in ("backbone", "memory_backbone", "device")}
        lines = Lines(said, failed)
        done: list[Refit] = []

        def make() -> Detector:
            if self.threshold is not None:
                done.append(with_threshold(model, self.threshold, load))
                return done[0].detector
            options: dict[str, Any] = {"rows": self.budget, "false_alarms": self.false_alarms, "load": load}
            good = photo_files(self.good, lines)
            done.append(refit(model, self.labels, good, self.photos, **options, progress=progress, lines=lines))
            return done[0].detector

        _, output = self._saved(make, lambda: done[0].files)
        return done[0], output

    def _saved(
        self, make: Callable[[], Detector], files: Callable[[], Iterable[Path]] | None = None
    ) -> tuple[Detector, Path | None]:
        """Makes a detector and writes it, with the way to its good photos, in one lock."""
        from promptad.data.files import refuse_foreign, write_atomic
        from promptad.data.lock import only_writer, prepared_folder

        output = tensors_file(self.output) if self.output is not None else None
        if output is not None:
            refuse_foreign(output)
        with prepared_folder(output.parent if output is not None else None), only_writer(output):
            detector = self.with_regions(make())
            if output is not None:
                from promptad.requests.refitting import places_of  # brings torch, which `make` has loaded by now

                told = Lines(lambda line: None)  # what is no photo was told when they were read
                photos = files() if files is not None else photo_files((*self.good, *self.defective), told)
                # As `save` does, in the lock that is held already.
                write_atomic(output, detector.to_bytes(places=places_of(photos, output.parent, detector)))
        return detector, output

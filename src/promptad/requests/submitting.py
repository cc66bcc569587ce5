"""The request for the archive that MVTec AD 2's evaluation server takes: `promptad data submit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptad.annotations import Above0, Count, Seed
from promptad.data.files import shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.methods.catalogue import FACTS, method_facts, require_anomalies
from promptad.requests.asked import BackboneRequest, asked, require_file
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.clip.backbone import Backbone
    from promptad.data.records import Record
    from promptad.detector import Detector

_SHOTS_SEED = 111


@dataclass(frozen=True)
class SubmitRequest(BackboneRequest):
    """A method fitted on every object of MVTec AD 2, and its maps of the private photos in one archive."""

    dataset: Path = asked("MVTec AD 2: its folder as it was unpacked, all eight objects.", Path(), place="argument")
    output: Path = asked("The archive to write: NAME.tar.gz.", Path(), place="argument")
    method: str = asked(f"{', '.join(name for name, facts in FACTS.items() if facts.maps)}.", "promptad")
    preset: str | None = asked("clean (recommended), paper or release. Default: clean, or the file's.", None)
    weights: Path | None = asked("Trained prompts instead of the package's.", None)
    shots: Count | None = asked(
        "Good photos of each object, drawn; 0 for methods that can do without. Default: all its training photos.", None
    )
    seed: Seed = asked("Seed of that draw.", _SHOTS_SEED)
    deviations: Above0 = asked(
        "Threshold of the binary maps, in standard deviations above the mean of the validation maps.", 3.0
    )
    no_masks: bool = asked("Leave the binary maps out; the server then gives no SegF1.", False)
    settings: Mapping[str, Any] = asked(
        "Any setting of the method as key=value, e.g. epochs=200; repeat for more.", {}, option="--set"
    )

    def check(self) -> None:
        """What needs no photo, before anything is loaded."""
        from promptad.bench.submission import SUFFIX

        facts = method_facts(self.method)
        if not self.output.name.endswith(SUFFIX) or self.output.name == SUFFIX:
            raise ConfigError(f"{shown(self.output)}: the server takes NAME{SUFFIX}; call it so")
        if not facts.maps:
            raise ConfigError(f"{argument('method', self.method)}: {facts.title} gives no anomaly maps; take another")
        require_anomalies(self.method, 0, "method")
        if facts.trained_on is None:
            self.refuse(
                ["weights"], f"{self.method} is not trained once, so it takes no trained prompts; leave them out"
            )
        if facts.good_photos == "unused":
            self.refuse(["shots", "seed"], f"{self.method} learns from no good photo; leave it out")
        if self.shots == 0 and facts.good_photos == "needed":
            raise ConfigError(f"{facts.title} learns from good photos; give {argument('shots')} of at least 1")
        if not self.shots:
            self.refuse(["seed"], f"no photo is drawn, since {argument('shots')} gives no number of them; leave it out")
        if self.no_masks:
            self.refuse(["deviations"], f"is of binary maps, which are left out ({argument('no_masks', 'True')})")

    def run(self, *, progress: Progress | None = None) -> tuple[Path, int]:
        """Fits and predicts object by object and writes the archive; gives its path and the number of maps.

        Args:
            progress: called with photos done and in all.

        Raises:
            PromptadError: a photo is missing or cannot be read: the server takes all or nothing.
        """
        from promptad.bench.submission import private_photos
        from promptad.data.datasets import load_dataset
        from promptad.data.lock import only_writer, prepared_folder

        if self.weights is not None:
            require_file(self.weights, "file of trained prompts")
        self.require_backbone()
        records = load_dataset(self.dataset, "ad2")
        photos = private_photos(records)
        with prepared_folder(self.output.parent), only_writer(self.output):
            return self.output, self._write(records, photos, progress)

    def _write(
        self, records: Sequence[Record], photos: dict[str, dict[str, list[Record]]], progress: Progress | None
    ) -> int:
        from promptad.bench.submission import archive_at, scale_of, write_object
        from promptad.steps import Steps

        looked = [record for record in records if record.split == "validation"]
        clip, written = self.open_backbone(), 0
        steps = Steps(progress, len(looked) + sum(len(some) for splits in photos.values() for some in splits.values()))
        with archive_at(self.output) as archive:
            for name, splits in photos.items():
                detector = self._fitted(name, records, clip)

                def map_of(record: Record, detector: Detector = detector) -> Any:
                    values = detector.predict(record.path).map
                    steps.tick()
                    if values is None:
                        raise DataError(f"{shown(record.path)}: {self.method} gave no anomaly map")
                    return values

                scale = scale_of((map_of(record) for record in looked if record.class_name == name), name)
                deviations = None if self.no_masks else self.deviations
                written += write_object(archive, name, splits, map_of, scale, deviations)
        steps.finish()
        return written

    def _fitted(self, name: str, records: Sequence[Record], clip: Backbone) -> Detector:
        from promptad.data.shots import draw_shots
        from promptad.detector import Detector

        detector = Detector(
            self.method, object=name, preset=self.preset, backbone=clip, weights=self.weights, **self.settings
        )
        if detector.entry.good_photos == "unused" or self.shots == 0:
            return detector
        good = [record for record in records if (record.class_name, record.split, record.label) == (name, "train", 0)]
        drawn = draw_shots(good, self.shots, self.seed) if self.shots else good
        if not drawn:
            raise DataError(f"{name}/train/good: no photos; {detector.entry.title} learns from them; unpack them")
        encoded = [detector.encode(record.path, reference=True) for record in drawn]
        return detector.fit_features(encoded, set_threshold=False)

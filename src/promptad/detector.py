"""The façade that people use: a detector that learns from good photos and judges others, in memory, without files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from promptad import __version__
from promptad.annotations import check_arguments
from promptad.calibration.good_photos import encode_defective, read_good_photos, require_photos, say_learned
from promptad.calibration.ladder import Judged, calibrate_by, choose_evidence, fit_steps
from promptad.calibration.measured import unlike_measured
from promptad.calibration.threshold import Calibration
from promptad.clip.architecture import Activation
from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.device import Precision
from promptad.clip.memory_tower import MemoryTower
from promptad.data.files import one_line, refuse_foreign, shown, write_atomic
from promptad.data.folder import each_photo
from promptad.data.inspected_area import Drawn, InspectedArea, read_area
from promptad.data.lock import only_writer, prepared_folder
from promptad.data.tensor_file import content_digest
from promptad.errors import ConfigError, TextError, WeightsError
from promptad.judging import Judge, PhotoLike
from promptad.learning.features import Encoder, FeatureStore, PhotoFeatures
from promptad.methods.catalogue import require_anomalies, require_memory
from promptad.methods.contract import EpochHook, Trained
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict, layout, words_digest
from promptad.prompts.words import check_object
from promptad.saved.detectors import SavedDetector, detector_bytes, detector_from_bytes, read_detector
from promptad.saved.prompts import Learned, choose_learned, is_shipped, read_learned
from promptad.scoring.regions import RegionRule
from promptad.steps import Progress, Steps
from promptad.tuning import Tuned, asking, steps_of, tuned

# What `Detector` may be given besides defects and settings, which are held to their own types.
_ARGUMENTS: dict[str, Any] = {
    "method": str | None,
    "object": str,
    "preset": str | None,
    "backbone": str | Path | Backbone,
    "memory_backbone": str | Path | MemoryTower | None,
    "precision": Precision | None,
    "device": str | None,
    "activation": Activation | None,
    "cache": FeatureStore | None,
    "weights": str | Path | Learned | None,
    "roi": str | Path | np.ndarray | None,
    "ignore": str | Path | np.ndarray | None,
}


class Detector(Judge):
    """Judges photos of one object.

    Example::

        detector = Detector(object="cookie", defects=["with a bite taken"]).fit(["good-1.jpg", "good-2.jpg"])
        result = detector.predict("photo.jpg")
        print(result.verdict, result.score, result.defects[0].words)

    Args:
        method: "promptad" (needs 1 to 4 good photos or more), or one that needs none: "faprompt", "anomalyclip", "rwda",
            "promptad-zs" (trained once, away from the product) or "clip" (untrained). With `weights`, theirs.
        object: what the photos show, in words ("metal nut") or as a data set names it ("metal_nut").
        defects: a person's own defect words ("with scratch", "bent [c]").
        preset: "clean" (recommended), "paper" or "release"; see the method's page.
        backbone: zoo name, weights file, model folder, or a loaded :class:`Backbone`.
        memory_backbone: a DINOv2 whose tokens the memory is made of, instead of CLIP's: zoo name ("dinov2-vits14", with "@672" behind it
            photos at that side), file, folder, or loaded (`clip.memory_tower`); for promptad, patchcore, padim, spade, fastrecon and
            simplenet. Words and prompts stay CLIP's.
        precision: "fp32", "bf16" or "fp16" of the towers. device: "cpu", "cuda", ...
        activation: "quick_gelu" or "gelu", for weights files of which neither the zoo nor a config says.
        cache: keeps features of photo files on disk; None encodes every time.
        weights: file of trained prompts (`promptad train`), for methods that are trained once; None takes those of the
            package, which exist for the starter backbone. Their preset and settings come from the file.
        roi, ignore: masks, files or arrays (H, W), white where photos are looked at and where not; see :mod:`promptad.data.inspected_area`.
        **settings: any field of the method's config.

    Raises:
        ConfigError: an unknown method, preset or setting. WeightsError: the backbone or the trained prompts cannot be
            loaded. TextError: words too long for the text tower.
    """

    def __init__(
        self,
        method: str | None = None,
        *,
        object: str = "object",  # the field's name for it; the builtin is not needed here
        defects: Sequence[str] = (),
        preset: str | None = None,
        backbone: str | Path | Backbone = "starter",
        memory_backbone: str | Path | MemoryTower | None = None,
        precision: Precision | None = None,
        device: str | None = None,
        activation: Activation | None = None,
        cache: FeatureStore | None = None,
        weights: str | Path | Learned | None = None,
        roi: Drawn | None = None,
        ignore: Drawn | None = None,
        **settings: Any,
    ) -> None:
        given: dict[str, Any] = {"method": method, "object": object, "preset": preset, "backbone": backbone}
        given |= {"device": device, "precision": precision, "activation": activation}
        given |= {"cache": cache, "weights": weights, "memory_backbone": memory_backbone, "roi": roi, "ignore": ignore}
        check_arguments(_ARGUMENTS, given)
        check_object(object)
        if isinstance(defects, str):
            raise ConfigError(f"defects must be a list of texts such as [{defects!r}]; got the text {defects!r}")
        if defects:
            # A set has another order in every process, and the order of words is part of a detector.
            settings["defects"] = (
                tuple(defects) if isinstance(defects, Iterable) and not isinstance(defects, Set) else defects
            )
        self.object = object
        if weights is not None:
            weights = weights if isinstance(weights, Learned) else read_learned(Path(weights))
            weights.make_config(settings)
        elif not find_method(method or "promptad").trained:
            find_method(method or "promptad").make_config(preset or "clean", **settings)
        if isinstance(backbone, Backbone):
            backbone.require_same(precision=precision, device=device, activation=activation)
            clip = backbone.with_memory(memory_backbone)
        else:
            clip = load_backbone(
                backbone,
                precision="fp32" if precision is None else precision,
                device="cpu" if device is None else device,
                activation=activation,
                memory=memory_backbone,
            )
        learned = choose_learned(method, preset, weights, clip)
        name = learned.method if learned else method or "promptad"
        self.preset = learned.preset if learned else preset or "clean"
        config = learned.make_config(settings) if learned else find_method(name).make_config(self.preset, **settings)
        self._start(name, config, clip, cache, learned, read_area(roi, ignore))

    def _start(
        self,
        method: str,
        config: Any,
        backbone: Backbone,
        cache: FeatureStore | None,
        learned: Learned | None = None,
        area: InspectedArea | None = None,
    ) -> None:
        self.entry, self.config, self.backbone = find_method(method), config, backbone
        if backbone.memory is not None:
            require_memory(method)
        self.method = self.entry.build(backbone, config, self.object)
        if learned is not None:
            learned.load_into(cast(Trained, self.method), backbone)
        self.preprocess = layout(config, backbone.input_size, backbone.sizes.vision.patch_size)
        self.encoder = Encoder(backbone, self.preprocess, self.method.request, cache=cache, area=area)
        self.origin = learned.sha256 if learned else ""
        self.trained = {"sha256": learned.sha256, **learned.card} if learned else None
        self.calibration: Calibration | None = None
        self.good: list[dict[str, Any]] = []
        self.anomalies: list[dict[str, Any]] = []
        self.tuned: Tuned | None = None
        self.parents: list[dict[str, Any]] = []  # files that it was made from, see `requests.refitting`
        self.region_rule = RegionRule()
        self._fitted = not self.entry.needs_good_photos

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        photos: PhotoLike | Sequence[PhotoLike],
        *,
        held_out: PhotoLike | Sequence[PhotoLike] = (),
        defective: PhotoLike | Sequence[PhotoLike] = (),
        false_alarms: float | None = None,
        tune: bool = False,
        progress: Progress | None = None,
        unreadable: Callable[[str], None] | None = None,
    ) -> Detector:
        """Learns from good photos and sets the threshold from them. Copies among them count once, with a notice.

        Args:
            photos: good photos: paths, folders, Pillow images or arrays; one or several.
            held_out: further good photos that only set the threshold; the more, the lower the rate they can prove.
            defective: photos known to be defective. Methods for labelled anomalies (devnet, dra, mlep-proxy) learn from them;
                for all others they set nothing, and the threshold's note says how many it misses.
            false_alarms: share of good photos that may be called anomalous, for example 0.01.
            tune: first choose settings of the memory on the good photos and on copies with painted damage (`promptad.tuning`).
            progress: called with steps done and steps in all: a photo read, an epoch of training, a score for the
                threshold.
            unreadable: called with a line for each photo that cannot be read, which is then left out; None raises.

        Raises:
            PhotoError: a photo cannot be read. DataError: a folder without photos, or none that can be read. ConfigError: no photo at all, a photo
            both learned from and held out, or a rate of false alarms smaller than the photos allow.
        """
        check_arguments({"false_alarms": float | None, "tune": bool}, {"false_alarms": false_alarms, "tune": tune})
        good, extra = list(each_photo(photos)), list(each_photo(held_out))
        faulty = list(each_photo(defective))
        require_photos(self.method.name, len(good), len(extra), len(faulty), false_alarms, tune)
        total = fit_steps(self.entry, self.config, len(good), len(extra), len(faulty))
        steps = Steps(progress, total + tune * steps_of(len(good)))
        if tune:
            self._tune(good, steps.tick)

        def encode(item: PhotoLike, photo: NDArray[np.uint8], learned: bool) -> PhotoFeatures:
            path = Path(item) if isinstance(item, str | Path) else None
            return self.encoder.encode_read(photo, path, reference=True, learned=learned)

        role, near, reader = self.entry.good_photos, not self.entry.facts.unlabelled, self.encoder.read
        read = read_good_photos(good, extra, reader, encode, role, steps.tick, unreadable, near=near)
        learns = self.entry.learns_anomalies
        known_bad, entries = encode_defective(faulty, partial(self.encode, reference=learns), unreadable)
        say_learned(self.entry.title, len(known_bad) if learns else 0)
        self.good, self.anomalies = read.entries, entries if learns else []
        self.fit_features(
            read.learned,
            held_out=read.held_out,
            copies=self.encoder.encode(read.altered(role), reference=True),
            anomalies=known_bad if learns else (),
            defective=() if learns else known_bad,
            false_alarms=false_alarms,
            after_epoch=lambda _epoch, _method: steps.tick(),
            after_score=steps.tick,
        )
        steps.finish()
        return self

    def _tune(self, good: Sequence[PhotoLike], done: Callable[[], None]) -> None:
        self.config, self.tuned = tuned(self.config, self.encoder, good, done)
        self.method = self.entry.build(self.backbone, self.config, self.object)
        self.encoder = asking(self.encoder, self.method.request)

    def fit_features(
        self,
        photos: Sequence[PhotoFeatures],
        *,
        held_out: Sequence[PhotoFeatures] = (),
        copies: Sequence[PhotoFeatures] = (),
        anomalies: Sequence[PhotoFeatures] = (),
        defective: Sequence[PhotoFeatures] = (),
        false_alarms: float | None = None,
        after_epoch: EpochHook | None = None,
        after_score: Callable[[], None] | None = None,
        set_threshold: bool = True,
    ) -> Detector:
        """:meth:`fit` from features that were encoded already, as the benchmarks do; no photo may be given twice.

        Args:
            copies: altered copies of a single good photo, which then set the threshold.
            anomalies: labelled defective photos to learn from. defective: others, of which the threshold's note tells.
            after_epoch: see the method's `fit`. after_score: called after each score for the threshold. set_threshold: off leaves the detector without threshold.
        """
        require_anomalies(self.method.name, len(anomalies))
        if anomalies and not self.entry.learns_anomalies:
            raise ConfigError(f"{self.entry.title} learns nothing from labelled defective photos; leave them out")
        self.method.fit(
            [photo.features for photo in photos],
            anomalies=[photo.features for photo in anomalies],
            after_epoch=after_epoch,
        )
        self._fitted = True
        self.calibration = None
        # Photos that may be defective set no threshold.
        setting = ((), ()) if self.entry.facts.unlabelled else (photos, copies)
        evidence = choose_evidence(setting[0], held_out, setting[1], self.entry.good_photos) if set_threshold else None
        if evidence is not None:

            def judge(photo: PhotoFeatures, leave_out: int | None) -> Judged:
                judged = self.judged(photo, leave_out)
                if after_score is not None:
                    after_score()
                return judged

            kind = self.entry.kind_of(self.config)
            clean = config_dict(self.entry.make_config("clean"))
            own = self.trained is not None and not is_shipped(self.method.name, self.trained["sha256"])
            unlike = unlike_measured(
                self.preset,
                config_dict(self.config),
                clean,
                self.backbone.title,
                own_prompts=own,
                area=self.area is not None,
            )
            whose = {"method": self.method.name, "unlike": unlike}
            self.calibration = calibrate_by(judge, evidence, kind=kind, **whose, rate=false_alarms, defective=defective)
        return self

    def identity(self) -> dict[str, Any]:
        """Everything that decides a score, JSON-ready: what runs are resumed by. The threshold is not part of it."""
        return {
            "method": self.method.name,
            "origin": self.origin,
            "object": self.object,
            "config": config_dict(self.config),
            "words": words_digest(self.config),
            "backbone": self.backbone.fingerprint,
            "version": __version__,
            # Where they only set the threshold, no score depends on them.
            "good": [] if self.entry.good_photos == "unused" else [entry.get("sha256", "array") for entry in self.good],
            **({"area": self.area.digest} if self.area else {}),
            **({"anomalies": [entry.get("sha256", "array") for entry in self.anomalies]} if self.anomalies else {}),
        }

    @property
    def good_sizes(self) -> list[tuple[int, int]]:
        """(H, W) in pixels of the good photos; empty where none is known, as for detectors saved by 0.1.0."""
        return [(int(entry["size"][0]), int(entry["size"][1])) for entry in self.good if "size" in entry]

    # -- saving -------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Writes the whole detector to one `.safetensors` file.

        Raises:
            ConfigError: nothing was learned yet. DataError: the file cannot be written, is none of promptad, or a run is making it.
        """
        check_arguments({"path": str | Path}, {"path": path})
        if not self._fitted:
            raise ConfigError("nothing to save yet: call fit first")
        path, content = Path(path), self.to_bytes()
        refuse_foreign(path)
        with prepared_folder(path.parent), only_writer(path):
            write_atomic(path, content)
        return path

    def to_bytes(self, **beside: Any) -> bytes:
        """The content of the file, with further entries of its header; without tensors before the good photos were seen."""
        header = {
            **beside,
            "method": self.method.name,
            "preset": self.preset,
            "object": self.object,
            "config": config_dict(self.config),
            "calibration": self.calibration.to_dict() if self.calibration else None,
            "regions": self.region_rule.to_dict(),
            **({"area": self.area.to_dict()} if self.area else {}),
            "good_photos": self.good,
            **({"anomalies": self.anomalies} if self.anomalies else {}),
            **({"parents": self.parents} if self.parents else {}),
            **({"tuned": self.tuned.to_dict()} if self.tuned else {}),
            "trained": self.trained,
            "fitted": self._fitted,
            "words": self.words.to_dict(),
        }
        return detector_bytes(header, self.backbone, self.method.state() if self._fitted else {})

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        backbone: str | Path | Backbone | None = None,
        memory_backbone: str | Path | MemoryTower | None = None,
        device: str = "cpu",
        cache: FeatureStore | None = None,
    ) -> Detector:
        """Reads a saved detector.

        Args:
            backbone: where its CLIP weights lie now, if not where the detector was made. memory_backbone: the same of its second
                image tower.

        Raises:
            WeightsError: the file is no saved detector, or the backbone is absent or not the one it was made with.
        """
        kinds = {name: _ARGUMENTS[name] for name in ("backbone", "memory_backbone", "cache")}
        given: dict[str, Any] = {"path": path, "backbone": backbone, "device": device, "cache": cache}
        given |= {"memory_backbone": memory_backbone}
        check_arguments({**kinds, "backbone": kinds["backbone"] | None, "path": str | Path, "device": str}, given)
        saved = read_detector(Path(path))
        return cls.from_saved(saved, saved.backbone(backbone, device, memory_backbone), cache)

    @classmethod
    def from_saved(cls, saved: SavedDetector, backbone: Backbone, cache: FeatureStore | None) -> Detector:
        """The detector that a file held. Raises WeightsError: it does not fit."""
        self = cls.__new__(cls)
        self.preset, self.object = saved.preset, saved.object
        try:
            self._start(saved.method, saved.config_with_words(), backbone, cache, area=saved.area)
            self.restore(saved)
        except (ConfigError, TextError, WeightsError, MemoryError, RuntimeError) as error:
            # A damaged header may ask for sizes that torch cannot allocate.
            raise WeightsError(f"{shown(saved.path)}: cannot be used ({one_line(error)[:300]})") from error
        self.origin, self.trained = content_digest(saved.method, saved.tensors), saved.trained
        return self

    def restore(self, saved: SavedDetector) -> None:
        """Takes what a detector of the same method, settings and backbone had learned. Raises WeightsError if it does not fit."""
        if saved.fitted:
            self.method.load_state(saved.tensors)
        self.calibration, self._fitted = saved.calibration, saved.fitted
        self.good, self.anomalies, self.parents, self.tuned = saved.good, saved.anomalies, saved.parents, saved.tuned
        self.region_rule = saved.region_rule

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its saved form beside its backbone, so that other processes get the very same detector."""
        return _revived, (self.to_bytes(), self.backbone, self.encoder.cache)

    def __repr__(self) -> str:
        learned = f", {len(self.good)} good photos" if self.good else "" if self._fitted else ", not fitted yet"
        level = f", threshold {self.calibration.threshold:.4g}" if self.calibration else ""
        named = f"{self.method.name}, preset {self.preset}, object {self.object!r}"
        return f"<Detector: {named}{learned}{level}, backbone {self.backbone.title}>"


def _revived(content: bytes, backbone: Backbone, cache: FeatureStore | None) -> Detector:
    return Detector.from_saved(detector_from_bytes(content), backbone, cache)


def load(path: str | Path, **options: Any) -> Detector:
    """Reads a saved detector; see :meth:`Detector.load`."""
    return Detector.load(path, **options)

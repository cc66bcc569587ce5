"""The file of a fitted detector: what its header says, and the backbone it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from promptad import __version__
from promptad.annotations import Positive, check_fields, checked_value, shortened
from promptad.calibration.threshold import Calibration
from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.features import PositionResize
from promptad.clip.memory_tower import MemoryTower, reopen_memory
from promptad.data.files import one_line, shown
from promptad.data.inspected_area import InspectedArea
from promptad.data.tensor_file import Saved, read_saved, saved_bytes, saved_from_bytes
from promptad.errors import ConfigError, PromptadError, WeightsError
from promptad.inputs import argument
from promptad.methods.registry import find_method
from promptad.methods.settings import config_words
from promptad.notices import notice
from promptad.prompts.words import check_object
from promptad.saved.prompts import checked_card
from promptad.scoring.regions import EVERY_PIXEL, RegionRule
from promptad.tuning import Tuned


@dataclass(frozen=True)
class SavedDetector:
    """A detector as its file holds it.

    Attributes:
        path: the file. method, preset, object: names. config: of the method. calibration: None without a threshold.
        good: names, SHA-256 and (from 0.2 on) sizes of the good photos. made_with: name, sha256, precision and activation of the backbone, and the name of its memory's tower.
        trained: card of the trained prompts, for methods that are trained once. tensors: the method's state, none where
            it was not `fitted` yet. words: states as they were then and their digest, None in files of 0.1.0.
        decides: see :meth:`Backbone.decides`, empty in files of 0.1.0.
        anomalies: the same as `good` of labelled defective photos that were learned from.
        parents: the files that it was made from, newest first: "sha256" and "name" of each.
        region_rule: what counts as a region. area: where photos are looked at. Files of 0.2 say neither.
        tuned: what tuning found, None where none was asked for.
        places: of good photos, by SHA-256, the way from the detector's folder to the file, where they lay when it was saved.
        kept_for, said: see `promptad.requests.kept`, empty in all other files.
    """

    path: Path
    method: str
    preset: str
    object: str
    config: Any
    calibration: Calibration | None
    good: list[dict[str, Any]]
    made_with: dict[str, Any]
    trained: dict[str, Any] | None
    tensors: dict[str, Tensor]
    fitted: bool = True
    words: tuple[tuple[str, ...], str] | None = None
    decides: Mapping[str, Any] = field(default_factory=dict)
    anomalies: list[dict[str, Any]] = field(default_factory=list)
    kept_for: str = ""
    said: tuple[str, ...] = ()
    parents: list[dict[str, Any]] = field(default_factory=list)
    places: Mapping[str, str] = field(default_factory=dict)
    region_rule: RegionRule = EVERY_PIXEL
    area: InspectedArea | None = None
    tuned: Tuned | None = None

    def config_with_words(self) -> Any:
        """The config, with the words of the file where the package has other ones by now."""
        if self.words is None:
            return self.config
        states, digest = self.words
        with suppress(ConfigError):  # a bank that is no longer there
            if config_words(self.object, self.config).digest == digest:
                return self.config
        notice(f"{shown(self.path)}: the package's words for {self.object!r} have changed; those of the file are used")
        return replace(self.config, defects=states, only_defects=True, state_bank="none")

    def backbone(
        self, given: str | Path | Backbone | None, device: str, memory: str | Path | MemoryTower | None = None
    ) -> Backbone:
        """The backbone that the detector was made with, from where it was then or is now; `memory` is where its second image
        tower lies now.

        Raises:
            WeightsError: absent, or another one.
        """
        if isinstance(given, Backbone):
            loaded = given if memory is None else given.with_memory(memory)
        else:
            loaded = load_backbone(
                given or self.made_with["name"],
                precision=self.made_with["precision"],
                device=device,
                activation=self.made_with["activation"],
                mean=self.decides.get("mean"),
                std=self.decides.get("std"),
            )
            if self.decides.get("positions") in get_args(PositionResize):
                loaded.vision.position_resize = self.decides["positions"]
            loaded.memory = self._memory_tower(memory, device)
        if loaded.sha256 != self.made_with["sha256"]:
            raise WeightsError(
                f"{self.path}: made with backbone {self.made_with['name']} (sha256 {self.made_with['sha256'][:8]}), but "
                f"{loaded.name} here is {loaded.sha256[:8]}; give the right weights ({argument('backbone')}), or fit again"
            )
        # Files of 0.1.0 say the activation alone.
        changed = loaded.read_otherwise(self.decides)
        if loaded.sizes.activation != self.made_with["activation"]:
            changed = changed or f"activation, {self.made_with['activation']} then and {loaded.sizes.activation} now,"
        if changed:
            raise WeightsError(
                f"{self.path}: made with the weights of {loaded.name}, but read otherwise ({changed} differ "
                "from what the config beside them or the arguments say now); load them as then, or fit again"
            )
        return loaded

    def _memory_tower(self, given: str | Path | MemoryTower | None, device: str) -> MemoryTower | None:
        """The second image tower that the detector was made with; None where it had none."""
        then = self.decides.get("memory")
        if then is None:
            if given is not None:
                raise WeightsError(
                    f"{shown(self.path)}: was made without a memory backbone; leave {argument('memory_backbone')} out, or fit again"
                )
            return None
        if isinstance(given, MemoryTower):  # what differs is told with the rest of the backbone
            return given
        try:
            return reopen_memory({"name": self.made_with["memory"], "path": None, **then}, given, device)
        except (KeyError, TypeError) as error:
            raise WeightsError(
                f"{shown(self.path)}: its header does not say what the memory backbone was; fit it again"
            ) from error


def detector_bytes(header: Mapping[str, Any], backbone: Backbone, tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a detector's file: what its header says, the backbone's identity and the versions that made it."""
    made_with = {
        "name": backbone.name,
        "sha256": backbone.sha256,
        "precision": backbone.precision,
        "activation": backbone.sizes.activation,
        "decides": backbone.decides(),
        **({} if backbone.memory is None else {"memory": backbone.memory.name}),
    }
    full = {"kind": "detector", "version": __version__, **header, "backbone": made_with, "torch": torch.__version__}
    return saved_bytes(full, tensors)


def read_detector(path: Path) -> SavedDetector:
    """Reads what :func:`detector_bytes` wrote.

    Raises:
        WeightsError: missing, damaged, another kind of file, or of another version's settings.
    """
    return _from_saved(path, read_saved(path))


def detector_from_bytes(content: bytes) -> SavedDetector:
    """The same from the content of a file, as pickled detectors carry it."""
    return _from_saved(Path("pickled detector"), saved_from_bytes(content))


def _from_saved(path: Path, saved: Saved) -> SavedDetector:
    header = saved.header
    try:
        made_with = {key: checked_value(key, str, header["backbone"][key]) for key in _MADE_WITH}
        decides = checked_value("backbone", dict, header["backbone"].get("decides", {}))
        if "memory" in decides:
            made_with["memory"] = checked_value("memory", str, header["backbone"]["memory"])
        method = checked_value("method", str, header["method"])
        calibration = checked_value("calibration", dict[str, Any] | None, header["calibration"])
        known = Calibration.from_dict(calibration) if calibration else None
        if known is not None:
            check_fields(known)
            if not known.map_low < known.map_high:
                raise ConfigError(f"map_low {known.map_low:g} must be below map_high {known.map_high:g}")
        return SavedDetector(
            path,
            method,
            checked_value("preset", str, header["preset"]),
            check_object(checked_value("object", str, header["object"])),
            find_method(method).read_config(checked_value("config", dict, header["config"])),
            known,
            _photos("good_photos", header["good_photos"]),
            made_with,
            checked_card(header["trained"]) if header.get("trained") is not None else None,
            saved.tensors,
            checked_value("fitted", bool, header.get("fitted", True)),
            _words(header["words"]) if "words" in header else None,
            decides,
            _photos("anomalies", header.get("anomalies", [])),
            *_kept(header.get("kept", {})),
            _photos("parents", header.get("parents", [])),
            checked_value("places", dict[str, str], header.get("places", {})),
            RegionRule(**checked_value("regions", dict[str, Any], header.get("regions", {}))),
            InspectedArea.from_dict(header["area"]) if "area" in header else None,
            Tuned.from_dict(checked_value("tuned", dict[str, Any], header["tuned"])) if "tuned" in header else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, PromptadError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
        raise WeightsError(
            f"{shown(path)}: its header does not fit this version of promptad ({reason}); fit it again"
        ) from error


_MADE_WITH = ("name", "sha256", "precision", "activation")


def _photos(name: str, entries: Any) -> list[dict[str, Any]]:
    """Names and hashes of photos that were learned from, every entry a table."""
    if not isinstance(entries, list):
        raise ConfigError(f"{name} must be a list; got {shortened(entries)}")
    return [_photo(checked_value(name, dict, entry)) for entry in entries]


def _photo(entry: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a photo: "name", "size" (H, W), and "sha256", "copy_of" and "camera" of some."""
    kinds = {"name": str, "sha256": str, "copy_of": str, "size": tuple[Positive, Positive], "camera": dict[str, float]}
    known = {key: checked_value(key, kind, entry[key]) for key, kind in kinds.items() if key in entry}
    return {**entry, **known, **({"size": list(known["size"])} if "size" in known else {})}


def _kept(kept: Any) -> tuple[str, tuple[str, ...]]:
    """For what a run kept the file, and the lines that were said."""
    kept = {"for": "", "said": [], **checked_value("kept", dict, kept)}
    return checked_value("kept", str, kept["for"]), checked_value("kept", tuple[str, ...], kept["said"])


def _words(words: Any) -> tuple[tuple[str, ...], str]:
    groups = checked_value("words", dict, words)["words"]
    if not isinstance(groups, list):
        raise ConfigError(f"words must be a list of groups; got {shortened(groups)}")
    states = [
        checked_value("states", tuple[str, ...], checked_value("words", dict, group)["states"]) for group in groups
    ]
    return tuple(state for group in states for state in group), checked_value("sha256", str, words["sha256"])

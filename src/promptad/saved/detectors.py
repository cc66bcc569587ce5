"""The file of a fitted detector: what its header says, and the backbone it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from promptad import __version__
from promptad.calibration.threshold import Calibration
from promptad.clip.backbone import Backbone, load_backbone
from promptad.data.tensor_file import read_saved, write_saved
from promptad.errors import ConfigError, WeightsError
from promptad.methods.registry import find_method


@dataclass(frozen=True)
class SavedDetector:
    """A detector as its file holds it.

    Attributes:
        path: the file. method, preset, object: names. config: of the method. calibration: None without a threshold.
        good: names, SHA-256 and (from 0.2 on) sizes of the good photos. made_with: name, sha256, precision and activation of the backbone.
        trained: card of the trained prompts, for methods that are trained once. tensors: the method's state.
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

    def backbone(self, given: str | Path | Backbone | None, device: str) -> Backbone:
        """The backbone that the detector was made with, from where it was then or is now.

        Raises:
            WeightsError: absent, or another one.
        """
        if isinstance(given, Backbone):
            loaded = given
        else:
            loaded = load_backbone(
                given or self.made_with["name"],
                precision=self.made_with["precision"],
                device=device,
                activation=self.made_with["activation"],
            )
        if loaded.sha256 != self.made_with["sha256"]:
            raise WeightsError(
                f"{self.path}: made with backbone {self.made_with['name']} (sha256 {self.made_with['sha256'][:8]}), but "
                f"{loaded.name} here is {loaded.sha256[:8]}; give the right weights with --backbone, or fit again"
            )
        return loaded


def write_detector(path: Path, header: Mapping[str, Any], backbone: Backbone, tensors: dict[str, Tensor]) -> None:
    """Writes a detector with what its header says, the backbone's identity and the versions that made it.

    Raises:
        DataError: the file cannot be written.
    """
    made_with = {
        "name": backbone.name,
        "sha256": backbone.sha256,
        "precision": backbone.precision,
        "activation": backbone.sizes.activation,
    }
    write_saved(path, {"version": __version__, **header, "backbone": made_with, "torch": torch.__version__}, tensors)


def read_detector(path: Path) -> SavedDetector:
    """Reads what :func:`write_detector` wrote.

    Raises:
        WeightsError: missing, damaged, another kind of file, or of another version's settings.
    """
    saved = read_saved(path)
    header = saved.header
    try:
        calibration = header["calibration"]
        made_with = {key: header["backbone"][key] for key in ("name", "sha256", "precision", "activation")}
        return SavedDetector(
            path,
            header["method"],
            header["preset"],
            header["object"],
            find_method(header["method"]).read_config(header["config"]),
            Calibration.from_dict(calibration) if calibration else None,
            list(header["good_photos"]),
            made_with,
            header.get("trained"),
            saved.tensors,
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise WeightsError(
            f"{path}: its header does not fit this version of promptad ({error}); fit it again"
        ) from error

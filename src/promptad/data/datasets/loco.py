"""MVTec LOCO AD, and AutoVI, which lies alike.

::

    <class>/{train,validation}/good/000.png
    <class>/test/{good,logical_anomalies,structural_anomalies}/000.png
    <class>/ground_truth/<type>/000/000.png, 001.png     one file a defect, its pixels the number of its kind
    <class>/defects_config.json                          what area of each kind of defect has to be found

The mask of a photo is the union of its files. The metric sPRO takes each file as one region and lets it be found once a
saturation area of it is (:mod:`promptad.bench.saturated`); :func:`read_saturations` reads what it needs.

Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
IJCV 130, 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptad.data.datasets import mvtec
from promptad.data.datasets.layout import Layout
from promptad.data.datasets.listed import read_json
from promptad.data.datasets.names import folders_in, is_mask_folder, photos_in
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import DataError

CONFIG = "defects_config.json"


@dataclass(frozen=True)
class Saturation:
    """How much of a kind of defect has to be found.

    Attributes:
        name: of the defect. threshold: pixels, or a share of the defect's area above 0 up to 1 where `relative`.
    """

    name: str
    threshold: float
    relative: bool

    def area(self, pixels: int) -> int:
        """The saturation area of a defect of so many pixels, in pixels of the photo as it is published."""
        return int(self.threshold * pixels) if self.relative else min(int(self.threshold), pixels)


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The records, those of the validation photos too. Raises DataError where it does not lie so."""
    return mvtec.load(root, normal, ("train", "validation", "test"))


def read_saturations(path: Path) -> Mapping[int, Saturation]:
    """Value of a mask's pixels -> what it means, from a `defects_config.json`.

    Raises:
        DataError: the file is missing, of another form, or names a value twice.
    """
    try:
        entries = read_json(path)
        kinds: dict[int, Saturation] = {}
        for entry in entries:
            value, threshold, relative = (
                entry["pixel_value"],
                entry["saturation_threshold"],
                entry["relative_saturation"],
            )
            if not isinstance(value, int) or not 1 <= value <= 255 or value in kinds:
                raise ValueError(f"pixel_value {value!r}")
            if threshold <= 0 or (relative and threshold > 1) or (not relative and threshold != int(threshold)):
                raise ValueError(f"saturation_threshold {threshold!r} of {entry['defect_name']}")
            kinds[value] = Saturation(str(entry["defect_name"]), threshold, bool(relative))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{shown(path)}: is not a list of defects with saturations ({error}); fetch it again"
        ) from error
    return kinds


def config_of(record: Record) -> Path | None:
    """The `defects_config.json` of a defect photo's class, None where its masks do not lie in this layout or there is no such
    file."""
    mask = record.masks[0] if record.masks else None
    if not isinstance(mask, Path) or len(mask.parents) < 4:
        return None
    config = mask.parents[3] / CONFIG  # <class>/ground_truth/<type>/<stem>/000.png
    return config if config.is_file() else None


def _evidence(root: Path) -> str | None:
    for category in mvtec.find_categories(root):
        if (category / CONFIG).is_file():
            return f"{category.name}/{CONFIG}"
        for truth in folders_in(category):
            for kind in folders_in(truth) if is_mask_folder(truth.name) else ():
                for inner in folders_in(kind):
                    if inner.name.isdigit() and photos_in(inner) and not photos_in(kind):
                        return inner.relative_to(category.parent).as_posix()
    return None


LAYOUTS = (Layout("loco", load, _evidence, "defects_config.json, ground_truth/<type>/<number>/"),)

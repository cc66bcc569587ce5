"""What is asked of the regions of photos, for every job that makes a detector or judges with one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptad.annotations import Above0, Positive
from promptad.data.files import shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.requests.asked import Request, asked

if TYPE_CHECKING:
    from promptad.detector import Detector

_ABOUT = ("region_false_alarms", "map_threshold", "least_area", "scale")


@dataclass(frozen=True)
class RegionsRequest(Request):
    """What a region is."""

    region_false_alarms: float | None = asked(
        "Share of good photos that may have a region, e.g. 0.05: sets the pixel threshold. Default: no region in any good photo, and "
        "at most 0.1.",
        None,
    )
    map_threshold: float | None = asked("Your own pixel threshold: places of a map above it are regions.", None)
    least_area: Positive | None = asked(
        "Smallest area of a region in photo pixels; smaller places above the pixel threshold are no regions. Default: as the detector "
        "says, else 1.",
        None,
    )
    scale: Above0 | None = asked(
        "Millimetres that a photo pixel is wide: regions then have sizes in mm and areas in mm². Default: as the detector says.",
        None,
    )

    roi: Path | None = asked(
        "Mask of where photos of this product are looked at: white on black, drawn on one photo. Kept in the detector.",
        None,
    )
    ignore: Path | None = asked("Mask of what is left out: white on black. Kept in the detector.", None)

    def require_masks(self) -> None:
        """Asks for the masks by their places. Raises DataError: one is not there."""
        for mask in (self.roi, self.ignore):
            if mask is not None and not mask.is_file():
                raise DataError(f"{shown(mask)}: no such mask; check the path")

    def check_regions(self) -> None:
        """The inputs about regions, which belong to any detector. Raises ConfigError."""
        for name in ("region_false_alarms", "map_threshold"):
            value = getattr(self, name)
            if name == "region_false_alarms" and value is not None and not 0 < value < 1:
                raise ConfigError(f"{argument(name)} must be above 0 and below 1, such as 0.05 for 5 %; got {value:g}")
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{argument(name)} must be a finite number; got {value}")
        if self.map_threshold is not None:
            self.refuse(
                ["region_false_alarms"],
                f"the pixel threshold is given ({argument('map_threshold')}); leave one of the two out",
            )

    def with_regions(self, detector: Detector) -> Detector:
        """The detector with what is asked here of its regions. Raises ConfigError: a rate that its good photos do not allow."""
        if not (given := self.given(_ABOUT)):
            return detector
        named = ", ".join(argument(name, str(getattr(self, name))) for name in given)
        if not detector.entry.facts.maps:
            notice(f"{detector.entry.title} gives no anomaly maps, so there are no regions ({named})")
            return detector
        if self.region_false_alarms is not None:
            detector.set_region_false_alarms(self.region_false_alarms)
        if self.map_threshold is not None:
            if detector.calibration is None:
                raise ConfigError(
                    f"{argument('map_threshold')}: goes with a threshold, and there is none; good photos set one ({argument('good')}), or give "
                    f"one by hand ({argument('threshold')})"
                )
            detector.set_map_threshold(self.map_threshold)
        if detector.calibration is None or detector.calibration.map_threshold is None:
            notice(
                f"there is no pixel threshold, so there are no regions ({named}); good photos set one ({argument('good')}), or a person "
                f"({argument('map_threshold')})"
            )
        return detector.set_regions(least_area=self.least_area, scale=self.scale)

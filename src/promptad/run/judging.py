"""One photo through a detector: its row, and the files that are written about it.

Whatever goes wrong with one photo ends in its row: a photo that cannot be read or judged is "failed", a file about a judged
photo that cannot be written is a remark. Only what stops every photo (a full disk under the log, Ctrl-C) ends a run.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptad.data.camera import camera_statistics
from promptad.data.files import one_line, shown
from promptad.data.photos import read_photo
from promptad.detector import Detector
from promptad.errors import PromptadError
from promptad.prediction import Prediction
from promptad.report.heatmap import overlay, save_heatmap, save_map
from promptad.report.rows import Row, Scale
from promptad.report.thumbnails import small, thumbnail
from promptad.run.remarks import UNWRITTEN

HeatmapKind = Literal["jpg", "png", "none"]
MapKind = Literal["npy", "png", "none"]
Seen = Callable[[Path, Prediction], None]


@dataclass(frozen=True)
class Files:
    """What is written about a photo, and where.

    Attributes:
        folder: of the report. heatmaps, maps: formats. name: of the photo's files, without their ending.
    """

    folder: Path
    heatmaps: HeatmapKind
    maps: MapKind
    name: str

    @property
    def heatmap(self) -> str | None:
        """Path of the heat map below the folder; None when none is wanted."""
        return None if self.heatmaps == "none" else f"heatmaps/{self.name}.{self.heatmaps}"

    @property
    def map_file(self) -> str | None:
        """Path of the raw map below the folder; None when none is wanted."""
        return None if self.maps == "none" else f"maps/{self.name}.{self.maps}"

    @property
    def written(self) -> list[str]:
        """All paths below the folder that are written or may be: a heat map too long for JPEG is a PNG file."""
        paths = [self.heatmap, self.map_file, f"heatmaps/{self.name}.png" if self.heatmaps == "jpg" else None]
        return [path for path in paths if path is not None]


def judge(
    detector: Detector,
    path: Path,
    files: Files,
    known: dict[str, Any],
    *,
    pictured: Callable[[float], bool],
    seen: Seen | None = None,
) -> Row:
    """Judges one photo and writes its files.

    Args:
        known: fields of the row that only the run knows; ``photo`` is its path as the report tells it.
        pictured: whether a photo of that score needs small pictures for the page. seen: called with the prediction.
    """
    try:
        began = time.perf_counter()
        photo = read_photo(path, detector.preprocess.max_pixels, detector.preprocess.input_range or None)
        read = time.perf_counter()
        features = detector.encoder.encode([photo], name=shown(path))[0]
        encoded = time.perf_counter()
        prediction = detector.predict_features(features, path=path)
    except PromptadError as error:
        return Row.failed(error=error, **known)
    except Exception as error:  # one photo must not end a run of ten thousand
        return Row.failed(error=_reason(path, error), **known)
    done = time.perf_counter()
    prediction.timings.update(read=read - began, encode=encoded - read, score=done - encoded)
    if seen is not None:
        seen(path, prediction)
    row = replace(Row.of(prediction, **known), camera=camera_statistics(photo))
    try:
        return _with_files(row, detector, photo, prediction, files, pictured(prediction.score))
    except Exception as error:  # the verdict stands
        return _remarked(row, f"{UNWRITTEN}: {_reason(path, error)}")


def learned_contents(detector: Detector) -> set[str]:
    """SHA-256 of the photos whose scores say nothing about new ones, since the detector learned from them.

    Where it learns from photos that may be good or defective, a photo is never compared with itself.
    """
    learns = detector.entry.good_photos != "unused" and not detector.entry.facts.unlabelled
    return {entry["sha256"] for entry in detector.good if "sha256" in entry} if learns else set()


def _with_files(
    row: Row, detector: Detector, photo: NDArray[np.uint8], prediction: Prediction, files: Files, pictured: bool
) -> Row:
    """The row with the files that could be written and remarks on those that could not."""
    if pictured:
        row = replace(row, picture=thumbnail(small(photo)))
    if prediction.map is None:
        return row
    if files.map_file is not None:
        try:
            save_map(files.folder / files.map_file, prediction.map, *map_ends(detector, prediction.map))
            row = replace(row, map_file=files.map_file)
        except PromptadError as error:
            row = _remarked(row, f"{UNWRITTEN}: {error}")
    if files.heatmap is None and not pictured:
        return row
    scale = color_scale(detector, prediction.map_threshold)
    picture = overlay(
        photo,
        prediction.map,
        scale.low,
        scale.high,
        map_threshold=scale.outline,
        inspected=prediction.inspected,
        mask=prediction.mask if prediction.rule.least_area > 1 else None,
        legend=files.heatmap is not None,
    )
    if pictured:
        row = replace(row, heatmap_picture=thumbnail(small(picture[: photo.shape[0]])))
    if files.heatmap is not None:
        try:
            written = save_heatmap(files.folder / files.heatmap, picture)
        except PromptadError as error:
            return _remarked(row, f"{UNWRITTEN}: {error}")
        place = written.relative_to(files.folder).as_posix()
        row = replace(row, heatmap=place, scale=scale)
        if place != files.heatmap:
            row = _remarked(
                row, f"Its heat map is a PNG file: an edge of {max(picture.shape[:2])} is too long for JPEG."
            )
    return row


def color_scale(detector: Detector, outline: float | None = None) -> Scale:
    """The heat maps' colours: fixed for a detector, never stretched per photo."""
    calibration = detector.calibration
    low, high = (
        (calibration.map_low, calibration.map_high) if calibration else detector.entry.map_range_of(detector.config)
    )
    return Scale(low, high, outline)


def map_ends(detector: Detector, values: NDArray[np.floating]) -> tuple[float, float]:
    """Values that are black and white in 16-bit map files: the same for all photos, and wider where a map goes beyond them (tokens that
    are not brought to length 1 have distances of any size)."""
    low, high = detector.entry.map_bounds
    return min(low, float(values.min())), max(high, float(values.max()))


def _remarked(row: Row, text: str) -> Row:
    return replace(row, remarks=(*row.remarks, " ".join(text.split())))


def _reason(path: Path, error: Exception) -> str:
    """One line for an error that no part of the package foresaw."""
    if isinstance(error, MemoryError) or "memory" in str(error):  # torch says it with a RuntimeError
        return f"{shown(path)}: not enough memory for a photo of this size; make it smaller"
    return f"{shown(path)}: fails ({_kind(error)}); this is a fault of promptad, please report it"


def _kind(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}: {one_line(error)[:200]}"

"""One run over a folder: every photo judged, heat maps, a table, a log that can be resumed, and a page."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from promptad.data.files import shown, write_atomic
from promptad.data.photos import read_photo
from promptad.detector import Detector
from promptad.errors import DataError, PromptadError
from promptad.prediction import Prediction
from promptad.report.heatmap import overlay, save_heatmap, save_map
from promptad.report.page import Metric, PageSummary, write_page
from promptad.report.rows import Row, worst_first
from promptad.report.table import ResultLog, run_key, write_csv
from promptad.report.thumbnails import small


@dataclass(frozen=True)
class Output:
    """Where and what a run writes.

    Attributes:
        folder: created when needed. heatmaps: "jpg", "png" or "none". maps: raw values as "npy", "png" or "none".
        max_pictures: photos with pictures on the page, the worst ones. fresh: forget an earlier run in the folder.
        command: shown on the page. title: its heading.
    """

    folder: Path
    heatmaps: str = "jpg"
    maps: str = "none"
    max_pictures: int = 200
    fresh: bool = False
    command: str = ""
    title: str = "Inspection"


@dataclass
class Report:
    """What a run gave: rows worst first, the files, and whether it was interrupted."""

    rows: list[Row]
    csv: Path
    log: Path
    page: Path
    reused: int = 0
    interrupted: bool = False
    failed: list[Row] = field(default_factory=list)


def inspect(
    detector: Detector,
    photos: Sequence[Path],
    output: Output,
    *,
    skipped: Sequence[tuple[Path, str]] = (),
    unreadable: Sequence[tuple[Path, str]] = (),
    labels: Mapping[Path, int] | None = None,
    metrics: Callable[[], Sequence[Metric]] | None = None,
    seen: Callable[[Path, Prediction], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    failed: Callable[[str], None] | None = None,
) -> Report:
    """Judges photos one after the other and writes everything under `output.folder`.

    A photo that cannot be judged gets a row with its reason; the rest goes on. Every finished photo is on disk at once,
    so an interrupted run loses at most the photo it was at, and the next run with the same detector goes on from there.

    Args:
        photos: in the order in which they are judged. skipped: files that are no photos, with reasons.
        unreadable: what should have been read and cannot be (broken links, folders without rights), with reasons; failed.
        labels: 0 good, 1 anomalous where known. metrics: called at the end, shown on the page.
        seen: called with every new prediction, its map included; switches resuming off, since maps are not kept.
        progress: photos done and in all. failed: called with one line for each photo that cannot be judged.

    Raises:
        DataError: the folder cannot be written. KeyboardInterrupt is caught: the report then says `interrupted`.
    """
    folder = output.folder
    files = Report([], folder / "results.csv", folder / "results.jsonl", folder / "report.html")
    prepare(folder)
    if output.fresh or seen is not None:
        files.log.unlink(missing_ok=True)
    key = run_key({"detector": detector.identity(), "heatmaps": output.heatmaps, "maps": output.maps})
    names = picture_names(photos)
    rows = [Row.failed(path, f"skipped: {reason}") for path, reason in skipped]
    rows += [Row.failed(path, f"{shown(path)}: {reason}") for path, reason in unreadable]
    with ResultLog(files.log, key) as log:
        try:
            for index, path in enumerate(photos):
                row = log.finished(path)
                if row is not None:
                    files.reused += 1
                else:
                    row = _one(detector, path, names[path], output, (labels or {}).get(path), seen)
                    log.append(row)
                    if row.verdict == "failed" and failed is not None:
                        failed(row.error)
                rows.append(row)
                if len(rows) > 2 * output.max_pictures:
                    rows = _without_hidden_pictures(rows, output.max_pictures)
                if progress is not None:
                    progress(index + 1, len(photos))
        except KeyboardInterrupt:
            files.interrupted = True
    files.rows = worst_first(rows)
    files.failed = [row for row in files.rows if row.verdict == "failed"]
    write_csv(files.csv, files.rows)
    calibration = detector.calibration
    mapped = any(row.hottest is not None for row in files.rows)
    low, high = color_scale(detector) if mapped else (None, None)
    notes = [f"{files.reused} of {len(photos)} photos were taken from an earlier run."] if files.reused else []
    if files.interrupted:
        notes.append(
            f"The run was interrupted: {len(rows) - len(skipped) - len(unreadable)} of {len(photos)} photos are shown."
        )
    summary = PageSummary(
        object=detector.object,
        method=f"{detector.entry.title}, preset {detector.preset}",
        backbone=detector.backbone.identity,
        threshold=calibration.threshold if calibration else None,
        threshold_note=calibration.note
        if calibration
        else "Good photos (--good) set a threshold; --threshold gives one by hand.",
        map_low=low,
        map_high=high,
        map_threshold=calibration.map_threshold if calibration else None,
        command=output.command,
        metrics=tuple(metrics()) if metrics is not None and not files.interrupted else (),
        notes=tuple(notes),
    )
    write_page(files.page, files.rows, title=output.title, summary=summary, max_pictures=output.max_pictures)
    return files


def _one(
    detector: Detector,
    path: Path,
    name: str,
    output: Output,
    label: int | None,
    seen: Callable[[Path, Prediction], None] | None,
) -> Row:
    """Judges one photo and writes its pictures; a photo that cannot be judged gives a failed row."""
    try:
        began = time.perf_counter()
        photo = read_photo(path)
        read = time.perf_counter()
        features = detector.encode(photo)
        encoded = time.perf_counter()
        prediction = detector.predict_features(features, path=path)
    except PromptadError as error:
        return Row.failed(path, error, label=label)
    except MemoryError:
        return Row.failed(path, f"{path}: not enough memory for a photo of this size; make it smaller", label=label)
    done = time.perf_counter()
    prediction.timings.update(read=read - began, encode=encoded - read, score=done - encoded)
    if seen is not None:
        seen(path, prediction)
    heatmap, thumb = None, None
    if prediction.map is not None:
        low, high = color_scale(detector)
        level = prediction.map_threshold
        if output.heatmaps != "none":
            heatmap = output.folder / "heatmaps" / f"{name}.{output.heatmaps}"
            save_heatmap(heatmap, photo, prediction.map, low, high, map_threshold=level)
        if output.maps != "none":
            save_map(output.folder / "maps" / f"{name}.{output.maps}", prediction.map, *detector.entry.map_bounds)
        thumb = small(overlay(photo, prediction.map, low, high, map_threshold=level))
    return Row.of(prediction, label=label, heatmap=heatmap, photo_array=small(photo), heatmap_array=thumb)


def color_scale(detector: Detector) -> tuple[float, float]:
    """(low, high) of the heat maps' colours: fixed for a detector, never stretched per photo."""
    calibration = detector.calibration
    return (calibration.map_low, calibration.map_high) if calibration else detector.entry.map_range


def prepare(folder: Path) -> None:
    """Creates the output folder and shows at once, not after an hour, that it can be written.

    Raises:
        DataError: no permission, or a file stands there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made a folder ({error.strerror}); choose another -o") from error
    probe = folder / f".promptad-{os.getpid()}"
    write_atomic(probe, b"")
    probe.unlink(missing_ok=True)


def picture_names(photos: Sequence[Path]) -> dict[Path, str]:
    """A file name for each photo's pictures: its path below the common folder, unique without regard to case."""
    if not photos:
        return {}
    absolute = {path: Path(os.path.abspath(path)) for path in photos}
    common = Path(os.path.commonpath([p.parent for p in absolute.values()]))
    names: dict[Path, str] = {}
    used: set[str] = set()
    for path, full in absolute.items():
        name = full.relative_to(common).as_posix()
        if name.lower() in used:
            name += "-" + hashlib.sha256(os.fsencode(full)).hexdigest()[:8]
        used.add(name.lower())
        names[path] = name
    return names


def _without_hidden_pictures(rows: list[Row], shown: int) -> list[Row]:
    """Drops the small pictures that the page will not show, which bounds the memory of a long run."""
    ordered = worst_first(rows)
    return ordered[:shown] + [replace(row, photo_array=None, heatmap_array=None) for row in ordered[shown:]]

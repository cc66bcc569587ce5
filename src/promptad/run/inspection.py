"""One run over a folder: every photo judged, heat maps, a table, a log that can be resumed, and a page."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from promptad.calibration.discovery import Discoveries
from promptad.data.files import TEMPORARY, prepare_folder, sha256_file, shown
from promptad.data.lock import only_one
from promptad.detector import Detector
from promptad.errors import DataError
from promptad.inputs import argument
from promptad.notices import collected_notices, notice
from promptad.report.log import ResultLog, run_key
from promptad.report.page import Metric, PageSummary, write_page
from promptad.report.region_files import RegionFormat, write_region_files
from promptad.report.rows import Row, RowVerdict, Scale, counted, worst_first
from promptad.report.table import write_csv
from promptad.run.choosing import choose, require_good
from promptad.run.drifting import say_drift
from promptad.run.judging import Files, HeatmapKind, MapKind, Seen, color_scale, judge, learned_contents
from promptad.run.naming import common_folder, picture_names, relative_path
from promptad.run.remarks import LEARNED, SIZE_REMARK, UNWRITTEN, is_said_anew, region_remark, remarks_of
from promptad.run.unfinished import Unfinished

LeftOut = Sequence[tuple[Path, str]]
"""Paths that no photo came of, with the reason for each."""


@dataclass(frozen=True)
class Output:
    """Where and what a run writes.

    Attributes:
        folder: created when needed. heatmaps: "jpg", "png" or "none". maps: raw values as "npy", "png" or "none".
        max_pictures: photos with pictures on the page, the worst ones. fresh: forget an earlier run in the folder.
        fdr: false discovery rate at which photos are chosen; None chooses none.
        regions: folder and forms of files of regions (`report.region_files`); None writes none.
        command: shown on the page. title: its heading. held: whether the caller holds the folder's lock already.
    """

    folder: Path
    heatmaps: HeatmapKind = "jpg"
    maps: MapKind = "none"
    max_pictures: int = 200
    fresh: bool = False
    command: str = ""
    title: str = "Inspection"
    held: bool = False
    fdr: float | None = None
    regions: tuple[Path, tuple[RegionFormat, ...]] | None = None


@dataclass
class Report:
    """What a run gave.

    Attributes:
        rows: worst first, failed photos and skipped files last. csv, log, page: the files.
        reused: photos whose score is that of an earlier run. interrupted: by Ctrl-C; the rest is missing.
        unwritten: judged photos of which a file that was asked for could not be written; their rows say why.
        discoveries: photos chosen at a false discovery rate, None where none was asked for.
        notices: lines that were said during the run, and before it where somebody collects them (the commands do).
    """

    rows: list[Row]
    csv: Path
    log: Path
    page: Path
    reused: int = 0
    interrupted: bool = False
    unwritten: int = 0
    discoveries: Discoveries | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Row]:
        """Rows of photos that could not be read or judged."""
        return [row for row in self.rows if row.verdict == "failed"]

    @property
    def counts(self) -> dict[RowVerdict, int]:
        """How many rows have each verdict, as page, table and log tell it too."""
        return counted(self.rows)


def inspect(
    detector: Detector,
    photos: Sequence[Path],
    output: Output,
    *,
    skipped: LeftOut = (),
    unreadable: LeftOut = (),
    labels: Mapping[Path, int] | None = None,
    metrics: Callable[[], Sequence[Metric]] | None = None,
    seen: Seen | None = None,
    progress: Callable[[int, int], None] | None = None,
    failed: Callable[[str], None] | None = None,
    concluded: Callable[[Sequence[Row]], None] | None = None,
) -> Report:
    """Judges photos one after the other and writes everything under `output.folder`.

    A photo that cannot be judged gets a row with its reason; the rest goes on. Every finished photo is on disk at once,
    so an interrupted run loses at most the photo it was at, and the next run with the same detector goes on from there,
    wherever the folder and the photos have been moved to together. Another threshold judges the same scores anew.

    Args:
        photos: in the order in which they are judged. skipped: files that are no photos. unreadable: photos and folders
            that could not be read and so failed; both with reasons.
        labels: 0 good, 1 anomalous where known. metrics: called at the end, shown on the page.
        seen: called with every new prediction, its map included; switches resuming off, since maps are not kept.
        concluded: called with all rows before the page is written; what it says in notices stands there.
        progress: photos done and in all. failed: called with one line for each photo that could not be judged, and for
            each file that could not be written.

    Raises:
        DataError: the folder cannot be written, or another run is at work in it. KeyboardInterrupt is caught: the report
            then says `interrupted`.
    """
    if output.fdr is not None:
        require_good(detector)
    prepare_folder(output.folder)
    with nullcontext() if output.held else only_one(output.folder), collected_notices(earlier=True) as notices:
        sweep(output.folder)
        run = _Run(detector, photos, output, labels or {}, seen, failed)
        if output.fresh or seen is not None:
            run.forget()
        with ResultLog(run.report.log, run.key, earlier=run.earlier) as log:
            run.unfinished.clear(log.owner)
            run.judge_all(log, photos, skipped, unreadable, progress)
            run.finish(log, notices, metrics, concluded)
    return run.report


class _Run:
    """What a run knows from its first photo to its last."""

    def __init__(
        self,
        detector: Detector,
        photos: Sequence[Path],
        output: Output,
        labels: Mapping[Path, int],
        seen: Seen | None,
        failed: Callable[[str], None] | None,
    ) -> None:
        folder = output.folder
        self.detector, self.output, self.labels, self.seen, self.failed = detector, output, labels, seen, failed
        self.report = Report([], folder / "results.csv", folder / "results.jsonl", folder / "report.html")
        self.earlier = folder / "earlier.jsonl"
        self.unfinished = Unfinished(folder)
        self.key = run_key(detector.identity())
        self.folder = common_folder(photos)
        self.root = relative_path(self.folder, folder)
        self.names = picture_names(photos, self.folder)
        # Pictures that photos of this run own: no other photo's result may point to them.
        self.owners = {path: name for name in self.names.values() for path in self._pictures(name)}
        self.total = len(photos)
        self.judged = 0
        self.good_sizes = detector.good_sizes
        self.learned = learned_contents(detector)
        self.words: tuple[str, ...] = ()
        self.recoloured: set[Scale] = set()
        self._worst: list[tuple[float, int]] = []  # heap of the rows whose pictures the page shows

    def forget(self) -> None:
        """Removes what an earlier run left behind for resuming."""
        for path in (self.report.log, self.earlier):
            path.unlink(missing_ok=True)

    def judge_all(
        self,
        log: ResultLog,
        photos: Sequence[Path],
        skipped: LeftOut,
        unreadable: LeftOut,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """A row for every photo and every file that was left out, each in the log as soon as it is known."""
        left_out: list[tuple[RowVerdict, Path, str]] = [
            *(("failed", path, reason) for path, reason in unreadable),
            *(("skipped", path, reason) for path, reason in skipped),
        ]
        for verdict, path, reason in left_out:
            known = {"photo": self._place(path), "root": self.root, "run": self.key}
            self._add(log, Row.failed(error=f"{shown(path)}: {reason}", verdict=verdict, **known))
        try:
            for done, path in enumerate(photos, start=1):
                self._add(log, self._row(log, path))
                self.judged = done
                if progress is not None:
                    progress(done, self.total)
        except KeyboardInterrupt:
            self.report.interrupted = True

    def finish(
        self,
        log: ResultLog,
        notices: list[str],
        metrics: Callable[[], Sequence[Metric]] | None,
        concluded: Callable[[Sequence[Row]], None] | None,
    ) -> None:
        """Says what concerns many photos, and writes log, table and page."""
        report = self.report
        say_drift(self.detector, report.rows)
        report.rows = worst_first(report.rows)
        self._say_what_concerns_many()
        if self.output.fdr is not None:
            report.rows, report.discoveries = choose(
                self.detector, report.rows, self.output.fdr, interrupted=report.interrupted
            )
        if concluded is not None:
            concluded(report.rows)
        report.notices = list(notices)
        log.settle(report.rows, complete=not report.interrupted)
        write_csv(report.csv, report.rows)
        self._write_regions()
        measured = tuple(metrics()) if metrics is not None and not report.interrupted else ()
        write_page(
            report.page,
            report.rows,
            title=self.output.title,
            summary=self._summary(measured),
            max_pictures=self.output.max_pictures,
            input_range=self.detector.preprocess.input_range or None,
        )

    def _write_regions(self) -> None:
        """Files of regions for other programs, where they are asked for."""
        if self.output.regions is None:
            return
        names = {self._place(path): name for path, name in self.names.items()}
        try:
            write_region_files(*self.output.regions, self.report.rows, lambda row: names[row.photo])
        except DataError as error:  # the results stand
            self.report.unwritten += 1
            (self.failed or notice)(str(error))

    def _row(self, log: ResultLog, path: Path) -> Row:
        """The row of one photo: of an earlier run where there is one, else judged now."""
        place = self._place(path)
        known: dict[str, Any] = {"photo": place, "root": self.root, "run": self.key, "label": self.labels.get(path)}
        files = Files(self.output.folder, self.output.heatmaps, self.output.maps, self.names[path])
        try:
            known["sha256"] = sha256_file(path)
        except DataError as error:
            return self._said(Row.failed(error=error, **known))
        row = None if self.seen is not None else log.find(place, known["sha256"])
        if row is not None and self._fits(row, files):
            return self._taken_over(row, known)
        self.unfinished.begin((place, known["sha256"], self.key), files.written)
        row = judge(self.detector, path, files, known, pictured=self._pictured, seen=self.seen)
        remarks = (*self._remarks(row), *row.remarks)
        return self._said(replace(row, remarks=remarks, p_value=None if LEARNED in remarks else row.p_value))

    def _remarks(self, row: Row) -> tuple[str, ...]:
        learned = row.score is not None and row.sha256 in self.learned
        return (*remarks_of(row.size, self.good_sizes, learned=learned), *region_remark(row))

    def _fits(self, row: Row, files: Files) -> bool:
        """Whether the files that are asked for exist from an earlier run and are still of this photo, and its regions are known."""
        if row.hottest is None:  # a method without maps
            return True
        calibration = self.detector.calibration
        if not row.knows_regions(calibration.map_threshold if calibration else None, self.detector.region_rule):
            return False
        for wanted, there in ((files.heatmap, row.heatmap), (files.map_file, row.map_file)):
            if wanted is None:
                continue
            if there is None or not (self.output.folder / there).is_file():
                return False
            endings = {Path(wanted).suffix, ".png"} if wanted == files.heatmap else {Path(wanted).suffix}
            if Path(there).suffix not in endings or self.owners.get(there, files.name) != files.name:
                return False
        return True

    def _taken_over(self, row: Row, known: Mapping[str, Any]) -> Row:
        """The row of an earlier run as this one tells it."""
        self.report.reused += 1
        calibration = self.detector.calibration
        threshold, level = (calibration.threshold, calibration.map_threshold) if calibration else (None, None)
        if row.scale is not None and row.scale != color_scale(self.detector, level):
            self.recoloured.add(row.scale)
        row = row.judged(threshold, level, self.detector.region_rule)
        remarks = (*self._remarks(row), *(remark for remark in row.remarks if not is_said_anew(remark)))
        there = {name: getattr(row, name) for name in ("heatmap", "map_file")}
        kept = {name: path if path and (self.output.folder / path).is_file() else None for name, path in there.items()}
        changes: dict[str, Any] = {**known, **kept, "remarks": remarks, "discovery": None}
        p_value = calibration.p_value(row.score) if calibration and row.score is not None else None
        changes["p_value"] = None if LEARNED in remarks else p_value
        return replace(row, **changes)

    def _add(self, log: ResultLog, row: Row) -> None:
        """Puts a row into the log, and what table and page need of it into the report."""
        log.append(row)
        self.unfinished.done()
        if row.defects and not self.words:
            self.words = tuple(sorted((word.words for word in row.defects), key=str.lower))
        rows = self.report.rows
        rows.append(row.shortened())
        if row.score is None:
            return
        heapq.heappush(self._worst, (row.score, 1 - len(rows)))  # of equal scores the later photo goes
        if len(self._worst) > self.output.max_pictures:
            hidden = -heapq.heappop(self._worst)[1]
            rows[hidden] = replace(rows[hidden], picture=None, heatmap_picture=None)

    def _pictured(self, score: float) -> bool:
        """Whether the page would show a photo of this score with pictures, were it written now."""
        return len(self._worst) < self.output.max_pictures or score > self._worst[0][0]

    def _said(self, row: Row) -> Row:
        """The row, with a line for the caller when it failed or a file about it is missing."""
        lines = [remark for remark in row.remarks if remark.startswith(UNWRITTEN)]
        self.report.unwritten += bool(lines)
        for line in [row.error] if row.verdict == "failed" else [f"{shown(row.photo)}: {line}" for line in lines]:
            if self.failed is not None:
                self.failed(line)
        return row

    def _place(self, path: Path) -> str:
        return relative_path(path, self.folder)

    def _pictures(self, name: str) -> list[str]:
        """All paths that pictures of that name may have."""
        return [f"heatmaps/{name}.jpg", f"heatmaps/{name}.png", f"maps/{name}.npy", f"maps/{name}.png"]

    def _say_what_concerns_many(self) -> None:
        other = [row for row in self.report.rows if any(remark.startswith(SIZE_REMARK) for remark in row.remarks)]
        if other:
            good = sorted({f"{width}x{height}" for height, width in self.good_sizes})
            sizes = sorted({f"{row.size[1]}x{row.size[0]}" for row in other if row.size})
            notice(
                f"{len(other)} of {sum(row.score is not None for row in self.report.rows)} judged photos differ clearly in shape or size from the good photos "
                f"({_some(sizes)} against {_some(good)}); their scores may not compare: take or crop them alike, or add "
                "good photos like them"
            )
        learned = [row.photo for row in self.report.rows if LEARNED in row.remarks]
        if learned:
            notice(
                f"{len(learned)} of the judged photos ({_some(learned)}) are good photos that the detector learned from; their "
                "scores say nothing about new photos: judge others"
            )
        if self.recoloured:
            ends = _some(sorted(f"{scale.low:.3g} to {scale.high:.3g}" for scale in self.recoloured))
            notice(
                f"some heat maps are those of an earlier run and keep its colours and outlines ({ends}, as their legends "
                f"say); {argument('fresh', 'True')} draws them anew"
            )

    def _summary(self, metrics: tuple[Metric, ...]) -> PageSummary:
        report, detector = self.report, self.detector
        calibration = detector.calibration
        mapped = any(row.hottest is not None for row in report.rows)
        scale = color_scale(detector) if mapped else None
        notes = [f"{report.reused} of {self.total} photos were taken from an earlier run."] if report.reused else []
        if report.interrupted:
            notes.append(f"The run was interrupted: {self.judged} of {self.total} photos are shown.")
        if detector.tuned:
            notes.append(f"Settings were tuned {'; '.join(detector.tuned.lines())}.")
        return PageSummary(
            object=detector.object,
            method=f"{detector.entry.title}, preset {detector.preset}",
            backbone=detector.backbone.identity,
            threshold=calibration.threshold if calibration else None,
            threshold_note=calibration.note if calibration else way_to_threshold(detector),
            map_low=scale.low if scale else None,
            map_high=scale.high if scale else None,
            map_threshold=calibration.map_threshold if calibration else None,
            map_note=calibration.map_note if calibration else "",
            command=self.output.command,
            metrics=metrics,
            words=self.words,
            notices=tuple(report.notices),
            notes=tuple(notes),
            good_scores=calibration.scores if calibration else (),
            good_words=calibration.scored_words if calibration else "",
        )


def way_to_threshold(detector: Detector) -> str:
    """How a detector without a threshold gets one, in a sentence."""
    by_hand = f"{argument('threshold')} gives one by hand."
    if detector.entry.facts.unlabelled:
        return (
            f"Photos that may be defective set no threshold; ones known to be good ({argument('good')}) do with other "
            f"methods, {argument('method', 'promptad')} for example; {by_hand}"
        )
    return f"Good photos ({argument('good')}) set a threshold; {by_hand}"


def _some(texts: Sequence[str], most: int = 3) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def sweep(folder: Path) -> None:
    """Removes files that a killed run was about to rename; nobody else writes here now."""
    for place in (folder.glob, (folder / "heatmaps").rglob, (folder / "maps").rglob):
        for path in place(TEMPORARY):
            path.unlink(missing_ok=True)

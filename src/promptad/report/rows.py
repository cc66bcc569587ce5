"""One line of a report: what the table, the log and the page know about one photo."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from promptad.prediction import DefectWord, Prediction
from promptad.report.schema import check_result
from promptad.report.thumbnails import Thumbnail
from promptad.scoring.regions import Region, RegionRule, by_rule

RowVerdict = Literal["anomalous", "normal", "no threshold", "failed", "skipped"]

VERDICTS: tuple[RowVerdict, ...] = get_args(RowVerdict)
"""All verdicts, in the order in which counts are told."""

TOP_DEFECTS = 3
"""So many defect words of a photo are shown in table and page; the log has all."""


@dataclass(frozen=True)
class Scale:
    """What the colours of a saved heat map mean: the map values of the ramp's ends, and that of the outline if any."""

    low: float
    high: float
    outline: float | None = None


@dataclass(frozen=True)
class Discovery:
    """Whether a photo was chosen from its batch, and at which false discovery rate (`calibration.discovery`)."""

    rate: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class Row:
    """The result for one photo without its anomaly map, or the reason why there is none.

    Attributes:
        photo: path of the photo: relative to ``root`` with forward slashes, or as the user gave it where ``root`` is None.
        verdict: "anomalous", "normal", "no threshold"; "failed" for a photo that could not be read or scored, "skipped"
            for a file that is no photo (``error`` says why, ``score`` is None).
        score: image-level anomaly score, larger = more anomalous.
        threshold: a score above it is anomalous; None when nothing was calibrated.
        defects: defect words, most probable first.
        hottest: (row, column) in photo pixels of the largest value of the map.
        size: (H, W) of the photo.
        parts: the terms of the score. timings: seconds of each step.
        backbone, method: as in :class:`promptad.prediction.Prediction`.
        error: one line for a failed or skipped photo, else "".
        label: 0 normal, 1 anomalous, None unknown.
        heatmap: path of the saved heat map, or None. scale: what its colours mean. map_file: path of the saved raw map.
        root: folder that ``photo`` is relative to, itself relative to the folder of the report, as are ``heatmap`` and
            ``map_file``; None when they stand alone.
        sha256: of the photo's content. run: names what decides the score (:func:`promptad.report.table.run_key`).
        map_threshold: the pixel level above which no good photo went.
        inspected: share of the photo's pixels that were looked at; None where none was.
        camera: statistics of the photo itself (:mod:`promptad.data.camera`), none in lines of earlier versions.
        regions: each defect, highest peak first; None without a map or a pixel threshold. rule: what counted as a region.
        p_value: as in :class:`promptad.prediction.Prediction`; None for a photo that was learned from. discovery: None where none was asked for.
        remarks: lines about this photo that do not keep it from being judged.
        picture, heatmap_picture: small pictures to show instead of the files. Not saved in logs.
    """

    photo: str
    verdict: RowVerdict
    score: float | None = None
    threshold: float | None = None
    defects: tuple[DefectWord, ...] = ()
    hottest: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    parts: dict[str, float | None] = field(default_factory=dict)
    timings: dict[str, float | None] = field(default_factory=dict)
    backbone: str = ""
    method: str = ""
    error: str = ""
    label: int | None = None
    heatmap: str | None = None
    scale: Scale | None = None
    map_file: str | None = None
    root: str | None = None
    sha256: str | None = None
    run: str | None = None
    map_threshold: float | None = None
    inspected: float | None = None
    remarks: tuple[str, ...] = ()
    camera: dict[str, float] = field(default_factory=dict)
    regions: tuple[Region, ...] | None = None
    rule: RegionRule | None = None
    p_value: float | None = None
    discovery: Discovery | None = None
    picture: Thumbnail | None = field(default=None, repr=False, compare=False)
    heatmap_picture: Thumbnail | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, prediction: Prediction, **known: Any) -> Row:
        """The row of a prediction; ``known`` are further fields, such as ``label``. The anomaly map is not kept."""
        row = cls.from_dict({**prediction.to_dict(), "photo": str(prediction.path or "")})
        return replace(row, **known)

    @classmethod
    def failed(
        cls, photo: str | Path, error: BaseException | str, *, verdict: RowVerdict = "failed", **known: Any
    ) -> Row:
        """The row of a photo that could not be scored; of the error only the text is kept, on one line."""
        return cls(os.fspath(photo), verdict, error=" ".join(str(error).split()) or "unknown error", **known)

    @property
    def seconds(self) -> float | None:
        """Seconds for the photo: the timing "total", else the sum of all steps; None without timings."""
        known = {name: value for name, value in self.timings.items() if value is not None}
        return float(known.get("total", sum(known.values()))) if known else None

    @property
    def is_anomalous(self) -> bool | None:
        """True or False where there is such a verdict, else None."""
        return {"anomalous": True, "normal": False}.get(self.verdict)

    def judged(self, threshold: float | None, map_threshold: float | None, rule: RegionRule | None = None) -> Row:
        """The same score under other thresholds; a row without a score stays as it is.

        Regions are of the map, which a row does not have: they stay under the same pixel threshold and a rule that leaves out more, and
        are unknown (None) under another, see :meth:`knows_regions`.
        """
        if self.score is None:
            return self
        verdict: RowVerdict = "no threshold"
        if threshold is not None:
            verdict = "anomalous" if self.score > threshold else "normal"
        rule = rule or self.rule or RegionRule()
        regions = (
            by_rule(self.regions, rule)
            if self.regions is not None and self.knows_regions(map_threshold, rule)
            else None
        )
        changes: dict[str, Any] = {"map_threshold": map_threshold, "regions": regions, "rule": rule}
        return replace(self, verdict=verdict, threshold=threshold, **changes)

    def knows_regions(self, map_threshold: float | None, rule: RegionRule) -> bool:
        """Whether the row says which regions its photo has above a level and under a rule."""
        if self.hottest is None or map_threshold is None:
            return True  # there are none to be known
        mine = self.rule or RegionRule()
        return self.regions is not None and self.map_threshold == map_threshold and mine.least_area <= rule.least_area

    def shortened(self) -> Row:
        """What table and page need of the row: a run of many photos keeps its rows in memory."""
        return replace(
            self,
            defects=self.defects[:TOP_DEFECTS],
            method=sys.intern(self.method),
            backbone=sys.intern(self.backbone),
        )

    def photo_file(self, folder: Path) -> Path:
        """Where the photo lies, for a report in ``folder``."""
        if self.root is None:
            return Path(self.photo)
        # By name, not through the file system: the way was computed so, and the folder may be a link.
        return Path(os.path.normpath(os.path.join(os.path.abspath(folder), self.root, self.photo)))

    def to_dict(self) -> dict[str, Any]:
        """A line of ``results.jsonl``: plain values, the keys of :meth:`Prediction.to_dict`. Small pictures are left out."""
        return {
            "photo": self.photo or None,
            "root": self.root,
            "sha256": self.sha256,
            "run": self.run,
            "verdict": self.verdict,
            "is_anomalous": self.is_anomalous,
            "score": self.score,
            "threshold": self.threshold,
            "p_value": self.p_value,
            "discovery": None
            if self.discovery is None
            else {"rate": self.discovery.rate, "chosen": self.discovery.chosen},
            "map_threshold": self.map_threshold,
            "defects": [
                {
                    "words": word.words,
                    "image_probability": word.image_probability,
                    "region_probability": word.region_probability,
                }
                for word in self.defects
            ],
            "hottest": None if self.hottest is None else {"x": self.hottest[1], "y": self.hottest[0]},
            "regions": None if self.regions is None else [region.to_dict() for region in self.regions],
            "region_rule": None if self.rule is None else self.rule.to_dict(),
            "height": None if self.size is None else self.size[0],
            "width": None if self.size is None else self.size[1],
            "inspected": self.inspected,
            "parts": self.parts,
            "timings": self.timings,
            "backbone": self.backbone,
            "method": self.method,
            "label": self.label,
            "heatmap": self.heatmap,
            "heatmap_scale": None
            if self.scale is None
            else {"low": self.scale.low, "high": self.scale.high, "outline": self.scale.outline},
            "map_file": self.map_file,
            "remarks": list(self.remarks),
            "error": self.error,
            "camera": self.camera,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """The row that :meth:`to_dict` wrote.

        Raises:
            ValueError: the values are not those of a row (see :mod:`promptad.report.schema`).
        """
        check_result(values)
        spot, scale = values["hottest"], values["heatmap_scale"]
        regions, ruled = values.get("regions"), values.get("region_rule")
        rule = None if ruled is None else RegionRule(**ruled)
        return cls(
            photo=values["photo"] or "",
            verdict=values["verdict"],
            score=values["score"],
            threshold=values["threshold"],
            defects=tuple(
                DefectWord(word["words"], word["image_probability"], word["region_probability"])
                for word in values["defects"]
            ),
            hottest=None if spot is None else (spot["y"], spot["x"]),
            size=None if values["height"] is None else (values["height"], values["width"]),
            parts=values["parts"],
            timings=values["timings"],
            backbone=values["backbone"],
            method=values["method"],
            error=values["error"],
            label=values["label"],
            heatmap=values["heatmap"],
            scale=None if scale is None else Scale(scale["low"], scale["high"], scale["outline"]),
            map_file=values["map_file"],
            root=values["root"],
            sha256=values["sha256"],
            run=values["run"],
            map_threshold=values["map_threshold"],
            inspected=values["inspected"],
            remarks=tuple(values["remarks"]),
            camera=values.get("camera", {}),
            p_value=values.get("p_value"),
            discovery=None if values.get("discovery") is None else Discovery(**values["discovery"]),
            regions=None
            if regions is None
            else tuple(Region.from_dict(region, rule.scale if rule else None) for region in regions),
            rule=rule,
        )


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Rows by falling score, equal scores by path; failed photos after them, then skipped files, by path."""
    return sorted(rows, key=lambda row: (row.score is None, row.verdict == "skipped", -(row.score or 0.0), row.photo))


def counted(rows: Iterable[Row]) -> dict[RowVerdict, int]:
    """How many rows have each verdict, in the order of :data:`VERDICTS`; verdicts of no row are left out.

    Terminal, page, table and log all tell these numbers in these words.
    """
    counts = dict.fromkeys(VERDICTS, 0)
    for row in rows:
        counts[row.verdict] += 1
    return {verdict: count for verdict, count in counts.items() if count}

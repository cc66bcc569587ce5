"""`promptad demo`: the whole way from four good photos to a report, on photos that come with the package."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptad.cli.console import EXIT_INTERRUPTED, Failures, friendly_errors, progress_stages, say, warn

if TYPE_CHECKING:
    from promptad.data.records import Record
    from promptad.prediction import Prediction
    from promptad.report.page import Metric
    from promptad.run.inspection import Report

DEMO_PHOTOS = Path(__file__).resolve().parents[1] / "demo_photos" / "cookies"
OBJECT = "cookie"
DEFECTS = ("broken [c]", "[c] with a piece missing", "[c] with crack", "[c] with crumbs")


@friendly_errors()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for everything the demo writes.")] = Path(
        "promptad-demo"
    ),
) -> None:
    """Fit on four good cookies, inspect two dozen others, and write table, heat maps and page."""
    began = time.perf_counter()
    from promptad.cli.inspect import show
    from promptad.data.files import prepare_folder
    from promptad.detector import Detector
    from promptad.run.inspection import Output, inspect

    prepare_folder(output)
    good, copied = _photos(output / "photos")
    say(f"Learning what a good {OBJECT} looks like from {len(good)} photos, on weights inside the package ...")
    detector = Detector(object=OBJECT, defects=DEFECTS)
    measured, failures = _Measured(copied), Failures()
    with progress_stages("learning from good photos", "inspecting") as (learning, judging):
        detector.fit(good, progress=learning)
        model = detector.save(output / "cookie.safetensors")
        report = inspect(
            detector,
            list(copied),
            Output(output, fresh=True, command="promptad demo", title="Cookies: four good photos, then judge"),
            labels={path: record.label for path, record in copied.items() if record.label is not None},
            metrics=measured.metrics,
            seen=measured.add,
            progress=judging,
            failed=failures,
        )
    show(report, detector, most=len(copied))
    if report.interrupted:
        warn("interrupted; run the demo again")
        raise SystemExit(EXIT_INTERRUPTED)
    say()
    say(f"verdicts   {_verdicts(report)}")
    for metric in measured.metrics():
        say(f"{metric.name:24s} {metric.value:.3f}")
    say(f"detector   {model}")
    say(
        f"took       {time.perf_counter() - began:.0f} s; photos CC BY-SA 4.0, Amazon Web Services (see demo_photos/LICENSE.md)"
    )
    say(f"Open {report.page} in a browser.")
    failures.end()


def _photos(folder: Path) -> tuple[list[Path], dict[Path, Record]]:
    """The good photos, and the others copied beside the results, so that a person can open and compare them."""
    from promptad.data.datasets import load_dataset

    records = load_dataset(DEMO_PHOTOS)
    copied = {}
    for record in records:
        if record.split == "test":
            copy = folder / record.defect_type / record.path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(record.path, copy)
            copied[copy] = record
    return [record.path for record in records if record.split == "train"], copied


class _Measured:
    """The metrics of the labelled photos of the demo."""

    def __init__(self, records: Mapping[Path, Record]) -> None:
        from promptad.metrics.accumulator import Accumulator

        self.records, self._accumulator = records, Accumulator()

    def add(self, path: Path, prediction: Prediction) -> None:
        """Takes in what was said about a photo."""
        from promptad.data.photos import read_mask

        record = self.records[path]
        mask = read_mask(record.mask, prediction.size) if record.mask else None
        self._accumulator.add(record.label, prediction.score, prediction.map, mask, name=path.name)

    def metrics(self) -> list[Metric]:
        """As the page shows them."""
        from promptad.report.page import Metric

        result = self._accumulator.compute()
        values = {
            "image AUROC": result.image_auroc,
            "image average precision": result.image_ap,
            "pixel AUROC": result.pixel_auroc,
            "AUPRO, limit 0.3": result.aupro_30,
        }
        return [Metric(name, value) for name, value in values.items()]


def _verdicts(report: Report) -> str:
    """How many of the broken cookies were found, and how many good ones were called anomalous."""
    anomalous = [row.label for row in report.rows if row.verdict == "anomalous"]
    labels = [row.label for row in report.rows]
    return (
        f"{anomalous.count(1)} of {labels.count(1)} broken cookies found, {anomalous.count(0)} of {labels.count(0)} good ones "
        "called anomalous"
    )

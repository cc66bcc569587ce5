"""`promptad demo`: the whole way from four good photos to a report, on photos that come with the package."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from promptad.cli.console import EXIT_INTERRUPTED, friendly_errors, progress, say, warn

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
    from promptad.data.datasets import load_dataset
    from promptad.data.files import prepare_folder
    from promptad.data.photos import read_mask
    from promptad.detector import Detector
    from promptad.metrics.accumulator import Accumulator
    from promptad.report.page import Metric
    from promptad.run.inspection import Output, inspect

    prepare_folder(output)
    records = load_dataset(DEMO_PHOTOS)
    good = [record.path for record in records if record.split == "train"]
    test = {record.path: record for record in records if record.split == "test"}
    photos = output / "photos"
    copied = {}
    for path, record in test.items():  # beside the results, so that a person can open and compare them
        copy = photos / record.defect_type / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copied[copy] = record
    say(f"Learning what a good {OBJECT} looks like from {len(good)} photos, on weights inside the package ...")
    detector = Detector(object=OBJECT, defects=DEFECTS)
    with progress("learning from good photos") as update:
        detector.fit(good, progress=update)
    model = detector.save(output / "cookie.safetensors")
    accumulator = Accumulator()

    def seen(path: Path, prediction) -> None:  # type: ignore[no-untyped-def]
        record = copied[path]
        mask = read_mask(record.mask, prediction.size) if record.mask else None
        accumulator.add(record.label, prediction.score, prediction.map, mask, name=path.name)

    def metrics() -> list[Metric]:
        result = accumulator.compute()
        values = {
            "image AUROC": result.image_auroc,
            "image average precision": result.image_ap,
            "pixel AUROC": result.pixel_auroc,
            "AUPRO, limit 0.3": result.aupro_30,
        }
        return [Metric(name, value) for name, value in values.items()]

    with progress("inspecting") as update:
        report = inspect(
            detector,
            list(copied),
            Output(output, fresh=True, command="promptad demo", title="Cookies: four good photos, then judge"),
            labels={path: record.label for path, record in copied.items() if record.label is not None},
            metrics=metrics,
            seen=seen,
            progress=update,
            failed=warn,
        )
    show(report, detector, most=len(copied))
    if report.interrupted:
        warn("interrupted; run the demo again")
        raise SystemExit(EXIT_INTERRUPTED)
    found = sum(row.verdict == "anomalous" and row.label == 1 for row in report.rows)
    false = sum(row.verdict == "anomalous" and row.label == 0 for row in report.rows)
    broken = sum(row.label == 1 for row in report.rows)
    say()
    say(
        f"verdicts   {found} of {broken} broken cookies found, {false} of {len(copied) - broken} good ones called anomalous"
    )
    for metric in metrics():
        say(f"{metric.name:24s} {metric.value:.3f}")
    say(f"detector   {model}")
    say(
        f"took       {time.perf_counter() - began:.0f} s; photos CC BY-SA 4.0, Amazon Web Services (see demo_photos/LICENSE.md)"
    )
    say(f"Open {report.page} in a browser.")

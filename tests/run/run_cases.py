"""A quick detector, photos and readers of results for the tests of runs."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from promptad.data.folder import find_photos
from promptad.detector import Detector
from promptad.report.log import read_results
from promptad.run.inspection import Output, Report, inspect
from tiny import tiny_backbone

QUICK = {"epochs": 2, "input_size": 48, "memory_layers": (1, 3)}
BACKBONE = tiny_backbone()
SHARED_CASES = Path(__file__).parents[3] / "shared" / "cases"


def pixels(seed: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """(H, W, 3) uint8 of smooth noise."""
    small = np.random.default_rng(seed).integers(
        90, 130, (max(1, size[0] // 4), max(1, size[1] // 4), 3), dtype=np.uint8
    )
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def fitted(**settings: Any) -> Detector:
    """A detector of 60 x 80 photos with a threshold."""
    return Detector(object="nut", backbone=BACKBONE, **{**QUICK, **settings}).fit([pixels(i) for i in range(4)])


def draw(folder: Path, names: list[str], size: tuple[int, int] = (60, 80), first: int = 10) -> Path:
    """Photos of their own content under the given names."""
    for seed, name in enumerate(names, start=first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(seed, size)).save(folder / name)
    return folder


def run(detector: Detector, photos: Path, out: Path, **options: Any) -> Report:
    """As the command does it: everything in the folder, in order."""
    known = {name: options.pop(name) for name in ("heatmaps", "maps", "max_pictures", "fresh") if name in options}
    files, skipped, unreadable = find_photos(photos)
    return inspect(detector, files, Output(out, **known), skipped=skipped, unreadable=unreadable, **options)


def table(out: Path) -> dict[str, dict[str, str]]:
    """Rows of the CSV file by photo."""
    with (out / "results.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


def results(out: Path) -> dict[str, dict[str, Any]]:
    """Lines of the log by photo, without what differs from run to run; no photo may have two."""
    rows = read_results(out / "results.jsonl")
    assert len({row.photo for row in rows}) == len(rows)
    return {row.photo: {**row.to_dict(), "timings": None} for row in rows}


def tiles(out: Path) -> dict[str, int]:
    """The counts on the page."""
    page = (out / "report.html").read_text(encoding="utf-8")
    return {word: int(number) for number, word in re.findall(r'class="tile[^"]*"><b>(\d+)</b><span>([^<]+)<', page)}

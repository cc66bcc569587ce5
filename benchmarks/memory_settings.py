"""Settings of PromptAD's memory side by side: `python benchmarks/memory_settings.py SET [SET ...] [--set NAME:key=value,key=value]`

A SET is a folder in the layout of MVTec AD (`train/good`, `test/<type>`, `ground_truth` where there are masks). Photos are encoded
once for each way of tapping them; every row is then fitted and measured on the same test photos with the same draws of good photos. It
prints image AUROC / pixel AUROC / AUPRO up to 0.3, the mean over draws in percent, and the milliseconds that a photo's score takes
beside those of its encoding. Without `--set` the rows are SETTINGS below, each with one step more than one before it.

Settings are chosen on draws that no table uses (`--draws`, 1001 and on). `--parts fused` learns the prompts of the preset once for each draw and joins
them with every memory, once for all rows that differ in nothing else; `memory` alone leaves words out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from promptad import Detector
from promptad.bench.conventions import Conventions
from promptad.bench.plan import limited
from promptad.bench.testset import TestSet
from promptad.bench.work import shared_layouts
from promptad.cli.takes import parse_settings
from promptad.clip.backbone import load_backbone
from promptad.data.datasets import load_dataset
from promptad.data.records import Record
from promptad.data.shots import draw_shots
from promptad.learning.features import GIB, Encoder, FeatureStore, PhotoFeatures
from promptad.methods.contract import TASKS
from promptad.methods.settings import config_dict

BEFORE = "memory_layers=3,8 memory_point=block memory_top=0"
QUARTERS = "memory_layers=3,6,9 memory_point=block memory_top=0.01"
NORMED = "memory_layers=3,7,9 memory_point=next_norm"
SETTINGS = {
    "layers 3, 8": BEFORE,
    "layers 3, 6, 9": "memory_layers=3,6,9 memory_point=block memory_top=0",
    "3, 6, 9, top 1 %": QUARTERS,
    "3, 6, 9, top 1 %, best 2 of 4": f"{QUARTERS} memory_turns=4 memory_best_turns=2",
    "layers 3, 7, 9": "memory_layers=3,7,9 memory_point=block memory_top=0",
    "next norm": f"{NORMED} memory_top=0",
    "top 1 %": f"{NORMED} memory_top=0.01",
    "top 2 %": f"{NORMED} memory_top=0.02",
    "both windows": f"{NORMED} memory_top=0.01 memory_windows=1,3",
    "subspace": f"{NORMED} memory_top=0.01 memory_comparison=subspace",
    "8 turns": f"{NORMED} memory_top=0.01 memory_turns=8",
    "best 2 of 8": f"{NORMED} memory_top=0.01 memory_turns=8 memory_best_turns=2",
    "500 patches": f"{NORMED} memory_top=0.01 memory_budget=500",
}


@dataclass(frozen=True)
class Row:
    """One way of keeping the memory, with the photos of a set as it reads them."""

    name: str
    detector: Detector
    tests: TestSet
    encoder: Encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET")
    parser.add_argument("--set", action="append", default=[], metavar="NAME:SETTINGS", help="a row; may be repeated")
    parser.add_argument("--only", default="", help="names of SETTINGS with semicolons, instead of all")
    parser.add_argument("--shots", default="1,2,4")
    parser.add_argument("--draws", default="1001,1002,1003")
    parser.add_argument("--limit", type=int, default=30, help="test photos of either kind; 0 takes all")
    parser.add_argument("--parts", choices=("memory", "fused"), default="memory")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the towers")
    parser.add_argument("--eval-size", type=int, default=400)
    parser.add_argument("--cache", type=Path, help="folder that keeps features between runs")
    arguments = parser.parse_args()
    named = [pair for pair in SETTINGS.items() if not arguments.only or pair[0] in arguments.only.split(";")]
    if arguments.set:
        named = [(text.partition(":")[0], text.partition(":")[2].replace(";", " ")) for text in arguments.set]
    settings = {name: parse_settings(words.split()) for name, words in named}
    backbone = load_backbone(precision=arguments.precision)
    store = FeatureStore(arguments.cache, 30 * GIB) if arguments.cache else None
    for folder in arguments.sets:
        records = load_dataset(folder)
        detectors = [
            Detector(object=folder.name, backbone=backbone, parts=arguments.parts, **values)
            for values in settings.values()
        ]
        rows = encoded(list(settings), detectors, records, arguments, store)
        print(f"\n{folder.name}: {len(rows[0].tests)} test photos, encoding {milliseconds(rows[0].tests)} ms a photo\n")
        print("| memory | shots | image AUROC | pixel AUROC | AUPRO 0.3 | score, ms |\n|---|---|---|---|---|---|")
        for shots in map(int, arguments.shots.split(",")):
            for name, values, spent in measured(rows, records, shots, list(map(int, arguments.draws.split(",")))):
                cells = " | ".join("–" if np.isnan(value) else f"{value:.1f}" for value in values)
                print(f"| {name} | {shots} | {cells} | {spent:.1f} |", flush=True)


def encoded(
    names: Sequence[str],
    detectors: Sequence[Detector],
    records: Sequence[Record],
    arguments: Any,
    store: FeatureStore | None,
) -> list[Row]:
    """A row each, with test photos that are encoded once for all rows that tap alike; turned copies concern good photos alone."""
    tests = limited([record for record in records if record.split == "test"], arguments.limit)
    conventions, masks = Conventions(eval_size=arguments.eval_size), {}
    alike: dict[Any, TestSet] = {}
    rows = []
    layouts = shared_layouts(detectors)
    for name, detector, (layout, request) in zip(names, detectors, layouts, strict=True):
        key = replace(request, taps=(), turns=1, mirrored=False)
        taps = {
            tap for _, other in layouts for tap in other.taps if replace(other, taps=(), turns=1, mirrored=False) == key
        }
        every = replace(request, taps=tuple(sorted(taps)))
        encoder = Encoder(detector.backbone, layout, every, cache=store)
        if key not in alike:
            alike[key] = TestSet(tests, encoder, conventions, masks)
        rows.append(Row(name, detector, alike[key], encoder))
    return rows


def measured(
    rows: Sequence[Row], records: Sequence[Record], shots: int, draws: Sequence[int]
) -> list[tuple[str, list[float], float]]:
    """Name, the three metrics in percent, and the milliseconds of a photo's score; means over draws."""
    values: dict[str, list[list[float]]] = {row.name: [] for row in rows}
    spent: dict[str, list[float]] = {row.name: [] for row in rows}
    good: dict[tuple[Any, Any], PhotoFeatures] = {}
    for seed in draws:
        chosen = draw_shots(records, shots, seed)
        learned: dict[str, dict[str, Any]] = {}
        for row in rows:
            for record in chosen:
                key = record.photo, row.encoder.request
                if key not in good:
                    [good[key]] = row.encoder.encode_files([record.photo], learned=True)
            photos = [good[record.photo, row.encoder.request] for record in chosen]
            prompts = prompt_settings(row.detector)
            learned[prompts] = fit(row.detector, photos, learned.get(prompts, {}))
            result = row.tests.measure(row.detector).result
            metrics = (result.image_auroc, result.pixel_auroc, result.aupro_30)
            values[row.name].append([float("nan") if value is None else 100 * value for value in metrics])
            spent[row.name].append(score_time(row))
    return [(row.name, np.mean(values[row.name], axis=0).tolist(), float(np.mean(spent[row.name]))) for row in rows]


def prompt_settings(detector: Detector) -> str:
    """Everything but what concerns the memory: where that is equal, prompts learn the same."""
    return repr({k: v for k, v in config_dict(detector.config).items() if not k.startswith("memory_")})


def fit(detector: Detector, photos: Sequence[PhotoFeatures], learned: dict[str, Any]) -> dict[str, Any]:
    """Fills the memory; prompts are learned where none of this draw are known, else taken over. They do not depend on the memory."""
    method = detector.method
    config = method.config
    if learned or config.parts == "memory":
        method.config = replace(config, epochs=0)
    detector.fit_features(photos, set_threshold=False)
    method.config = config
    for task, snapshot in learned.items():
        method.restore(task, snapshot)
    return learned or {task: method.snapshot(task) for task in TASKS}


def score_time(row: Row, photos: int = 8) -> float:
    """Milliseconds of one photo's score, the median over a few."""
    seconds = []
    for _, photo in zip(range(photos), row.tests.photos(), strict=False):
        began = time.perf_counter()
        for view in photo.features:
            row.detector.method.score(view)
        seconds.append(time.perf_counter() - began)
    return 1000 * float(np.median(seconds))


def milliseconds(tests: TestSet) -> str:
    """What encoding a photo took, for those that no cache had."""
    return f"{1000 * tests.seconds / len(tests):.0f}" if tests.seconds else "0 (from the cache)"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""Promises against what happens: false alarms of image thresholds, and false discoveries in batches, over random splits of good photos.

    python benchmarks/coverage.py cookies=/data/cookies:cookie bottle=/data/mvtec/bottle:bottle --splits 200 > coverage.jsonl
    python benchmarks/coverage.py --table coverage.jsonl

For each split n good photos are drawn, in two ways: "leave-one-out" learns from all n and scores each without itself, as `promptad fit
GOOD` does; "held-out" learns from 4 others and scores the n, as `promptad fit FOUR --held-out GOOD` does. A threshold is set for 10 %
and for 5 % of false alarms, and the share of all other good photos above it is what happens. A batch has up to 40 of these others and
1 defective photo to 9 or to 2 good ones; photos are chosen from it at a false discovery rate of 10 %.

Scores are those of `promptad` put together from distances between photos that are computed once (`threshold_scores.MemoryScores`):
the memory is exact, the prompts are those of one epoch on a single good photo. Nothing is learned again for a split.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from promptad.calibration.bounds import threshold_at
from promptad.calibration.discovery import discover
from promptad.calibration.scales import usual_spread
from promptad.clip.backbone import Backbone, load_backbone
from promptad.detector import Detector
from threshold_scores import MemoryScores

NUMBERS = (2, 4, 10, 30, 100)
RATES = (0.1, 0.05)
FDR, BATCH = 0.1, 40
LEARNED = 4  # good photos that held-out ones are scored against
LEAST = 8  # good photos that must be left to count false alarms among


def photos(folder: Path, most: tuple[int, int]) -> tuple[list[Path], list[Path]]:
    """Good and defective photos of a set in the MVTec layout, drawn once where there are more."""
    good = sorted(path for part in ("train", "test") for path in (folder / part / "good").iterdir())
    kinds = [kind for kind in (folder / "test").iterdir() if kind.is_dir() and kind.name != "good"]
    bad = sorted(path for kind in kinds for path in kind.iterdir())
    rng = random.Random(0)
    return tuple(sorted(rng.sample(p, min(len(p), n))) for p, n in zip((good, bad), most, strict=True))  # type: ignore[return-value]


class Scores:
    """Scores of every photo of a set for any memory: what `MemoryScores.score` gives, without its overhead for each photo."""

    def __init__(self, good: Sequence[Path], bad: Sequence[Path], detector: Detector) -> None:
        encoded = [detector.encode(path) for path in good]
        detector.fit_features(encoded[:1], set_threshold=False)
        self.detector, self.memory, numbers = detector, MemoryScores(detector, encoded), range(len(good))
        views = [self.memory.distances(photo, numbers) for photo in encoded]
        views += [self.memory.distances(detector.encode(path), numbers) for path in bad]
        self.distances = [[distance for distance, _ in of_photo] for of_photo in views]
        self.gaps = [np.array([float(gap) for _, gap in of_photo]) for of_photo in views]
        self.count = len(good)
        for photo in (0, len(views) - 1):  # the shorter way and the package's agree
            learned = [1, 2, 3]
            assert abs(self.of([photo], learned)[0] - self.memory.score(views[photo], learned)) < 1e-5

    def of(self, photos: Sequence[int], learned: Sequence[int]) -> np.ndarray:
        """(m,) scores of photos (good ones first, by number) under a memory of these good ones; one of these is judged by the others."""
        return np.array([self._score(photo, [other for other in learned if other != photo]) for photo in photos])

    def _score(self, photo: int, learned: Sequence[int]) -> float:
        config, rows = self.detector.config, list(learned)
        known, k = np.concatenate([self.gaps[other] for other in rows]), len(rows)
        variance = (k * known.var() + 2 * config.fusion_spread**2) / (k + 1)
        scores = []
        for distances, gap in zip(self.distances[photo], self.gaps[photo], strict=True):
            values = distances[rows].min(0).mean(0)
            top = max(1, int(config.memory_top * len(values)))
            memory = float(np.partition(values, -top)[-top:].mean())
            beyond = (gap - known.mean()) / np.sqrt(variance * (1 + 1 / k))
            scores.append(memory * float(np.exp(config.fusion_weight * np.logaddexp(0, beyond - config.fusion_margin))))
        return max(scores)

    def split(self, how: str, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """What happens in one split."""
        order = rng.permutation(self.count).tolist()
        if how == "leave-one-out":
            learned, rest = order[:number], order[number:]
            own = self.of(learned, learned)
        else:
            learned, rest = order[:LEARNED], order[LEARNED + number :]
            own = self.of(order[LEARNED : LEARNED + number], learned)
        held = self.of(rest, learned)
        kind = self.detector.entry.kind_of(self.detector.config)
        usual = usual_spread(kind, self.detector.method.name)
        out: dict[str, Any] = {}
        for rate in RATES:
            proved, level = threshold_at(own, how, rate, kind, usual)  # type: ignore[arg-type]
            out[f"alarms {rate:g}"], out[f"proved {rate:g}"] = float((held > level).mean()), proved
        for share in (9, 2):
            of_good = held[:BATCH]
            drawn = self.count + rng.permutation(len(self.gaps) - self.count)[: max(1, len(of_good) // share)]
            of_bad = self.of(drawn.tolist(), learned)
            chosen = discover([*of_good, *of_bad], own.tolist(), FDR).chosen
            false, true = int(chosen[: len(of_good)].sum()), int(chosen[len(of_good) :].sum())
            out[f"batch {share}"] = {"good": len(of_good), "bad": len(of_bad), "false": false, "true": true}
        return out


def measure(sets: Sequence[str], splits: int, most: tuple[int, int]) -> None:
    """Prints a line for each set, way and number of good photos."""
    backbone: Backbone = load_backbone("starter")
    for text in sets:
        began = time.perf_counter()
        name, _, rest = text.partition("=")
        folder, _, called = rest.partition(":")
        good, bad = photos(Path(folder), most)
        scores = Scores(good, bad, Detector(object=called, backbone=backbone, epochs=1))
        print(
            f"{name}: {len(good)} good, {len(bad)} bad, distances in {time.perf_counter() - began:.0f} s",
            file=sys.stderr,
        )
        for how in ("leave-one-out", "held-out"):
            for number in NUMBERS:
                if len(good) < number + LEAST + (LEARNED if how == "held-out" else 0):
                    continue
                results = [scores.split(how, number, np.random.default_rng([number, s])) for s in range(splits)]
                line = {"set": name, "how": how, "number": number, "photos": len(good), "splits": results}
                print(json.dumps(line), flush=True)
        print(f"{name}: done after {time.perf_counter() - began:.0f} s", file=sys.stderr)


def table(file: Path) -> None:
    """Two tables in Markdown: false alarms, and false discoveries."""
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    print(
        "| set | good photos | "
        + " | ".join(f"{how}, {r:.0%}" for how in ("left out", "held out") for r in RATES)
        + " |"
    )
    print("|---|---|" + "---|" * 2 * len(RATES))
    keys = list(dict.fromkeys((line["set"], line["number"]) for line in lines))
    by_key = {(line["set"], line["number"], line["how"]): line["splits"] for line in lines}
    for name, number in keys:
        cells = [
            _alarms(by_key.get((name, number, how)), rate) for how in ("leave-one-out", "held-out") for rate in RATES
        ]
        print(f"| {name} | {number} | " + " | ".join(cells) + " |")
    ways = [(how, share) for how in ("leave-one-out", "held-out") for share in (9, 2)]
    print("\n| set | good photos | " + " | ".join(f"{how}, 1 bad to {share}" for how, share in ways) + " |")
    print("|---|---|" + "---|" * len(ways))
    for name, number in keys:
        cells = [_discoveries(by_key.get((name, number, how)), share) for how, share in ways]
        print(f"| {name} | {number} | " + " | ".join(cells) + " |")


def _alarms(splits: Sequence[dict[str, Any]] | None, rate: float) -> str:
    """Mean share of false alarms with its standard error, the 95 % point over splits; * where the photos prove the rate."""
    if splits is None:
        return ""
    shares = np.array([split[f"alarms {rate:g}"] for split in splits])
    error = shares.std(ddof=1) / len(shares) ** 0.5
    proved = "*" if splits[0][f"proved {rate:g}"] else ""
    return f"{shares.mean():.1%} ± {error:.1%} ({np.quantile(shares, 0.95):.0%}){proved}"


def _discoveries(splits: Sequence[dict[str, Any]] | None, share: int) -> str:
    """Mean share of good photos among the chosen ones, of splits in which anything was chosen, of defects that were."""
    if splits is None:
        return ""
    batches = [split[f"batch {share}"] for split in splits]
    wrong = np.array([b["false"] / max(1, b["false"] + b["true"]) for b in batches])
    some = np.mean([b["false"] + b["true"] > 0 for b in batches])
    power = np.mean([b["true"] / b["bad"] for b in batches])
    if not some:
        return "nothing"
    return f"{wrong.mean():.1%} ± {wrong.std(ddof=1) / len(wrong) ** 0.5:.1%}; {some:.0%}; {power:.0%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="NAME=FOLDER:OBJECT")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--good", type=int, default=160, help="at most so many good photos of a set")
    parser.add_argument("--bad", type=int, default=40, help="the same of defective ones")
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    if given.table:
        table(given.table)
    else:
        torch.set_num_threads(1)
        measure(given.sets, given.splits, (given.good, given.bad))

"""A week of review, many times over: four good photos, a batch of 60, half of it marked, a refit, and the other half judged again.

A batch has 40 good and 20 defective photos. As on the report, they come worst first, and every second one is marked as it is (by its
folder); the others are never marked, and of them the mistakes are counted before and after. Three refits are compared: the new
threshold alone, all marked good photos learned too (as `promptad fit --labels` does), and beside that a small memory of the five
hottest patches of each marked defect, to which a patch that is near scores up to twice as high.

    python benchmarks/review_week.py cookies=/data/cookies:cookie bottle=/data/mvtec/bottle:bottle --draws 10 > review.jsonl
    python benchmarks/review_week.py --table review.jsonl

Every photo is encoded once. Draws come one after the other over all sets, so that a run that is stopped has as many of each.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from promptad.calibration.between import between
from promptad.calibration.threshold import calibrate
from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.features import Features, pooled_rows
from promptad.detector import Detector
from promptad.learning.features import PhotoFeatures
from promptad.metrics.ranking import auroc
from promptad.scoring.fusion import harmonic
from promptad.scoring.maps import top_mean

SHOTS, GOOD, DEFECTIVE = 4, 40, 20
POOL = 120, 60  # of larger sets so many good and defective photos are encoded
HOTTEST = 5


class Known:
    """Scores of PromptAD with a memory of known defects: d becomes 2 d^2 / (d + k), k the distance to the nearest of these."""

    def __init__(self, detector: Detector, defects: Sequence[PhotoFeatures]) -> None:
        self.detector, self.memory = detector, detector.method._memory  # type: ignore[attr-defined]
        self.rows: dict[Any, list[torch.Tensor]] = {key: [] for key in self.memory._keys}
        for photo in defects:
            features = photo.features[0]
            hottest = self.memory.distance(features)[0].topk(HOTTEST).indices
            for key, rows in self._queries(features).items():
                self.rows[key].append(rows[hottest])

    def _queries(self, features: Features) -> dict[Any, torch.Tensor]:
        tapped = features.tapped
        rows = {key: pooled_rows(tapped.taps[key[0]], tapped.grid, key[1])[0] for key in self.memory._keys}
        return {key: F.normalize(values.float(), dim=-1) for key, values in rows.items()}

    def score(self, photo: PhotoFeatures, *, good: int | None = None, defect: int | None = None) -> float:
        """Of one photo, which is that good or that defective one itself where a number is given."""
        features, method = photo.features[0], self.detector.method
        near = self.memory.distance(features, leave_out=good)
        if not any(number != defect for number in range(len(next(iter(self.rows.values()))))):
            far = near
        else:
            kept = {key: torch.cat([r for n, r in enumerate(rows) if n != defect]) for key, rows in self.rows.items()}
            queries = self._queries(features)
            far = torch.stack([(1 - (queries[key] @ kept[key].T).amax(-1)) / 2 for key in queries]).mean(0)[None]
        raised = near * 2 * near / (near + far + 1e-9)
        memory = top_mean(raised.clamp(max=1).view(1, *features.tapped.grid), method.config.memory_top)  # type: ignore[attr-defined]
        return float(harmonic(memory, method._text("image", features.image)))  # type: ignore[attr-defined]


def draw(
    number: int,
    good: Sequence[Path],
    bad: Sequence[Path],
    new: Callable[[], Detector],
    encoded: dict[Path, PhotoFeatures],
) -> dict[str, Any]:
    """The mistakes (false alarms, misses) and AUROC of one draw on its photos that were never marked."""
    rng = random.Random(number)
    chosen, faulty = rng.sample(list(good), SHOTS + GOOD), rng.sample(list(bad), DEFECTIVE)
    learned, batch = chosen[:SHOTS], [*chosen[SHOTS:], *faulty]
    detector = new()
    for path in [*learned, *batch]:
        if path not in encoded:
            encoded[path] = detector.encode(path, reference=True)
    detector.fit_features([encoded[path] for path in learned])
    before = {path: detector.predict_features(encoded[path], maps=False).score for path in batch}
    assert detector.calibration is not None
    order = sorted(batch, key=lambda path: -before[path])
    marked, never = order[::2], order[1::2]
    marked_good, marked_bad = [p for p in marked if p not in faulty], [p for p in marked if p in faulty]

    def told(scores: dict[Path, float], threshold: float) -> dict[str, Any]:
        truth = [path in faulty for path in never]
        return {
            "alarms": sum(scores[path] > threshold for path in never if path not in faulty),
            "misses": sum(scores[path] <= threshold for path in never if path in faulty),
            "auroc": auroc([int(t) for t in truth], [scores[path] for path in never]),
        }

    out = {"draw": number, "marked_good": len(marked_good), "marked_bad": len(marked_bad)}
    out["before"] = told(before, detector.calibration.threshold)
    both = [*detector.calibration.scores, *(before[path] for path in marked_good)]
    alone = calibrate(both, [], [], "held-out", kind="distance", method="promptad")
    out["threshold alone"] = told(before, between(alone, [before[path] for path in marked_bad]).threshold)
    joined = new()
    joined.fit_features(
        [encoded[path] for path in [*learned, *marked_good]], defective=[encoded[p] for p in marked_bad]
    )
    assert joined.calibration is not None
    after = {path: joined.predict_features(encoded[path], maps=False).score for path in never}
    out["learned, good side"] = told(after, joined.calibration.threshold)
    out["learned"] = told(after, between(joined.calibration, joined.calibration.defective).threshold)
    known = Known(joined, [encoded[path] for path in marked_bad])
    sides = [known.score(encoded[path], good=n) for n, path in enumerate([*learned, *marked_good])]
    calibrated = calibrate(sides, [], [], "leave-one-out", kind="distance", method="promptad")
    own = [known.score(encoded[path], defect=n) for n, path in enumerate(marked_bad)]
    out["learned, known defects"] = told(
        {p: known.score(encoded[p]) for p in never}, between(calibrated, own).threshold
    )
    return out


def photos(folder: Path) -> tuple[list[Path], list[Path]]:
    """Good and defective photos of a set in the MVTec layout, those of large ones drawn once."""
    good = sorted(path for part in ("train", "test") for path in (folder / part / "good").iterdir())
    bad = sorted(
        p for kind in (folder / "test").iterdir() if kind.is_dir() and kind.name != "good" for p in kind.iterdir()
    )
    rng = random.Random(0)
    return (
        sorted(rng.sample(good, min(len(good), POOL[0]))),
        sorted(rng.sample(bad, min(len(bad), POOL[1]))),
    )


def measure(sets: Sequence[str], draws: int) -> None:
    """Prints a line for each draw."""
    backbone: Backbone = load_backbone("starter")
    kept: dict[str, dict[Path, PhotoFeatures]] = {}
    for number in range(draws):
        for text in sets:
            name, _, rest = text.partition("=")
            folder, _, called = rest.partition(":")
            good, bad = photos(Path(folder))

            def new(called: str = called) -> Detector:
                return Detector(object=called, backbone=backbone)

            print(json.dumps({"set": name, **draw(number, good, bad, new, kept.setdefault(name, {}))}), flush=True)


def table(file: Path) -> None:
    """The means over the draws of each set, with the standard error of the mistakes."""
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{")]
    ways = [name for name, value in lines[0].items() if isinstance(value, dict)]
    print("| set | draws | " + " | ".join(ways) + " |\n|---|---|" + "---|" * len(ways))
    for name in dict.fromkeys(line["set"] for line in lines):
        mine = [line for line in lines if line["set"] == name]
        cells = []
        for way in ways:
            wrong = [line[way]["alarms"] + line[way]["misses"] for line in mine]
            mean = {key: statistics.mean(line[way][key] for line in mine) for key in ("alarms", "misses", "auroc")}
            error = statistics.stdev(wrong) / len(wrong) ** 0.5 if len(wrong) > 1 else 0.0
            cells.append(
                f"{statistics.mean(wrong):.1f} ± {error:.1f} ({mean['alarms']:.1f} + {mean['misses']:.1f}), {mean['auroc']:.3f}"
            )
        print(f"| {name} | {len(mine)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="NAME=FOLDER:OBJECT")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    if given.table:
        table(given.table)
    else:
        measure(given.sets, given.draws)

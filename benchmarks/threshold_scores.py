"""Scores that thresholds are measured on. `python benchmarks/threshold_scores.py FOLDER [--method promptad] [--precision bf16]`

For every product: many draws of k = 1, 2, 4, 8 and 12 good photos to learn from. Saved for each draw are the scores that
set its threshold (leave-one-out; for k = 1 those of altered copies), of the good photos that were not drawn, and of
defective ones. `benchmarks/thresholds.py` compares rules on these files; nothing is scored again.

A few-shot memory is the nearest of what each good photo holds, so for `promptad` all distances between two photos are
computed once, and every draw is a minimum over them. Its prompts are those of one epoch on the first good photo; what they say counts
in deviations from the drawn photos. Other methods learn and score draw by draw.

Products: bottle, cookies and magnetic tile below `--data`, and the packages `elpv-dataset` (two kinds of solar cells, from
probability 0 good, 1 defective) and `conformal-clip-data` (simulated textile, local and global defects).
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from promptad.bench.testset import judge
from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.features import Features
from promptad.data.copies import altered_copies
from promptad.data.photos import read_photo
from promptad.detector import Detector
from promptad.learning.features import PhotoFeatures
from promptad.scoring.fusion import raised
from promptad.scoring.good_scores import GoodScores
from promptad.scoring.patch_memory import MemorySettings
from promptad.scoring.prototypes import anomalous_logit

SHOTS = (1, 2, 4, 8, 12)
SUFFIXES = (".png", ".jpg", ".jpeg")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """Photos of one product."""

    object: str
    good: list[Path]
    defective: list[Path]


def products(data: Path) -> dict[str, Product]:
    """All products that are there, with all their photos."""
    out: dict[str, Product] = {}
    for name, words, folder in (
        ("bottle", "bottle", data / "mvtec" / "bottle"),
        ("cookies", "cookie", data / "cookies"),
        ("magnetic tile", "magnetic tile", data / "magnetic_tile"),
    ):
        test = _photos(folder / "test")
        good = _photos(folder / "train" / "good") + [path for path in test if path.parent.name == "good"]
        out[name] = Product(words, good, [path for path in test if path.parent.name != "good"])
    return out | _packages()


def _packages() -> dict[str, Product]:
    import conformal_clip_data as textile
    import elpv_dataset

    root = Path(elpv_dataset.__file__).parent / "data"
    cells = [line.split() for line in (root / "labels.csv").read_text().splitlines() if line.strip()]
    out = {}
    for kind in ("mono", "poly"):
        good, defective = (
            [root / name for name, share, cell in cells if cell == kind and float(share) == wanted] for wanted in (0, 1)
        )
        out[f"solar cell, {kind}"] = Product("solar cell", good, defective)
    nominal = _photos(textile.nominal_dir())
    out["textile, local"] = Product("textile", nominal, _photos(textile.local_dir()))
    out["textile, global"] = Product("textile", nominal, _photos(textile.global_dir()))
    return out


def _photos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def sample(paths: Sequence[Path], count: int, seed: int) -> list[Path]:
    """At most `count` of the photos, always the same ones."""
    chosen = list(paths)
    random.Random(seed).shuffle(chosen)
    return chosen[:count]


def draws(photos: int, shots: int, count: int) -> list[list[int]]:
    """Indices of the good photos of every draw; of single photos each is drawn once at most."""
    if shots == 1:
        return [[index] for index in range(min(photos, count))]
    rng = np.random.default_rng(shots)
    return [rng.permutation(photos)[:shots].tolist() for _ in range(count)]


class MemoryScores:
    """Scores of `promptad` for any few good photos, from distances that are computed once.

    Args:
        detector: fitted on any photo. good: photos that memories are made of.
    """

    def __init__(self, detector: Detector, good: Sequence[PhotoFeatures]) -> None:
        self.method, self.layers = detector.method, detector.method.request.taps
        self.config = config = detector.config
        if config.fusion != "raised" or config.memory(detector.backbone.sizes.vision) != replace(
            MemorySettings(self.layers), precision=config.memory_precision
        ):
            raise SystemExit(
                "only memories of the nearest patch, without windows, turns and budget, that text raises are put together here"
            )
        self.top = config.memory_top
        self.banks = [
            {layer: _unit(torch.cat([v.taps[layer].flatten(0, 1) for v in photo.features])) for layer in self.layers}
            for photo in good
        ]

        self.good_gaps = [torch.stack([self._gap(view) for view in photo.features]) for photo in good]

    def _gap(self, view: Features) -> torch.Tensor:
        """How much nearer a view is to the anomalous prototype, in cosines."""
        prototypes = self.method.snapshot("image").prototypes
        return anomalous_logit(_unit(view.image), prototypes.normal, prototypes.anomalous, 1.0)[0]

    @torch.no_grad()
    def distances(self, photo: PhotoFeatures, good: Iterable[int]) -> list[tuple[NDArray[np.float32], torch.Tensor]]:
        """Of every view: distance of every patch to each good photo, (good, layers, patches), and the text's gap."""
        out = []
        for view in photo.features:
            patches = {layer: _unit(view.taps[layer].flatten(0, 1)) for layer in self.layers}
            nearest = [
                torch.stack([(patches[layer] @ self.banks[i][layer].T).amax(1).clamp(max=1) for layer in self.layers])
                for i in good
            ]
            out.append((((1 - torch.stack(nearest)) / 2).numpy(), self._gap(view)))
        return out

    def score(self, views: Sequence[tuple[NDArray[np.float32], torch.Tensor]], good: Sequence[int]) -> float:
        """The image score with a memory of these good photos: mean over layers, largest patches, raised by the text."""
        maps = [np.sort(distance[list(good)].min(0).mean(0)) for distance, _ in views]
        memory = torch.tensor([float(values[-max(1, int(self.top * len(values))) :].mean()) for values in maps])
        known = GoodScores.of([self.good_gaps[index] for index in good], self.config.fusion_spread)
        beyond = known.deviations(torch.stack([gap for _, gap in views]))
        return float(raised(memory, beyond, self.config.fusion_weight, self.config.fusion_margin).max())


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return F.normalize(rows.float(), dim=-1)


def by_distances(
    detector: Detector, good: Sequence[PhotoFeatures], defective: Sequence[PhotoFeatures], count: int
) -> dict[str, Floats]:
    """Scores of all draws by :class:`MemoryScores`."""
    detector.fit_features(good[:1], set_threshold=False)
    memory = MemoryScores(detector, good)
    own = [memory.distances(photo, range(len(good))) for photo in good]
    bad = [memory.distances(photo, range(len(good))) for photo in defective]
    out = {}
    for shots in SHOTS:
        rows: dict[str, list[list[float]]] = {"own": [], "held": [], "bad": []}
        for drawn in draws(len(good), shots, count):
            others = [index for index in range(len(good)) if index not in drawn]
            rows["own"].append([memory.score(own[i], [j for j in drawn if j != i]) for i in drawn if shots > 1])
            rows["held"].append([memory.score(own[i], drawn) for i in others])
            rows["bad"].append([memory.score(views, drawn) for views in bad])
        out |= {f"{shots}/{name}": np.array(values) for name, values in rows.items()}
    return out


def draw_by_draw(
    detector: Detector, good: Sequence[PhotoFeatures], defective: Sequence[PhotoFeatures], count: int
) -> dict[str, Floats]:
    """The same by fitting and scoring, for any method that learns from good photos."""
    out = {}
    for shots in SHOTS:
        rows: dict[str, list[list[float]]] = {"own": [], "held": [], "bad": []}
        for drawn in draws(len(good), shots, count):
            learned = [good[i] for i in drawn]
            detector.fit_features(learned, set_threshold=False)
            rows["own"].append(
                [judge(detector, [photo], leave_out=n)[0][0] for n, photo in enumerate(learned)] if shots > 1 else []
            )
            rows["held"].append([s for s, _ in judge(detector, [p for i, p in enumerate(good) if i not in drawn])])
            rows["bad"].append([s for s, _ in judge(detector, defective)])
        out |= {f"{shots}/{name}": np.array(values) for name, values in rows.items()}
    return out


def by_single_scores(
    detector: Detector, good: Sequence[PhotoFeatures], defective: Sequence[PhotoFeatures], count: int
) -> dict[str, Floats]:
    """The same for methods that learn nothing from good photos: every photo has one score, whatever is drawn."""
    detector.fit_features(good[:1], set_threshold=False)
    own, bad = (np.array([score for score, _ in judge(detector, photos)]) for photos in (good, defective))
    out = {}
    for shots in SHOTS:
        drawn = draws(len(good), shots, count)
        out[f"{shots}/own"] = np.array([own[indices] for indices in drawn])
        out[f"{shots}/held"] = np.array([np.delete(own, indices) for indices in drawn])
        out[f"{shots}/bad"] = np.array([bad for _ in drawn])
    return out


def of_copies(detector: Detector, paths: Sequence[Path], good: Sequence[PhotoFeatures], count: int) -> Floats:
    """Scores of the altered copies of single good photos, (photos, copies)."""
    rows = []
    for path, features in zip(paths[:count], good[:count], strict=True):
        detector.fit_features([features], set_threshold=False)
        copies = detector.encoder.encode(altered_copies(read_photo(path)), reference=True)
        rows.append([score for score, _ in judge(detector, copies)])
    return np.array(rows)


def gather(product: Product, method: str, backbone: Backbone, options: argparse.Namespace) -> dict[str, Floats]:
    """All scores of one product and method."""
    settings = {"epochs": 1} if method == "promptad" else {}
    detector = Detector(method, object=product.object, backbone=backbone, **settings)
    paths = sample(product.good, options.photos, options.seed)
    good, defective = (
        [detector.encode(read_photo(path)) for path in chosen]
        for chosen in (paths, sample(product.defective, options.photos, options.seed))
    )
    if detector.entry.good_photos == "unused":
        return by_single_scores(detector, good, defective, options.draws)
    scores = (by_distances if method == "promptad" else draw_by_draw)(detector, good, defective, options.draws)
    scores["copies"] = of_copies(detector, paths, good, options.draws)
    return scores


def main() -> None:
    """Writes FOLDER/METHOD/PRODUCT.npz for every product that has none there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="promptad")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--photos", type=int, default=80, help="at most, good and defective each")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", action="append", default=[], help="a product; repeat for more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone(precision=options.precision)
    for name, product in products(options.data).items():
        file = options.folder / options.method / f"{name}.npz"
        if file.exists() or (options.only and name not in options.only):
            continue
        began = time.perf_counter()
        scores = gather(product, options.method, backbone, options)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **scores)
        print(f"{options.method}, {name}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

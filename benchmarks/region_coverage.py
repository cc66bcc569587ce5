"""How often further good photos have a region, against what the pixel threshold promises.

`python benchmarks/region_coverage.py OUT.json --data DATA [--splits 50] [--photos 50]`

For every product and number of good photos: random splits into photos that the detector is fitted to, each scored without itself for the
thresholds, and further ones. Counted are further good photos with a region at the photo's own size, at the default level (no region in
any good photo, 10 % where they are too few to prove less) and at the level asked for with a rate of 10 %; and photos that were called
anomalous. Photos are encoded once. The prompts are those of one epoch on the first good photo, as in `threshold_scores.py`; the memory and what
the text says of good photos are those of each split.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from promptad.clip.backbone import load_backbone
from promptad.detector import Detector
from threshold_scores import products, sample

COUNTS = (2, 4, 10, 30)
RATE = 0.1


def split_shares(detector: Detector, photos: list, rng: np.random.Generator, good: int, most: int) -> dict[str, float]:
    """Shares of at most `most` further photos with a region, and of those called anomalous, in one split."""
    order = rng.permutation(len(photos))
    detector.fit_features([photos[i] for i in order[:good]])
    calibration = detector.calibration
    assert calibration is not None and calibration.map_threshold is not None
    asked = calibration.at_map_rate(RATE).map_threshold
    further = [detector.predict_features(photos[i]) for i in order[good:][:most]]
    peaks = np.array([np.max(photo.map) for photo in further if photo.map is not None])
    return {
        "default": float((peaks > calibration.map_threshold).mean()),
        "asked": float((peaks > asked).mean()),
        "alarms": float(np.mean([bool(photo.is_anomalous) for photo in further])),
    }


def keep_prompts(detector: Detector, photos: list) -> None:
    """Learns prompts from the first photo; fitting to others then leaves them as they are."""
    detector.fit_features(photos[:1], set_threshold=False)
    method = detector.method
    encoded = {task: raw.detach() for task, raw in method._encode().items()}
    method._encode = lambda: encoded
    method._train = lambda *_: None


def main() -> None:
    """Measures, and writes after every split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--further", type=int, default=10)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="numbers of good photos")
    parser.add_argument("--only", default="", help="products, with commas")
    asked = parser.parse_args()
    backbone = load_backbone("starter")
    wanted = [name for name in asked.only.split(",") if name]
    rows: list[dict[str, object]] = []
    for name, product in products(asked.data).items():
        if wanted and name not in wanted:
            continue
        detector = Detector(object=product.object, backbone=backbone, epochs=1)
        photos = [detector.encode(path, reference=True) for path in sample(product.good, asked.photos, 0)]
        keep_prompts(detector, photos)
        for good in asked.counts:
            if good + asked.further > len(photos):
                continue
            rng, began = np.random.default_rng(good), time.perf_counter()
            for split in range(asked.splits):
                shares = split_shares(detector, photos, rng, good, asked.further)
                rows.append({"product": name, "good": good, "split": split, **shares})
                asked.out.write_text(json.dumps(rows))
            mine = [row for row in rows if row["product"] == name and row["good"] == good]
            means = {
                key: float(np.mean([float(str(row[key])) for row in mine])) for key in ("default", "asked", "alarms")
            }
            print(name, good, len(mine), means, f"{time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

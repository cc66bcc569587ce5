"""Whole detectors against `benchmarks/thresholds.py`. `python benchmarks/threshold_check.py --data DATA [--draws 10]`

`Detector.fit_features` as the package ships it (all epochs, the constants of the package, altered copies of single photos):
shares of the good photos that were not drawn and of the defective ones above the threshold, and the same for the largest
value of their maps and the map threshold.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from promptad.clip.backbone import load_backbone
from promptad.data.copies import altered_copies
from promptad.data.photos import read_photo
from promptad.detector import Detector
from promptad.learning.features import PhotoFeatures
from threshold_scores import draws, products, sample

MAP_EDGE = 512


def above(detector: Detector, photos: list[PhotoFeatures]) -> np.ndarray:
    """(photos, 2) bool: score above the threshold, largest map value above the map threshold."""
    rows = []
    for photo in photos:
        factor = min(1.0, MAP_EDGE / max(photo.size))
        size = (max(1, round(photo.size[0] * factor)), max(1, round(photo.size[1] * factor)))
        result = detector.predict_features(photo, map_size=size)
        assert result.map is not None and result.map_threshold is not None
        rows.append((bool(result.is_anomalous), bool(result.map.max() > result.map_threshold)))
    return np.array(rows)


def main() -> None:
    """Prints one line a product and number of good photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone(precision=options.precision)
    print("product, good photos: false alarms, defects found; good and defective photos with an outlined region")
    for name, product in products(options.data).items():
        detector = Detector(object=product.object, backbone=backbone)
        paths = sample(product.good, options.photos, 7)
        good, defective = (
            [detector.encode(read_photo(path)) for path in chosen]
            for chosen in (paths, sample(product.defective, options.photos, 7))
        )
        for shots in (1, 4):
            shares = []
            for drawn in draws(len(good), shots, options.draws):
                copies = detector.encoder.encode(altered_copies(read_photo(paths[drawn[0]]))) if shots == 1 else []
                detector.fit_features([good[i] for i in drawn], copies=copies)
                held = above(detector, [photo for i, photo in enumerate(good) if i not in drawn]).mean(axis=0)
                detected = above(detector, defective).mean(axis=0)
                shares.append((held[0], detected[0], held[1], detected[1]))
            mean = np.mean(shares, axis=0)
            print(f"{name}, {shots}: {mean[0]:.0%}, {mean[1]:.0%}; {mean[2]:.0%}, {mean[3]:.0%}", flush=True)


if __name__ == "__main__":
    main()

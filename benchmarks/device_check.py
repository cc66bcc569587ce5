"""Every method on another device against the CPU. `python benchmarks/device_check.py --device cuda`

Photos of the demo: four good ones are learned from where a method does, the others are judged on both devices. Printed for each method and
precision: the largest differences of scores and maps, whether all verdicts agree, and milliseconds a photo (encoding and scoring, the photo
read before; a first photo warms up).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import promptad
from promptad.clip.backbone import load_backbone
from promptad.data.photos import read_photo
from promptad.detector import Detector
from promptad.methods.registry import METHODS
from promptad.prediction import Prediction

COOKIES = Path(promptad.__file__).parent / "demo_photos" / "cookies"


def judged(
    method: str, device: str, precision: str, good: list[np.ndarray], photos: list[np.ndarray]
) -> tuple[list[Prediction], float, float]:
    """Predictions, milliseconds a photo, seconds of fitting."""
    backbone = load_backbone(precision=precision, device=device)  # type: ignore[arg-type]
    detector = Detector(method, object="cookie", backbone=backbone)
    began = time.perf_counter()
    detector.fit(good)
    fitted = time.perf_counter() - began
    detector.predict(photos[0])
    began = time.perf_counter()
    predictions = [detector.predict(photo) for photo in photos]
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return predictions, 1000 * (time.perf_counter() - began) / len(photos), fitted


def main() -> None:
    """Prints one line a method and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--photos", type=int, default=16)
    parser.add_argument("--precision", action="append", default=[])
    options = parser.parse_args()
    files = sorted(path for path in COOKIES.rglob("*.jpg"))
    good = [read_photo(path) for path in files if "train" in path.parts or "good" in path.parent.name][:4]
    photos = [read_photo(path) for path in files][4 : 4 + options.photos]
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(
        f"promptad {promptad.__version__}, torch {torch.__version__}, {name}, {len(photos)} photos, {torch.get_num_threads()} CPU threads"
    )
    for method in METHODS:
        there: list[Prediction] = []
        for device, precision in [
            ("cpu", "fp32"),
            *((options.device, p) for p in options.precision or ["fp32", "fp16"]),
        ]:
            try:
                predictions, each, fitted = judged(method, device, precision, good, photos)
            except Exception as error:
                print(f"{method:12s} {device:5s} {precision}: {type(error).__name__}: {error}", flush=True)
                continue
            there = there or predictions
            scores = max(abs(a.score - b.score) for a, b in zip(predictions, there, strict=True))
            maps = [
                np.abs(a.map - b.map).max()
                for a, b in zip(predictions, there, strict=True)
                if a.map is not None and b.map is not None
            ]
            same = sum(a.verdict == b.verdict for a, b in zip(predictions, there, strict=True))
            print(
                f"{method:12s} {device:5s} {precision}: scores {scores:.1e}, maps {max(maps, default=0.0):.1e}, "
                f"{same} of {len(photos)} verdicts alike, {each:.1f} ms a photo, fit {fitted:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()

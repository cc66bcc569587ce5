"""Time and memory of the pixel metrics, against the 200-step loop that many anomaly-detection scripts use.

Run: ``python benchmarks/aupro_speed.py`` (a minute or two; ``--help`` lists the options).
Compared in the same run, on the same synthetic float32 maps: the exact closed form, the fast 200-threshold
variant, the loop itself on a subset, and, if scikit-learn is installed, its AUROC and average precision over
all pixels.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import integrate, ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from promptad.metrics.accumulator import Accumulator
from promptad.metrics.aupro import aupro, aupro_200


def synthetic(number: int, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Smooth noise maps (float32) and masks (uint8); two photos in three carry one to three round defects."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    maps, masks = [], []
    for index in range(number):
        mask = np.zeros((size, size), np.uint8)
        for _ in range(rng.integers(1, 4) if index % 3 else 0):
            y, x = rng.integers(0, size, 2)
            radius = rng.integers(4, max(5, size // 12))
            mask[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 1
        noise = ndimage.gaussian_filter(rng.normal(size=mask.shape).astype(np.float32), 4)
        maps.append(noise / noise.std() + 2 * ndimage.gaussian_filter(mask.astype(np.float32), 4))
        masks.append(mask)
    return maps, masks


def loop_200(maps: list[np.ndarray], masks: list[np.ndarray], relabel: bool, limit: float = 0.3) -> float:
    """The 200-threshold AUPRO as a plain loop: every threshold passes over every map and every region.

    ``relabel`` finds the regions again at every threshold, as the released scripts do, instead of once.
    """

    def find_regions() -> list[tuple[int, tuple[np.ndarray, ...]]]:
        regions = []
        for index, mask in enumerate(masks):
            labelled, number = ndimage.label(mask, np.ones((3, 3)))
            regions += [(index, np.nonzero(labelled == region)) for region in range(1, number + 1)]
        return regions

    regions = find_regions()
    stack, normal = np.stack(maps), np.stack(masks) == 0
    low, high = stack.min(), stack.max()
    rates, overlaps = [], []
    for threshold in np.arange(low, high, (high - low) / 200).astype(stack.dtype):
        if relabel:
            regions = find_regions()
        hit = stack > threshold
        rates.append((hit & normal).sum() / normal.sum())
        overlaps.append(np.mean([hit[i][where].mean() for i, where in regions]))
    fpr, pro = np.array(rates), np.array(overlaps)
    keep = fpr < limit
    fpr, pro = fpr[keep], pro[keep]
    fpr = (fpr - fpr.min()) / (fpr.max() - fpr.min())
    return float(integrate.trapezoid(pro[::-1], fpr[::-1]))


def measure(name: str, work: Callable[[], Any], *, memory: bool = True) -> tuple[Any, float]:
    """Run once for time and once more for the peak of newly allocated memory; print a line."""
    start = time.perf_counter()
    value = work()
    seconds = time.perf_counter() - start
    peak = ""
    if memory:
        tracemalloc.start()
        work()
        peak = f"{tracemalloc.get_traced_memory()[1] / 2**20:8.0f} MiB"
        tracemalloc.stop()
    print(f"{name:46s} {seconds:8.2f} s {peak:>12s}   {value}", flush=True)
    return value, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=80)
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--loop-maps", type=int, default=8)
    options = parser.parse_args()
    maps, masks = synthetic(options.maps, options.size)
    pixels = sum(m.size for m in maps)
    defect = sum(int(m.sum()) for m in masks) / pixels
    print(
        f"{options.maps} float32 maps of {options.size} x {options.size}: {pixels / 1e6:.1f} M pixels,",
        end=" ",
    )
    print(f"{pixels * 4 / 2**20:.0f} MiB, {defect:.1%} defect. Memory is what comes on top of maps and masks.")

    def accumulate() -> dict[str, float | None]:
        accumulator = Accumulator()
        for anomaly_map, mask in zip(maps, masks, strict=True):
            accumulator.add(int(mask.any()), float(anomaly_map.max()), anomaly_map, mask)
        return {name: value and round(value, 6) for name, value in accumulator.compute().values().items()}

    measure("exact AUPRO at 0.3 and 0.05", lambda: aupro(maps, masks))
    measure("200-threshold AUPRO", lambda: aupro_200(maps, masks))
    measure("Accumulator, all nine metrics", accumulate)

    print(f"\nOn the first {options.loop_maps} maps:")
    maps_few, masks_few = maps[: options.loop_maps], masks[: options.loop_maps]
    _, exact = measure("exact AUPRO at 0.3 and 0.05", lambda: aupro(maps_few, masks_few), memory=False)
    fast_value, fast = measure("200-threshold AUPRO", lambda: aupro_200(maps_few, masks_few), memory=False)
    for name, relabel in (("200-step loop, as released", True), ("200-step loop, regions found once", False)):
        value, loop = measure(name, lambda again=relabel: loop_200(maps_few, masks_few, again), memory=False)
        difference = abs(value - fast_value)
        print(f"  {loop / exact:.0f} x exact, {loop / fast:.0f} x fast 200; values differ by {difference:.1e}")

    try:
        from sklearn.metrics import average_precision_score, roc_auc_score
    except ImportError:
        return
    from promptad.metrics.ranking import rank

    truth = np.concatenate([m.ravel() for m in masks])
    scores = np.concatenate([m.ravel() for m in maps])

    def ours() -> tuple[float, float]:
        ranked = rank(truth, scores)
        return ranked.auroc(), ranked.average_precision()

    def sklearn() -> tuple[float, float]:
        return float(roc_auc_score(truth, scores)), float(average_precision_score(truth, scores))

    print("\nPixel AUROC and average precision over all maps:")
    _, here = measure("promptad", ours)
    _, there = measure("scikit-learn", sklearn)
    print(f"scikit-learn / promptad: {there / here:.1f} x")


if __name__ == "__main__":
    main()

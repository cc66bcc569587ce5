"""A tiny data set in the MVTec layout, drawn here, and settings with which the tiny backbone learns fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# The tiny tower has 4 layers; 3 epochs with large steps make epochs differ.
SETTINGS: dict[str, Any] = {"memory_layers": [1, 3], "epochs": 3, "lr": 0.5, "map_size": 48, "smoothing": 1.0}
SIZE = 48


def photo(seed: int, defect: bool = False, size: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a texture of its own for every seed, with a dark square if it has a defect."""
    random = np.random.default_rng(seed)
    coarse = random.integers(90, 200, (6, 6, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)).copy()
    if defect:
        picture[square(seed)] = random.integers(0, 60, 3)
    return picture


def square(seed: int) -> tuple[slice, slice]:
    """Where the defect of a seed lies."""
    top, left = (seed * 7) % 30, (seed * 11) % 30
    return slice(top, top + 14), slice(left, left + 14)


def save(folder: Path, name: str, pixels: np.ndarray) -> Path:
    """Writes one PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


def make_class(root: Path, name: str, *, train: int = 4, good: int = 3, bad: int = 3, masks: bool = True) -> Path:
    """One class: `train` normal training photos, `good` and `bad` test photos, masks beside the bad ones."""
    base = sum(name.encode()) * 1000
    folder = root / name
    for number in range(train):
        save(folder / "train/good", f"{number:03}.png", photo(base + number))
    for number in range(good):
        save(folder / "test/good", f"{number:03}.png", photo(base + 100 + number))
    for number in range(bad):
        seed = base + 200 + number
        save(folder / "test/stain", f"{number:03}.png", photo(seed, defect=True))
        if masks:
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[square(seed)] = 255
            save(folder / "ground_truth/stain", f"{number:03}_mask.png", mask)
    return folder

"""How soon a change of light, colour or focus is noticed, and how often one is that is not there.

    python benchmarks/drift.py /work/data/cookies /work/data/solar_cell

On good photos of real sets (MVTec layout), by the camera's statistics. Prints the tables of `docs/watch.md`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from promptad.calibration.drift import Drift
from promptad.data.camera import NAMES, camera_statistics
from promptad.data.photos import read_photo

Statistics = dict[str, float]
Pixels = np.ndarray


def scaled(*factors: float) -> Callable[[Pixels], Pixels]:
    """Each channel times a factor."""
    return lambda photo: np.clip(np.rint(photo * np.array(factors)), 0, 255).astype(np.uint8)


def blurred(radius: float) -> Callable[[Pixels], Pixels]:
    """Gaussian, standard deviation in pixels."""
    return lambda photo: np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))


CHANGES = {
    "15 % darker": scaled(0.85, 0.85, 0.85),
    "15 % brighter": scaled(1.15, 1.15, 1.15),
    "red +5 %, blue -5 %": scaled(1.05, 1, 0.95),
    "green +5 %": scaled(1, 1.05, 1),
    "blur of 1 pixel": blurred(1),
    "blur of 2 pixels": blurred(2),
}


def good_photos(folder: Path) -> list[Path]:
    """All good photos of a set."""
    return sorted([*(folder / "train/good").iterdir(), *(folder / "test/good").iterdir()])


def first_change(good: Sequence[Statistics], stream: Sequence[Statistics], name: str) -> tuple[int, str] | None:
    """The photo (from 1 on) at which a change is said, and its statistic."""
    drift = Drift(good)
    for number, statistics in enumerate(stream, start=1):
        for change in drift.add(statistics, None, when=str(number), key=f"{name} {number}"):
            return number, change.statistic
    return None


def delays(
    photos: list[Path], known: list[Statistics], good: int, before: int, draws: int, rng: np.random.Generator
) -> None:
    """For each change: how many photos after it the alarm comes, over draws of good photos and streams."""
    for title, change in CHANGES.items():
        chosen = rng.permutation(len(photos))[: min(len(photos), 120)]
        altered = [camera_statistics(change(read_photo(photos[index]))) for index in chosen]
        waits, statistics, early = [], Counter[str](), 0
        for draw in range(draws):
            first = [known[index] for index in rng.choice(len(known), good, replace=len(known) < good + 20)]
            stream = [known[index] for index in rng.choice(len(known), before)]
            later = [altered[index] for index in rng.choice(len(altered), 200)]
            said = first_change(first, stream + later, f"{title} {draw}")
            early += said is not None and said[0] <= before
            waits.append(said[0] - before if said is not None and said[0] > before else 999)
            statistics.update([said[1]] if said is not None else [])
        share = np.mean(np.array(waits) <= 50)
        print(
            f"| {title} | {good} | {np.median(waits):.0f} | {max(waits)} | {share:.0%} | {early} | "
            + ", ".join(f"{word} {count}" for word, count in statistics.most_common())
            + " |",
            flush=True,
        )


def false_alarms(known: list[Statistics], good: int, streams: int, length: int, rng: np.random.Generator) -> int:
    """How many changes are said in streams without any: photos drawn with replacement, scores drawn as numbers."""
    alarms = 0
    for stream in range(streams):
        drift = Drift([known[index] for index in rng.choice(len(known), good)], list(rng.normal(size=good)))
        for number, index in enumerate(rng.choice(len(known), length)):
            key = f"{stream} {number}"
            changes = drift.add(known[index], float(rng.normal()), when="", key=key)
            alarms += sum(change.direction != 0 for change in changes)
    return alarms


def real_orders(known: list[Statistics], good: int, draws: int, rng: np.random.Generator) -> tuple[int, str]:
    """Real photos, each once: changes said in random orders, and in that of their names."""
    alarms = 0
    for draw in range(draws):
        order = rng.permutation(len(known))
        shuffled = [known[index] for index in order]
        alarms += first_change(shuffled[:good], shuffled[good:], f"order {draw}") is not None
    said = first_change(known[:good], known[good:], "by name")
    return alarms, "none" if said is None else f"{said[1]} at photo {said[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--before", type=int, default=200, help="unchanged photos before a change")
    parser.add_argument("--streams", type=int, default=10, help="of 10,000 photos without a change, for each set")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    for folder in arguments.sets:
        photos = good_photos(folder)
        known = [camera_statistics(read_photo(path)) for path in photos]
        spread = {name: float(np.std([statistics[name] for statistics in known])) for name in NAMES}
        print(
            f"\n## {folder.name}: {len(photos)} good photos; deviations { ({n: round(s, 4) for n, s in spread.items()}) }"
        )
        by_name, named = real_orders(known, min(30, len(known) // 2), arguments.draws, rng)
        print(
            f"random orders with a change said: {by_name} of {arguments.draws}; in the order of names: {named}",
            flush=True,
        )
        for good in (4, 30):
            delays(photos, known, good, arguments.before, arguments.draws, rng)
        alarms = false_alarms(known, 30, arguments.streams, 10_000, rng)
        print(f"without a change: {alarms} changes said in {arguments.streams} streams of 10,000 photos", flush=True)


if __name__ == "__main__":
    main()

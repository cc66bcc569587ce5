"""Memory of `inspect` over many photos: resident memory every 50 photos, with few pictures on the page.

    OMP_NUM_THREADS=1 python benchmarks/inspect_memory.py --photos 2000 --max-pictures 20

The photos are the demo's cookies at 360 x 480, each with a small patch of noise of its own, so that no two files are alike. They lie
in a temporary folder. The detector sees them at 112 pixels, which changes the time a photo takes and not what is kept of it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from promptad.cli.demo import DEMO_PHOTOS
from promptad.detector import Detector
from promptad.run.inspection import Output, inspect


def resident() -> float:
    """Resident memory of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def draw_photos(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG photos of `size` (W, H), all different."""
    folder.mkdir()
    sources = [Image.open(path).convert("RGB").resize(size) for path in sorted((DEMO_PHOTOS / "test").glob("*/*.jpg"))]
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        pixels = np.array(sources[number % len(sources)])
        top, left = rng.integers(0, size[1] - 16), rng.integers(0, size[0] - 16)
        pixels[top : top + 16, left : left + 16] = rng.integers(0, 256, (16, 16, 3))
        paths.append(folder / f"{number:05d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--max-pictures", type=int, default=20)
    parser.add_argument("--input-size", type=int, default=112)
    options = parser.parse_args()
    good = sorted((DEMO_PHOTOS / "train" / "good").iterdir())
    detector = Detector(object="cookie", epochs=2, input_size=options.input_size).fit(good)
    measured: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        photos = draw_photos(Path(name) / "photos", options.photos, (360, 480))
        began = time.perf_counter()

        def progress(done: int, total: int) -> None:
            if done % 50 == 0:
                measured[done] = resident()
                print(f"{done:6d} photos {measured[done]:8.1f} MB {time.perf_counter() - began:7.0f} s", flush=True)

        report = inspect(
            detector, photos, Output(Path(name) / "out", max_pictures=options.max_pictures), progress=progress
        )
        page = report.page.stat().st_size / 1e6
        log = report.log.stat().st_size / 1e6
    later = {done: value for done, value in measured.items() if done >= 100}
    first, last = min(later), max(later)
    print(f"resident at {first} photos {later[first]:.1f} MB, at {last} {later[last]:.1f} MB")
    print(f"between them at least {min(later.values()):.1f} and at most {max(later.values()):.1f} MB")
    growth = np.polyfit(list(later), list(later.values()), 1)[0]
    print(f"straight line through them: {1000 * growth:+.2f} kB a photo")
    print(f"after log, table and page were written {resident():.1f} MB; page {page:.1f} MB, log {log:.1f} MB")
    print(f"peak of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

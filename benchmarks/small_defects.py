"""How small a defect can be: `python benchmarks/small_defects.py [--set fit=tiles,input_size=480 ...] [--photos FOLDER]`

Damage of a given area is painted on good photos (`promptad.data.damage`), and few-shot PromptAD judges them with four other
good photos. A row is one layout of the photo: the default, and every `--set`. For each size of damage it prints the AUROC
of the damaged photos against the same photos without damage, and how often the hottest pixel of the anomaly map lies on the
damage or within half a patch of it. Sizes are the side of a square of the same area, in percent of the photo's long edge and in
patches of the default layout. Damage is holes and stains. Without folders: the demo photos (320 x 427 pixels), four of `train/good` to learn from, ten of `test/good` painted.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import promptad
from promptad import Detector
from promptad.cli.takes import parse_settings
from promptad.data.damage import damaged
from promptad.data.folder import find_photos
from promptad.data.photos import read_photo
from promptad.errors import PhotoError
from promptad.metrics.ranking import auroc

DEMO = Path(promptad.__file__).parent / "demo_photos" / "cookies"
KINDS = ("hole", "stain")
SIDES = (0.02, 0.035, 0.06, 0.1)
"""Sides of the damage, as shares of the long edge."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=Path, default=DEMO / "train" / "good", help="folder of photos to learn from")
    parser.add_argument("--photos", type=Path, default=DEMO / "test" / "good", help="folder of good photos to paint on")
    parser.add_argument("--object", default="cookie")
    parser.add_argument("--set", action="append", default=[], help="settings with commas: fit=tiles,input_size=480")
    arguments = parser.parse_args()
    good = [read_photo(path) for path in find_photos([arguments.good])[0]]
    clean = {path.name: read_photo(path) for path in find_photos([arguments.photos])[0]}
    painted = {(side, kind): paint(clean, side, kind) for side in SIDES for kind in KINDS}
    columns = " | ".join(f"{side:.1%} ({15 * side:.1f})" for side in SIDES)
    print(f"| layout | side, % of the long edge (in patches) | {columns} |")
    for words in ["", *arguments.set]:
        settings = parse_settings(words.split(",") if words else [])
        for line in rows(words or "default", settings, arguments.object, good, clean, painted):
            print(line, flush=True)


def paint(photos: dict[str, Any], side: float, kind: str) -> dict[str, tuple[Any, Any]]:
    """Name -> damaged photo and mask; photos on which damage of this size cannot be seen are left out."""
    out = {}
    for name, photo in photos.items():
        area = (side * max(photo.shape[:2])) ** 2 / (photo.shape[0] * photo.shape[1])
        try:
            out[name] = damaged(photo, kind, seed=0, name=name, area=area)
        except PhotoError:
            continue
    return out


def rows(layout: str, settings: dict[str, Any], name: str, good: list[Any], clean: Any, painted: Any) -> list[str]:
    """Two lines of the table: AUROC and places, mean over the kinds of damage."""
    detector = Detector(object=name, **settings).fit(good)
    whole = {key: detector.predict(photo, maps=False).score for key, photo in clean.items()}
    ranks, places = [], []
    for side in SIDES:
        values, hits = [], []
        for kind in KINDS:
            judged = {key: detector.predict(photo) for key, (photo, _) in painted[side, kind].items()}
            if not judged:
                continue
            labels = [0] * len(judged) + [1] * len(judged)
            values.append(auroc(labels, [whole[key] for key in judged] + [r.score for r in judged.values()]))
            for key, result in judged.items():
                mask = painted[side, kind][key][1]
                near = math.ceil(max(mask.shape) / 30)  # half a patch of the default layout
                hits.append(bool(ndimage.binary_dilation(mask, iterations=near)[result.hottest]))
        ranks.append(f"{100 * np.mean(values):.0f}" if values else "–")
        places.append(f"{100 * np.mean(hits):.0f}" if hits else "–")
    return [f"| {layout} | AUROC | {' | '.join(ranks)} |", f"| | place | {' | '.join(places)} |"]


if __name__ == "__main__":
    main()

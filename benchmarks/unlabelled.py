"""Ranking of mixed folders without a good photo (`promptad inspect --unlabelled`), and whether it knows when it fails.

    python benchmarks/unlabelled.py DATA/mvtec/bottle DATA/cookies --share 0.2 0.5

Each folder lies as a benchmark does (train/good, test/KIND). Good photos of both splits and a share of defective ones, drawn with
a seed, are linked into one folder without labels; the labels only measure the ranking.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from promptad import InspectRequest
from promptad.notices import collected_notices

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def photos_of(folder: Path) -> list[Path]:
    """Photos below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def mixed(product: Path, share: float, most: int, seed: int) -> tuple[list[Path], list[Path]]:
    """Good photos, at most so many, and as many defective ones as make that share of all."""
    draw = np.random.default_rng(seed)
    good = photos_of(product / "train/good") + photos_of(product / "test/good")
    bad = [path for path in photos_of(product / "test") if path.parent.name != "good"]
    good = [good[number] for number in draw.permutation(len(good))[:most]]
    count = min(len(bad), round(len(good) * share / (1 - share)))
    return good, [bad[number] for number in draw.permutation(len(bad))[:count]]


def measured(
    product: Path, share: float, most: int, seed: int, settings: dict[str, str]
) -> tuple[int, int, float, str]:
    """Numbers of good and defective photos, image AUROC of the ranking in percent, and what the run says of it."""
    good, bad = mixed(product, share, most, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        folder.mkdir()
        labels = {}
        for number, path in enumerate([*good, *bad]):
            link = folder / f"{number:04}{path.suffix.lower()}"
            link.symlink_to(path.resolve())
            labels[link.name] = int(path in set(bad))
        request = InspectRequest(
            photos=folder,
            output=Path(name) / "out",
            unlabelled=True,
            heatmaps="none",
            max_pictures=1,
            settings=settings,
        )
        with collected_notices() as said:
            _, report = request.run(said=str)
    rows = [row for row in report.rows if row.score is not None]
    auroc = 100 * roc_auc_score([labels[Path(row.photo).name] for row in rows], [row.score for row in rows])
    return len(good), len(bad), auroc, next(line for line in said if "halves of the photos" in line)


def main() -> None:
    """One line a product, share and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("products", nargs="+", type=Path)
    parser.add_argument("--share", nargs="+", type=float, default=[0.2, 0.5])
    parser.add_argument("--most", type=int, default=60, help="good photos of a product at most")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    settings = dict(text.split("=", 1) for text in asked.set)
    for product in asked.products:
        for share in asked.share:
            for seed in range(asked.seeds):
                good, bad, auroc, words = measured(product, share, asked.most, seed, settings)
                print(f"{product.name}\tgood {good}\tdefective {bad}\tAUROC {auroc:.1f}\t{words}", flush=True)


if __name__ == "__main__":
    main()

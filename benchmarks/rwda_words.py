"""The word pairs of RWDA's table 3 on a data set: `python benchmarks/rwda_words.py DATASET [OBJECT ...]`

For every pair of guide words ("a" / "a damaged", "a good" / "a broken", ...) and seed the classifier is trained on random
words; image AUROC is then that of the guide sentences alone (CLIP), of the classifier alone (ours) and of their sum, each
the mean over the objects. Photos are encoded once (and kept in the feature cache), sentences once for each guide word and
seed: all 16 pairs take 8 times 10,000 sentences a seed.

The table has the paper's layout: rows are normal words, columns anomalous words, a cell is "CLIP / ours / CLIP + ours" in
percent, with the standard deviation over seeds where there are several.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from promptad.clip.backbone import load_backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.clip.preprocess import Preprocess
from promptad.data.datasets import load_dataset
from promptad.data.records import Record
from promptad.learning.features import Encoder, default_store
from promptad.methods.registry import find_method
from promptad.methods.rwda.method import RWDA
from promptad.metrics.ranking import auroc
from promptad.prompts.random_words import word_pairs

COLUMNS = ("guided", "classifier", "sum")


def photo_scores(method: RWDA, views: torch.Tensor, share: Sequence[int]) -> dict[str, np.ndarray]:
    """Scores (photos,) of every column from the views (V, E) of all photos, `share` of them a photo."""
    parts = method.score(Features(views, None)).parts
    sums = {"guided": parts["guided"], "classifier": parts["classifier"], "sum": parts["guided"] + parts["classifier"]}
    mean = method.config.view_score == "mean"
    return {
        name: np.array([float(own.mean() if mean else own.max()) for own in value.split(list(share))])
        for name, value in sums.items()
    }


def cell(values: Sequence[Sequence[float]]) -> str:
    """Every column's mean over seeds, in percent, and its standard deviation where there are several."""
    rows = 100 * np.array(values)
    deviations = rows.std(axis=0, ddof=1) if len(rows) > 1 else None
    return " / ".join(
        f"{mean:.1f}" + (f"±{deviations[i]:.1f}" if deviations is not None and i else "")
        for i, mean in enumerate(rows.mean(axis=0))
    )


def main() -> None:
    """Parses the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("objects", nargs="*", help="classes of the data set; all of them by default")
    parser.add_argument("--pairs", help='only these, as "a/a damaged,a good/a broken"')
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--fit", help="layout of photos, where it is not to be the preset's")
    parser.add_argument("--known", action="store_true", help="guide sentences name the object")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=10_000, help="pairs of sentences to train on")
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    entry, backbone = find_method("rwda"), load_backbone(options.backbone, device=options.device)
    settings = {"pairs": options.sentences} | ({"fit": options.fit} if options.fit else {})
    config = entry.make_config(options.preset, **settings)
    pairs = [tuple(pair.split("/")) for pair in options.pairs.split(",")] if options.pairs else word_pairs()
    tests: dict[str, list[Record]] = {}
    for record in load_dataset(options.dataset):
        if record.split == "test" and (not options.objects or record.class_name in options.objects):
            tests.setdefault(record.class_name, []).append(record)
    if missing := set(options.objects) - set(tests):
        raise SystemExit(f"{options.dataset} has no test photos of {', '.join(sorted(missing))}")
    size = config.input_size or backbone.input_size
    encoder = Encoder(
        backbone,
        Preprocess(size, backbone.sizes.vision.patch_size, config.fit),
        FeatureRequest(),
        cache=default_store(),
    )
    views, shares = {}, {}
    for name, records in tests.items():
        photos = encoder.encode_files([record.path for record in records])
        views[name] = torch.cat([view.image for photo in photos for view in photo.features])
        shares[name] = [len(photo.features) for photo in photos]
        print(f"{name}: {len(photos)} photos, {len(views[name])} views", flush=True)
    cells: dict[tuple[str, ...], list[list[float]]] = {}
    for seed in range(options.seeds):
        for normal, anomalous in pairs:
            words = {"normal_words": normal, "anomalous_words": anomalous, "seed": config.seed + seed}
            own = entry.make_config(options.preset, **settings, **words)
            trained = RWDA(backbone, own)
            trained.train()
            columns: dict[str, list[float]] = {column: [] for column in COLUMNS}
            for name, records in tests.items():
                method = RWDA(backbone, own, name if options.known else "object")
                method.load_learned(trained.learned())
                labels = np.array([record.label for record in records])
                for column, scores in photo_scores(method, views[name], shares[name]).items():
                    columns[column].append(float(auroc(labels, scores)))
            cells.setdefault((normal, anomalous), []).append([float(np.mean(columns[column])) for column in COLUMNS])
            print(f"seed {own.seed}, {normal} / {anomalous}: {cell(cells[normal, anomalous][-1:])}", flush=True)
    rows, heads = (list(dict.fromkeys(words)) for words in zip(*pairs, strict=True))
    print(f"\nimage AUROC, CLIP / ours / CLIP + ours; {options.preset}, fit {config.fit}, {backbone.identity}\n")
    print("| |", " | ".join(heads), "|")
    print("|" + "---|" * (len(heads) + 1))
    for normal in rows:
        print(f"| {normal} |", " | ".join(cell(cells[normal, a]) if (normal, a) in cells else "" for a in heads), "|")


if __name__ == "__main__":
    main()

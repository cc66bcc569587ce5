"""What tuning chooses, and what it is worth on real defects: `python benchmarks/tuning.py SET [SET ...] --draws 1001`

For each draw of good photos `promptad.tuning` chooses, as `promptad fit --tune` does; then every setting that it chooses among is
measured on the real test photos: image AUROC / pixel AUROC / AUPRO up to 0.3, in percent. Tuning sees none of these. SETs as in
`memory_settings.py`; by default the memory alone, `--parts fused` with the prompts of the preset.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from memory_settings import encoded, measured
from promptad import Detector
from promptad.clip.backbone import load_backbone
from promptad.data.datasets import load_dataset
from promptad.data.shots import draw_shots
from promptad.learning.features import GIB, FeatureStore
from promptad.methods.settings import config_dict
from promptad.tuning import tuned

TURNED, WIDE = {"memory_turns": 8, "memory_best_turns": 2}, {"memory_map_windows": (1, 3)}
ROWS = {"default": {}, "orientations": TURNED, "wide maps": WIDE, "both": {**TURNED, **WIDE}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--draws", default="1001,1002,1003")
    parser.add_argument("--limit", type=int, default=30, help="test photos of either kind; 0 takes all")
    parser.add_argument("--parts", choices=("memory", "fused"), default="memory")
    parser.add_argument("--eval-size", type=int, default=400)
    parser.add_argument("--cache", type=Path, help="folder that keeps features between runs")
    arguments = parser.parse_args()
    backbone = load_backbone()
    store = FeatureStore(arguments.cache, 30 * GIB) if arguments.cache else None
    print("| set | draw | setting | image AUROC | pixel AUROC | AUPRO 0.3 | chosen |\n|---|---|---|---|---|---|---|")
    for folder in arguments.sets:
        records = load_dataset(folder)
        made = [
            Detector(object=folder.name, backbone=backbone, parts=arguments.parts, **settings)
            for settings in ROWS.values()
        ]
        rows = encoded(list(ROWS), made, records, arguments, store)
        for seed in map(int, arguments.draws.split(",")):
            photos = [record.photo for record in draw_shots(records, arguments.shots, seed)]
            config, why = tuned(made[0].config, made[0].encoder, photos)
            chosen = [name for name, detector in zip(ROWS, made, strict=True) if same(detector.config, config)]
            for name, values, _ in measured(rows, records, arguments.shots, [seed]):
                cells = " | ".join("–" if np.isnan(value) else f"{value:.1f}" for value in values)
                print(f"| {folder.name} | {seed} | {name} | {cells} | {'x' if name in chosen else ''} |", flush=True)
            print("\n".join(f"<!-- {line} -->" for line in why.lines()), flush=True)


def same(config: object, other: object) -> bool:
    """Whether two configs say the same."""
    return config_dict(config) == config_dict(other)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

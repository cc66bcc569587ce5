"""Zero-shot on real photos: `python benchmarks/zero_shot.py DATA -o DIR [--methods clip,faprompt,...] [--seeds N]`

DATA holds `mvtec/bottle`, `cookies` and `magnetic_tile` (of which every third test photo is taken). AnomalyCLIP and FAPrompt, with the rows of FAPrompt's ablation,
are trained on each one of the sets and measured on the other two; PromptAD zero-shot, with the rows of its ablation, is
trained on two sets and measured on the third (it needs several categories); RWDA is trained on words alone. Every
training and every measurement is kept in DIR and not repeated, so a stopped run goes on. The table is written to
`DIR/table.md`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from promptad.bench.protocol import Protocol
from promptad.bench.run import Evaluation, run
from promptad.bench.variants import make_variants
from promptad.clip.backbone import Backbone, load_backbone
from promptad.data.datasets import load_dataset
from promptad.learning.features import FeatureStore
from promptad.methods.registry import find_method
from promptad.saved.prompts import Learned, read_learned
from promptad.training import Source, train_prompts

SETS = {"bottle": "mvtec/bottle", "cookies": "cookies", "tile": "magnetic_tile"}
OBJECTS = {"bottle": "bottle", "cookies": "cookie", "magnetic_tile": "magnetic tile"}
# Rows of the papers' ablations: settings on top of `clean`.
FAPROMPT = {
    "full": {},
    "CAP (no prior)": {"prior": False},
    "CAP, no L_oc": {"prior": False, "orthogonality_weight": 0.0},
    "DAP (one prompt)": {"abnormal_prompts": 1},
    "DAP, no L_prior": {"abnormal_prompts": 1, "prior_weight": 0.0},
    "raster patches (F-14)": {"prior_patches": "raster"},
}
BRANCHES = {
    "full": {},
    "both, + CCL": {"cmi": "off"},
    "both": {"cmi": "off", "ccl": False},
    "ABN": {"cmi": "off", "ccl": False, "branches": "abnormal"},
    "NOR": {"cmi": "off", "ccl": False, "branches": "normal"},
    "full, 1 anomaly": {"anomalies": 1},
}
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "anomalyclip": {"full": {}, "ensemble of 10": {"abnormal_prompts": 10}},
    "faprompt": FAPROMPT,
    "promptad-zs": BRANCHES,
    "rwda": {"full": {}},
}
UNTRAINED = {
    "two prompts": {"sentences": "two_prompt", "local": "qk"},
    "two prompts, V-V": {"sentences": "two_prompt"},
    "WinCLIP's sentences, V-V": {"sentences": "winclip"},
}
METRICS = {"image AUROC": "image_auroc", "image AP": "image_ap", "pixel AUROC": "pixel_auroc", "AUPRO@0.3": "aupro_30"}


def trainings(methods: list[str], seeds: int) -> list[tuple[str, str, str, tuple[str, ...], dict[str, Any]]]:
    """(file stem, method, row, training sets, settings) of everything that is trained."""
    out = []
    for method in methods:
        for row, settings in ROWS.get(method, {}).items():
            for seed in range(111, 111 + (10 if method == "rwda" else seeds)):
                chosen: list[tuple[str, ...]] = [(name,) for name in SETS]
                if method == "rwda":
                    chosen = [()]
                elif method == "promptad-zs":
                    chosen = [tuple(other for other in SETS if other != name) for name in SETS]
                for sets in chosen:
                    stem = f"{method}-{row}-{'+'.join(sets) or 'words'}-{seed}"
                    stem = "".join(c if c.isalnum() or c in "-+" else "_" for c in stem)
                    out.append((stem, method, row, sets, settings | {"seed": seed}))
    return out


def main() -> None:
    """Trains, measures, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--methods", default="clip,rwda,anomalyclip,faprompt,promptad-zs")
    parser.add_argument("--seeds", type=int, default=1, help="of everything but RWDA, which has ten")
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="also these trained prompts")
    given = parser.parse_args()
    methods = given.methods.split(",") if given.methods else []
    clip = load_backbone()
    cache = FeatureStore(given.output / "features", max_bytes=24 * 1024**3)
    records = {name: load_dataset(given.data / folder) for name, folder in SETS.items()}
    test = [record for record in records["tile"] if record.split == "test"][::3]
    records["tile"] = [record for record in records["tile"] if record.split == "train"] + test
    done: list[tuple[str, str, tuple[str, ...], Learned]] = []
    for stem, method, row, sets, settings in trainings(methods, given.seeds):
        began = time.perf_counter()
        sources = [Source(name, "see docs/benchmarks.md, The photos", records[name]) for name in sets]
        result = train_prompts(
            method, sources, clip, given.output / f"{stem}.safetensors", settings=settings, cache=cache
        )
        done.append((method, row, sets, read_learned(result.path)))
        if not result.reused:
            spent = time.perf_counter() - began
            print(f"{stem}: {spent:.0f} s, loss {result.losses[0]:.4g} to {result.losses[-1]:.4g}", flush=True)
    for path in given.weights:
        learned = read_learned(path)
        done.append((learned.method, path.stem, (), learned))
    lines: dict[tuple[str, str], dict[tuple[str, tuple[str, ...]], list[dict[str, float | None]]]] = {}
    for name in SETS:
        measure(name, records[name], clip, cache, given.output, methods, done, lines)
    text = table(lines)
    (given.output / "table.md").write_text(text)
    print(text)


def measure(
    name: str,
    records: list[Any],
    clip: Backbone,
    cache: FeatureStore,
    out: Path,
    methods: list[str],
    done: list[tuple[str, str, tuple[str, ...], Learned]],
    lines: dict[Any, Any],
) -> None:
    """Adds the metrics of one test set to `lines`: (method, row) -> (test set, training sets) -> metrics of each seed."""
    fitting = [entry for entry in done if name not in entry[2]]
    variants, rows = [], []
    for method, row, sets, learned in fitting:
        entry = find_method(method)
        for variant in make_variants([method], parts=entry.parts, learned=[learned]):
            variants.append(variant)
            rows.append((method, row, sets))
    if "clip" in methods:
        for row, settings in UNTRAINED.items():
            variants += make_variants(["clip"], settings=settings)
            rows.append(("clip", row, ()))
    for variant, (method, row, sets) in zip(variants, rows, strict=True):
        # One variant a call: two files that differ in their seed alone are rows here, not runs.
        protocol = Protocol((variant,), shots=(0,), runs=1, objects=OBJECTS)
        outcome = run(Evaluation(protocol, records, clip, out, cache=cache))
        for failure in outcome.failures:
            print(f"{name}, {method}, {row}: {failure.reason}", file=sys.stderr)
        for unit in outcome.units:
            for part in unit["rows"]:
                label = f"{row}, {part['parts']}" if part["parts"] else row
                lines.setdefault((method, label), {}).setdefault((name, sets), []).append(part["metrics"])
    print(f"measured on {name}", flush=True)


def table(lines: dict[Any, Any]) -> str:
    """Markdown: one row a method and setting; mean over training sets and seeds for every test set, and their mean."""
    parts = []
    for words, metric in METRICS.items():
        parts += [f"**{words}**, percent", "", "| method | row | " + " | ".join(SETS) + " | mean |"]
        parts.append("|---|---|" + "---|" * (len(SETS) + 1))
        for (method, row), measured in lines.items():
            cells = []
            for name in SETS:
                values = [m[metric] for (test, _), runs in measured.items() if test == name for m in runs]
                if values and None not in values:
                    cells.append((statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None))
            if len(cells) < len(SETS):
                continue
            shown = [f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}") for mean, std in cells]
            mean = statistics.fmean(mean for mean, _ in cells)
            parts.append(f"| {method} | {row} | " + " | ".join(shown) + f" | {100 * mean:.1f} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    main()

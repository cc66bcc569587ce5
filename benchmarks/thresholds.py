"""How far thresholds from few good photos hold. `python benchmarks/thresholds.py FOLDER [--method promptad ...] [--rate 0.1]`

Reads the scores that `benchmarks/threshold_scores.py` wrote to FOLDER and prints, for each product and number of good
photos, the share of further good photos above the threshold (mean over draws, and the tenth and ninetieth hundredth of
the draws) and the share of the defective photos that are found. For every product the constants of the rule
(`calibration.scales.Usual`) are fitted to the other products alone; the textile has the same good photos with local and
with global defects and counts as one. Several methods whose scores are of one kind are taken together. At the end stand the constants fitted to all products, which the package has, and
the mean and range over products that its notes give.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptad.calibration.bounds import How, threshold_at
from promptad.calibration.scales import Usual, to_line, usual_spread
from promptad.methods.contract import ScoreKind
from promptad.methods.registry import find_method

Floats = NDArray[np.float64]
Scores = Mapping[str, Floats]
SHOTS = (1, 2, 4, 8, 12)
# Numbers of good photos that prove no rate of 10 %, and the rates that the constants are fitted at.
FEW, RATES = (1, 2, 4, 8), (0.1, 0.05)
# How many scores the usual spread counts as: few, since products differ much.
WEIGHT = 2.0


def product_of(name: str) -> str:
    """The product whose good photos these are: "textile" of "faprompt: textile, local"."""
    product = name.partition(": ")[2]
    return "textile" if product.startswith("textile") else product


def source(scores: Scores, shots: int) -> How:
    """How the good photos of a draw set the threshold."""
    if "copies" not in scores:
        return "held-out"  # the method learns nothing from them
    return "leave-one-out" if shots > 1 else "altered copies"


def alarms(scores: Scores, shots: int, rate: float, kind: ScoreKind, usual: Usual) -> tuple[Floats, Floats]:
    """Shares of the good photos that were not drawn and of the defective ones above the threshold, one a draw."""
    how = source(scores, shots)
    own = scores["copies"] if how == "altered copies" else scores[f"{shots}/own"]
    levels = np.array([threshold_at(row, how, rate, kind, usual)[1] for row in own])[:, None]
    draws = len(levels)
    return (
        (scores[f"{shots}/held"][:draws] > levels).mean(axis=1),
        (scores[f"{shots}/bad"][:draws] > levels).mean(axis=1),
    )


def fit(products: Mapping[str, Scores], kind: ScoreKind) -> Usual:
    """The constants from products: the smallest spreads with which the mean over them keeps every rate.

    Raises:
        ValueError: no product.
    """
    once = list({(name.partition(": ")[0], product_of(name)): scores for name, scores in products.items()}.values())
    learns = "copies" in once[0]
    usual = Usual(0.0, WEIGHT)
    if learns:
        lines = [(to_line(product["2/own"], kind).mean(), to_line(product["2/held"], kind).mean()) for product in once]
        gaps = [
            to_line(product["1/held"], kind).mean(axis=1) - np.median(to_line(product["copies"], kind), axis=1)
            for product in once
        ]
        usual = replace(
            usual,
            gain=round(float(np.mean([own - held for own, held in lines]) / np.log(2)), 3),
            gap=round(float(np.mean([gap.mean() for gap in gaps])), 3),
        )
        usual = _widened(usual, "gap_spread", once, (1,), kind)
    return _widened(usual, "spread", once, tuple(k for k in FEW if k > 1 or not learns), kind)


def _widened(usual: Usual, name: str, products: list[Scores], shots: tuple[int, ...], kind: ScoreKind) -> Usual:
    """The smallest value of a spread with which the mean share of false alarms keeps all rates at all numbers."""
    unit = 0.05 if kind == "deviation" else 0.005
    for step in range(1, 400):
        wider = replace(usual, **{name: round(step * unit, 4)})
        if all(
            np.mean([alarms(product, k, rate, kind, wider)[0].mean() for product in products]) <= rate
            for k in shots
            for rate in RATES
        ):
            return wider
    return wider


def table(products: Mapping[str, Scores], kind: ScoreKind, rate: float) -> list[str]:
    """Lines of a Markdown table, every product with the constants of the others, and the means over products."""
    lines = [
        "| product | " + " | ".join(f"{shots} good" for shots in SHOTS) + " |",
        "|---|" + "---|" * len(SHOTS),
    ]
    shares: dict[int, list[tuple[float, float]]] = {shots: [] for shots in SHOTS}
    for name, scores in products.items():
        usual = fit({n: s for n, s in products.items() if product_of(n) != product_of(name)}, kind)
        cells = []
        for shots in SHOTS:
            false, detected = alarms(scores, shots, rate, kind, usual)
            low, high = np.quantile(false, (0.1, 0.9))
            cells.append(f"{false.mean():.0%} ({low:.0%} to {high:.0%}) / {detected.mean():.0%}")
            shares[shots].append((float(false.mean()), float(detected.mean())))
        lines.append(f"| {name if len({n.partition(': ')[0] for n in products}) > 1 else name.partition(': ')[2]} | ")
        lines[-1] += " | ".join(cells) + " |"
    means = [np.mean(values, axis=0) for values in shares.values()]
    lines.append("| mean | " + " | ".join(f"{false:.0%} / {detected:.0%}" for false, detected in means) + " |")
    ranges = [(np.min(values, axis=0), np.max(values, axis=0)) for values in shares.values()]
    cells = [f"{low[0]:.0%} to {high[0]:.0%} / {low[1]:.0%} to {high[1]:.0%}" for low, high in ranges]
    lines.append("| range | " + " | ".join(cells) + " |")
    for shots, mean, (low, high) in zip(SHOTS, means, ranges, strict=True):  # as `calibration.measured` has them
        false, detected = (tuple(round(float(value[side]), 2) for value in (mean, low, high)) for side in (0, 1))
        lines.append(f"        {shots}: Measured({false}, {detected}),")
    return lines


def main() -> None:
    """Prints the tables and the constants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", action="append", default=[], help="default: promptad; repeat for more")
    parser.add_argument("--rate", type=float, action="append", default=[])
    options = parser.parse_args()
    methods = options.method or ["promptad"]
    [kind] = {find_method(method).score_kind for method in methods}
    products: dict[str, Scores] = {
        f"{method}: {file.stem}": dict(np.load(file))
        for method in methods
        for file in sorted((options.folder / method).glob("*.npz"))
    }
    if not products:
        parser.error(f"{options.folder}: no scores there; run benchmarks/threshold_scores.py first")
    for rate in options.rate or [0.1]:
        print(
            f"\n{', '.join(methods)}: false alarms at an aim of {rate:.0%} (tenth to ninetieth hundredth) / defects found\n"
        )
        print("\n".join(table(products, kind, rate)))
    print(f"\nfitted to all products: {fit(products, kind)}\nin the package:         {usual_spread(kind, methods[0])}")


if __name__ == "__main__":
    main()

"""What thresholds from few good photos did on products whose defects are known; `docs/thresholds.md` has the tables.

Each product was judged with the constants of :mod:`promptad.calibration.scales` fitted to the others, so these shares are
what a further product may expect. The numbers are those of `benchmarks/thresholds.py`, with the starter weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptad.methods.contract import ScoreKind


@dataclass(frozen=True)
class Measured:
    """Shares of further good photos and of defective ones above the threshold: (mean, lowest, highest) over products."""

    false_alarms: tuple[float, float, float]
    found: tuple[float, float, float]


# On what: sets of photos with known defects, all of the product's methods whose scores are of that kind.
MEASURED_ON: dict[ScoreKind, str] = {
    "distance": "7 measured sets (preset clean, starter weights)",
}

# By kind of scores and rate aimed at, then by number of good photos.
MEASURED: dict[tuple[ScoreKind, float], dict[int, Measured]] = {
    ("distance", 0.1): {
        1: Measured((0.10, 0.00, 0.44), (0.48, 0.00, 0.96)),
        2: Measured((0.06, 0.02, 0.08), (0.52, 0.17, 0.96)),
        4: Measured((0.08, 0.07, 0.11), (0.65, 0.19, 0.98)),
        8: Measured((0.09, 0.07, 0.10), (0.68, 0.26, 0.98)),
        12: Measured((0.06, 0.05, 0.09), (0.64, 0.15, 0.98)),
    },
    ("distance", 0.05): {
        1: Measured((0.05, 0.00, 0.27), (0.38, 0.00, 0.94)),
        2: Measured((0.02, 0.00, 0.03), (0.37, 0.04, 0.93)),
        4: Measured((0.04, 0.02, 0.04), (0.52, 0.08, 0.96)),
        8: Measured((0.05, 0.03, 0.06), (0.61, 0.16, 0.98)),
        12: Measured((0.04, 0.04, 0.05), (0.61, 0.13, 0.98)),
    },
}


def measured(kind: ScoreKind, rate: float, good: int) -> str:
    """What is known of thresholds from so many good photos, as a sentence that begins with a blank; "" for nothing.

    Between two measured numbers of good photos, or rates, the lower one is told.
    """
    rates = [aim for known, aim in MEASURED if known == kind and aim <= rate * (1 + 1e-9)]
    by_photos = MEASURED[kind, max(rates)] if rates else {}
    numbers = [number for number in by_photos if number <= good]
    # What few photos did says nothing of many more.
    if not numbers or good > 2 * max(by_photos):
        return ""
    row = by_photos[max(numbers)]
    photos = "1 photo" if max(numbers) == 1 else f"{max(numbers)} photos"
    return (
        f" On {MEASURED_ON[kind]}, at an aim of {max(rates):.0%} with {photos}, {_shares(row.false_alarms)} of "
        f"further good photos were called anomalous, and {_shares(row.found)} of defective ones were found."
    )


def _shares(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:.0%} ({low:.0%} to {high:.0%})"

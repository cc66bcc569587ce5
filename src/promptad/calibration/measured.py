"""What thresholds from few good photos did on products whose defects are known; `docs/thresholds.md` has the tables.

Each product was judged with constants fitted to the others (see :mod:`promptad.calibration.scales`), so these shares are
what a further product may expect. The numbers are those of `benchmarks/thresholds.py`, with the starter weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptad.calibration.bounds import How
from promptad.methods.catalogue import FACTS
from promptad.methods.contract import ScoreKind

# Methods that learn nothing from good photos, which then only set the threshold.
LEARNS_NOTHING = tuple(name for name, facts in FACTS.items() if facts.good_photos == "unused")


@dataclass(frozen=True)
class Measured:
    """Shares of further good photos and of defective ones above the threshold: (mean, lowest, highest) over products."""

    false_alarms: tuple[float, float, float]
    found: tuple[float, float, float]


SETS = 7
"""Sets of defective photos; two of them, of the same simulated textile, share their good photos."""

# By method, kind of its scores and rate aimed at, then by number of good photos.
MEASURED: dict[tuple[str, ScoreKind, float], dict[int, Measured]] = {
    ("promptad", "distance", 0.1): {
        1: Measured((0.09, 0.0, 0.3), (0.66, 0.28, 0.97)),
        2: Measured((0.08, 0.05, 0.14), (0.68, 0.37, 0.99)),
        4: Measured((0.09, 0.07, 0.12), (0.74, 0.48, 1.0)),
        8: Measured((0.07, 0.05, 0.09), (0.75, 0.45, 0.99)),
        12: Measured((0.06, 0.05, 0.08), (0.72, 0.45, 0.99)),
    },
    ("promptad", "distance", 0.05): {
        1: Measured((0.05, 0.0, 0.16), (0.56, 0.21, 0.95)),
        2: Measured((0.03, 0.02, 0.07), (0.53, 0.18, 0.96)),
        4: Measured((0.05, 0.02, 0.07), (0.66, 0.36, 0.98)),
        8: Measured((0.04, 0.03, 0.07), (0.7, 0.4, 0.99)),
        12: Measured((0.05, 0.04, 0.06), (0.7, 0.43, 0.99)),
    },
    ("clip", "probability", 0.1): {
        1: Measured((0.06, 0.0, 0.15), (0.44, 0.15, 0.91)),
        2: Measured((0.09, 0.0, 0.16), (0.57, 0.29, 0.96)),
        4: Measured((0.1, 0.0, 0.18), (0.62, 0.34, 0.99)),
        8: Measured((0.08, 0.02, 0.13), (0.62, 0.29, 1.0)),
        12: Measured((0.09, 0.08, 0.1), (0.61, 0.26, 1.0)),
    },
    ("clip", "probability", 0.05): {
        1: Measured((0.01, 0.0, 0.05), (0.26, 0.0, 0.71)),
        2: Measured((0.04, 0.0, 0.08), (0.41, 0.15, 0.86)),
        4: Measured((0.05, 0.0, 0.11), (0.53, 0.22, 0.96)),
        8: Measured((0.05, 0.0, 0.11), (0.56, 0.23, 0.98)),
        12: Measured((0.05, 0.0, 0.08), (0.56, 0.22, 0.99)),
    },
    ("faprompt", "probability", 0.1): {
        1: Measured((0.03, 0.0, 0.1), (0.22, 0.0, 0.43)),
        2: Measured((0.05, 0.0, 0.14), (0.36, 0.0, 0.69)),
        4: Measured((0.08, 0.01, 0.17), (0.45, 0.02, 0.81)),
        8: Measured((0.08, 0.06, 0.12), (0.45, 0.06, 0.82)),
        12: Measured((0.09, 0.08, 0.11), (0.45, 0.1, 0.84)),
    },
    ("faprompt", "probability", 0.05): {
        1: Measured((0.0, 0.0, 0.02), (0.04, 0.0, 0.13)),
        2: Measured((0.02, 0.0, 0.09), (0.21, 0.0, 0.46)),
        4: Measured((0.04, 0.0, 0.12), (0.36, 0.0, 0.72)),
        8: Measured((0.05, 0.01, 0.1), (0.39, 0.01, 0.79)),
        12: Measured((0.05, 0.01, 0.09), (0.4, 0.01, 0.82)),
    },
    ("anomalyclip", "probability", 0.1): {
        1: Measured((0.04, 0.0, 0.14), (0.2, 0.0, 0.39)),
        2: Measured((0.05, 0.0, 0.15), (0.36, 0.01, 0.58)),
        4: Measured((0.08, 0.0, 0.18), (0.45, 0.05, 0.74)),
        8: Measured((0.07, 0.03, 0.12), (0.47, 0.07, 0.81)),
        12: Measured((0.08, 0.05, 0.1), (0.46, 0.14, 0.86)),
    },
    ("anomalyclip", "probability", 0.05): {
        1: Measured((0.01, 0.0, 0.04), (0.07, 0.0, 0.22)),
        2: Measured((0.02, 0.0, 0.07), (0.2, 0.0, 0.37)),
        4: Measured((0.04, 0.0, 0.12), (0.35, 0.02, 0.63)),
        8: Measured((0.04, 0.0, 0.09), (0.4, 0.05, 0.74)),
        12: Measured((0.04, 0.01, 0.08), (0.4, 0.06, 0.79)),
    },
    ("rwda", "sum", 0.1): {
        1: Measured((0.09, 0.0, 0.47), (0.47, 0.1, 0.83)),
        2: Measured((0.08, 0.0, 0.16), (0.56, 0.29, 0.96)),
        4: Measured((0.1, 0.0, 0.18), (0.63, 0.34, 0.99)),
        8: Measured((0.07, 0.01, 0.12), (0.63, 0.27, 1.0)),
        12: Measured((0.08, 0.07, 0.09), (0.62, 0.25, 1.0)),
    },
    ("rwda", "sum", 0.05): {
        1: Measured((0.06, 0.0, 0.39), (0.34, 0.04, 0.69)),
        2: Measured((0.03, 0.0, 0.09), (0.39, 0.14, 0.8)),
        4: Measured((0.05, 0.0, 0.11), (0.53, 0.24, 0.96)),
        8: Measured((0.04, 0.0, 0.1), (0.57, 0.21, 0.98)),
        12: Measured((0.04, 0.0, 0.07), (0.58, 0.21, 1.0)),
    },
    ("promptad-zs", "deviation", 0.1): {
        1: Measured((0.08, 0.0, 0.18), (0.29, 0.0, 0.51)),
        2: Measured((0.08, 0.0, 0.2), (0.3, 0.0, 0.47)),
        4: Measured((0.08, 0.0, 0.2), (0.4, 0.0, 0.68)),
        8: Measured((0.05, 0.0, 0.12), (0.45, 0.0, 0.73)),
        12: Measured((0.09, 0.08, 0.11), (0.56, 0.14, 0.92)),
    },
    ("promptad-zs", "deviation", 0.05): {
        1: Measured((0.05, 0.0, 0.12), (0.21, 0.0, 0.38)),
        2: Measured((0.04, 0.0, 0.12), (0.18, 0.0, 0.35)),
        4: Measured((0.05, 0.0, 0.13), (0.26, 0.0, 0.56)),
        8: Measured((0.03, 0.0, 0.09), (0.34, 0.0, 0.7)),
        12: Measured((0.04, 0.0, 0.09), (0.37, 0.0, 0.72)),
    },
}


_NAMED = 3
# What a product is called, and how its photos are read: no other way of scoring.
_OF_THE_PRODUCT = ("seed", "defects", "only_defects", "state_bank", "definition", "input_range", "max_megapixels")


def unlike_measured(
    preset: str,
    config: Mapping[str, Any],
    clean: Mapping[str, Any],
    backbone: str,
    *,
    own_prompts: bool = False,
    area: bool = False,
) -> str:
    """In what a detector differs from those that were measured, in words; "" where it does not.

    Args:
        config: its settings. clean: those of the preset "clean". backbone: its name.
        own_prompts: its trained prompts are not those of the package, which alone were measured. area: it looks at a part of photos alone.
    """
    apart = [f"weights {backbone}"] if backbone != "starter" else []
    apart += ["trained prompts that are not the package's"] if own_prompts else []
    apart += ["a region of interest"] if area else []
    apart += [f"preset {preset}"] if preset != "clean" else []
    changed = [key for key, value in config.items() if key not in _OF_THE_PRODUCT and value != clean.get(key)]
    if preset == "clean" and changed:
        apart.append(
            ", ".join(changed[:_NAMED]) + (f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else "")
        )
    return "; ".join(apart)


def is_measured(method: str, kind: ScoreKind) -> bool:
    """Whether thresholds of that method, with scores of that kind, were measured."""
    return any((name, of) == (method, kind) for name, of, _ in MEASURED)


def measured(method: str, kind: ScoreKind, how: How, rate: float, good: int, unlike: str = "") -> str:
    """What is known of thresholds of that method from so many good photos, as a sentence that begins with a blank.

    "" for nothing: a method, a kind of its scores or a way of scoring good photos that was not measured. Between two measured numbers of
    good photos, or rates, the lower one is told. `unlike` says in what the detector differs from those measured.
    """
    rates = [aim for name, of, aim in MEASURED if (name, of) == (method, kind) and aim <= rate * (1 + 1e-9)]
    by_photos = MEASURED[method, kind, max(rates)] if rates else {}
    numbers = [number for number in by_photos if number <= good]
    # What few photos did says nothing of many more.
    if not numbers or good > 2 * max(by_photos) or (how == "held-out") != (method in LEARNS_NOTHING):
        return ""
    row = by_photos[max(numbers)]
    photos = "1 photo" if max(numbers) == 1 else f"{max(numbers)} photos"
    return (
        f" On {SETS} measured sets ({method}, preset clean, starter weights), at an aim of {max(rates):.0%} with {photos}, "
        f"{_shares(row.false_alarms)} of further good photos were called anomalous, and {_shares(row.found)} of defective ones "
        f"were found.{f' This detector differs from those ({unlike}), and its shares may.' if unlike else ''}"
    )


def _shares(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:.0%} ({low:.0%} to {high:.0%})"

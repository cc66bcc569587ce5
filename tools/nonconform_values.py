"""Values of the package nonconform that `tests/calibration/test_discovery.py` compares with. Needs Python 3.12 and `pip install nonconform`.

    python tools/nonconform_values.py > tests/calibration/nonconform_values.json

Its detectors compute anomaly scores themselves: here one whose score is the number that it is given stands for ours, so that p-values
and choices are those of given scores.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import numpy as np


def case(seed: int, good: int, photos: int, rate: float) -> dict[str, Any]:
    """p-values by `Empirical`, and the choice by Benjamini and Hochberg of `ConformalDetector.select`."""
    from nonconform import ConformalDetector, Empirical, Split

    class Given:
        """Gives what it is asked about."""

        def fit(self, rows: np.ndarray, y: object = None) -> Given:
            return self

        def decision_function(self, rows: np.ndarray) -> np.ndarray:
            return np.asarray(rows)[:, 0]

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            return {}

        def set_params(self, **params: Any) -> Given:
            return self

    rng = np.random.default_rng(seed)
    # One decimal: ties among all of them.
    own = rng.normal(0, 1, (good + 1, 1)).round(1)
    scores = np.concatenate([rng.normal(0, 1, photos), rng.normal(4, 1, max(1, photos // 3))]).round(1)
    detector = ConformalDetector(
        detector=Given(),
        strategy=Split(n_calib=good),
        estimation=Empirical(),
        score_polarity="higher_is_anomalous",
        seed=seed,
    ).fit(own)
    chosen = detector.select(scores[:, None], alpha=rate)
    kept = np.asarray(detector.calibration_set).ravel()
    return {
        "rate": rate,
        "good": kept.tolist(),
        "scores": scores.tolist(),
        "p_values": Empirical().compute_p_values(scores, kept).tolist(),
        "chosen": np.asarray(chosen).tolist(),
    }


if __name__ == "__main__":
    plans = (
        (0, 4, 6, 0.1),
        (1, 10, 20, 0.1),
        (2, 30, 40, 0.1),
        (3, 100, 60, 0.05),
        (4, 100, 12, 0.2),
        (5, 40, 10, 0.3),
    )
    print(json.dumps({"nonconform": version("nonconform"), "cases": [case(*plan) for plan in plans]}))

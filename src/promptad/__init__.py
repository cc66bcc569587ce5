"""promptad: prompt-guided visual anomaly detection from frozen CLIP features.

Public names are loaded on first use, so ``import promptad`` imports no torch::

    from promptad import Detector
    detector = Detector(object="cookie").fit(["good-1.jpg", "good-2.jpg"])
    print(detector.predict("photo.jpg").score)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from promptad.detector import Detector as Detector
    from promptad.detector import load as load
    from promptad.prediction import Prediction as Prediction
    from promptad.requests.accepting import AcceptRequest as AcceptRequest
    from promptad.requests.benchmarking import BenchRequest as BenchRequest
    from promptad.requests.damaging import DamageRequest as DamageRequest
    from promptad.requests.detecting import FitRequest as FitRequest
    from promptad.requests.evaluating import EvaluateRequest as EvaluateRequest
    from promptad.requests.inspecting import InspectRequest as InspectRequest
    from promptad.requests.reviewing import ReviewRequest as ReviewRequest
    from promptad.requests.submitting import SubmitRequest as SubmitRequest
    from promptad.requests.training import TrainRequest as TrainRequest
    from promptad.requests.verifying import VerifyRequest as VerifyRequest
    from promptad.requests.watching import WatchRequest as WatchRequest

_PUBLIC = {
    "AcceptRequest": "promptad.requests.accepting",
    "BenchRequest": "promptad.requests.benchmarking",
    "CheckRequest": "promptad.requests.datasets",
    "DamageRequest": "promptad.requests.damaging",
    "Detector": "promptad.detector",
    "EvaluateRequest": "promptad.requests.evaluating",
    "FitRequest": "promptad.requests.detecting",
    "InspectRequest": "promptad.requests.inspecting",
    "Prediction": "promptad.prediction",
    "ReviewRequest": "promptad.requests.reviewing",
    "SubmitRequest": "promptad.requests.submitting",
    "TrainRequest": "promptad.requests.training",
    "VerifyRequest": "promptad.requests.verifying",
    "WatchRequest": "promptad.requests.watching",
    "WriteRequest": "promptad.requests.datasets",
    "load": "promptad.detector",
}
__all__ = [  # noqa: RUF022 - the version last
    "AcceptRequest",
    "BenchRequest",
    "CheckRequest",
    "DamageRequest",
    "Detector",
    "EvaluateRequest",
    "FitRequest",
    "InspectRequest",
    "Prediction",
    "ReviewRequest",
    "SubmitRequest",
    "TrainRequest",
    "VerifyRequest",
    "WatchRequest",
    "WriteRequest",
    "load",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'promptad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

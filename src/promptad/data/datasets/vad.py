"""VAD (Valeo): the MVTec layout with defects in training, `vad/{train,test}/{good,bad}`, `vad/test/bad_unseen_defects`; no masks.

What learns from good photos takes `train/good` alone; the kind of a defect stays known, so unseen ones can be told apart.
Baitieva et al., "Supervised Anomaly Detection for Complex Industrial Images", CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from promptad.data.datasets import mvtec
from promptad.data.datasets.layout import Layout, child
from promptad.data.records import Record

CLASS_NAME = "vad"
_UNSEEN = "bad_unseen_defects"


def load(root: Path, normal: Sequence[str] = ()) -> list[Record]:
    """The records of the one class. Raises DataError where it does not lie so."""
    return [replace(record, class_name=CLASS_NAME) for record in mvtec.load(child(root, CLASS_NAME) or root, normal)]


def _evidence(root: Path) -> str | None:
    test = child(child(root, CLASS_NAME) or root, "test")
    return f"test/{_UNSEEN}" if test is not None and child(test, _UNSEEN) is not None else None


LAYOUTS = (Layout("vad", load, _evidence, f"test/{_UNSEEN}"),)

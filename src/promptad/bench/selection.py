"""Choosing the epoch on the test set, as PromptAD's released code does (flag F-7).

After every epoch the whole test set is scored; the image prompts of the epoch with the best image AUROC
and the pixel prompts of the one with the best pixel AUROC are kept, separately. Numbers made this way are
oracle numbers: nobody has labelled test photos when a detector is set up. They exist here to aim at
published numbers and to measure the gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from promptad.bench.testset import TestSet, Tick, no_tick, scoring_parts
from promptad.detector import Detector
from promptad.methods.contract import TASKS, FittedInEpochs, Method


@dataclass
class _Best:
    auroc: float = -math.inf
    epoch: int | None = None
    snapshot: Any = None


class OracleSelection:
    """The `after_epoch` hook that keeps the best epoch of every row and task.

    Args:
        detector: whose method is being trained. tests: labelled test photos.
        parts: rows for which epochs are kept; the memory alone does not change while prompts are trained,
            so it has none.
    """

    def __init__(self, detector: Detector, tests: TestSet, parts: Sequence[str], tick: Tick = no_tick) -> None:
        self.detector, self.tests, self.tick = detector, tests, tick
        self._best = {part: {task: _Best() for task in TASKS} for part in parts if part != "memory"}

    def __call__(self, epoch: int, method: Method) -> None:
        """Scores the test set with the prompts of this epoch. The first of equally good epochs is kept."""
        assert isinstance(method, FittedInEpochs)
        for parts, best in self._best.items():
            with scoring_parts(method, parts):
                aurocs = self.tests.aurocs(self.detector)
            for task, auroc in aurocs.items():
                if auroc > best[task].auroc:  # false for NaN: a task without labels or masks keeps its last epoch
                    best[task] = _Best(auroc, epoch, method.snapshot(task))
            self.tick(len(self.tests))

    @property
    def parts(self) -> tuple[str, ...]:
        """Rows for which some epoch was kept."""
        return tuple(part for part, best in self._best.items() if any(b.snapshot is not None for b in best.values()))

    def epochs(self, parts: str) -> dict[str, int | None]:
        """The 1-based epoch kept for each task; None where the last one stays."""
        return {task: best.epoch for task, best in self._best[parts].items()}

    @contextmanager
    def best(self, parts: str) -> Iterator[None]:
        """Inside, the method has the prompts of both tasks' best epochs; afterwards those of the last."""
        method = self.detector.method
        assert isinstance(method, FittedInEpochs)
        last = {task: method.snapshot(task) for task in TASKS}
        try:
            for task, best in self._best[parts].items():
                if best.snapshot is not None:
                    method.restore(task, best.snapshot)
            yield
        finally:
            for task, snapshot in last.items():
                method.restore(task, snapshot)

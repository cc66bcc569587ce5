"""Settings of PromptAD's memory for one product, chosen on its good photos and copies of them with painted damage.

Every photo, and every damaged copy of it, is compared with the other good photos, never with itself. A setting is taken only where
it tells painted damage from good photos clearly better, or, where it was better on all products before, not clearly worse; what words are worth is not asked, because painted damage does not tell
(docs/tuning.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.methods.promptad.config import PromptADConfig
from promptad.methods.promptad.towers import memory_settings
from promptad.scoring.maps import top_mean
from promptad.scoring.patch_memory import PatchMemory

LIMIT = 0.3
"""Share of good patches up to which the overlap with damage counts, as in the AUPRO of benchmarks."""
RESAMPLES = 500

_Values = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What is chosen among.

    Attributes:
        about: in words. measure: "photos", the AUROC of damaged copies against good photos, or "places", the AUPRO of damaged patches
            among all patches of the copies.
        choices: in words -> the settings; the first changes nothing.
        gain: what another choice must gain at least, of 1, below 0 where it is preferred. sure: share of the resampled photos and copies in which it must be better.
    """

    about: str
    measure: Literal["photos", "places"]
    choices: dict[str, dict[str, Any]]
    gain: float
    sure: float


QUESTIONS = (
    Question(
        "orientations of each good photo",
        "photos",
        {
            "as photographed": {},
            "8, the best 2 compared": {"memory_turns": 8, "memory_best_turns": 2, "memory_mirrored": False},
        },
        gain=-0.02,  # on development draws it gained on every product, painted damage or not (docs/tuning.md), so only what speaks
        sure=0.2,  # clearly against it keeps the photos as they are
    ),
    Question(
        "windows of heat maps",
        "places",
        {"patches": {}, "patches and 3 x 3 of them": {"memory_map_windows": (1, 3)}},
        gain=0.01,
        sure=0.95,
    ),
)


def orientations(config: PromptADConfig) -> tuple[int, bool]:
    """How many turned copies of good photos must be encoded, and whether mirrored too: those of the config, or of the question."""
    given = config.memory_turns > 1 or config.memory_mirrored
    return (config.memory_turns, config.memory_mirrored) if given else (8, False)


@dataclass(frozen=True)
class Example:
    """A damaged copy: `owner`, index of its good photo; of each view its features and which patches are `damaged`, (T,) bool."""

    owner: int
    views: Sequence[Features]
    damaged: Sequence[Tensor]


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        about: the question. measure: its measure. values: each choice in words -> its measure, 0..1.
        chosen: the words of the choice. sure: share of resamples in which the best of the others was better than the first, 0..1;
            None where nothing was compared. why: where nothing was compared, the reason.
    """

    about: str
    measure: str
    values: dict[str, float]
    chosen: str
    sure: float | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return f"{self.about}: not chosen, {self.why}"
        name = "AUROC" if self.measure == "photos" else "AUPRO"
        values = ", ".join(f"{words} {100 * value:.1f}" for words, value in self.values.items())
        return f"{self.about}: {self.chosen} ({name} of painted damage: {values}; better in {100 * (self.sure or 0):.0f} % of resamples)"


def tune(
    config: PromptADConfig,
    backbone: Backbone,
    good: Sequence[Sequence[Features]],
    painted: Sequence[Example],
) -> tuple[dict[str, Any], list[Answer]]:
    """Chooses settings one question after the other, each with what was chosen before.

    Args:
        config: settings that stay where nothing is chosen; those that it has changed already are left alone.
        good: of at least two good photos the features of their views, with the turned copies that :func:`orientations` asks for.
        painted: damaged copies of them.

    Returns:
        The settings chosen, and an answer to each question.
    """
    chosen: dict[str, Any] = {}
    answers: list[Answer] = []
    known: dict[PromptADConfig, _Result] = {}
    usual = PromptADConfig()
    for question in QUESTIONS:
        names = {name for settings in question.choices.values() for name in settings}
        if any(getattr(config, name) != getattr(usual, name) for name in names):
            answers.append(Answer(question.about, question.measure, {}, "given", why="it was given"))
            continue
        try:
            configs = [replace(config, **{**chosen, **settings}) for settings in question.choices.values()]
        except ConfigError as error:
            answers.append(Answer(question.about, question.measure, {}, "given", why=str(error)))
            continue
        for candidate in configs:  # the first is mostly what the question before ended with
            if candidate not in known:
                known[candidate] = _compared(candidate, backbone, good, painted)
        results = [known[candidate] for candidate in configs]
        values, sure = _measured(question.measure, results, painted, len(good))
        best = 1 + int(np.argmax(values[1:]))
        taken = best if values[best] - values[0] >= question.gain and sure >= question.sure else 0
        words = list(question.choices)
        chosen |= question.choices[words[taken]]
        answers.append(
            Answer(question.about, question.measure, dict(zip(words, values, strict=True)), words[taken], sure)
        )
    return chosen, answers


@dataclass(frozen=True)
class _Result:
    """Scores of good photos (n,) and copies (c,), and of the copies the map values of all patches, (P,) each."""

    good: _Values
    copies: _Values
    maps: list[_Values]


def _compared(
    config: PromptADConfig,
    backbone: Backbone,
    good: Sequence[Sequence[Features]],
    painted: Sequence[Example],
) -> _Result:
    """Every photo and copy against the good photos that it is not made of."""
    memory = PatchMemory(memory_settings(replace(config, parts="memory"), backbone))
    turned = memory.settings.turns > 1
    memory.build(good if turned else [[_as_photographed(view) for view in views] for views in good])

    def judged(views: Sequence[Features], owner: int) -> tuple[float, _Values]:
        scores, maps = [], []
        for view in views:
            whole, local = memory.distances(view, leave_out=owner)
            scores.append(float(top_mean(whole.view(1, *view.tapped.grid), config.memory_top)))
            maps.append(local.flatten().double().cpu().numpy())
        return max(scores), np.concatenate(maps)

    of_copies = [judged(example.views, example.owner) for example in painted]
    of_good = [judged([_as_photographed(view) for view in views], owner)[0] for owner, views in enumerate(good)]
    return _Result(np.array(of_good), np.array([score for score, _ in of_copies]), [maps for _, maps in of_copies])


def _as_photographed(view: Features) -> Features:
    """Without turned copies."""
    memory = view.memory
    return replace(view, turned={}, memory=None if memory is None else replace(memory, turned={}))


def _measured(
    measure: str, results: Sequence[_Result], painted: Sequence[Example], photos: int
) -> tuple[list[float], float]:
    """The measure of each result, and the share of resamples in which the best of the others is above the first; ties count half."""
    owners = np.array([example.owner for example in painted])
    damaged = [torch.cat(list(example.damaged)).cpu().numpy() for example in painted]
    even = np.ones(photos), np.ones(len(painted))
    measures: list[Callable[[_Values, _Values], float]] = [
        partial(auroc, result.good, result.copies) if measure == "photos" else _Overlap(result.maps, damaged)
        for result in results
    ]
    values = [measured(*even) for measured in measures]
    best = 1 + int(np.argmax(values[1:]))
    generator, better = np.random.default_rng(0), 0.0
    for _ in range(RESAMPLES):
        good = np.bincount(generator.integers(photos, size=photos), minlength=photos).astype(float)
        copies = good[owners] * np.bincount(generator.integers(len(owners), size=len(owners)), minlength=len(owners))
        if not copies.any():
            better += 0.5
            continue
        first, other = measures[0](good, copies), measures[best](good, copies)
        better += 0.5 if first == other else float(other > first)
    return values, better / RESAMPLES


def auroc(good: _Values, bad: _Values, good_weights: _Values, bad_weights: _Values) -> float:
    """Weighted share of pairs in which the bad one has the higher score, ties half: (n,) and (m,) scores and weights."""
    above = (bad[:, None] > good[None]) + 0.5 * (bad[:, None] == good[None])
    return float(bad_weights @ above @ good_weights / (bad_weights.sum() * good_weights.sum()))


class _Overlap:
    """Per-region overlap: the mean share of each copy's damaged patches that are found, over the share of its other patches up to
    `LIMIT`, divided by it; for any weights of the copies. Between values the curve is straight."""

    def __init__(self, maps: Sequence[_Values], damaged: Sequence[NDArray[np.bool_]]) -> None:
        values, bad = np.concatenate(list(maps)), np.concatenate(list(damaged))
        order = np.argsort(-values, kind="stable")
        copy = np.repeat(np.arange(len(maps)), [len(row) for row in maps])
        self._copy, self._good = copy[order], ~bad[order]
        sizes = np.array([max(1, int(row.sum())) for row in damaged])
        self._share = bad[order] / sizes[self._copy]
        self._has = np.array([float(row.any()) for row in damaged])
        # Equal values are one step of the curve, which ends at the last of them.
        self._ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)

    def __call__(self, good: _Values, copies: _Values) -> float:
        weights = copies[self._copy]
        covered = np.cumsum(weights * self._share)[self._ends] / max(float(copies @ self._has), 1e-12)
        false = np.cumsum(weights * self._good)[self._ends]
        x, y = np.append(0.0, false / max(false[-1], 1e-12)), np.append(0.0, covered)
        after = int(np.searchsorted(x, LIMIT))  # the first point at or behind the limit; the curve ends at 1
        part = (LIMIT - x[after - 1]) / (x[after] - x[after - 1])
        inside = np.append(x[:after], LIMIT)
        heights = np.append(y[:after], y[after - 1] + part * (y[after] - y[after - 1]))
        return float(((heights[1:] + heights[:-1]) / 2 * np.diff(inside)).sum() / LIMIT)

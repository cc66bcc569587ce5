"""Settings of PromptAD's memory that good photos and painted damage speak for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from promptad.clip.features import Features
from promptad.methods.promptad.config import PromptADConfig
from promptad.methods.promptad.tuning import Example, _Overlap, auroc, orientations, tune
from promptad.metrics.aupro import aupro
from tiny import tiny_backbone

GRID, WIDTH, LAYERS = (6, 6), 32, (1, 3)
CONFIG = PromptADConfig(memory_layers=LAYERS)


def view(tokens: torch.Tensor, turned: torch.Tensor | None = None) -> Features:
    """One view whose layers both have these (T, D) tokens, and (7, T, D) of turned copies."""
    copies = {} if turned is None else dict.fromkeys(LAYERS, turned[None])
    return Features(torch.zeros(1, 24), None, dict.fromkeys(LAYERS, tokens[None]), GRID, turned=copies)


def product(*, any_angle: bool, seed: int = 0, photos: int = 4) -> tuple[list[list[Features]], list[Example]]:
    """Good photos and three damaged copies of each. Of a part that lies at any angle each photo shows another orientation of the same
    patches, and the damage is smaller than what an orientation changes; else all photos look alike."""
    draw = torch.Generator().manual_seed(seed)
    looks = 3 * torch.randn(8, 36, WIDTH, generator=draw)
    noise = lambda: 0.3 * torch.randn(36, WIDTH, generator=draw)  # noqa: E731
    good, painted = [], []
    for owner in range(photos):
        angle = 2 * owner % 8 if any_angle else 0
        tokens = looks[angle] + noise()
        turned = torch.stack([looks[(angle + turn) % 8] + noise() for turn in range(1, 8)])
        good.append([view(tokens, turned)])
        for spot in (7, 16, 27):
            damaged = torch.zeros(36, dtype=torch.bool)
            damaged[spot : spot + 2] = True
            broken = torch.where(damaged[:, None], tokens + 1.5 * torch.randn(36, WIDTH, generator=draw), tokens)
            painted.append(Example(owner, [view(broken)], [damaged]))
    return good, painted


def test_orientations_are_taken_where_parts_lie_at_any_angle():
    chosen, answers = tune(CONFIG, tiny_backbone(), *product(any_angle=True))
    assert chosen["memory_turns"] == 8 and chosen["memory_best_turns"] == 2
    first, second = answers[0].values.values()
    assert second > first + 0.2 and answers[0].sure > 0.9 and "AUROC of painted damage" in str(answers[0])


def test_the_default_stays_where_a_wrong_orientation_is_the_defect():
    draw = torch.Generator().manual_seed(1)
    looks = torch.randn(8, 36, WIDTH, generator=draw)
    good, painted = [], []
    for owner in range(4):
        tokens = looks[0] + 0.3 * torch.randn(36, WIDTH, generator=draw)
        turned = torch.stack([looks[turn] + 0.3 * torch.randn(36, WIDTH, generator=draw) for turn in range(1, 8)])
        good.append([view(tokens, turned)])
        for angle in (1, 3, 6):
            wrong = looks[angle] + 0.3 * torch.randn(36, WIDTH, generator=draw)
            painted.append(Example(owner, [view(wrong)], [torch.arange(36) < 30]))
    chosen, answers = tune(CONFIG, tiny_backbone(), good, painted)
    assert "memory_turns" not in chosen and answers[0].chosen == "as photographed" and answers[0].sure < 0.2


def test_windows_stay_where_nothing_is_better():
    chosen, answers = tune(CONFIG, tiny_backbone(), *product(any_angle=False))
    assert "memory_map_windows" not in chosen and answers[1].chosen == "patches"


def test_windows_are_taken_where_damage_is_wide_and_patches_are_noisy():
    draw = torch.Generator().manual_seed(3)
    base, good, painted = torch.randn(1, WIDTH, generator=draw).repeat(36, 1), [], []
    change = 0.8 * torch.randn(WIDTH, generator=draw)
    damaged = torch.zeros(6, 6, dtype=torch.bool)
    damaged[1:5, 1:5] = True
    for owner in range(4):
        tokens = base + 0.8 * torch.randn(36, WIDTH, generator=draw)
        good.append([view(tokens, tokens[None].repeat(7, 1, 1))])
        for _ in range(3):
            broken = base + 0.8 * torch.randn(36, WIDTH, generator=draw) + damaged.flatten()[:, None] * change
            painted.append(Example(owner, [view(broken)], [damaged.flatten()]))
    chosen, answers = tune(CONFIG, tiny_backbone(), good, painted)
    assert chosen["memory_map_windows"] == (1, 3) and answers[1].sure >= 0.95
    assert "AUPRO of painted damage" in str(answers[1])


def test_what_was_given_is_not_asked():
    config = replace(CONFIG, memory_turns=8)
    assert orientations(config) == (8, False) and orientations(replace(CONFIG, memory_turns=2)) == (2, False)
    chosen, answers = tune(config, tiny_backbone(), *product(any_angle=True))
    assert "memory_turns" not in chosen and "it was given" in str(answers[0]) and not answers[0].values


def test_what_cannot_go_with_a_setting_is_not_asked():
    config = replace(CONFIG, memory_comparison="subspace", memory_variance=0.5)
    chosen, answers = tune(config, tiny_backbone(), *product(any_angle=True))
    assert "memory_turns" not in chosen and "memory_comparison=subspace" in str(answers[0])


def test_a_copy_is_not_compared_with_its_own_photo():
    good, painted = product(any_angle=False)
    # Were its own photo in the memory, all but the damaged patches of a copy would be at distance 0.
    alone = [Example(example.owner, example.views, example.damaged) for example in painted if example.owner == 0]
    _, with_all = tune(CONFIG, tiny_backbone(), good, alone)
    _, without = tune(
        CONFIG, tiny_backbone(), good[:1] + good[1:][::-1], alone
    )  # owners stay, the others change places
    assert with_all[0].values == without[0].values


@pytest.mark.parametrize("seed", range(4))
def test_measures_are_those_of_others(seed):
    draw = np.random.default_rng(seed)
    good, bad = np.round(draw.random(6), 1), np.round(draw.random(9) + 0.2, 1)
    weights, others = draw.integers(0, 3, 6) + 0.0, draw.integers(0, 3, 9) + 0.5
    expected = roc_auc_score([0] * 6 + [1] * 9, np.r_[good, bad], sample_weight=np.r_[weights, others])
    assert auroc(good, bad, weights, others) == pytest.approx(expected)

    maps = [np.round(draw.random((6, 6)), 2) for _ in range(5)]
    masks = []
    for mask in maps:
        region = np.zeros((6, 6), bool)  # one region each
        top, left = draw.integers(0, 4, 2)
        region[top : top + 2, left : left + draw.integers(1, 3)] = True
        mask[region] += 0.2
        masks.append(region)
    measure = _Overlap([values.ravel() for values in maps], [mask.ravel() for mask in masks])
    assert measure(np.ones(0), np.ones(5)) == pytest.approx(aupro(maps, masks)[0.3], abs=1e-9)
    # A copy that counts twice is the same as two of them.
    twice = [0, 0, 1, 2, 3, 4]
    expected = aupro([maps[number] for number in twice], [masks[number] for number in twice])[0.3]
    assert measure(np.ones(0), np.array([2.0, 1, 1, 1, 1])) == pytest.approx(expected, abs=1e-9)

"""The memory of tapped patches, every setting against NumPy in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.scoring.patch_memory import MemorySettings, PatchMemory
from promptad.scoring.tokens import greedy_coreset

GRID, WIDTH = (4, 3), 10
EXACT = MemorySettings((1, 3), precision="fp32")


def view(seed: int, *, turns: int = 1, batch: int = 1, grid: tuple[int, int] = GRID) -> Features:
    generator = torch.Generator().manual_seed(seed)
    taps = {layer: torch.randn(batch, grid[0] * grid[1], WIDTH, generator=generator) + 0.5 for layer in (1, 3)}
    turned = {
        layer: torch.randn(batch, turns - 1, grid[0] * grid[1], WIDTH, generator=generator) + 0.5
        for layer in (1, 3)
        if turns > 1
    }
    return Features(torch.zeros(batch, 4), None, taps, grid, turned=turned)


def photos(turns: int = 1) -> list[list[Features]]:
    """Two photos of one view, and one of two views, one of which has a grid of its own."""
    return [
        [view(1, turns=turns)],
        [view(2, turns=turns)],
        [view(3, turns=turns), view(4, turns=turns, grid=(2, 5))],
    ]


def built(settings: MemorySettings, of: list[list[Features]] | None = None) -> PatchMemory:
    memory = PatchMemory(settings)
    memory.build(of or photos(settings.turns))
    return memory


# The slow version ---------------------------------------------------------------------------------


def slow_tokens(rows: Tensor, grid: tuple[int, int], window: int) -> list[np.ndarray]:
    """Tokens (T, D), each the mean of the window around it that lies in the grid, with length 1."""
    square, reach, out = rows.double().numpy().reshape(*grid, -1), window // 2, []
    for y in range(grid[0]):
        for x in range(grid[1]):
            around = square[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            mean = around.reshape(-1, around.shape[-1]).mean(0)
            out.append(mean / np.linalg.norm(mean))
    return out


def slow_rows(
    of: list[list[Features]], layer: int, window: int, leave_out: int | None, turn: int | None
) -> list[np.ndarray]:
    rows: list[np.ndarray] = []
    for owner, views in enumerate(of):
        for view in views:
            copies = [view.taps[layer][0], *(view.turned[layer][0] if view.turned else [])]
            for number, tokens in enumerate(copies):
                if owner != leave_out and turn in (None, number):
                    rows += slow_tokens(tokens, view.grid, window)
    return rows


def slow_nearest(query: np.ndarray, rows: list[np.ndarray]) -> float:
    return min((1 - float(query @ row)) / 2 for row in rows)


def slow_map(settings: MemorySettings, query: Features, row: int, leave_out: int | None) -> np.ndarray:
    """Distances (T,) of one view of a batch, patch by patch."""
    banks = [(layer, window) for layer in settings.layers for window in settings.windows]
    of, patches = photos(settings.turns), query.grid[0] * query.grid[1]
    tokens = {bank: slow_tokens(query.taps[bank[0]][row], query.grid, bank[1]) for bank in banks}
    turns: list[int | None] = [None]
    if settings.best_turns:
        means = [
            np.mean([slow_nearest(q, slow_rows(of, *bank, leave_out, turn)) for bank in banks for q in tokens[bank]])
            for turn in range(settings.turns)
        ]
        turns = list(np.argsort(means)[: settings.best_turns])
    out = np.zeros(patches)
    for bank in banks:
        rows = [row for turn in turns for row in slow_rows(of, *bank, leave_out, turn)]
        for number, q in enumerate(tokens[bank]):
            if settings.comparison == "nearest":
                out[number] += slow_nearest(q, rows) / len(banks)
            else:
                out[number] += slow_outside(q, np.array(rows), settings.variance) / 4 / len(banks)
    return out


def slow_outside(query: np.ndarray, rows: np.ndarray, variance: float) -> float:
    """SubspaceAD's residual by a singular value decomposition of the centred rows."""
    mean = rows.mean(0)
    _, values, directions = np.linalg.svd(rows - mean, full_matrices=False)
    held, kept = 0.0, 0
    while held < variance * (values**2).sum():
        held += values[kept] ** 2
        kept += 1
    rest = query - mean
    for direction in directions[:kept]:
        rest = rest - (rest @ direction) * direction
    return float(rest @ rest)


CASES = {
    "plain": {},
    "one layer": {"layers": (3,)},
    "pooled": {"windows": (3,)},
    "both": {"windows": (1, 3)},
    "turned": {"turns": 4},
    "best turns": {"turns": 4, "best_turns": 2, "windows": (1, 3)},
    "best turn": {"turns": 5, "best_turns": 1, "windows": (3,)},
    "subspace": {"comparison": "subspace", "variance": 0.8},
    "more of it": {"comparison": "subspace", "variance": 0.9, "turns": 2, "windows": (1, 3)},
}
SAVED = CASES | {"maps apart": {"map_windows": (3, 5)}}


@pytest.mark.parametrize("leave_out", [None, 2])
@pytest.mark.parametrize("name", CASES)
def test_every_setting_is_the_slow_version(name, leave_out):
    settings = replace(EXACT, **CASES[name])
    query = view(9, batch=3)
    ours = built(settings).distance(query, leave_out=leave_out)
    assert ours.shape == (3, 12) and ours.dtype == torch.float32
    for row in range(3):
        np.testing.assert_allclose(ours[row].double(), slow_map(settings, query, row, leave_out), atol=2e-6)


@pytest.mark.parametrize("case", [{}, {"turns": 4, "best_turns": 2}, {"comparison": "subspace", "variance": 0.8}])
def test_maps_may_have_windows_of_their_own(case):
    settings, query = replace(EXACT, **case, map_windows=(1, 3)), view(9, batch=2)
    whole, maps = built(settings).distances(query, leave_out=1)
    assert torch.equal(whole, built(replace(EXACT, **case)).distance(query, leave_out=1))
    assert torch.equal(maps, built(replace(EXACT, **case, windows=(1, 3))).distance(query, leave_out=1))
    assert (whole - maps).abs().max() > 1e-3


def test_the_settings_give_maps_that_differ():
    query = view(9)
    maps = [built(replace(EXACT, **case)).distance(query) for case in CASES.values()]
    for number, this_map in enumerate(maps):
        assert all((this_map - that_map).abs().max() > 1e-4 for that_map in maps[:number])


def test_as_many_best_turns_as_there_are_is_all_of_them():
    query = view(9, batch=2)
    everything = built(replace(EXACT, turns=4)).distance(query)
    for best in (0, 4, 9):
        assert torch.equal(built(replace(EXACT, turns=4, best_turns=best)).distance(query), everything)


def test_a_budget_keeps_rows_that_are_far_apart_with_their_photo_and_turn():
    whole, small = built(replace(EXACT, turns=2)), built(replace(EXACT, turns=2, budget=7))
    for key, bank in small.banks.items():
        kept = greedy_coreset(whole.banks[key].rows, 7)
        assert len(bank) == 7
        assert torch.equal(bank.rows, whole.banks[key].rows[kept])
        assert torch.equal(bank.owners, whole.banks[key].owners[kept])
        assert torch.equal(bank.turns, whole.banks[key].turns[kept])
    enough = built(replace(EXACT, turns=2, budget=len(whole.banks[1, 1])))
    assert torch.equal(enough.distance(view(9)), whole.distance(view(9)))


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_memory_from_what_was_saved_is_the_same_to_the_bit(name, precision):
    settings = replace(EXACT, **SAVED[name], precision=precision)
    memory, query = built(settings), view(9, batch=2)
    saved = memory.state()

    def take(key: str, *shape: int | None) -> Tensor:
        tensor = saved.pop(key)
        assert len(shape) == tensor.dim() and all(
            want in (None, side) for want, side in zip(shape, tensor.shape, strict=True)
        )
        return tensor

    again = PatchMemory(settings)
    again.load(take, lambda layer: WIDTH)
    assert not saved
    for leave_out in (None, 1):
        for ours, theirs in zip(
            again.distances(query, leave_out=leave_out), memory.distances(query, leave_out=leave_out), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_rows_of_patches_as_they_are_keep_the_names_of_earlier_files():
    assert list(built(EXACT).state()) == ["memory.1.rows", "memory.1.owners", "memory.3.rows", "memory.3.owners"]


@pytest.mark.parametrize("comparison", ["nearest", "subspace"])
def test_without_its_only_photo_everything_is_far(comparison):
    memory = built(replace(EXACT, comparison=comparison), photos()[:1])
    assert memory.distance(view(9), leave_out=0).tolist() == [[1.0] * 12]


def test_building_again_forgets_what_was_there():
    memory = built(replace(EXACT, comparison="subspace"))
    before = memory.distance(view(9))
    memory.build([[view(5)], [view(6)]])
    other = built(replace(EXACT, comparison="subspace"), [[view(5)], [view(6)]])
    assert torch.equal(memory.distance(view(9)), other.distance(view(9))) and not torch.equal(
        memory.distance(view(9)), before
    )


@pytest.mark.parametrize(("asked", "held"), [(4, 1), (1, 4), (4, 2)])
def test_other_numbers_of_turned_copies_than_asked_for_are_refused(asked, held):
    with pytest.raises(ConfigError, match=f"{asked} orientations .* hold {held};"):
        built(replace(EXACT, turns=asked), photos(held))

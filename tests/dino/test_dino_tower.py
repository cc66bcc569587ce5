"""DINOv2's tower: tokens, taps, registers, and the three ways of its position table."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from promptad.dino.tower import DinoSizes, DinoTower, interpolated, usual_interpolation
from promptad.errors import ConfigError
from tiny import DINO_SIZES, tiny_dino

# Name -> width, heads, blocks, hidden, SwiGLU, parameters without and with 4 registers, the mask token counted (Oquab et al., 2024).
PUBLISHED = {
    "S": (384, 6, 12, 1536, False, 22_056_576, 22_058_112),
    "B": (768, 12, 12, 3072, False, 86_580_480, 86_583_552),
    "L": (1024, 16, 24, 4096, False, 304_368_640, 304_372_736),
    "g": (1536, 24, 40, 4096, True, 1_136_480_768, 1_136_486_912),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("registers", [0, 4])
def test_parameter_counts_are_those_that_were_published(name, registers):
    width, heads, layers, hidden, swiglu, *counts = PUBLISHED[name]
    with torch.device("meta"):
        tower = DinoTower(DinoSizes(width, layers, heads, hidden, registers=registers, swiglu=swiglu))
    mask_token = width  # of training alone, so our tower has none
    assert sum(p.numel() for p in tower.parameters()) + mask_token == counts[registers > 0]


@pytest.mark.parametrize("registers", [0, 3])
def test_tokens_are_the_class_token_the_registers_and_the_patches_row_by_row(registers):
    tower = tiny_dino(registers=registers)
    images = torch.randn(2, 3, 84, 70, generator=torch.Generator().manual_seed(1))
    out = tower(images, (3, 1))
    assert list(out) == [3, 1]  # in the order that was asked for
    for tokens in out.values():
        assert tokens.cls.shape == (2, 128) and tokens.registers.shape == (2, registers, 128)
        assert tokens.patches.shape == (2, 30, 128)
    embedded = tower.embed(images)
    # Registers have no position and stand between the class token and the patches.
    assert torch.equal(embedded[0, 1 : 1 + registers], tower.registers)
    expected = (
        tower.patch_embedding(images)[0, :, 4, 2]
        + interpolated(tower.position_embedding, (6, 5), tower.pos_interp)[1 + 22]
    )
    assert torch.allclose(embedded[0, 1 + registers + 4 * 5 + 2], expected, atol=1e-6)


def test_the_final_norm_is_applied_or_not_and_the_pass_ends_at_the_last_tap():
    tower = tiny_dino()
    images = torch.randn(1, 3, 84, 84, generator=torch.Generator().manual_seed(1))
    raw, normed = tower(images, (2,), norm="none")[2], tower(images, (2,), norm="final")[2]
    assert torch.allclose(tower.norm(raw.patches), normed.patches, atol=1e-6)
    assert torch.allclose(tower.norm(raw.cls), normed.cls, atol=1e-6)
    seen = []
    for number, block in enumerate(tower.blocks, 1):
        block.register_forward_hook(lambda *_, number=number: seen.append(number))
    tower(images, (2,))
    assert seen == [1, 2]


def test_weights_of_half_precision_give_float32():
    tower = tiny_dino().to(torch.bfloat16)
    assert tower(torch.zeros(1, 3, 84, 84), (4,))[4].patches.dtype == torch.float32


@pytest.mark.parametrize("tap", [0, 5, -1])
def test_a_tap_that_is_not_there_is_refused(tap):
    with pytest.raises(ConfigError, match=rf"tapped layers \[{tap}\] must lie in 1..4"):
        tiny_dino()(torch.zeros(1, 3, 84, 84), (tap,))


@pytest.mark.parametrize("size", [(83, 84), (84, 90), (0, 84)])
def test_sides_are_multiples_of_the_patch(size):
    with pytest.raises(ConfigError, match="not a multiple of the patch size 14"):
        tiny_dino()(torch.zeros(1, 3, *size), (1,))


# -- positions ---------------------------------------------------------------------------------------------------------


def cubic(x: float, a: float) -> float:
    """Keys' kernel of bicubic interpolation."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def axis(count: int, target: int, how: str) -> np.ndarray:
    """(target, count) weights of bicubic resizing of one axis, from the definition."""
    step = count / (target + 0.1) if how == "official" else count / target
    out = np.zeros((target, count))
    for row in range(target):
        centre = (row + 0.5) * step
        if how == "size_antialias":  # the kernel grows with the step, is cut at the border and sums to one; a is -0.5
            scale = max(step, 1.0)
            low, high = max(0, int(centre - 2 * scale + 0.5)), min(count, int(centre + 2 * scale + 0.5))
            weights = [cubic((column + 0.5 - centre) / scale, -0.5) for column in range(low, high)]
            out[row, low:high] = np.array(weights) / sum(weights)
        else:  # four neighbours, those beyond the border are the last; a is -0.75
            at = centre - 0.5
            for column in range(math.floor(at) - 1, math.floor(at) + 3):
                out[row, min(max(column, 0), count - 1)] += cubic(at - column, -0.75)
    return out


@pytest.mark.parametrize("how", ["official", "size", "size_antialias"])
@pytest.mark.parametrize("grid", [(4, 9), (6, 7), (12, 3)])
def test_positions_are_resized_as_from_the_definition(how, grid):
    table = torch.randn(37, 5, generator=torch.Generator().manual_seed(0))
    square = table[1:].view(6, 6, 5).double().numpy()
    slow = np.einsum("ip,jq,pqd->ijd", axis(6, grid[0], how), axis(6, grid[1], how), square)
    fast = interpolated(table, grid, how)
    assert torch.equal(fast[0], table[0])
    assert np.allclose(fast[1:].double().numpy(), slow.reshape(-1, 5), atol=1e-5)


def test_the_three_ways_agree_on_the_trained_grid_alone():
    table = torch.randn(37, 8, generator=torch.Generator().manual_seed(0))
    assert all(interpolated(table, (6, 6), how) is table for how in ("official", "size", "size_antialias"))
    others = [interpolated(table, (8, 8), how) for how in ("official", "size", "size_antialias")]
    assert all(not torch.allclose(a, b, atol=1e-2) for a, b in zip(others, others[1:] + others[:1], strict=True))


@pytest.mark.parametrize("side", range(1, 90))
def test_the_official_factor_gives_the_grid_that_is_meant(side):
    table = torch.zeros(1 + 37 * 37, 1)
    assert len(interpolated(table, (side, 2), "official")) == 1 + 2 * side


def test_towers_with_registers_are_antialiased_by_default():
    assert usual_interpolation(DINO_SIZES) == "official"
    assert usual_interpolation(replace(DINO_SIZES, registers=4)) == "size_antialias"
    with pytest.raises(ConfigError, match="pos_interp 'nearest' is unknown"):
        interpolated(torch.zeros(37, 1), (2, 2), "nearest")

"""Four-bit weights against a slow NumPy reference, element by element."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad.clip.quantised import dequantise, dequantise_all
from promptad.errors import WeightsError


def parts(rows: int, columns: int, groups: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    packed = rng.integers(0, 256, (rows, columns // 2), dtype=np.uint8)
    scale = rng.uniform(0.001, 0.1, (rows, groups)).astype(np.float16)
    zero = rng.integers(0, 16, (rows, groups), dtype=np.uint8)
    return torch.from_numpy(packed), torch.from_numpy(scale), torch.from_numpy(zero)


def slow(packed: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> np.ndarray:
    rows, columns = packed.shape[0], 2 * packed.shape[1]
    group = columns // scale.shape[1]
    out = np.empty((rows, columns), np.float64)
    for row in range(rows):
        for column in range(columns):
            byte = int(packed[row, column // 2])
            level = byte // 16 if column % 2 else byte % 16
            out[row, column] = (level - int(zero[row, column // group])) * float(scale[row, column // group])
    return out


@pytest.mark.parametrize(("rows", "columns", "groups"), [(3, 256, 2), (1, 128, 1), (5, 12, 3), (2, 2, 1)])
def test_values_equal_the_slow_reference(rows, columns, groups):
    own = parts(rows, columns, groups)
    ours = dequantise(*own)
    assert ours.shape == (rows, columns) and ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), slow(*own), rtol=1e-6)


def test_the_even_column_is_in_the_low_nibble_and_levels_below_zero_are_negative():
    packed = torch.tensor([[0xF0, 0x18]], dtype=torch.uint8)
    zero = torch.tensor([[8]], dtype=torch.uint8)
    assert dequantise(packed, torch.tensor([[0.5]]), zero).tolist() == [[-4.0, 3.5, 0.0, -3.5]]


@pytest.mark.parametrize(
    ("packed", "scale", "zero"),
    [
        (torch.zeros(2, 4, dtype=torch.int8), torch.zeros(2, 1), torch.zeros(2, 1)),
        (torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(3, 1), torch.zeros(3, 1)),
        (torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2, 3), torch.zeros(2, 3)),
        (torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2, 2), torch.zeros(2, 1)),
        (torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2), torch.zeros(2)),
        (torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2, 0), torch.zeros(2, 0)),
        (torch.zeros(8, dtype=torch.uint8), torch.zeros(8, 1), torch.zeros(8, 1)),
    ],
    ids=["dtype", "rows", "groups", "zero", "flat-scale", "no-group", "flat-packed"],
)
def test_parts_that_do_not_fit_together_are_a_weights_error(packed, scale, zero):
    with pytest.raises(WeightsError, match="do not fit") as caught:
        dequantise(packed, scale, zero)
    assert "\n" not in str(caught.value)


def test_triples_are_replaced_and_everything_else_passes():
    packed, scale, zero = parts(4, 8, 2)
    other, temperature = torch.randn(3), torch.tensor(4.6)
    tensors = {
        "a.weight_q4": packed,
        "a.weight_scale": scale,
        "a.weight_zero": zero,
        "a.bias": other,
        "logit_scale": temperature,
    }
    plain = dequantise_all(tensors)
    assert set(plain) == {"a.weight", "a.bias", "logit_scale"}
    assert torch.equal(plain["a.weight"], dequantise(packed, scale, zero))
    assert plain["a.bias"] is other and plain["logit_scale"] is temperature


@pytest.mark.parametrize("missing", ["a.weight_scale", "a.weight_zero"])
def test_a_triple_with_a_part_missing_is_named(missing):
    packed, scale, zero = parts(4, 8, 2)
    tensors = {"a.weight_q4": packed, "a.weight_scale": scale, "a.weight_zero": zero}
    del tensors[missing]
    with pytest.raises(WeightsError, match=missing):
        dequantise_all(tensors)

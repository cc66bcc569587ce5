"""Matrices in few bits: what comes back, how far it is off, and what is left alone."""

from __future__ import annotations

import pytest
import torch

from promptad.errors import WeightsError
from promptad.saved.compact import GROUP, pack, unpack


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Rows and groups of very different size: one step for all would lose the small ones.
    sizes = torch.rand(rows, 1, generator=generator) * 10 + 0.01
    values = torch.randn(rows, columns, generator=generator) * sizes
    values[:, : GROUP // 2] *= 50
    return values


@pytest.mark.parametrize(("shape", "kind", "top"), [((130, 200), "q8", 127), ((1024, 1026), "q4", 7)])
def test_every_value_is_within_half_a_step_of_its_group(shape, kind, top):
    values = matrix(*shape)
    packed = pack({"a.weight": values})
    assert set(packed) == {f"a.weight.{kind}", "a.weight.step"}
    unpacked = unpack(packed)["a.weight"]
    for start in range(0, shape[1], GROUP):
        group, back = values[:, start : start + GROUP], unpacked[:, start : start + GROUP]
        step = group.abs().amax(1, keepdim=True) / top
        # Steps are float16, which moves the outermost values a little more.
        assert ((group - back).abs() <= 0.5 * step * (1 + 1e-5) + top * step * 2**-11).all()
    bits = sum(t.numel() * t.element_size() for t in packed.values()) * 8 / values.numel()
    assert bits < (8.3 if kind == "q8" else 4.2)


def test_small_odd_whole_and_other_tensors_stay_as_they_are():
    tensors = {
        "bias": torch.randn(20_000),
        "small": torch.randn(10, 10),
        "odd": torch.randn(301, 301),
        "count": torch.arange(20_000).view(100, 200),
        "own.step": torch.randn(3),
    }
    packed = pack(tensors)
    assert all(packed[name] is tensor for name, tensor in tensors.items())
    assert all(torch.equal(unpack(packed)[name], tensor) for name, tensor in tensors.items())


def test_a_group_of_zeros_stays_zero():
    values = matrix(128, 256)
    values[:, :GROUP] = 0
    assert (unpack(pack({"w": values}))["w"][:, :GROUP] == 0).all()


@pytest.mark.parametrize("step", [None, torch.ones(2, 2)])
def test_values_without_their_steps_are_an_error(step):
    packed = pack({"w": matrix(128, 256)})
    del packed["w.step"]
    if step is not None:
        packed["w.step"] = step
    with pytest.raises(WeightsError, match="steps of the packed tensor 'w'"):
        unpack(packed)

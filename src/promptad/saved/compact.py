"""Large matrices of trained prompts in few bits, so that they can be part of the package.

Rounding to the nearest step, one step a row and group of 128 input columns, symmetric around zero. Matrices of more than
a million values are stored in 4 bits, others in 8, small tensors as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from promptad.errors import WeightsError

GROUP = 128
SMALL = 1 << 14
LARGE = 1_000_000


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every float matrix (O, I) of at least `SMALL` values becomes `<name>.q8` int8 (O, I), or `<name>.q4` uint8 (O, I / 2)
    with the even column in the low nibble, and `<name>.step` float16 (O, ceil(I / 128)); the rest stays."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.numel() < SMALL or not tensor.is_floating_point() or tensor.shape[1] % 2:
            out[name] = tensor
            continue
        bits = 4 if tensor.numel() > LARGE else 8
        top = 2 ** (bits - 1) - 1
        values = tensor.detach().float()
        step = (_grouped(values).abs().amax(2) / top).half()
        fine = _spread(step, values.shape[1]).clamp(min=1e-12)
        levels = (values / fine).round().clamp(-top, top).to(torch.int8)
        if bits == 8:
            out[f"{name}.q8"] = levels
        else:
            low, high = (levels + 8).to(torch.uint8).view(len(levels), -1, 2).unbind(2)
            out[f"{name}.q4"] = low | (high << 4)
        out[f"{name}.step"] = step
    return out


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`pack` was given, rounded: float32 matrices.

    Raises:
        WeightsError: packed values without their steps, or of another shape.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        base, _, kind = name.rpartition(".")
        if kind == "step" and (f"{base}.q8" in tensors or f"{base}.q4" in tensors):
            continue
        if kind not in ("q8", "q4"):
            out[name] = tensor
            continue
        if tensor.ndim != 2 or tensor.dtype != {"q8": torch.int8, "q4": torch.uint8}[kind]:
            raise WeightsError(
                f"the packed tensor {base!r} is {tensor.dtype} {tuple(tensor.shape)}; make the file again"
            )
        levels = tensor.float()
        if kind == "q4":
            halves = torch.stack([tensor & 15, tensor >> 4], dim=2).to(torch.int8) - 8
            levels = halves.view(len(tensor), -1).float()
        step = tensors.get(f"{base}.step")
        if step is None or step.shape != (len(levels), -(-levels.shape[1] // GROUP)):
            state = "missing" if step is None else f"of shape {tuple(step.shape)}"
            raise WeightsError(f"the steps of the packed tensor {base!r} are {state}; make the file again")
        out[base] = levels * _spread(step, levels.shape[1])
    return out


def _grouped(values: Tensor) -> Tensor:
    """(O, I) -> (O, groups, 128), zeros behind the last column."""
    short = -values.shape[1] % GROUP
    return torch.nn.functional.pad(values, (0, short)).view(len(values), -1, GROUP)


def _spread(step: Tensor, columns: int) -> Tensor:
    """(O, groups) -> (O, I), every column its group's step."""
    return step.float().repeat_interleave(GROUP, dim=1)[:, :columns]

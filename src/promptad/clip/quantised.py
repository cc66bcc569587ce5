"""Four-bit linear weights, as the bundled starter stores them.

For a linear weight `X.weight` of shape (out, in) the file holds `X.weight_q4` (out, in / 2) uint8 with the even column
in the low nibble, and per group of 128 columns `X.weight_scale` float16 and `X.weight_zero` uint8, both (out, in / 128);
value = (q - zero) * scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from promptad.errors import WeightsError


def dequantise(packed: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """(out, in / 2) uint8 and its (out, groups) scale and zero point -> (out, in) float32.

    Raises:
        WeightsError: the shapes do not fit together.
    """
    whole = packed.dtype == torch.uint8 and packed.ndim == scale.ndim == 2 and scale.shape == zero.shape
    rows, columns = packed.shape[0], 2 * packed.shape[-1]
    if not whole or scale.shape[0] != rows or not scale.shape[1] or columns % scale.shape[1]:
        raise WeightsError(
            f"4-bit weight of shape {tuple(packed.shape)} with scale {tuple(scale.shape)} and zero {tuple(zero.shape)}: "
            "the parts do not fit; the weights file is damaged or of another format"
        )
    levels = torch.stack([packed & 15, packed >> 4], dim=-1).view(rows, scale.shape[1], -1)
    values = (levels.float() - zero.float().unsqueeze(-1)) * scale.float().unsqueeze(-1)
    return values.view(rows, columns)


def dequantise_all(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replaces every `X_q4`, `X_scale`, `X_zero` triple by `X`; other tensors pass through."""
    plain = {k: v for k, v in tensors.items() if not k.endswith(("_q4", "_scale", "_zero")) or k == "logit_scale"}
    for name in tensors:
        if name.endswith("_q4"):
            stem = name.removesuffix("_q4")
            try:
                plain[stem] = dequantise(tensors[name], tensors[stem + "_scale"], tensors[stem + "_zero"])
            except KeyError as error:
                raise WeightsError(f"4-bit weight {stem} lacks {error}; the weights file is damaged") from error
    return plain

"""Retrieval from a memory of labelled features, as MRAD (ICLR 2026) has it, and what its keys and queries are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Cells = Literal["area", "centre"]


def retrieved(
    queries: Tensor, keys: Tensor, labels: Tensor, temperature: float, hidden: Tensor | None = None
) -> Tensor:
    """Share of anomalous keys in softmax(q K^T / temperature), of which the share of normal ones is one minus it.

    Args:
        queries: (..., D). keys: (N, D). labels: (N,) 0 or 1. hidden: (..., N) True for keys that a query does not see; one
            that sees no key gets the mean of the labels.

    Returns:
        (...,) from 0 to 1.
    """
    similar = queries @ keys.T / temperature
    if hidden is not None:
        similar = similar.masked_fill(hidden & ~hidden.all(-1, keepdim=True), -torch.inf)
    return similar.softmax(-1) @ labels


def neighbourhood_mean(rows: Tensor, grid: tuple[int, int], sides: Sequence[int]) -> Tensor:
    """(B, h w, D) -> the same, each the average over `sides` of the mean of the squares of these odd sides around it, with zeros
    outside of the grid, which count."""
    planes = rows.transpose(1, 2).unflatten(2, grid)
    means = [planes if side == 1 else F.avg_pool2d(planes, side, 1, side // 2) for side in sides]
    return torch.stack(means).mean(0).flatten(2).transpose(1, 2)


def two_sides(rows: Tensor, mask: Tensor, grid: tuple[int, int], cells: Cells) -> tuple[Tensor, list[float]]:
    """The means of a view's patches outside and inside of its defect, as far as there are any, with their labels.

    Args:
        rows: (h w, D). mask: (H, W) float of 0 and 1 at input size.
        cells: "area" weighs every patch by the share of it that is inside or outside; "centre" takes those alone whose bilinear
            sample of the mask is exactly 1 or 0 (of patches of an even side the middle four pixels).

    Returns:
        (1 or 2, D), not normalised, and 0 for outside, 1 for inside.
    """
    if cells == "area":
        inside = F.adaptive_avg_pool2d(mask[None, None], grid).flatten()
        weights = [1 - inside, inside]
    else:
        sampled = F.interpolate(mask[None, None], size=grid, mode="bilinear", align_corners=False).flatten()
        weights = [(sampled == 0).float(), (sampled == 1).float()]
    means = [(float(label), own @ rows / own.sum()) for label, own in enumerate(weights) if bool(own.sum() > 0)]
    return torch.stack([row for _, row in means]), [label for label, _ in means]

"""Harmonic aggregation of the scores of sliding windows of patches (WinCLIP, CVPR 2023, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def harmonic_aggregation(scores: Tensor, windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Per-patch harmonic mean of the scores of the windows that cover it.

    Args:
        scores: (B, n) positive, larger = more anomalous.
        windows: (n, p) patch indices from :func:`promptad.clip.features.window_patches`.
        grid: (h, w).

    Returns:
        (B, h, w).
    """
    total, cover = _covered(1.0 / scores.clamp(min=1e-12), windows, grid)
    return (cover / total).view(-1, *grid)


def mean_aggregation(scores: Tensor, windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Per-patch arithmetic mean of the scores of the windows that cover it; arguments as :func:`harmonic_aggregation`."""
    total, cover = _covered(scores, windows, grid)
    return (total / cover).view(-1, *grid)


def _covered(values: Tensor, windows: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(B, h * w) sums of the values of the windows that cover each patch, and their number."""
    total = torch.zeros(len(values), grid[0] * grid[1], dtype=values.dtype, device=values.device)
    cover = torch.zeros_like(total)
    flat = windows.flatten().expand(len(values), -1)
    total.scatter_add_(1, flat, values.repeat_interleave(windows.shape[1], dim=1))
    cover.scatter_add_(1, flat, torch.ones_like(flat, dtype=values.dtype))
    return total, cover

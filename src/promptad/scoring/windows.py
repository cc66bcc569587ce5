"""Sliding windows of patches and the harmonic aggregation of their scores (WinCLIP, CVPR 2023, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from promptad.errors import ConfigError


def window_patches(grid: tuple[int, int], side: int) -> Tensor:
    """Patch indices of every `side` x `side` window at stride 1, (n, side * side) int64, row-major.

    A 15 x 15 grid has 196 windows of 2 x 2 and 169 of 3 x 3.

    Raises:
        ConfigError: the window does not fit in the grid.
    """
    height, width = grid
    if not 1 <= side <= min(height, width):
        raise ConfigError(f"windows of {side}x{side} patches do not fit in a grid of {height}x{width}")
    index = torch.arange(height * width).view(height, width)
    return index.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)


def harmonic_aggregation(scores: Tensor, windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Per-patch harmonic mean of the scores of the windows that cover it.

    Args:
        scores: (B, n) positive, larger = more anomalous.
        windows: (n, p) patch indices from :func:`window_patches`.
        grid: (h, w).

    Returns:
        (B, h, w).
    """
    inverse = 1.0 / scores.clamp(min=1e-12)
    total = torch.zeros(len(scores), grid[0] * grid[1], dtype=scores.dtype, device=scores.device)
    cover = torch.zeros_like(total)
    flat = windows.flatten().expand(len(scores), -1)
    total.scatter_add_(1, flat, inverse.repeat_interleave(windows.shape[1], dim=1))
    cover.scatter_add_(1, flat, torch.ones_like(flat, dtype=scores.dtype))
    return (cover / total).view(-1, *grid)

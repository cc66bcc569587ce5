"""Harmonic aggregation of the scores of sliding windows of patches (WinCLIP, CVPR 2023, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def harmonic_aggregation(scores: Tensor, windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Per-patch harmonic mean of the scores of the windows that cover it.

    Args:
        scores: (B, n) positive, larger = more anomalous.
        windows: (n, p) patch indices from :func:`promptad.clip.vision.window_patches`.
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

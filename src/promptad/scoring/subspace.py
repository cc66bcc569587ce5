"""The subspace that good patches span, and how far a patch lies outside it (SubspaceAD, CVPR 2026, arXiv 2602.23013)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Subspace:
    """A mean (D,) and r orthonormal directions (D, r), float64."""

    mean: Tensor
    basis: Tensor

    def residual(self, patches: Tensor) -> Tensor:
        """Squared length of what of a patch lies outside: ||(x - mean) - C C^T (x - mean)||^2.

        Args:
            patches: (..., D).

        Returns:
            (...,) float32, not negative.
        """
        centred = patches.double() - self.mean
        # The lengths before and inside, not the difference of two long vectors: D times less to write.
        inside = (centred @ self.basis).square().sum(dim=-1)
        return (centred.square().sum(dim=-1) - inside).clamp(min=0).float()


def fit_subspace(rows: Tensor, variance: float) -> Subspace:
    """The fewest principal directions that hold a share of the variance, as SubspaceAD takes them.

    Args:
        rows: (N, D), N at least 1. variance: share, above 0 and below 1.
    """
    exact = rows.double()
    mean = exact.mean(dim=0)
    centred = exact - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    shares = values.cumsum(0) / values.sum().clamp(min=torch.finfo(torch.float64).tiny)
    count = int((shares < variance).sum()) + 1 if bool(values.sum() > 0) else 0
    return Subspace(mean, vectors[:, :count])

"""Two-class text scores: how much closer a feature is to the anomalous than to the normal prototype."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def anomalous_probability(features: Tensor, normal: Tensor, anomalous: Tensor, scale: float) -> Tensor:
    """softmax(scale * [cos(x, normal), cos(x, anomalous)])[anomalous], larger = more anomalous.

    PromptAD (CVPR 2024), section 4.4, eq. 16, with the anomalous prototype in the numerator (flag F-2).

    Args:
        features: (..., E), normalised here.
        normal, anomalous: (E,) prototypes, normalised here.
        scale: inverse temperature.

    Returns:
        (...,) in [0, 1].
    """
    prototypes = F.normalize(torch.stack([normal, anomalous]), dim=-1)
    logits = scale * F.normalize(features, dim=-1) @ prototypes.T
    return torch.sigmoid(logits[..., 1] - logits[..., 0])


def anomalous_logit(features: Tensor, normal: Tensor, anomalous: Tensor, scale: float) -> Tensor:
    """scale * (cos(x, anomalous) - cos(x, normal)), whose sigmoid is the anomalous one of the two-class softmax.

    Args:
        features: (B, ..., E) unit vectors. normal: (E,). anomalous: (E,), or (B, E) for one a view.

    Returns:
        (B, ...).
    """
    difference = F.normalize(anomalous, dim=-1) - F.normalize(normal, dim=-1)
    if difference.ndim == 1:
        return scale * (features @ difference)
    return scale * torch.einsum("b...e,be->b...", features, difference)


def state_probabilities(features: Tensor, states: Tensor, scale: float) -> Tensor:
    """Which of S defect states fits best, were there a defect: softmax over scale * cos(x, state).

    How likely a defect is at all is the anomaly score's business, not this one's.

    Args:
        features: (..., E). states: (S, E). All normalised here. scale: inverse temperature.

    Returns:
        (..., S), summing to one over the states.
    """
    return (scale * F.normalize(features, dim=-1) @ F.normalize(states, dim=-1).T).softmax(dim=-1)


def ensemble_prototype(features: Tensor) -> Tensor:
    """(P, E) sentence features -> (E,): normalise each, average, normalise (WinCLIP, CVPR 2023)."""
    return F.normalize(F.normalize(features, dim=-1).mean(dim=0), dim=-1)

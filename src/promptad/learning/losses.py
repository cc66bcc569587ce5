"""Losses of prompt learning. Features are normalised by the caller where the formula wants unit vectors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MarginDistance = Literal["squared", "euclidean"]
Alignment = Literal["mean_of_normalised", "normalised_mean"]


def one_class_contrastive(features: Tensor, positive: Tensor, negatives: Tensor, scale: float) -> Tensor:
    """Cross-entropy of every normal feature against one positive and many negative prompts.

    PromptAD (CVPR 2024), section 4.2, eq. 12: -log exp(s cos(z, p)) / (exp(s cos(z, p)) + sum_j exp(s cos(z, n_j))).

    Args:
        features: (V, E) unit vectors of normal images or patches.
        positive: (E,) unit vector, the normal prototype.
        negatives: (J, E) unit vectors, every single anomaly prompt.
        scale: inverse temperature s.

    Returns:
        Scalar, the mean over V.
    """
    logits = scale * features @ torch.cat([positive.unsqueeze(0), negatives]).T
    return (torch.logsumexp(logits, dim=-1) - logits[:, 0]).mean()


def explicit_anomaly_margin(
    features: Tensor,
    normal: Tensor,
    anomalous: Tensor,
    *,
    distance: MarginDistance = "squared",
    sum_over_patches: bool = False,
) -> Tensor:
    """Hinge that keeps normal features closer to the normal than to the anomalous prototype, margin zero.

    PromptAD (CVPR 2024), section 4.3, eq. 13: mean of max(0, d(z, normal) - d(z, anomalous)).

    Args:
        features: (V, T, E) unit vectors; T = 1 for whole images.
        normal, anomalous: (E,) unit vectors.
        distance: "euclidean" as printed, or "squared" as in the released code.
        sum_over_patches: the released code's slip for pixel prompts (flag F-4): differences are summed over patches
            instead of channels, which gives a hinge per channel.

    Returns:
        Scalar.
    """
    axis = 1 if sum_over_patches else -1
    to_normal = (features - normal).square().sum(dim=axis)
    to_anomalous = (features - anomalous).square().sum(dim=axis)
    if distance == "euclidean":
        # The root has no gradient at zero; the floor is far below float32 resolution of unit vectors.
        to_normal, to_anomalous = to_normal.clamp(min=1e-12).sqrt(), to_anomalous.clamp(min=1e-12).sqrt()
    return F.relu(to_normal - to_anomalous).mean()


def attraction(features: Tensor, normal: Tensor) -> Tensor:
    """Mean of 1 - cos of normal features (V, E) to the normal prototype (E,); unit vectors.

    Unlike the contrastive loss it says nothing on anomaly prompts, and does not fade once these are farther away.
    """
    return (1 - features @ normal).mean()


def anchor_distance(prototype: Tensor, start: Tensor) -> Tensor:
    """Squared distance of a prototype (E,) to where it started (E,); unit vectors.

    The idea of knowledge-guided context optimisation (Yao et al., KgCoOp, CVPR 2023), for the anomalous side alone.
    """
    return (prototype - start).square().sum()


def mean_alignment(manual: Tensor, learnable: Tensor, how: Alignment = "mean_of_normalised") -> Tensor:
    """Squared distance between the means of manual (P, E) and learnable (Q, E) raw anomaly prompt features.

    PromptAD (CVPR 2024), section 4.3, eq. 15. "normalised_mean" is the paper's: mean of raw features, then normalised;
    "mean_of_normalised" is the released code's: every feature normalised, mean not normalised again (flag F-12).
    """
    if how == "normalised_mean":
        first, second = F.normalize(manual.mean(0), dim=-1), F.normalize(learnable.mean(0), dim=-1)
    else:
        first, second = F.normalize(manual, dim=-1).mean(0), F.normalize(learnable, dim=-1).mean(0)
    return (first - second).square().sum()

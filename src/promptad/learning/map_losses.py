"""Losses over anomaly maps and image scores, as AnomalyCLIP (ICLR 2024) and FAPrompt (ICCV 2025) use them.

A map holds the probability of "anomalous"; that of "normal" is one minus it, because the softmax has two classes and
bilinear interpolation keeps the sum.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

ImageFocal = Literal["logits", "prob"]

_GAMMA = 2
# Both the clamp of the one-hot target and what is added to the probability of the true class.
_SMOOTHING = 1e-5


def map_loss(maps: Tensor, masks: Tensor) -> Tensor:
    """Focal([1 - S, S], G) + Dice(S, G) + Dice(1 - S, 1 - G), at the size of the masks.

    FAPrompt's l of equation 7; AnomalyCLIP's local loss. The softmax was taken on the patch grid; here comes the bilinear
    upsampling (align_corners off).

    Args:
        maps: (B, h, w) in [0, 1], probability of anomalous. masks: (B, H, W) float of 0 and 1.

    Returns:
        Scalar.
    """
    large = maps
    if maps.shape[-2:] != masks.shape[-2:]:
        large = F.interpolate(maps.unsqueeze(1), size=masks.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)
    return focal(large, masks) + dice(large, masks) + dice(1 - large, 1 - masks)


def focal(maps: Tensor, masks: Tensor) -> Tensor:
    """Mean of -(1 - p)^2 log p over all pixels, p the probability of each pixel's class (Lin et al., ICCV 2017).

    The one-hot target is clamped to [1e-5, 1 - 1e-5] and 1e-5 is added to p, as the released codes do.

    Args:
        maps: (B, H, W) probability of anomalous. masks: (B, H, W) float of 0 and 1.
    """
    target = masks.clamp(_SMOOTHING, 1 - _SMOOTHING)
    p = target * maps + (1 - target) * (1 - maps) + _SMOOTHING
    return -((1 - p) ** _GAMMA * p.log()).mean()


def dice(maps: Tensor, masks: Tensor) -> Tensor:
    """1 - mean over the batch of (2 sum(p G) + 1) / (sum(p) + sum(G) + 1), for (B, H, W) probabilities and masks."""
    p, g = maps.flatten(1), masks.flatten(1)
    return 1 - ((2 * (p * g).sum(1) + 1) / (p.sum(1) + g.sum(1) + 1)).mean()


def binary_focal(scores: Tensor, labels: Tensor, how: ImageFocal = "logits") -> Tensor:
    """Focal loss of image scores: mean of (1 - e^-b)^2 b, b the binary cross-entropy (FAPrompt, eq. 10).

    Args:
        scores: (B,) in [0, 1], larger = more anomalous. labels: (B,) 0 or 1.
        how: "prob" reads the score as the probability that it is; "logits" puts it through a sigmoid once more, which is
            what the released code does (flag F-16): b then lies in 0.31..0.70 for a true anomaly.
    """
    target = labels.to(scores.dtype)
    if how == "logits":
        cross_entropy = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
    else:
        cross_entropy = F.binary_cross_entropy(scores, target, reduction="none")
    return ((1 - (-cross_entropy).exp()) ** _GAMMA * cross_entropy).mean()


def pairwise_cosine(features: Tensor) -> Tensor:
    """Sum of |cos| over all pairs of (K, E) features, 0 for one: it makes prompts differ (FAPrompt, eq. 2)."""
    unit = F.normalize(features, dim=-1)
    return torch.triu((unit @ unit.T).abs(), diagonal=1).sum()


def prior_of_normal(prior: Tensor, labels: Tensor) -> Tensor:
    """Sum over normal images of the mean square of their prior: nothing to refine where nothing is wrong.

    FAPrompt, equation 5: (1 / t) |Omega_x|^2 summed over the images with label 0; anomalous ones add nothing.

    Args:
        prior: (B, t). labels: (B,) 0 or 1.
    """
    return (prior.square().mean(-1) * (labels == 0)).sum()

"""Mutual scoring: photos of one product as the measure of each other, without a good photo (MuSc, Li et al., ICLR 2024, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

SAME = 1e-4
"""A reference whose every patch is nearer than this to one of the photo is the photo itself, or a copy with the same pixels."""


def reference_distances(patches: Tensor, references: Tensor, owners: Tensor, count: int) -> Tensor:
    """How far each patch is from the nearest patch of each reference photo.

    Args:
        patches: (T, D) unit vectors. references: (R, D) unit vectors of `count` photos, of any float dtype. owners: (R,) int64, the photo of each
            row, from 0, in ascending order.

    Returns:
        (count, T) half cosine distances, (1 - max cos) / 2, in [0, 1].
    """
    nearest = torch.full((count, len(patches)), -1.0, device=patches.device)
    # Photo after photo: the matrix of all pairs would be as large as all references together.
    starts = torch.searchsorted(owners, torch.arange(count + 1, device=owners.device)).tolist()
    for photo, (start, stop) in enumerate(pairwise(starts)):
        # What rounding to half precision took from the length of a row is given back, or a photo would be far from itself where one
        # value is most of its tokens.
        rows = F.normalize(references[start:stop].float(), dim=-1)
        nearest[photo] = (rows @ patches.T).amax(dim=0)
    return (1 - nearest.clamp(-1, 1)) / 2


def mutual_scores(distances: Tensor, share: float) -> Tensor:
    """(T,) mean of the smallest `share` of each patch's distances to the references, at least one of them: the interval
    average of section 3.2, since a patch of a good part is near to most photos and far from a few.

    Args:
        distances: (C, T), C at least 1.
    """
    kept = max(1, int(share * len(distances)))
    return distances.topk(kept, dim=0, largest=False).values.mean(dim=0)


def class_smoothed(score: Tensor, image: Tensor, classes: Tensor, scores: Tensor, windows: Sequence[int]) -> Tensor:
    """A photo's score as a mean over photos that look like it (RsCIN, section 3.3).

    Args:
        score: (1,) of the photo. image: (1, E) its class feature. classes: (C, E) unit class features of the references, the photo
            not among them. scores: (C,) theirs. windows: numbers of photos, itself included, that each mean is taken over.

    Returns:
        (1,) mean over the windows of means weighted by cosines; the photo's own weight is 1.
    """
    cosines, order = (F.normalize(image, dim=-1) @ classes.T)[0].sort(descending=True)
    means = []
    for window in windows:
        weights = torch.cat([torch.ones(1, device=score.device), cosines[: window - 1]])
        means.append((weights * torch.cat([score, scores[order[: window - 1]]])).sum() / weights.sum())
    return torch.stack(means).mean().view(1)

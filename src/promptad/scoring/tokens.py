"""Patch tokens of several layers of the image tower as one feature a patch, for memories that compare patches alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.features import Features


def joined_tokens(features: Features, layers: Sequence[int], *, normalise: bool) -> Tensor:
    """(B, T, D) tokens of the layers side by side, D the sum of their widths; with `normalise` each layer has length 1
    first, since the lengths of tokens differ from layer to layer."""
    parts = [features.taps[layer] for layer in layers]
    return torch.cat([F.normalize(part, dim=-1) if normalise else part for part in parts], dim=-1)


def share_inside(grid: tuple[int, int], side: int) -> Tensor:
    """(T, 1) the share of the `side` x `side` positions around each one of the grid that are on it."""
    return F.avg_pool2d(torch.ones(1, 1, *grid), side, 1, side // 2).flatten()[:, None]


def embedded_tokens(
    features: Features, layers: Sequence[int], width: int, *, side: int, zeros: bool, normalise: bool
) -> Tensor:
    """(B, T, width) as PatchCore's released code makes its features of neighbourhoods (Roth et al., CVPR 2022, section 3.1).

    The tokens of the `side` x `side` patches around each one, channel by channel, are brought to `width` values by adaptive mean
    pooling, which may average over the border of two channels; the results of all layers, one behind the other, once more.

    Args:
        features: with taps that are not pooled. zeros: patches beyond the edge are zeros that count; otherwise what is there is
            weighted so that it counts alone. normalise: bring each layer's values to length 1 before the last step.
    """
    share = 1.0 if zeros else share_inside(features.grid, side).to(features.image.device)
    parts = []
    for layer in layers:
        planes = features.taps[layer].transpose(1, 2).unflatten(2, features.grid)
        around = F.unfold(planes, side, padding=side // 2).transpose(
            1, 2
        )  # (B, T, D * side * side), channel by channel
        part = F.adaptive_avg_pool1d(around, width) / share
        parts.append(F.normalize(part, dim=-1) if normalise else part)
    return F.adaptive_avg_pool1d(torch.cat(parts, dim=-1), width)


def greedy_coreset(rows: Tensor, count: int, *, width: int = 128, seed: int = 0, starts: int = 0) -> Tensor:
    """Indices (count,) of rows that are spread over all: each further one is the farthest from those chosen (k-centre).

    PatchCore (Roth et al., CVPR 2022, section 3.2, algorithm 1), as its code: distances after a random linear map to `width`
    values, where rows have more; the first is the row that is farthest from all others.

    Args:
        rows: (N, D). count: 1 to N. seed: of the linear map and the starting rows.
        starts: begin instead, as the scripts of its code do, with the mean distances to so many rows drawn at random, which are not
            chosen themselves: what is farthest from them comes first, and their mean goes on counting as a chosen row would.
    """
    generator = torch.Generator().manual_seed(seed)
    near = rows.float()
    if rows.shape[1] > width:
        bound = rows.shape[1] ** -0.5
        mapping = torch.rand(rows.shape[1], width, generator=generator) * 2 * bound - bound
        near = near @ mapping.to(rows.device)
    chosen: list[int] = []
    if starts:
        drawn = torch.randperm(len(rows), generator=generator)[:starts].to(rows.device)
        distance = torch.stack([(near - row).norm(dim=1) for row in near[drawn]]).mean(dim=0)
    else:
        # Squares of all distances summed, without a matrix of all pairs.
        centred = near - near.mean(dim=0)
        chosen.append(int(centred.square().sum(dim=1).argmax()))
        distance = (near - near[chosen[0]]).norm(dim=1)
    while len(chosen) < count:
        if chosen:
            distance[chosen[-1]] = -1.0  # and stays so: where only copies are left, none is chosen twice
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (near - near[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen, device=rows.device)


def nearest_rows(queries: Tensor, rows: Tensor, count: int, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Euclidean distances to the nearest rows, and which they are, nearest first.

    Args:
        queries: (Q, D). rows: (R, D). count: at most R are given.

    Returns:
        (Q, k) distances and (Q, k) int64 indices, k = min(count, R).
    """
    nearest = [
        torch.cdist(part, rows, compute_mode="donot_use_mm_for_euclid_dist").topk(min(count, len(rows)), largest=False)
        for part in queries.split(chunk)
    ]
    return torch.cat([values for values, _ in nearest]), torch.cat([indices for _, indices in nearest])

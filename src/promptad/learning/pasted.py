"""Pseudo anomalies on frozen features: a rectangle of a photo's own tokens, altered a little and pasted elsewhere.

DRA (Ding et al., CVPR 2022) pastes rectangles of the photo itself before the tower reads it. Where the tower is frozen and
its features are kept, the rectangle is one of tokens; noise on them stands for DRA's change of colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

AREA = (0.02, 0.15)
"""Smallest and largest share of the map that a rectangle has."""
ASPECT = (0.3, 1 / 0.3)
"""Smallest and largest ratio of its height and width."""


@dataclass(frozen=True)
class Rectangle:
    """What is copied: `height` x `width` tokens from (top, left) of `source` to (top, left) of `target`."""

    height: int
    width: int
    source: tuple[int, int]
    target: tuple[int, int]


def draw_rectangle(grid: tuple[int, int], generator: torch.Generator) -> Rectangle:
    """A rectangle of a map of `grid` (h, w): area uniform in :data:`AREA`, aspect log-uniform in :data:`ASPECT`, at least one
    token and at most the map."""
    area, aspect, *places = torch.rand(6, generator=generator).tolist()
    tokens = (AREA[0] + (AREA[1] - AREA[0]) * area) * grid[0] * grid[1]
    ratio = math.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
    height = min(max(1, round(math.sqrt(tokens * ratio))), grid[0])
    width = min(max(1, round(math.sqrt(tokens / ratio))), grid[1])
    tops = [int(place * (grid[0] - height + 1)) for place in places[:2]]
    lefts = [int(place * (grid[1] - width + 1)) for place in places[2:]]
    return Rectangle(height, width, (tops[0], lefts[0]), (tops[1], lefts[1]))


def paste(features: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
    """A copy of a map with a rectangle of its own pasted to a random place.

    Args:
        features: (D, h, w). noise: (D,) standard deviation of what is added to the pasted tokens.

    Returns:
        (D, h, w); equal to `features` outside the rectangle.
    """
    chosen = draw_rectangle((features.shape[1], features.shape[2]), generator)
    (top, left), (to_top, to_left) = chosen.source, chosen.target
    piece = features[:, top : top + chosen.height, left : left + chosen.width]
    drawn = torch.randn(piece.shape, generator=generator).to(features.device)
    out = features.clone()
    out[:, to_top : to_top + chosen.height, to_left : to_left + chosen.width] = piece + drawn * noise[:, None, None]
    return out

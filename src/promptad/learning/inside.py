"""Features of what is looked at alone: patches outside the region of interest are put aside before a method sees them.

No method has to know of it. An outside patch takes the tokens of the most ordinary patch inside, the one nearest to their mean, so that it
adds nothing to a maximum, a mean of the largest, or a memory that was not there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.features import Features
from promptad.clip.preprocess import View
from promptad.data.inspected_area import InspectedArea


def views_inside(views: Sequence[View], area: InspectedArea, photo: tuple[int, int], grid: int) -> list[View]:
    """The views in which there is a patch to look at; where there is none, the view that shows most of the area.

    Args:
        photo: (H, W) in pixels. grid: pixels of the tower's input along the side of a patch.
    """

    def largest(view: View) -> float:
        return float(area.seen(view.region, photo, (view.size[0] // grid, view.size[1] // grid)).max())

    seen = [largest(view) for view in views]
    limit = min(0.5, max(seen))
    return [view for view, most in zip(views, seen, strict=True) if most >= limit]


def only_inside(features: Features, view: View, area: InspectedArea, photo: tuple[int, int]) -> Features:
    """The features of one view, a batch of 1, in which every patch outside has the tokens of the most ordinary one inside."""
    inner = None if features.memory is None else only_inside(features.memory, view, area, photo)
    shares = area.patches(view.region, photo, features.grid)
    if shares.all():
        return replace(features, memory=inner)
    inside = torch.from_numpy(shares.ravel().copy())
    if not inside.any():  # a thin or small area: the patch that shows most of it
        most = torch.from_numpy(area.seen(view.region, photo, features.grid).ravel().copy())
        inside = most >= most.max()
    count = len(inside)
    tokens = features.patches if features.patches is not None else next(iter(features.taps.values()), None)
    if tokens is None:
        return replace(features, memory=inner)
    chosen = _most_ordinary(tokens[0, -count:], inside)
    index = torch.where(inside, torch.arange(count), torch.tensor(chosen)).to(tokens.device)

    def put_aside(values: Tensor) -> Tensor:
        """(B, T, D), or (B, 1 + T, D) with the class token first."""
        first = values.shape[1] - count
        return torch.cat([values[:, :first], values[:, first:][:, index]], dim=1)

    patches = None if features.patches is None else put_aside(features.patches)
    taps = {layer: put_aside(values) for layer, values in features.taps.items()}
    return replace(features, patches=patches, taps=taps, memory=inner)


def _most_ordinary(tokens: Tensor, inside: Tensor) -> int:
    """Number of the inside patch whose direction is nearest to the mean of all inside: (T, D), (T,) bool."""
    places = inside.nonzero()[:, 0].to(tokens.device)
    unit = F.normalize(tokens[places].float(), dim=-1)
    return int(places[(unit @ unit.mean(0)).argmax()])

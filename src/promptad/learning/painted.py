"""Good photos with damage painted in, for choosing settings of a product of which no defect is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.data.damage import MIN_SIDE, damaged
from promptad.data.damage_kinds import KINDS
from promptad.data.pixels import Mask, Rgb
from promptad.errors import PhotoError
from promptad.learning.auxiliary import view_mask
from promptad.learning.features import PhotoFeatures

COVERED = 0.25
"""Share of a patch's pixels from which on it counts as damaged."""


@dataclass(frozen=True)
class Painted:
    """One copy.

    Attributes:
        owner: index of the photo that it is a copy of. kind: of damage (`data.damage_kinds`).
        photo: (H, W, 3) uint8 RGB. mask: (H, W) bool, where it is damaged.
    """

    owner: int
    kind: str
    photo: Rgb
    mask: Mask


def painted_copies(photos: Sequence[Rgb], count: int) -> list[Painted]:
    """About `count` copies, as many of each photo and of each kind as can be; the same photos always give the same.

    A kind that cannot be seen on a photo is left out there. Foreign texture comes from the next photo.

    Raises:
        PhotoError: a photo is too small for damage that one could see.
    """
    kinds, share = list(KINDS), -(-count // len(photos))
    out: list[Painted] = []
    for owner, photo in enumerate(photos):
        donor = photos[(owner + 1) % len(photos)] if len(photos) > 1 else None
        for number in range(share):
            kind = kinds[(owner * share + number) % len(kinds)]
            try:
                copy, mask = damaged(photo, kind, seed=number, name=f"good photo {owner + 1}", donor=donor)
            except PhotoError:
                if min(photo.shape[:2]) < MIN_SIDE:
                    raise
                continue
            out.append(Painted(owner, kind, copy, mask))
    return out


def damaged_patches(mask: Mask, encoded: PhotoFeatures) -> list[Tensor]:
    """Of each view of an (H, W) photo, which of its patches are damaged, (T,) bool in the order of the tapped tokens."""
    out = []
    for view, features in zip(encoded.views, encoded.features, strict=True):
        seen = torch.from_numpy(np.ascontiguousarray(view_mask(mask, view))).float()
        out.append(F.adaptive_avg_pool2d(seen[None, None], features.tapped.grid).flatten() > COVERED)
    return out

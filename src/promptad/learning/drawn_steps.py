"""Steps of a training on few photos of two kinds: each photo comes once before any comes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Maps(Protocol):
    """Maps of one grid that are learned from: a tensor (N, D, h, w), or what is read when it is asked for."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: list[int], /) -> Tensor:
        """(n, D, h, w) the maps with these numbers."""


@dataclass(frozen=True)
class Drawn:
    """One step's photos: indices of good and anomalous ones, and the seed of whatever else is drawn in it."""

    normal: tuple[int, ...]
    anomalous: tuple[int, ...]
    seed: int


def drawn_steps(
    photos: tuple[int, int], shares: tuple[int, int], steps: int, generator: torch.Generator
) -> list[Drawn]:
    """The steps of an epoch; a few anomalies fill all their places.

    Args:
        photos: how many good and anomalous ones there are, each at least one. shares: how many of each a step has.
    """
    good, bad = (_endless(count, share * steps, generator) for count, share in zip(photos, shares, strict=True))
    seeds = torch.randint(2**62, (steps,), generator=generator).tolist()
    return [
        Drawn(
            tuple(good[step * shares[0] : (step + 1) * shares[0]]),
            tuple(bad[step * shares[1] : (step + 1) * shares[1]]),
            seeds[step],
        )
        for step in range(steps)
    ]


def _endless(members: int, count: int, generator: torch.Generator) -> list[int]:
    """`count` of the numbers 0 to members - 1, in shuffles of all of them one after another."""
    out: list[int] = []
    while len(out) < count:
        out += torch.randperm(members, generator=generator).tolist()
    return out[:count]

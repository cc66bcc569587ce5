"""Memory of the tapped patches of good photos, layer by layer: what is kept, how a patch is compared with it, what is saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.features import Features, pooled_rows
from promptad.scoring.memory import MemoryBank, MemoryPrecision, build_memory
from promptad.scoring.subspace import Subspace, fit_subspace

Comparison = Literal["nearest", "subspace"]
# Gives the saved tensor of a name, whose sides follow (None for any length), see `methods.state.saved_tensor`.
Take = Callable[..., Tensor]


@dataclass(frozen=True)
class MemorySettings:
    """What a memory keeps and how it compares.

    Attributes:
        layers: tapped layers (1-based), each with banks of its own; their distances are averaged.
        windows: sides (odd) of the windows of patches over which tokens are averaged before they are compared, each with a bank
            of its own; 1 compares patches as they are. The distances are averaged. map_windows: the same of maps alone; empty
            takes `windows`.
        comparison: "nearest" row (PromptAD, CVPR 2024, eq. 8), or what lies outside the rows' "subspace" (SubspaceAD).
        variance: share of the rows' variance that the subspace holds.
        turns: orientations of each good photo, itself among them. best_turns: of these the ones that are compared with, those
            nearest to the view on the mean of its patches; 0 takes all.
        budget: most rows of a bank; 0 keeps all.
        precision: of the rows that are kept.
    """

    layers: tuple[int, ...]
    windows: tuple[int, ...] = (1,)
    comparison: Comparison = "nearest"
    variance: float = 0.99
    turns: int = 1
    best_turns: int = 0
    budget: int = 0
    precision: MemoryPrecision = "fp16"
    map_windows: tuple[int, ...] = ()


class PatchMemory:
    """Banks of the tapped tokens of good photos, one for each layer and window."""

    def __init__(self, settings: MemorySettings) -> None:
        self.settings = settings
        self.banks: dict[tuple[int, int], MemoryBank] = {}
        windows = dict.fromkeys((*settings.windows, *settings.map_windows))
        self._keys = [(layer, window) for layer in settings.layers for window in windows]
        self._subspaces: dict[tuple[tuple[int, int], int | None], Subspace] = {}

    def build(self, photos: Sequence[Sequence[Features]]) -> None:
        """Fills the memory anew from good photos, given as the features of their views, turned copies in them.

        Raises:
            ConfigError: turned copies are asked for, and features are without them.
        """
        settings, self._subspaces = self.settings, {}
        photos = [[view.tapped for view in views] for views in photos]
        for layer, window in self._keys:
            rows, turns = zip(*(_photo_rows(views, layer, window, settings.turns) for views in photos), strict=True)
            given = turns if settings.turns > 1 else None
            bank = build_memory(rows, settings.precision, turns=given, budget=settings.budget)
            self.banks[layer, window] = bank

    def distance(self, features: Features, *, leave_out: int | None = None) -> Tensor:
        """(B, h * w) float32 in [0, 1], the mean over layers and `windows`, on the grid of the tower that is tapped
        (`Features.tapped`); `leave_out` as in `MemoryBank.distance`.

        Of the nearest row it is half the cosine distance, which is a quarter of the squared Euclidean one of unit vectors;
        of the subspace a quarter of the squared residual, so that both have one scale.
        """
        return self.distances(features, leave_out=leave_out)[0]

    def distances(self, features: Features, *, leave_out: int | None = None) -> tuple[Tensor, Tensor]:
        """:meth:`distance`, and the same over `map_windows`, which maps are made of."""
        settings, tapped = self.settings, features.tapped
        compared = {
            key: self._compared(key, pooled_rows(tapped.taps[key[0]], tapped.grid, key[1]), leave_out)
            for key in self._keys
        }
        whole = self._joined(compared, settings.windows)
        return whole, self._joined(compared, settings.map_windows) if settings.map_windows else whole

    def _compared(self, key: tuple[int, int], patches: Tensor, leave_out: int | None) -> Tensor:
        """(n, B, T): distances to the rows of each orientation that is chosen among, n = 1 where none is chosen."""
        settings = self.settings
        if settings.comparison == "subspace":
            return self._outside(key, patches, leave_out)[None]
        if settings.best_turns and settings.best_turns < settings.turns:
            return self.banks[key].turn_distances(patches, settings.turns, leave_out=leave_out)
        return self.banks[key].distance(patches, leave_out=leave_out)[None]

    def _joined(self, compared: dict[tuple[int, int], Tensor], windows: tuple[int, ...]) -> Tensor:
        """(B, T): the mean over layers and these windows; of several orientations to the rows of the few that fit a view best, the
        same ones in all banks."""
        by_turn = torch.stack([compared[layer, window] for layer in self.settings.layers for window in windows])
        if by_turn.shape[1] == 1:  # (banks, turns, B, T)
            return by_turn[:, 0].mean(0)
        kept = by_turn.mean(dim=(0, 3)).topk(self.settings.best_turns, dim=0, largest=False).indices
        index = kept[None, :, :, None].expand(len(by_turn), -1, -1, by_turn.shape[3])
        return by_turn.gather(1, index).amin(dim=1).mean(0)

    def _outside(self, key: tuple[int, int], patches: Tensor, leave_out: int | None) -> Tensor:
        rows = self.banks[key].without(leave_out)
        if not len(rows):
            return torch.ones(patches.shape[:-1], device=patches.device)
        if (key, leave_out) not in self._subspaces:  # fitted once, from rows as they are saved
            self._subspaces[key, leave_out] = fit_subspace(rows, self.settings.variance)
        residual = self._subspaces[key, leave_out].residual(F.normalize(patches.float(), dim=-1))
        return (residual / 4).clamp(max=1)

    def state(self) -> dict[str, Tensor]:
        """The rows of all banks, whose photo each is, and, where photos were turned, of which copy."""
        out: dict[str, Tensor] = {}
        for (layer, window), bank in self.banks.items():
            name = _name(layer, window)
            out[f"{name}.rows"], out[f"{name}.owners"] = bank.stored, bank.owners
            if bank.turns is not None:
                out[f"{name}.turns"] = bank.turns
        return out

    def load(self, take: Take, width: Callable[[int], int]) -> None:
        """Restores :meth:`state`. `take` gives its tensors, `width` the number of values of a layer's tokens."""
        self._subspaces = {}
        for layer, window in self._keys:
            name = _name(layer, window)
            rows = take(f"{name}.rows", None, width(layer))
            turns = take(f"{name}.turns", len(rows)) if self.settings.turns > 1 else None
            self.banks[layer, window] = MemoryBank(rows, take(f"{name}.owners", len(rows)), turns)


def _name(layer: int, window: int) -> str:
    return f"memory.{layer}" if window == 1 else f"memory.{layer}.window{window}"


def _photo_rows(views: Sequence[Features], layer: int, window: int, turns: int) -> tuple[Tensor, Tensor]:
    """(R, D) tokens of a photo's views and of their turned copies, and (R,) int64 which copy each came from, 0 for none."""
    rows, numbers = [], []
    for view in views:
        for number, copy in enumerate(view.orientations(turns)):
            rows.append(pooled_rows(copy.taps[layer], copy.grid, window).flatten(0, 1))
            numbers.append(torch.full((len(rows[-1]),), number, dtype=torch.int64))
    return torch.cat(rows), torch.cat(numbers)

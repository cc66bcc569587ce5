"""DevNet, DRA and the stand-in for MLEP as PromptAD zero-shot (WACV 2024) compares with them in its tables 1 to 3: one network,
trained once on good photos and 1 or 10 anomalies of one type of every *seen* class, and used on a class of which it saw nothing.

Heads, losses and steps are those of the heads for one product; what differs is where photos come from. Channels are scaled as
the good photos of the seen classes say, and whatever a score compares with is theirs too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from promptad.clip.features import Features
from promptad.data.records import Record
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.drawn_photos import drawn_photos
from promptad.learning.epochs import Checkpoint, Progress
from promptad.methods.baselines.open_set import OpenSetHeads, resized
from promptad.methods.catalogue import Needs
from promptad.methods.contract import Trained
from promptad.methods.untrained import Unfitted

NOBODY = -1
"""Owner of what was kept of training photos: no photo of the product is left out with it."""


class SeenMaps:
    """Maps of views of a training set, read when they are asked for.

    Args:
        rows: indices of `data.examples`. grid: (h, w) to which maps of other shapes are brought.
    """

    def __init__(self, method: OpenSetHeads, data: AuxiliarySet, rows: Sequence[int], grid: tuple[int, int]) -> None:
        self._method, self._data, self._rows, self._grid = method, data, rows, grid

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: list[int], /) -> Tensor:
        """(n, D, h, w) of these rows; one that comes several times is read once."""
        read = {row: self._read(row) for row in set(rows)}
        return torch.cat([read[row] for row in rows])

    def _read(self, row: int) -> Tensor:
        return resized(self._method.maps(seen_view(self._method, self._data, self._rows[row])), self._grid)


def seen_view(method: OpenSetHeads, data: AuxiliarySet, index: int) -> Features:
    """One view of a training set on the method's device."""
    return data.labelled(index).features.to(method.backbone.device)


class SeenClassHeads(Unfitted, OpenSetHeads, Trained):
    """Base of these methods: what a product's detector holds is what was trained."""

    needs: ClassVar[Needs] = "labels"

    def choose(self, records: Sequence[Record]) -> list[Record]:
        """Per class its good *train* photos, and anomalies of one anomaly type of its *test* split: the draw of PromptAD zero-shot.

        Raises:
            DataError: no good training photo or no anomaly at all.
        """
        config = self.config
        return drawn_photos(records, normals=config.normals, anomalies=config.anomalies, seed=config.seed)

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Trains the heads anew; gives the mean loss of every epoch.

        Raises:
            ConfigError: no data, or training diverged.
        """
        if data is None:
            raise ConfigError(f"{self.title} trains on labelled photos; give a data set")
        good, faulty = ([row for row, example in enumerate(data) if example.label == label] for label in (0, 1))
        grid = data.examples[good[0]].grid
        self.say_shapes([example.grid for example in data], grid)
        self.measure(seen_view(self, data, row) for row in good)
        normal, anomalous = (SeenMaps(self, data, rows, grid) for rows in (good, faulty))
        self.learn(normal, anomalous, [NOBODY] * len(good), checkpoint=checkpoint, progress=progress)
        return self.history

    def net(self) -> torch.nn.Module:
        """The trained heads. Raises ConfigError before anything was trained or loaded."""
        if self._net is None:
            raise ConfigError(
                f"{self.title} has no trained heads yet; train them with `promptad train {self.name}`, or load a file of "
                f"them ({argument('weights')})"
            )
        return self._net

    def learned(self) -> dict[str, Tensor]:
        """The heads, the channels' scales, and what scores need of the seen classes' photos.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        return super().state()

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`. Raises WeightsError when a tensor is missing or of another shape."""
        super().load_state(tensors)

    def state(self) -> dict[str, Tensor]:
        """:meth:`learned`: good photos of the product add nothing to it."""
        return self.learned()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        self.load_learned(state)

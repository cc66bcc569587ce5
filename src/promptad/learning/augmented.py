"""Class-aware copies of training photos (UniADet, arXiv 2601.05552): mosaics of one class, and enlarged cells of a photo.

A copy is a 2 x 2 or 3 x 3 mosaic at the size of one input, or one cell of such a grid brought to that size, each as likely as the
other. Unlike those of `learning.mosaic` the copies of an example are few and the same in every epoch and for every seed, so that
they are encoded once: an epoch only draws which of them takes the place of their example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from promptad.clip.features import Features
from promptad.clip.preprocess import View
from promptad.learning.auxiliary import AuxiliarySet, Batch, Grid, Labelled, grouped, joined, view_mask, whole_mask

GRIDS = (2, 3)
"""Cells along a side."""
Picture = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True)
class Copy:
    """A copy in the place of an example: the example's index, and which of its copies."""

    example: int
    number: int


Item = int | Copy
"""An example by its index, or a copy that stands in its place."""


class AugmentedSet:
    """A labelled set with masks in which, anew in every epoch, copies take the place of some examples.

    Args:
        data: the set. share: probability that a copy takes an example's place; 0 leaves the set as it is.
        copies: how many there are of every example; each is encoded when it is first needed, and then kept as photos are.
    """

    def __init__(self, data: AuxiliarySet, share: float, copies: int) -> None:
        self.data, self.share, self.copies = data, share, copies
        self._kept: dict[Copy, Labelled] = {}
        self._good: dict[str, list[int]] = {}
        self._all: dict[str, list[int]] = {}
        for index, record in enumerate(data.records):
            self._all.setdefault(record.class_name, []).append(index)
            if record.label == 0:
                self._good.setdefault(record.class_name, []).append(index)

    def shuffled(self, generator: torch.Generator, batch_size: int) -> list[list[Item]]:
        """All examples once, or a copy in their place, in random batches of one grid each."""
        order = torch.randperm(len(self.data), generator=generator).tolist()
        # Numbers for every example, whatever is replaced: a larger share leaves the copies of a smaller one where they are.
        replaced = (torch.rand(len(order), generator=generator) < self.share).tolist()
        which = torch.randint(max(1, self.copies), (len(order),), generator=generator).tolist()
        items = [Copy(i, n) if new else i for i, new, n in zip(order, replaced, which, strict=True)]
        return grouped(items, self._grid, batch_size)

    def _grid(self, item: Item) -> Grid:
        return self.data.examples[item if isinstance(item, int) else item.example].grid

    def batch(self, items: Sequence[Item]) -> Batch:
        """Examples and copies of one grid, on the backbone's device.

        Raises:
            PhotoError: a photo that was there before cannot be read any more.
        """
        rows = [self.data.labelled(item) if isinstance(item, int) else self._labelled(item) for item in items]
        return joined(rows, self.data.encoder.backbone.device)

    def _labelled(self, copy: Copy) -> Labelled:
        kept = self._kept.get(copy)
        if kept is not None:
            return Labelled(kept.features.each(torch.Tensor.float), kept.label, kept.mask, kept.class_name)
        pixels, mask = self.picture(copy)
        features = self.data.encoder.encode_pixels(pixels)
        name = self.data.records[self.data.examples[copy.example].photo].class_name
        made = Labelled(features, int(mask.any()), mask, name)
        small: Features | None = self.data.room_for(features)
        if small is not None:
            self._kept[copy] = Labelled(small, made.label, mask, name)
        return made

    def picture(self, copy: Copy) -> Picture:
        """The copy itself: (h, w, 3) uint8 RGB at input size and its mask (h, w), which says whether it is anomalous.

        A cell of an anomalous example is one that its mask reaches; a mosaic of a normal one is of good photos alone, of an
        anomalous one of all of its class. The example is in its own mosaics, in any of the cells.
        """
        generator = torch.Generator().manual_seed(1_000_003 * copy.number + copy.example)

        def draw(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        example = self.data.examples[copy.example]
        view, side = self._view(example.photo, example.view), GRIDS[draw(len(GRIDS))]
        if draw(2):
            cells, whole = [_cell(view, side, place) for place in range(side * side)], self._read(example.photo)
            damaged = [cell for cell in cells if view_mask(whole[1], cell).any()] if example.label else []
            chosen = damaged or cells
            return self._seen(whole, chosen[draw(len(chosen))])
        name = self.data.records[example.photo].class_name
        pool = (self._all if example.label else self._good).get(name, [example.photo])
        photos = [pool[draw(len(pool))] for _ in range(side * side)]
        photos[draw(len(photos))] = example.photo
        return self._mosaic(photos, example.view, view.size, side)

    def _mosaic(self, photos: Sequence[int], number: int, size: tuple[int, int], side: int) -> Picture:
        """Photos in a grid of `size`, row by row, each seen through its view of that number."""
        pixels, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, np.bool_)
        rows, columns = ([round(i * edge / side) for i in range(side + 1)] for edge in size)
        for place, photo in enumerate(photos):
            y, x = divmod(place, side)
            height, width = rows[y + 1] - rows[y], columns[x + 1] - columns[x]
            whole = self._view(photo, number).region
            inside = slice(rows[y], rows[y + 1]), slice(columns[x], columns[x + 1])
            small = View(whole, (height, width), (0, 0, height, width))
            pixels[inside], mask[inside] = self._seen(self._read(photo), small)
        return pixels, mask

    def _view(self, photo: int, number: int) -> View:
        views = self.data.encoder.preprocess.views(*self.data.sizes[photo])
        return views[number % len(views)]

    def _read(self, photo: int) -> Picture:
        record = self.data.records[photo]
        pixels = self.data.encoder.read(record.photo)
        return pixels, whole_mask(record, pixels.shape[:2])

    def _seen(self, picture: Picture, view: View) -> Picture:
        return self.data.encoder.preprocess.pixels(picture[0], view), view_mask(picture[1], view)


def _cell(view: View, side: int, place: int) -> View:
    """One cell, row by row, of a grid of `side` x `side` over what a view sees, at the size of the view."""
    left, top, right, bottom = view.region
    y, x = divmod(place, side)
    width, height = (right - left) / side, (bottom - top) / side
    box = (left + x * width, top + y * height, left + (x + 1) * width, top + (y + 1) * height)
    return View(box, view.size, (0, 0, *view.size))

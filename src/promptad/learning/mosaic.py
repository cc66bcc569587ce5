"""Mosaics of training photos, made anew in every epoch: four of one class, two by two, as APRIL-GAN (VAND 2023) trains on.

A method still sees features alone: the set reads the photos, puts them together with their masks, and encodes the mosaic. Which
photos meet is decided when an epoch is planned, by the random numbers of that epoch, so a training that was killed goes on to the
same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from promptad.clip.preprocess import View
from promptad.learning.auxiliary import AuxiliarySet, Batch, Grid, Labelled, grouped, joined, view_mask, whole_mask


@dataclass(frozen=True)
class Mosaic:
    """Four photos of one class in the place of an example.

    Attributes:
        photos: indices of the set's records: upper left, upper right, lower left, lower right. The first gives the size of all.
        view: which view of the first photo the mosaic is seen through, at half its scale.
    """

    photos: tuple[int, int, int, int]
    view: int


Item = int | Mosaic
"""An example by its index, or what stands in its place."""


class MosaicSet:
    """A labelled set with masks in which, anew in every epoch, mosaics of their own class take the place of some examples.

    Args:
        data: the set; its photos are read again for every mosaic, which is encoded and not kept.
        share: probability that a mosaic takes an example's place; 0 leaves the set as it is.
    """

    def __init__(self, data: AuxiliarySet, share: float) -> None:
        self.data, self.share = data, share
        # class -> its kinds of damage, good among them, each with its photos
        kinds: dict[str, dict[tuple[int | None, str], list[int]]] = {}
        for index, record in enumerate(data.records):
            own = kinds.setdefault(record.class_name, {})
            own.setdefault((record.label, record.defect_type), []).append(index)
        self._kinds = {name: [own[key] for key in sorted(own, key=str)] for name, own in kinds.items()}

    def shuffled(self, generator: torch.Generator, batch_size: int) -> list[list[Item]]:
        """All examples once, or mosaics in their place, in random batches of one grid each."""
        order = torch.randperm(len(self.data), generator=generator).tolist()
        # One number an example, whatever else is drawn: a larger share leaves the mosaics of a smaller one where they are.
        replaced = (torch.rand(len(order), generator=generator) < self.share).tolist()
        items = [self._drawn(index, generator) if new else index for index, new in zip(order, replaced, strict=True)]
        return grouped(items, self._grid, batch_size)

    def _drawn(self, index: int, generator: torch.Generator) -> Mosaic:
        """A mosaic of the class of an example: four times a kind of damage, each as likely as another, then a photo of it."""

        def draw(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        example = self.data.examples[index]
        kinds = self._kinds[self.data.records[example.photo].class_name]
        chosen = [kinds[draw(len(kinds))] for _ in range(4)]
        first, second, third, fourth = (photos[draw(len(photos))] for photos in chosen)
        views = self.data.encoder.preprocess.views(*self.data.sizes[first])
        return Mosaic((first, second, third, fourth), example.view % len(views))

    def _grid(self, item: Item) -> Grid:
        if isinstance(item, int):
            return self.data.examples[item].grid
        return self.data.encoder.backbone.vision.grid(*self._view(item).size)

    def _view(self, mosaic: Mosaic) -> View:
        """The part of the mosaic that takes the place of a view of its first photo: twice its sides, at the same input size."""
        view = self.data.encoder.preprocess.views(*self.data.sizes[mosaic.photos[0]])[mosaic.view]
        left, top, right, bottom = (2 * edge for edge in view.box)
        return replace(view, box=(left, top, right, bottom))

    def batch(self, items: Sequence[Item]) -> Batch:
        """Examples and mosaics of one grid, on the backbone's device.

        Raises:
            PhotoError: a photo that was there before cannot be read any more.
        """
        rows = [self.data.labelled(item) if isinstance(item, int) else self._labelled(item) for item in items]
        return joined(rows, self.data.encoder.backbone.device)

    def _labelled(self, mosaic: Mosaic) -> Labelled:
        encoder, view = self.data.encoder, self._view(mosaic)
        records = [self.data.records[index] for index in mosaic.photos]
        photos = [encoder.read(record.photo) for record in records]
        masks = [whole_mask(record, photo.shape[:2]) for record, photo in zip(records, photos, strict=True)]
        mask = view_mask(two_by_two(masks), view)
        features = encoder.encode_view(two_by_two(photos), view)
        return Labelled(features, int(mask.any()), mask, records[0].class_name)


def two_by_two(pictures: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Four photos (H, W, 3) uint8, or masks (H, W) bool, in one of twice the sides of the first: it upper left, then row by row.

    Others than the first are brought to its size where theirs differs: photos bicubic, masks by nearest neighbour. (The released
    code pastes them as they are, so that they overlap or leave black.)
    """
    height, width = pictures[0].shape[:2]
    same = [
        picture if picture.shape[:2] == (height, width) else _resized(picture, height, width) for picture in pictures
    ]
    return np.concatenate([np.concatenate(same[:2], axis=1), np.concatenate(same[2:], axis=1)])


def _resized(picture: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    how = Image.Resampling.NEAREST if picture.dtype == np.bool_ else Image.Resampling.BICUBIC
    image = Image.fromarray(picture.astype(np.uint8))
    return np.asarray(image.resize((width, height), how)).astype(picture.dtype)

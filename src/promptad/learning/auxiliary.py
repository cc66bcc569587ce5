"""A labelled set of photos that prompts are trained on once, away from the product: features, labels and masks.

AnomalyCLIP (ICLR 2024) and FAPrompt (ICCV 2025) train on the *test* split of another data set, with masks; PromptAD
zero-shot (WACV 2024) on good photos and a few labelled anomalies. A photo is read and encoded once; its features serve
every epoch. Pictures that are made of photos are added by
`learning.mosaic` (anew in every epoch) and `learning.augmented` (a few copies, encoded once).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from promptad.clip.features import Features, concatenate
from promptad.clip.preprocess import View
from promptad.data.files import sha256_file, sha256_files, shown
from promptad.data.photos import read_mask
from promptad.data.records import Record
from promptad.errors import DataError, PhotoError
from promptad.inputs import argument
from promptad.learning.features import GIB, Encoder, PhotoFeatures, narrowed
from promptad.notices import notice

KEEP_BYTES = 4 * GIB
"""Features of training photos that are kept in memory, unless more are asked for."""
T = TypeVar("T")
Grid = tuple[int, int]


@dataclass(frozen=True)
class Example:
    """One view of a labelled photo.

    Attributes:
        photo: index into the set's records. view: which of the photo's views.
        label: 0 normal, 1 anomalous; a tile of an anomalous photo that the mask shows free of defects is normal.
        mask: (H, W) bool at the view's input size, or None where the photo has none.
        grid: (h, w) patches of the view.
    """

    photo: int
    view: int
    label: int
    mask: NDArray[np.bool_] | None
    grid: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """B examples of one grid.

    Attributes:
        features: of the frozen tower, B rows. labels: (B,) int64, 0 or 1.
        masks: (B, H, W) float32 of 0 and 1 at input size, or None for a set without masks.
        class_names: the object category of each.
    """

    features: Features
    labels: Tensor
    masks: Tensor | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Labelled:
    """One view to train on: features of a batch of 1, label, mask (H, W) bool or None, and the object category."""

    features: Features
    label: int
    mask: NDArray[np.bool_] | None
    class_name: str


class AuxiliarySet:
    """Labelled photos, encoded once. Features are kept in memory up to `keep_bytes`, the rest is read from the
    encoder's cache (or encoded) again when it is needed.

    Args:
        records: photos with labels. encoder: for the method's request.
        masks: anomalous photos need a mask, and one without is left out; off ignores masks.
        described: all photos of the data sets, from which the types of damage are known; those of `records` by default.
        tick: called after every photo.

    Attributes:
        records: the photos that are used. sizes: their (H, W) in pixels. examples: their views.
        problems: one line for every photo left out.
        defect_types: class -> its types of damage, in a fixed order.
        fingerprint: SHA-256 over content, labels and order of everything used, and the types of damage. hashes: SHA-256 of every photo used.

    Raises:
        DataError: no usable photo, or only good or only anomalous ones.
    """

    def __init__(
        self,
        records: Sequence[Record],
        encoder: Encoder,
        *,
        masks: bool,
        described: Sequence[Record] | None = None,
        keep_bytes: int = KEEP_BYTES,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self.encoder, self.masks = encoder, masks
        self.records: list[Record] = []
        self.sizes: list[tuple[int, int]] = []
        self.examples: list[Example] = []
        self.problems: list[str] = []
        self.hashes: list[str] = []
        self._kept: dict[int, PhotoFeatures] = {}
        self._left = keep_bytes
        lines: list[str] = []
        for record in records:
            try:
                lines.append(self._add(record))
            except (PhotoError, DataError) as error:
                self.problems.append(str(error))
            if tick is not None:
                tick()
        self._check(records)
        self._say_limit(keep_bytes)
        types = {(r.class_name, r.defect_type) for r in (described or records) if r.label == 1}
        self.defect_types: dict[str, tuple[str, ...]] = {}
        for name, kind in sorted(types):
            self.defect_types[name] = (*self.defect_types.get(name, ()), kind)
        lines += [f"{name}: {', '.join(kinds)}" for name, kinds in self.defect_types.items()]
        self.fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _add(self, record: Record) -> str:
        name = shown(record.photo)
        if record.label is None:
            raise DataError(f"{name}: has no label; expected good or anomalous; left out")
        if self.masks and record.label == 1 and record.mask is None:
            raise DataError(f"{name}: anomalous, but has no mask; left out; add it to ground_truth")
        photo = self.encoder.encode_files([record.photo])[0]
        whole = None
        if self.masks:
            whole = whole_mask(record, photo.size)
            if record.label == 1 and not whole.any():
                raise DataError(
                    f"{shown(record.masks[0]) if record.masks else name}: an anomalous photo's mask is empty; left out"
                )
        index = len(self.records)
        for number, view in enumerate(photo.views):
            mask = None if whole is None else view_mask(whole, view)
            label = record.label
            if whole is not None and len(photo.views) > 1:
                label = int(_inside(whole, view).any())
            self.examples.append(Example(index, number, label, mask, photo.features[number].grid))
        digest = sha256_file(record.photo)
        self.records.append(record)
        self.sizes.append(photo.size)
        self.hashes.append(digest)
        small = photo.to("cpu").narrowed()
        if small.nbytes <= self._left:
            self._kept[index] = small
            self._left -= small.nbytes
        mask_digest = sha256_files(record.masks) if self.masks else ""
        return f"{digest} {record.label} {mask_digest} {record.class_name} {record.defect_type}"

    def _check(self, records: Sequence[Record]) -> None:
        first = f" (first: {self.problems[0]})" if self.problems else ""
        if not self.records:
            raise DataError(f"the training set: none of {len(records)} photos can be used{first}; give a labelled set")
        labels = {record.label for record in self.records}
        if len(labels) < 2:
            only = "good" if labels == {0} else "anomalous"
            raise DataError(
                f"the training set: all {len(self.records)} usable photos are {only}{first}; training needs both kinds"
            )

    def _say_limit(self, keep_bytes: int) -> None:
        over, cache = len(self.records) - len(self._kept), self.encoder.cache
        if over:
            where = f"read again from {cache.folder}" if cache is not None else "encoded again"
            notice(
                f"the features of {over} of {len(self.records)} training photos are more than the {keep_bytes / GIB:g} GiB "
                f"kept in memory and are {where} in every epoch; {argument('feature_memory')} keeps more"
            )

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The examples of one grid with these indices, on the backbone's device."""
        return joined([self.labelled(index) for index in indices], self.encoder.backbone.device)

    def labelled(self, index: int) -> Labelled:
        """One example with its features, wherever these lie."""
        example = self.examples[index]
        features = self._photo(example.photo).features[example.view]
        return Labelled(features, example.label, example.mask, self.records[example.photo].class_name)

    def room_for(self, features: Features) -> Features | None:
        """The features as they may be kept in memory beside those of the photos (:func:`narrowed`, on the CPU), or None where
        `keep_bytes` are used up."""
        small = narrowed(features.to("cpu"))
        if small.nbytes > self._left:
            return None
        self._left -= small.nbytes
        return small

    def _photo(self, index: int) -> PhotoFeatures:
        kept = self._kept.get(index)
        return kept.widened() if kept is not None else self.encoder.encode_files([self.records[index].photo])[0]

    def grouped(self, order: Sequence[int], batch_size: int) -> list[list[int]]:
        """Batches of at most `batch_size` indices of one grid each, in the order given; short ones come last."""
        return grouped(order, lambda index: self.examples[index].grid, batch_size)

    def shuffled(self, generator: torch.Generator, batch_size: int) -> list[list[int]]:
        """All examples once, in random batches."""
        return self.grouped(torch.randperm(len(self), generator=generator).tolist(), batch_size)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


def grouped(items: Sequence[T], grid: Callable[[T], Grid], batch_size: int) -> list[list[T]]:
    """Batches of at most `batch_size` items of one grid each, in the order given; short ones come last."""
    waiting: dict[Grid, list[T]] = {}
    full: list[list[T]] = []
    for item in items:
        group = waiting.setdefault(grid(item), [])
        group.append(item)
        if len(group) == batch_size:
            full.append(waiting.pop(grid(item)))
    return full + list(waiting.values())


def joined(rows: Sequence[Labelled], device: torch.device) -> Batch:
    """One batch of views of one grid, all with masks or all without."""
    # Kept features lie on the CPU, those that are read again on the device.
    features = concatenate([row.features.to(device) for row in rows])
    labels = torch.tensor([row.label for row in rows], device=device)
    drawn = [row.mask for row in rows if row.mask is not None]
    masks = torch.from_numpy(np.stack(drawn)).float().to(device) if drawn else None
    return Batch(features, labels, masks, tuple(row.class_name for row in rows))


def whole_mask(record: Record, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of a photo of that size; without a defect where the record has none.

    Raises:
        PhotoError: it cannot be read.
    """
    return read_mask(record.mask, size) if record.mask else np.zeros(size, np.bool_)


def view_mask(mask: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    """A photo's mask (H, W) as the view sees it, (h, w) at input size: bilinear, then half, as AnomalyCLIP does."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    height, width = view.resized
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=view.box))
    top, left, h, w = view.crop
    return scaled[top : top + h, left : left + w] > 127


def _inside(mask: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    left, top, right, bottom = (round(edge) for edge in view.region)
    return mask[top:bottom, left:right]

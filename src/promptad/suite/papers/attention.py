"""Attention of every block of the image tower on one photo (PromptAD, CVPR 2024, figures 11 and 12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptad.clip.attentions import attention_maps
from promptad.clip.backbone import Backbone
from promptad.clip.preprocess import Preprocess, normalise
from promptad.clip.vision import VisionTower
from promptad.data.datasets import open_dataset
from promptad.data.photos import read_photo
from promptad.errors import ConfigError, DataError
from promptad.report.thumbnails import thumbnail
from promptad.suite.page import Figure


def attention_figures(backbone: Backbone, places: Mapping[str, Path], kind: Literal["qk", "vv"]) -> Iterator[Figure]:
    """A picture a block, for the first good test photo of the first class.

    Raises:
        ConfigError: a tower without blocks of attention. DataError: no photo is there.
    """
    if not isinstance(backbone.vision, VisionTower):
        raise ConfigError("attention of blocks is that of a ViT; this image tower is a ResNet")
    if not places:
        raise DataError("no data set is there; name one")
    key, folder = next(iter(places.items()))
    data = open_dataset(folder, compare=False)
    record = next((r for r in data.records if r.split == "test" and r.label == 0), data.records[0])
    photo = read_photo(record.photo)
    preprocess = Preprocess(backbone.input_size, backbone.sizes.vision.patch_size, fit="squash")
    views = preprocess.views(*photo.shape[:2])
    array = normalise(preprocess.pixels(photo, views[0]), backbone.mean, backbone.std)
    images = torch.from_numpy(array[None]).to(backbone.device)
    pictures = [(f"block {n}", _picture(a[0])) for n, a in enumerate(attention_maps(backbone.vision, images, kind), 1)]
    words = {"qk": "QK", "vv": "V-V"}[kind]
    title = f"{words} attention, mean over heads, of {key}, {record.class_name}, {Path(str(record.photo)).name}"
    yield Figure(title, pictures=(("photo", thumbnail(photo).uri), *pictures))


def _picture(attention: Tensor) -> str:
    """White is the largest value of the block; the root lets small ones be seen."""
    values = (attention / attention.max()).sqrt().cpu().numpy()
    grey: NDArray[np.uint8] = np.rint(255 * values).astype(np.uint8)
    return thumbnail(np.repeat(grey[..., None], 3, axis=2)).uri

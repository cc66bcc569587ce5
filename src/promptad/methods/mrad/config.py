"""Settings and presets of MRAD (ICLR 2026), with every place where paper and released code differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from promptad.annotations import Above0, Positive, Range, Seed, Share, Weight
from promptad.errors import ConfigError
from promptad.methods.settings import ScoringConfig

Part = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class MRADConfig(ScoringConfig):
    """Everything that can be chosen, besides the settings of every method; defect words do not change its scores."""

    # "tf" retrieves from a memory of labelled features and trains nothing; "ft" learns linear maps of queries and keys too. The
    # variant with prompts ("CLIP") is not here.
    variant: Literal["tf", "ft"] = "tf"
    # Temperature of the softmax over all keys. The paper writes tau and no value, the released code divides by nothing (1); the
    # linear maps of "ft" change the lengths of features, and with them the temperature.
    temperature: Above0 = 0.07
    # First block of the V-V stream, whose last block gives the patches.
    local_start: Positive = 2
    # Sides in patches of the squares whose means are averaged into a patch; outside of the photo there is zero.
    neighbourhood: tuple[Positive, ...] = (1, 3, 5)
    # What of a photo's patches becomes its two keys, inside and outside of the defect: every patch by the share of it that the mask
    # covers, or ("centre") those alone whose middle pixels are all inside or all outside, as the released code, which leaves small
    # defects without a key.
    cells: Literal["area", "centre"] = "area"
    # Which keys a photo of the memory does not see when it is scored itself, in training and for `fusion`: those of its class, its own
    # alone, or those whose similarity lies above the quantile `excluded`. The released code takes quantiles that differ from test set
    # to test set; here one value is for all.
    exclude: Literal["class", "photo", "quantile"] = "class"
    # Of exclude "quantile", of the similarity before any linear map.
    excluded: Share = 0.9
    # How the map's top and the photo's own channel are joined: each in standard deviations of the memory's own photos, or as they are.
    fusion: Literal["standard", "plain"] = "standard"
    # Share of the photo's own channel; the released code has 0.7 and a help text with other values for other sets, the paper a sum.
    image_share: Part = 0.5
    # Share of the map's highest pixels whose mean stands for the map.
    top: Annotated[float, Range(0, 1, open_low=True)] = 0.01
    # Gaussian sigma on the map before that, in pixels of an input of 518.
    top_smoothing: Weight = 4.0
    # Passes over all photos, of "ft" alone.
    epochs: Positive = 1
    # Photos of a batch.
    batch_size: Positive = 8
    # Of Adam at the start; a half cosine, a step a batch, ends at `lr_end` of it.
    lr: Above0 = 4e-4
    # Share of `lr`; 1e-6 at the end.
    lr_end: Part = 0.0025
    # Of Adam.
    betas: tuple[Share, Share] = (0.5, 0.999)
    # Of the linear maps' first values and the order of photos; "tf" draws nothing.
    seed: Seed = 111

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.neighbourhood or any(side % 2 == 0 for side in self.neighbourhood):
            raise ConfigError(f"neighbourhood {list(self.neighbourhood)} must be odd sides, for example 1, 3, 5")


_PRINTED: dict[str, Any] = {"input_size": 518, "fit": "squash", "map_size": 518, "smoothing": 4.0, "cells": "centre"}
_PRINTED |= {"fusion": "plain"}
_RELEASED: dict[str, Any] = {**_PRINTED, "temperature": 1.0, "image_share": 0.7, "exclude": "quantile"}
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "ft": {"variant": "ft", "temperature": 1.0},
    "paper": _PRINTED,
    "paper-ft": {**_PRINTED, "variant": "ft", "temperature": 1.0},
    "release": _RELEASED,
    "release-ft": {**_RELEASED, "variant": "ft"},
}

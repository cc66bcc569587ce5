"""Settings and presets of UniADet (arXiv 2601.05552). There is no official code: U1 and U2 are two unofficial readings of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from promptad.annotations import Above0, Count, Positive, Range, Seed, Share, Weight
from promptad.clip.features import TapSpace, TapStream
from promptad.methods.settings import FREE_SETTINGS, ScoringConfig, check_rising
from promptad.scoring.memory import MemoryPrecision

FREE = (*FREE_SETTINGS, "map_in_image", "memory_in_map", "memory_in_image", "peak", "memory_precision")
"""Settings that may differ from those of training."""
Part = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class UniADetConfig(ScoringConfig):
    """Everything that can be chosen, besides the settings of every method; defect words do not change its scores."""

    # Tapped blocks with weights of their own, shallow to deep; empty takes those at the depths of the paper's: 12, 15, 18, 21, 24
    # of 24 blocks, 6, 8, 9, 11, 12 of 12.
    layers: tuple[Count, ...] = ()
    # Where the tokens of taps are compared: in the joint space (LN_post and projection, which alone gives the paper's number of
    # parameters), after LN_post, or as the block gives them. U1 takes "normed", U2 "block".
    space: TapSpace = "joint"
    # Whose patch tokens: the ordinary ones, or those of the V-V stream from block 1 on.
    stream: TapStream = "original"
    # Inverse temperature of losses and scores, which the paper does not print; 0 takes the root of a token's width, as U2.
    scale: Weight = 1 / 0.07
    # First values: normal with a deviation of `init_std`, or Xavier's uniform ones, as U2.
    init: Literal["normal", "xavier"] = "normal"
    # Of normal first values.
    init_std: Above0 = 0.02
    # What a loss is taken of: every block's logits, averaged over the blocks, or the mean of all blocks' logits, as U2.
    blocks: Literal["each", "mean"] = "each"
    # Weight of the maps' losses beside the photo's: 1, or 0.5 as U1. Both have weights of their own to move, and Adam's steps do not
    # depend on the size of a loss, so it counts beside `weight_decay` alone.
    map_weight: Weight = 1.0
    # Values along the side of a patch at which losses compare map and mask, whose share of each value is then what counts; 0 takes the
    # pixels of the input, as printed, at many times the cost.
    loss_detail: Count = 4
    # Probability that a copy (mosaic or enlarged cell of its class) takes a training photo's place: 0.5 in the paper. Copies take as
    # long to encode as the photos themselves, and what they bring was not measured here, so `clean` makes none.
    augment: Part = 0.0
    # Copies of every training photo, each encoded once; the paper draws them anew in every epoch, which costs a tower each time.
    copies: Positive = 1
    # Passes over all photos.
    epochs: Positive = 15
    # Photos of a batch.
    batch_size: Positive = 8
    # "adam", or "adamw" as U1 and U2.
    optimiser: Literal["adam", "adamw"] = "adam"
    # Learning rate at the start.
    lr: Above0 = 1e-3
    # Share of `lr` at which a half cosine over the epochs ends; 1 keeps it constant.
    lr_end: Part = 1.0
    # First and second beta.
    betas: tuple[Share, Share] = (0.5, 0.999)
    # Of "adamw", and of "adam" where it is not 0.
    weight_decay: Weight = 0.0
    # Of the first values, the order of photos and which copies take part.
    seed: Seed = 111
    # Share of the map's maximum in the photo's score without good photos: none in the paper, a half in U1.
    map_in_image: Part = 0.0
    # Share of the distance to good photos in the map (lambda_f).
    memory_in_map: Part = 0.5
    # Share of a maximum in the photo's score with good photos (lambda_p).
    memory_in_image: Part = 0.5
    # Whose maximum that is: of the fused map, as U2, or of the distances alone; the printed symbol may mean either.
    peak: Literal["fused", "distance"] = "fused"
    # How exactly tokens of good photos are kept; float16 moves distances by about 1e-4.
    memory_precision: MemoryPrecision = "fp16"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising(self.layers)


# 518 pixels belong to towers with patches of 14; the paper takes 512 for patches of 16.
_PRINTED: dict[str, Any] = {
    "input_size": 518,
    "fit": "squash",
    "map_size": 518,
    "smoothing": 0.0,
    "loss_detail": 0,
    "augment": 0.5,
    "memory_precision": "fp32",
}
_U1: dict[str, Any] = {"space": "normed", "map_weight": 0.5, "map_in_image": 0.5, "lr_end": 0.1}
_U2: dict[str, Any] = {"space": "block", "scale": 0.0, "init": "xavier", "blocks": "mean", "lr_end": 0.001}
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": _PRINTED,
    # No code of the authors is released, so there is nothing else to follow.
    "release": _PRINTED,
    # Two readings by others (CreatedTRYNA/UniADet_unofficial; pfyangcrc/UniADet), neither with numbers.
    "u1": {**_PRINTED, **_U1, "optimiser": "adamw", "betas": (0.9, 0.999), "weight_decay": 0.01},
    "u2": {**_PRINTED, **_U2, "optimiser": "adamw", "betas": (0.9, 0.999), "weight_decay": 5e-5},
}

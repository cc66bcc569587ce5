"""Settings of DevNet, DRA and the stand-in for MLEP: of heads for one product, and of those that are trained once on other classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from promptad.annotations import Above0, Count, Positive, Range, Seed, Weight
from promptad.methods.settings import ScoringConfig


@dataclass(frozen=True)
class OpenSetConfig(ScoringConfig):
    """Settings of these heads besides those of every method; defect words do not change their scores."""

    # What is read: outputs of one block of the image tower, or its last tokens in the joint space.
    tokens: Literal["block", "projected"] = "block"
    # That block; 0 takes the one at two thirds of the tower.
    layer: Count = 0
    # Whether channels are brought to mean 0 and deviation 1 over the good photos first.
    standardise: bool = True
    # Whether a photo is looked at in half size too, its map averaged over 2 x 2 tokens; scores are then means of both.
    half_size: bool = True
    # Share of the places with the highest scores whose mean is a map's score, rounded down, at least one.
    top_fraction: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    # Standard deviations by which anomalous scores are to exceed those of normal photos.
    margin: Above0 = 5.0
    # Photos of a step.
    batch_size: Annotated[int, Range(3, 10**4)] = 48
    # Epochs of training.
    epochs: Positive = 30
    # Steps of an epoch, whatever the number of photos.
    iterations: Positive = 20
    # Of Adam.
    lr: Above0 = 2e-4
    # Of Adam.
    weight_decay: Weight = 1e-5
    # Epochs after which lr falls to a tenth, again and again; 0 keeps it.
    decay_every: Count = 10
    # Largest norm of the gradient; 0 leaves it as it is.
    clip: Weight = 1.0
    # Seed of the first values and of all draws.
    seed: Seed = 111

    @property
    def fit_epochs(self) -> int:
        """Epochs of training on the product's photos."""
        return self.epochs


@dataclass(frozen=True)
class SeenClassesConfig(OpenSetConfig):
    """Settings of heads that are trained once, on classes that are seen: PromptAD zero-shot's photos of them."""

    # Good training photos per class at most, drawn by the seed; 0 takes all.
    normals: Count = 0
    # Labelled anomalies per class, all of one anomaly type; the paper has 1 and 10.
    anomalies: Positive = 10

    @property
    def fit_epochs(self) -> int:
        """None: they were trained away from the product."""
        return 0

"""MuSc (Li et al., "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual Scoring of the Unlabeled
Images", ICLR 2024): a folder of photos of one product, good and defective in one, without labels, words or training.

A patch of a good part has a counterpart on nearly every other photo, a defect on few. So a patch's score is the mean of the
smallest distances to the other photos (section 3.2). The paper compares each photo with all others; here it is compared with
a bounded number of them, the references, so that time and memory do not grow with the square of the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.annotations import Count, Positive, Range, Seed
from promptad.clip.architecture import ResNetSizes
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.errors import ConfigError
from promptad.methods.contract import EpochHook, Method, Scores, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import ScoringConfig, check_rising, quarter_layers
from promptad.methods.state import require_learned, saved_tensor
from promptad.scoring.maps import top_mean
from promptad.scoring.mutual import SAME, class_smoothed, mutual_scores, reference_distances
from promptad.scoring.retrieval import neighbourhood_mean

_TITLE = "MuSc"
MAP_RANGE = (0.1, 0.3)
"""Colours of heat maps of cosine distances: patches of good bottles, cookies and textiles lie around 0.03 to 0.17 (starter weights), broken
bottles reach 0.28."""


@dataclass(frozen=True)
class MuScConfig(ScoringConfig):
    """Settings of mutual scoring besides those of every method; defect words do not change its scores."""

    # Tapped layers that score apart, their mean counts; empty takes 5, 7 and 9 of 12 blocks and the same shares of other depths, or
    # with `joint_norm` four that are evenly spread over the tower, as the paper's 6, 12, 18 and 24 of 24.
    layers: tuple[Count, ...] = ()
    # Photos that every photo is compared with, drawn from those given.
    references: Annotated[int, Range(2, 10_000)] = 32
    # Share of the references, the nearest ones to a patch, whose distances are averaged.
    share: Annotated[float, Range(0, 1, open_low=True)] = 0.3
    # Sides of the windows of patches over which tokens are averaged first; each scores apart, their mean counts.
    degrees: tuple[Positive, ...] = (1,)
    # Whether a photo's tokens are brought to mean 0 and variance 1 together first.
    joint_norm: bool = False
    # Half the cosine distance, as of PromptAD's memory, or the Euclidean distance of unit vectors.
    distance: Literal["cosine", "euclidean"] = "cosine"
    # Share of the largest patch scores whose mean is the photo's; 0 takes the largest.
    top: Annotated[float, Range(0, 1)] = 0.01
    # For each of these k, a photo's score becomes a mean over itself and its k - 1 nearest references, weighted by the cosines of
    # their class features (RsCIN, section 3.3); empty leaves that out.
    windows: tuple[Positive, ...] = ()
    # Seed of the choice of references.
    seed: Seed = 0

    @property
    def own_map_range(self) -> tuple[float, float] | None:
        """The same ends as Euclidean distances."""
        return None if self.distance == "cosine" else (2 * MAP_RANGE[0] ** 0.5, 2 * MAP_RANGE[1] ** 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising(self.layers)
        if not self.degrees or any(degree % 2 == 0 for degree in self.degrees):
            raise ConfigError(f"degrees {list(self.degrees)} must be odd numbers, for example 1, 3, 5")


_PAPER: dict[str, Any] = {
    "fit": "squash",
    "smoothing": 0.0,
    "degrees": (1, 3, 5),
    "joint_norm": True,
    "distance": "euclidean",
    "top": 0.0,
    "windows": (1, 2, 3),
    "references": 10_000,
}
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": _PAPER,
    "release": {**_PAPER, "map_size": 518},  # the released code's maps
}


class MuSc(Method):
    """Mutual scoring of one product's photos; see the module's docstring.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    name = "musc"

    def __init__(self, backbone: Backbone, config: MuScConfig, object_name: str = "object") -> None:
        self.backbone, self.config = backbone, config
        self.layers = config.layers or _usual_layers(backbone, spread=config.joint_norm)
        self.request = FeatureRequest(taps=self.layers)
        self._ranked = RankedWords(backbone, config, object_name)
        # Of every reference: which photo it was of those given, its class feature and score; of every row of the banks, its
        # reference.
        self._photos = self._classes = self._scores = self._owners = torch.empty(0)
        self._banks: dict[tuple[int, int], Tensor] = {}

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps the references among photos that may be good or defective."""
        chosen = drawn_references(len(photos), self.config.references, self.config.seed)
        views = [(number, view) for number, photo in enumerate(chosen) for view in photos[photo]]
        self._owners = torch.cat([torch.full((view.grid[0] * view.grid[1],), number) for number, view in views]).to(
            self.backbone.device
        )
        self._banks = {
            (layer, degree): torch.cat([self._tokens(view, layer, degree).flatten(0, 1) for _, view in views]).half()
            for layer in self.layers
            for degree in self.config.degrees
        }
        self._photos = torch.tensor(chosen, device=self.backbone.device)
        means = [torch.cat([view.image for view in photos[photo]]).mean(dim=0) for photo in chosen]
        self._classes = F.normalize(torch.stack(means), dim=-1)
        self._scores = torch.zeros(len(chosen), device=self.backbone.device)
        if self.config.windows:
            own = [
                torch.stack([self.score(view, leave_out=photo).parts["plain"].max() for view in photos[photo]]).max()
                for photo in chosen
            ]
            self._scores = torch.stack(own)

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w) of distances, not negative. A reference that is the photo itself is not looked at.

        `parts` are the scores that two halves of the references give, those of each layer, and "plain": the score before
        the class features smooth it.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(bool(len(self._owners)))
        rows = [self._score_one(features[number : number + 1], leave_out) for number in range(len(features))]
        image = torch.stack([row.image[0] for row in rows])
        maps = torch.cat([row.map for row in rows if row.map is not None])
        return Scores(image, maps, {name: torch.cat([row.parts[name] for row in rows]) for name in rows[0].parts})

    def _score_one(self, view: Features, leave_out: int | None) -> Scores:
        config, grid = self.config, view.grid
        distances = torch.stack(
            [torch.stack([self._distances(view, layer, degree) for degree in config.degrees]) for layer in self.layers]
        )
        others = distances.amax(dim=(0, 1, 3)) > SAME
        if leave_out is not None:
            others &= self._photos != leave_out
        if not others.any():  # a single photo, or copies of it alone
            others = torch.ones_like(others)
        chosen = others.nonzero()[:, 0]

        def patches(layers: slice, references: Tensor) -> Tensor:
            parts = distances[layers].flatten(0, 1)[:, references]
            return torch.stack([mutual_scores(part, config.share) for part in parts]).mean(dim=0).view(1, *grid)

        every = slice(None)
        values = patches(every, chosen)
        plain = top_mean(values, config.top)
        # The same halves for every photo, but for the photo itself: halves that move would differ by what moved.
        halves = [half if len(half := chosen[chosen % 2 == odd]) else chosen for odd in (0, 1)]
        parts = {f"half {number}": top_mean(patches(every, half), config.top) for number, half in enumerate(halves, 1)}
        for number, layer in enumerate(self.layers):
            parts[f"layer {layer}"] = top_mean(patches(slice(number, number + 1), chosen), config.top)
        image = plain
        if config.windows:
            image = class_smoothed(plain, view.image, self._classes[chosen], self._scores[chosen], config.windows)
        return Scores(image, values, {"plain": plain, **parts})

    def _distances(self, view: Features, layer: int, degree: int) -> Tensor:
        """(C, T) distances of the view's patches to each reference."""
        bank, owners = self._banks[layer, degree], self._owners
        half = reference_distances(self._tokens(view, layer, degree)[0], bank, owners, len(self._classes))
        # Unit vectors: |a - b|^2 = 2 - 2 cos.
        return half if self.config.distance == "cosine" else 2 * half.sqrt()

    def _tokens(self, view: Features, layer: int, degree: int) -> Tensor:
        """(B, T, D) unit tokens of a layer, averaged over windows of patches."""
        tokens = view.taps[layer].float()
        if self.config.joint_norm:
            tokens = F.layer_norm(tokens, tokens.shape[1:])
        return F.normalize(neighbourhood_mean(tokens, view.grid, (degree,)), dim=-1)

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views."""
        return self._ranked(features)

    def state(self) -> dict[str, Tensor]:
        """The references."""
        banks = {f"bank.{layer}.{degree}": rows for (layer, degree), rows in self._banks.items()}
        return {
            "photos": self._photos,
            "classes": self._classes,
            "scores": self._scores,
            "owners": self._owners,
            **banks,
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        sizes, device = self.backbone.sizes, self.backbone.device
        self._classes = saved_tensor(state, "classes", (None, sizes.embed_dim), _TITLE).to(device)
        self._photos = saved_tensor(state, "photos", (len(self._classes),), _TITLE).to(device)
        self._scores = saved_tensor(state, "scores", (len(self._classes),), _TITLE).to(device)
        self._owners = saved_tensor(state, "owners", (None,), _TITLE).to(device)
        self._banks = {
            (layer, degree): saved_tensor(
                state, f"bank.{layer}.{degree}", (len(self._owners), sizes.vision.tap_width(layer)), _TITLE
            ).to(device)
            for layer in self.layers
            for degree in self.config.degrees
        }


def drawn_references(photos: int, most: int, seed: int) -> list[int]:
    """Which of so many photos are references: at most `most`, drawn with a seed, in a random order, so that every other one of them
    is a random half."""
    order = torch.randperm(photos, generator=torch.Generator().manual_seed(seed)).tolist()
    return order[:most]


def _usual_layers(backbone: Backbone, *, spread: bool) -> tuple[int, ...]:
    """Layers where none are named: from two fifths to three quarters of the depth (5, 7 and 9 of 12), or evenly spread over all of it
    as in the paper (6, 12, 18, 24 of 24); stages 2 and 3 of a ResNet."""
    vision = backbone.sizes.vision
    if isinstance(vision, ResNetSizes):
        return 2, 3
    if spread:
        return quarter_layers(vision.layers, 4)
    return tuple(sorted({max(1, round(vision.layers * part / 12)) for part in (5, 7, 9)}))

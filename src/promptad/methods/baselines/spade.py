"""SPADE (Cohen and Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", arXiv 2005.02357, 2020) on the image tower.

The photo's score is its mean Euclidean distance to the K nearest good photos; a patch's is its distance to the nearest patch of
those photos, whatever its place, averaged over layers: as an unofficial code has it. The paper's backbone is WideResNet-50-2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.annotations import Positive
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.methods.baselines.tapped import TappedConfig, TappedMemory
from promptad.methods.contract import EpochHook, Scores
from promptad.methods.state import require_learned, saved_tensor
from promptad.scoring.tokens import nearest_rows


@dataclass(frozen=True)
class SPADEConfig(TappedConfig):
    """Settings of SPADE besides those of every method; defect words do not change its scores."""

    # Good photos that a photo is compared with: the nearest, at most all there are.
    neighbours: Positive = 50


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "crop", "map_size": 224},
    "release": {"fit": "crop", "map_size": 224, "neighbours": 5, "normalise": False},
}


class SPADE(TappedMemory):
    """SPADE for one object; see the module's docstring.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    name = "spade"

    def __init__(self, backbone: Backbone, config: SPADEConfig, object_name: str = "object") -> None:
        # A second tower has no feature of the whole photo but its class tokens.
        also = FeatureRequest(tap_class=backbone.memory is not None)
        super().__init__(backbone, config, object_name, also=also)
        # Of every view of a good photo: its vector, its photo, and its patches in the banks of the layers.
        self._images = self._owners = self._sizes = torch.empty(0)
        self._patches: dict[int, Tensor] = {}

    def _unit(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1) if self.config.normalise else rows

    def _seen(self, features: Features) -> Features:
        """Vectors (B, E) of views as `image`, and their patches: CLIP's, or the deepest class token of a second tower."""
        own = features.memory
        if own is None:
            return features
        patches = {layer: tokens[:, 1:] for layer, tokens in own.taps.items()}
        return replace(own, image=own.taps[max(self.layers)][:, 0], taps=patches)

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps the vectors and patches of good photos."""
        views = [(number, self._seen(view)) for number, own in enumerate(photos) for view in own]
        device = self.backbone.device
        self._images = torch.cat([self._unit(view.image) for _, view in views])
        self._owners = torch.tensor([number for number, _ in views], device=device)
        self._sizes = torch.tensor([view.grid[0] * view.grid[1] for _, view in views], device=device)
        self._patches = {
            layer: torch.cat([self._unit(view.taps[layer]).flatten(0, 1) for _, view in views]) for layer in self.layers
        }

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w) of distances, not negative.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(bool(len(self._images)))
        features = self._seen(features)
        others = torch.arange(len(self._images), device=self._images.device)
        if leave_out is not None and bool((self._owners != leave_out).any()):
            others = others[self._owners != leave_out]
        distances, nearest = nearest_rows(self._unit(features.image), self._images[others], self.config.neighbours)
        maps = [self._map(features, row, others[nearest[row]]) for row in range(len(features))]
        image = distances.mean(dim=1)
        return Scores(image, torch.stack(maps).view(len(features), *features.grid), {"photo": image})

    def _map(self, features: Features, row: int, views: Tensor) -> Tensor:
        """(T,) distances of a photo's patches to the nearest patch of those views, mean over layers."""
        among = torch.isin(torch.repeat_interleave(self._sizes), views)
        return torch.stack(
            [
                nearest_rows(self._unit(features.taps[layer][row]), self._patches[layer][among], 1)[0][:, 0]
                for layer in self.layers
            ]
        ).mean(dim=0)

    def state(self) -> dict[str, Tensor]:
        """Vectors and patches of the good photos."""
        banks = {f"patches.{layer}": rows for layer, rows in self._patches.items()}
        return {"images": self._images, "owners": self._owners, "sizes": self._sizes, **banks}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        backbone, device = self.backbone, self.backbone.device
        width = backbone.sizes.embed_dim if backbone.memory is None else backbone.memory.sizes.width
        images = saved_tensor(state, "images", (None, width), "SPADE")
        self._images = images.to(device)
        self._owners = saved_tensor(state, "owners", (len(images),), "SPADE").to(device)
        self._sizes = saved_tensor(state, "sizes", (len(images),), "SPADE").to(device)
        count = int(self._sizes.sum())
        self._patches = {
            layer: saved_tensor(state, f"patches.{layer}", (count, backbone.tapped.tap_width(layer)), "SPADE").to(
                device
            )
            for layer in self.layers
        }

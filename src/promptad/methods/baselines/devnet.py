"""DevNet (Pang et al., "Deep Anomaly Detection with Deviation Networks", KDD 2019; on images "Explainable Deep Few-shot Anomaly
Detection with Deviation Networks", 2021) on frozen tokens of CLIP's image tower.

One 1 x 1 convolution scores every place; the mean of the highest tenth of the absolute scores is a photo's score, which is to
lie at a prior's mean for good photos and far above it for anomalies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from promptad.clip.features import Features
from promptad.learning.drawn_steps import Drawn, Maps
from promptad.methods.baselines.open_set import OpenSetHeads, resized
from promptad.methods.baselines.open_set_config import OpenSetConfig
from promptad.methods.contract import Scores


@dataclass(frozen=True)
class DevNetConfig(OpenSetConfig):
    """Settings of DevNet besides those of every open-set head."""


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "squash", "epochs": 50},
    "release": {"fit": "squash", "epochs": 50},
}


class DevNet(OpenSetHeads):
    """DevNet for one object; see the module's docstring."""

    name, title = "devnet", "DevNet"

    def build(self, width: int) -> nn.Module:
        """The convolution: D + 1 values."""
        return nn.Conv2d(width, 1, 1)

    def loss(self, net: nn.Module, normal: Maps, anomalous: Maps, drawn: Drawn) -> Tensor:
        """The deviation loss of as many good as anomalous photos."""
        maps = torch.cat([normal[list(drawn.normal)], anomalous[list(drawn.anomalous)]])
        labels = torch.zeros(len(maps), device=maps.device)
        labels[len(drawn.normal) :] = 1
        scores = torch.stack([self.top(net(scale).abs()) for scale in self.scales(maps)]).mean(dim=0)
        return self.deviation(scores, labels, torch.Generator().manual_seed(drawn.seed))

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w), not negative. No photo is kept, so none can be left out.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        net = self.net()
        places = [net(scale).abs() for scale in self.scales(self.maps(features))]
        image = torch.stack([self.top(values) for values in places]).mean(dim=0)
        whole = torch.stack([resized(values, features.grid) for values in places]).mean(dim=0)
        return Scores(image, whole[:, 0], {"deviation": image})

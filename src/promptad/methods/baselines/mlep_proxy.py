"""A stand-in for MLEP (Liu et al., "Margin Learning Embedded Prediction for Video Anomaly Detection with A Few Anomalies", IJCAI
2019) on frozen features. It is NOT that method.

MLEP predicts frames of videos; how DRA's authors brought it to photos is not told and no code was found. Kept is its idea: a
model of good photos that reconstructs them, whose hidden code keeps anomalies a margin away. A photo's pooled map goes through
a small autoencoder; the score adds reconstruction error and distance to the mean code of good photos, each in standard
deviations over the good photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.annotations import Above0, Positive
from promptad.clip.features import Features
from promptad.learning.drawn_steps import Drawn, Maps
from promptad.methods.baselines.open_set import OpenSetHeads
from promptad.methods.baselines.open_set_config import OpenSetConfig
from promptad.methods.contract import Scores
from promptad.methods.state import saved_tensor

_NO_MAPS = "the stand-in for MLEP gives no anomaly maps"


@dataclass(frozen=True)
class MLEPProxyConfig(OpenSetConfig):
    """Settings of the stand-in besides those of every open-set head."""

    idle: ClassVar[Mapping[str, str]] = {
        "map_size": _NO_MAPS,
        "smoothing": _NO_MAPS,
        "half_size": "a photo's mean over places is the same in half size",
        "top_fraction": _NO_MAPS,
    }

    # Distance in codes by which anomalies are to be farther from good photos than these from each other.
    margin: Above0 = 1.0
    # Values of a code.
    code: Positive = 128


PRESETS: dict[str, dict[str, Any]] = {"clean": {}, "paper": {"fit": "squash"}, "release": {"fit": "squash"}}


class Autoencoder(nn.Module):
    """D -> code -> D."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.Sequential(nn.Linear(width, code), nn.ReLU()), nn.Linear(code, width)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> codes (B, c) and mean squared errors (B,) of what they give back."""
        code = self.encode(pooled)
        return code, (self.decode(code) - pooled).square().mean(dim=1)


class MLEPProxy(OpenSetHeads):
    """The stand-in for one object; see the module's docstring."""

    name, title = "mlep-proxy", "MLEP proxy"

    def build(self, width: int) -> nn.Module:
        """The autoencoder."""
        return Autoencoder(width, self.config.code)

    def loss(self, net: nn.Module, normal: Maps, anomalous: Maps, drawn: Drawn) -> Tensor:
        """Reconstruction of good photos, and a triplet margin: good, another good one, anomaly."""
        codes, errors = net(normal[list(drawn.normal)].mean(dim=(2, 3)))
        away, _ = net(anomalous[list(drawn.anomalous)].mean(dim=(2, 3)))
        count = min(len(codes), len(away))
        triplet = F.triplet_margin_loss(
            codes[:count], codes.roll(1, dims=0)[:count], away[:count], margin=self.config.margin
        )
        return errors.mean() + triplet

    def learned_from(self, net: nn.Module, normal: Maps, owners: Sequence[int]) -> None:
        """Keeps codes and errors of the good views."""
        rows, size = list(range(len(normal))), self.config.batch_size
        parts = [net(normal[rows[at : at + size]].mean(dim=(2, 3))) for at in range(0, len(rows), size)]
        self._codes, self._errors = (torch.cat(values) for values in zip(*parts, strict=True))
        self._owners = torch.tensor(owners, device=self._codes.device)

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,), of any sign, without maps. A photo that is left out has no part in means and deviations.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        codes, errors = self.net()(self.maps(features).mean(dim=(2, 3)))
        kept = torch.ones_like(self._owners, dtype=torch.bool) if leave_out is None else self._owners != leave_out
        if not bool(kept.any()):
            kept = ~kept
        good, centre = self._errors[kept], self._codes[kept].mean(dim=0)
        near = (self._codes[kept] - centre).norm(dim=1)
        parts = {
            "reconstruction": _deviations(errors, good),
            "distance": _deviations((codes - centre).norm(dim=1), near),
        }
        return Scores(parts["reconstruction"] + parts["distance"], None, parts)

    def kept(self) -> dict[str, Tensor]:
        """Codes and errors of the good photos, and their numbers."""
        return {"codes": self._codes, "errors": self._errors, "owners": self._owners}

    def load_kept(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`kept`."""
        codes = saved_tensor(tensors, "codes", (None, self.config.code), self.title)
        rest = [saved_tensor(tensors, name, (len(codes),), self.title) for name in ("errors", "owners")]
        self._codes, self._errors, self._owners = (values.to(self.backbone.device) for values in (codes, *rest))


def _deviations(values: Tensor, good: Tensor) -> Tensor:
    """Standard deviations of good photos' values above their mean; of their mean where they do not spread."""
    spread = good.std(correction=0)
    return (values - good.mean()) / (spread if float(spread) > 1e-6 else good.mean().clamp(min=1e-6))

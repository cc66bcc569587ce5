"""DRA (Ding, Pang and Shen, "Catching Both Gray and Black Swans: Open-set Supervised Anomaly Detection", CVPR 2022) on frozen
tokens of CLIP's image tower.

Four heads, each under DevNet's deviation loss: anomalies like the labelled ones ("seen"), pseudo anomalies, what differs from a
few good photos ("residual"), and how normal the whole photo is ("holistic"). Their scores add up, the last with a minus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from promptad.annotations import Positive, Share, Weight
from promptad.clip.features import Features
from promptad.learning.drawn_steps import Drawn, Maps
from promptad.learning.pasted import paste
from promptad.methods.baselines.open_set import OpenSetHeads, resized
from promptad.methods.baselines.open_set_config import OpenSetConfig
from promptad.methods.contract import Scores
from promptad.methods.state import saved_tensor

NORMAL, SEEN, PSEUDO = 0, 1, 2


@dataclass(frozen=True)
class DRAConfig(OpenSetConfig):
    """Settings of DRA besides those of every open-set head."""

    # Good photos whose mean map others are compared with: drawn anew in every step of training, fixed afterwards.
    references: Positive = 5
    # Share of the good photos' places in a step that become pseudo anomalies, and of the references.
    pseudo: Share = 0.5
    # Deviation of the noise on pasted tokens, as a share of each channel's over the good photos.
    noise: Weight = 0.1


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "squash", "lr": 1e-3, "weight_decay": 1e-2},
    "release": {"fit": "squash"},
}


class DRAHeads(nn.Module):
    """The four heads on maps (B, D, h, w); all scores are absolute values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.holistic = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 1))
        self.seen, self.pseudo = nn.Conv2d(width, 1, 1), nn.Conv2d(width, 1, 1)
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 1, 1)
        )

    def forward(self, maps: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """(B, 1) of the holistic head, (B, 1, h, w) of the others. `reference`: (D, h, w) mean map of good photos."""
        return {
            "holistic": self.holistic(maps.mean(dim=(2, 3))).abs(),
            "seen": self.seen(maps).abs(),
            "pseudo": self.pseudo(maps).abs(),
            "residual": self.residual(reference - maps).abs(),
        }


class DRA(OpenSetHeads):
    """DRA for one object; see the module's docstring."""

    name, title = "dra", "DRA"
    decay_ahead = 1  # the released code steps its schedule before each epoch

    def build(self, width: int) -> nn.Module:
        """The four heads."""
        return DRAHeads(width)

    def batch_shares(self) -> tuple[int, int]:
        """Two thirds of a step are places of good photos, as in the released code: 32 and 16 of 48."""
        normal = int(2 * self.config.batch_size / 3)
        return normal, self.config.batch_size - normal

    def compose(self, normal: Maps, anomalous: Maps, drawn: Drawn, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) maps of a step and their labels (B,): every good one becomes pseudo with probability `pseudo`."""
        good = self._mixed(normal, drawn.normal, generator)
        maps = torch.cat([good[0], anomalous[list(drawn.anomalous)]])
        labels = [*good[1], *(SEEN for _ in drawn.anomalous)]
        return maps, torch.tensor(labels, device=maps.device)

    def _mixed(self, normal: Maps, indices: Sequence[int], generator: torch.Generator) -> tuple[Tensor, list[int]]:
        noise = self.config.noise * self._spread
        maps, labels = [], []
        for index in indices:
            pseudo = float(torch.rand((), generator=generator)) < self.config.pseudo
            if pseudo:
                index = int(torch.randint(len(normal), (), generator=generator))
            (own,) = normal[[index]]
            maps.append(paste(own, noise, generator) if pseudo else own)
            labels.append(PSEUDO if pseudo else NORMAL)
        return torch.stack(maps), labels

    def loss(self, net: nn.Module, normal: Maps, anomalous: Maps, drawn: Drawn) -> Tensor:
        """The sum of the four deviation losses."""
        generator = torch.Generator().manual_seed(drawn.seed)
        maps, labels = self.compose(normal, anomalous, drawn, generator)
        chosen = torch.randperm(len(normal), generator=generator)[: self.config.references].tolist()
        reference = self._mixed(normal, chosen, generator)[0].mean(dim=0, keepdim=True)
        scores = self._scores(net, maps, reference)[0]
        every = torch.ones_like(labels, dtype=torch.bool)
        taught = {
            "holistic": (every, labels == NORMAL),
            "seen": (labels != PSEUDO, labels == SEEN),
            "pseudo": (labels != SEEN, labels == PSEUDO),
            "residual": (every, labels != NORMAL),
        }
        terms = [self.deviation(scores[head][rows], target[rows], generator) for head, (rows, target) in taught.items()]
        return torch.stack(terms).sum()

    def _scores(self, net: nn.Module, maps: Tensor, reference: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(B,) scores of each head, and (B, h, w) the sum of those of places; means over both sizes."""
        heads: dict[str, list[Tensor]] = {}
        places = []
        for scale, mean in zip(self.scales(maps), self.scales(reference), strict=True):
            values = net(scale, mean)
            for head, value in values.items():
                heads.setdefault(head, []).append(value[:, 0] if head == "holistic" else self.top(value))
            places.append(resized(values["seen"] + values["pseudo"] + values["residual"], maps.shape[-2:])[:, 0])
        return {head: torch.stack(value).mean(dim=0) for head, value in heads.items()}, torch.stack(places).mean(dim=0)

    # -- scores -----------------------------------------------------------------------------------------------------------

    def learned_from(self, net: nn.Module, normal: Maps, owners: Sequence[int]) -> None:
        """Keeps the references, and one of another photo for each that may be left out."""
        order = torch.randperm(len(normal), generator=torch.Generator().manual_seed(self.config.seed)).tolist()
        wanted = self.config.references
        kept = order[:wanted]
        kept += [row for row in order[wanted:] if owners[row] not in {owners[k] for k in kept}][:wanted]
        self._references = normal[kept].clone()
        self._owners = torch.tensor([owners[row] for row in kept], device=self._references.device)

    def reference(self, leave_out: int | None, grid: tuple[int, int]) -> Tensor:
        """(1, D, h, w) mean of the first references that are not of the photo left out; of all where no other is there."""
        rows = self._references
        if leave_out is not None and bool((self._owners != leave_out).any()):
            rows = rows[self._owners != leave_out]
        return resized(rows[: self.config.references].mean(dim=0, keepdim=True), grid)

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,), of any sign, and maps (B, h, w), not negative. The heads stay those that all photos taught.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        net = self.net()
        parts, places = self._scores(net, self.maps(features), self.reference(leave_out, features.grid))
        image = parts["seen"] + parts["pseudo"] + parts["residual"] - parts["holistic"]
        return Scores(image, places, parts)

    @torch.no_grad()
    def photo_features(self, features: Features) -> Tensor:
        """(B, D) what the residual head makes of views before its score: the mean over places.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        net, maps = self.net(), self.maps(features)
        assert isinstance(net, DRAHeads)
        hidden = net.residual[:3](self.reference(None, features.grid) - maps)
        return hidden.mean(dim=(2, 3))

    def kept(self) -> dict[str, Tensor]:
        """The references, and the numbers of their photos."""
        return {"references": self._references, "owners": self._owners}

    def load_kept(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`kept`."""
        references = saved_tensor(tensors, "references", (None, self.width, None, None), self.title)
        owners = saved_tensor(tensors, "owners", (len(references),), self.title)
        self._references, self._owners = references.to(self.backbone.device), owners.to(self.backbone.device)

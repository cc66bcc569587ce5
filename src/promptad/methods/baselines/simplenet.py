"""SimpleNet (Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023) on tokens of the image
tower.

A linear adaptor turns patches of good photos; a small discriminator learns to tell them from the same ones with Gaussian noise. Its output,
with the other sign, is the score. The paper's backbone is WideResNet-50-2; here patches are tokens of CLIP's layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.annotations import Above0, Positive, Seed, Weight
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.methods.baselines.tapped import EmbeddedConfig, TappedMemory
from promptad.methods.contract import EpochHook, Scores
from promptad.methods.state import require_learned, saved_tensor

# Outputs of the discriminator beyond which a patch costs nothing.
_MARGIN = 0.5


@dataclass(frozen=True)
class SimpleNetConfig(EmbeddedConfig):
    """Settings of SimpleNet besides those of every method; defect words do not change its scores."""

    # Units of the discriminator's hidden layer.
    hidden: Positive = 1024
    # Sigma of the noise as a share of the deviation of each value of the adapted patches: theirs, 0.015, belongs to features
    # of another size.
    noise: Weight = 0.3
    # Steps; each takes `batch` patches.
    steps: Positive = 160
    # Patches of a step, drawn from all good photos.
    batch: Positive = 2048
    # Learning rate of the adaptor (AdamW).
    lr_adaptor: Above0 = 1e-4
    # Learning rate of the discriminator (Adam, weight decay 1e-5).
    lr: Above0 = 2e-4
    # Seed of the first values, of the draw of patches and of the noise.
    seed: Seed = 0

    @property
    def fit_epochs(self) -> int:
        """Its steps, which take the place of epochs."""
        return self.steps


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "crop", "map_size": 288, "embedding_width": 1536},
    "release": {"fit": "crop", "map_size": 288, "embedding_width": 1536, "edges": "zeros", "normalise": False},
}


class Networks(nn.Module):
    """The adaptor D -> D with bias, and the discriminator D -> hidden, batch norm, leaky ReLU, hidden -> 1 without bias.

    First values are Xavier's, drawn by the seed.
    """

    def __init__(self, width: int, hidden: int, seed: int) -> None:
        super().__init__()
        self.adaptor = nn.Linear(width, width)
        self.first, self.norm, self.last = (
            nn.Linear(width, hidden),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, 1, bias=False),
        )
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.adaptor, self.first, self.last):
            nn.init.xavier_normal_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def judge(self, adapted: Tensor) -> Tensor:
        """(N, D) adapted patches -> (N,); larger is more normal."""
        hidden = F.leaky_relu(self.norm(self.first(adapted)), 0.2)
        out: Tensor = self.last(hidden)
        return out.squeeze(-1)


class SimpleNet(TappedMemory):
    """SimpleNet for one object; see the module's docstring.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    name = "simplenet"

    def __init__(self, backbone: Backbone, config: SimpleNetConfig, object_name: str = "object") -> None:
        super().__init__(backbone, config, object_name, pooling=config.pooling)
        self.networks, self._learned = self._start(), False

    def _start(self) -> Networks:
        return Networks(self.token_width, self.config.hidden, self.config.seed).to(self.backbone.device).eval()

    def parameter_count(self) -> int:
        """Number of trained values: D^2 + D of the adaptor, (D + 1) h + 2 h + h of the discriminator."""
        return sum(parameter.numel() for parameter in self.networks.parameters())

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Trains both networks anew on patches of good photos.

        Raises:
            ConfigError: training diverged.
        """
        config = self.config
        rows = torch.cat([self.tokens(view).flatten(0, 1) for own in photos for view in own])
        self.networks = networks = self._start().train()
        adaptor = torch.optim.AdamW(networks.adaptor.parameters(), lr=config.lr_adaptor)
        others = [*networks.first.parameters(), *networks.norm.parameters(), *networks.last.parameters()]
        discriminator = torch.optim.Adam(others, lr=config.lr, weight_decay=1e-5)
        generator = torch.Generator().manual_seed(config.seed + 1)
        for step in range(1, config.steps + 1):
            drawn = torch.randperm(len(rows), generator=generator)[: config.batch].to(rows.device)
            real = networks.adaptor(rows[drawn])
            draw = torch.randn(real.shape, generator=generator).to(real.device)
            loss = discrimination(networks, real, draw, config.noise)
            for optimiser in (adaptor, discriminator):
                optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if not torch.isfinite(loss):
                raise ConfigError(f"training diverged in step {step}; use a smaller lr than {config.lr}")
            adaptor.step()
            discriminator.step()
            if after_epoch is not None:
                after_epoch(step, self)
        networks.eval()
        self._learned = True

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w), any numbers, 0 half way between good patches and noisy ones. `leave_out` changes nothing:
        what was learned of a photo cannot be taken back.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(self._learned)
        values = -self.networks.judge(self.networks.adaptor(self.tokens(features).flatten(0, 1))).view(
            len(features), -1
        )
        image = values.amax(dim=1)
        return Scores(image, values.view(len(features), *features.tapped.grid), {"memory": image})

    def state(self) -> dict[str, Tensor]:
        """All values of both networks."""
        return {name: value.detach().clone().contiguous() for name, value in self.networks.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        networks = self._start()
        own = networks.state_dict()
        networks.load_state_dict(
            {name: saved_tensor(state, name, value.shape, "SimpleNet") for name, value in own.items()}
        )
        self.networks, self._learned = networks, True


def discrimination(networks: Networks, real: Tensor, draw: Tensor, noise: float) -> Tensor:
    """mean max(0, 0.5 - D(real)) + mean max(0, 0.5 + D(noisy)), both in one batch of the discriminator's norm.

    Args:
        real: (N, D) adapted patches. draw: (N, D) of N(0, 1). noise: sigma as a share of the deviation of each value of `real`.
    """
    sigma = real.detach().std(dim=0, unbiased=False)
    judged = networks.judge(torch.cat([real, real + noise * sigma * draw]))
    good, noisy = judged.chunk(2)
    return F.relu(_MARGIN - good).mean() + F.relu(_MARGIN + noisy).mean()

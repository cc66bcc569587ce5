"""What DevNet, DRA and the stand-in for MLEP have in common: small heads on frozen maps of CLIP, learned from good photos and a
few labelled anomalies ("open-set supervised" anomaly detection: test photos have anomalies of other types too).

The papers fine-tune a ResNet-18 at 448 pixels and at half of that. Here the tower stays frozen, a photo is read once, and the
half size is its map averaged over 2 x 2 tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.errors import ConfigError
from promptad.learning.deviation import prior_deviation_loss, top_mean
from promptad.learning.drawn_steps import Drawn, Maps, drawn_steps
from promptad.learning.epochs import Checkpoint, Progress, Recipe, train_epochs
from promptad.methods.contract import EpochHook, Method, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.state import saved_tensor
from promptad.notices import notice


class OpenSetHeads(Method):
    """Base of these methods.

    Raises:
        ConfigError: a block or words that do not exist. TextError: words that are too long.
    """

    title: ClassVar[str]
    # Epochs by which the learning rate falls earlier than after whole tens of epochs.
    decay_ahead: ClassVar[int] = 0

    def __init__(self, backbone: Backbone, config: Any, object_name: str = "object") -> None:
        self.backbone, self.config = backbone, config
        vision = backbone.sizes.vision
        self._layer = config.layer or max(1, round(vision.layers * 2 / 3))
        projected = config.tokens == "projected"
        self.width = backbone.sizes.embed_dim if projected else vision.tap_width(self._layer)
        self.request = (
            FeatureRequest(local=LocalStream(attention="qk")) if projected else FeatureRequest(taps=(self._layer,))
        )
        self._ranked = RankedWords(backbone, config, object_name)
        self._net: nn.Module | None = None
        self._mean, self._scale = self._fresh_scales()
        self._spread = self._scale  # of each channel as the heads see it
        self.history: list[float] = []

    def _fresh_scales(self) -> tuple[Tensor, Tensor]:
        device = self.backbone.device
        return torch.zeros(self.width, device=device), torch.ones(self.width, device=device)

    # -- features ---------------------------------------------------------------------------------------------------------

    def maps(self, features: Features) -> Tensor:
        """(B, D, h, w) of views, standardised as the good photos are."""
        tokens = features.patches if self.config.tokens == "projected" else features.taps[self._layer]
        assert tokens is not None  # `request` asks for them
        tokens = (tokens - self._mean) / self._scale
        return tokens.transpose(1, 2).unflatten(2, features.grid)

    def scales(self, maps: Tensor) -> list[Tensor]:
        """The maps, and with `half_size` their means over 2 x 2 places; odd edges are means of what is there."""
        if not self.config.half_size:
            return [maps]
        return [maps, F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)]

    def top(self, values: Tensor) -> Tensor:
        """(B, 1, h, w) scores of places -> (B,) mean of the highest ones."""
        return top_mean(values.flatten(1), self.config.top_fraction, "down")

    # -- learning ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """The heads on maps of `width` channels, with random values."""

    @abstractmethod
    def loss(self, net: Any, normal: Maps, anomalous: Maps, drawn: Drawn) -> Tensor:
        """Training loss of one step, a scalar; `normal` and `anomalous` are all maps there are."""

    def batch_shares(self) -> tuple[int, int]:
        """Numbers of good and of anomalous photos of a step."""
        return self.config.batch_size - self.config.batch_size // 2, self.config.batch_size // 2

    def learned_from(self, net: Any, normal: Maps, owners: Sequence[int]) -> None:
        """Keeps what scores need of the good maps besides the heads; `owners` are the numbers of their photos."""

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Learns the heads anew from good and anomalous photos.

        Raises:
            ConfigError: photos of one kind only, or training diverged.
        """
        if not photos or not anomalies:
            raise ConfigError(f"{self.title} learns from good photos and labelled anomalies; give at least one of each")
        self.measure(view for views in photos for view in views)
        grid = photos[0][0].grid
        normal, anomalous = self._stack(photos, grid), self._stack(anomalies, grid)
        owners = [number for number, views in enumerate(photos) for _ in views]
        self.learn(normal, anomalous, owners, after_epoch=after_epoch)

    def measure(self, views: Iterable[Features]) -> None:
        """Sets mean and deviation of the channels over views of good photos, which may be read one by one; what was learned is
        forgotten."""
        self._net, (self._mean, self._scale) = None, self._fresh_scales()
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for view in views:
            values = self.maps(view).transpose(0, 1).flatten(1).double()
            count += values.shape[1]
            total, squares = total.to(values) + values.sum(dim=1), squares.to(values) + values.square().sum(dim=1)
        mean = total / count
        self._spread = (squares / count - mean.square()).clamp(min=1e-12).sqrt().float()
        if self.config.standardise:
            self._mean, self._scale, self._spread = mean.float(), self._spread, torch.ones_like(self._spread)

    def learn(
        self,
        normal: Maps,
        anomalous: Maps,
        owners: Sequence[int],
        *,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Learns the heads anew; `owners` are the photos of the good maps.

        Raises:
            ConfigError: training diverged, or the checkpoint is of another one. WeightsError: the checkpoint is damaged.
        """
        config, photos = self.config, (len(normal), len(anomalous))
        with torch.random.fork_rng(devices=[]):  # the seed decides, and nobody else's random numbers move
            torch.default_generator.manual_seed(config.seed)
            net = self.build(self.width).to(self.backbone.device)

        def told(epoch: int) -> None:
            if after_epoch is not None:
                after_epoch(epoch, self)

        self.history = train_epochs(
            net,
            lambda generator: drawn_steps(photos, self.batch_shares(), config.iterations, generator),
            lambda drawn: self.loss(net, normal, anomalous, drawn),
            self._recipe(),
            checkpoint=checkpoint,
            progress=progress,
            after_epoch=told,
        )
        with torch.no_grad():
            self.learned_from(net, normal, owners)
        self._net = net.requires_grad_(False)

    def _recipe(self) -> Recipe:
        config = self.config
        return Recipe(
            "adam",
            config.epochs,
            config.lr,
            weight_decay=config.weight_decay,
            decay_every=config.decay_every,
            decay_ahead=self.decay_ahead,
            clip=config.clip,
            seed=config.seed,
        )

    def _stack(self, photos: Sequence[Sequence[Features]], grid: tuple[int, int]) -> Tensor:
        """Maps of all views, those of other shapes brought to one."""
        maps = [self.maps(view) for views in photos for view in views]
        self.say_shapes([values.shape[-2:] for values in maps], grid)
        return torch.cat([resized(values, grid) for values in maps])

    def say_shapes(self, shapes: Sequence[tuple[int, ...]], grid: tuple[int, int]) -> None:
        """A notice where some of the shapes of maps are not `grid`, to which all are brought."""
        other = sum(tuple(shape) != grid for shape in shapes)
        if other:
            notice(
                f"{self.title}: {other} of {len(shapes)} views have another shape than the first good photo; to learn from, their "
                "maps are brought to its shape"
            )

    def deviation(self, scores: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """DevNet's loss of scores (B,), with a fresh prior of 5000 draws."""
        prior = torch.randn(5000, generator=generator).to(scores.device)
        return prior_deviation_loss(scores, labels, prior, margin=self.config.margin)

    # -- scores and saving ------------------------------------------------------------------------------------------------

    def net(self) -> Any:
        """The learned heads. Raises ConfigError before anything was learned or loaded."""
        if self._net is None:
            raise ConfigError(
                "this detector has not learned from good and defective photos yet; call fit, or load a saved one"
            )
        return self._net

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views."""
        return self._ranked(features)

    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.build(self.width).parameters())

    def kept(self) -> dict[str, Tensor]:
        """What :meth:`learned_from` kept."""
        return {}

    def load_kept(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`kept`. Raises WeightsError when a tensor is missing or of another shape."""

    def state(self) -> dict[str, Tensor]:
        """The heads, mean and deviation of the channels, and :meth:`kept`."""
        net = {f"heads.{name}": value.clone().contiguous() for name, value in self.net().state_dict().items()}
        return {**net, "mean": self._mean, "scale": self._scale, **self.kept()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        device, net = self.backbone.device, self.build(self.width)
        own = net.state_dict()
        net.load_state_dict({n: saved_tensor(state, f"heads.{n}", v.shape, self.title) for n, v in own.items()})
        self._mean, self._scale = (
            saved_tensor(state, name, (self.width,), self.title).to(device) for name in ("mean", "scale")
        )
        self.load_kept(state)
        self._net = net.to(device).eval().requires_grad_(False)


def resized(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps (B, D, h, w) brought bilinearly to a grid; as they are where they have it."""
    if tuple(maps.shape[-2:]) == tuple(grid):
        return maps
    return F.interpolate(maps, size=(grid[0], grid[1]), mode="bilinear", align_corners=False)

"""AnoVL (Deng et al., "AnoVL: Adapting Vision-Language Models for Unified Zero-shot Anomaly Localization", arXiv 2308.15939).

CLIP with domain-aware sentences ("an industrial photo of a flawless cup") and V-V features. The image score is the mean over 22
views of the photo; the map is that of the local tokens after an adapter that learns on each photo alone, at test time: its own
predictions become more certain, and tokens with noise on them are to look anomalous. Every photo starts anew, so that no photo
depends on another. As its repository runs it; what we fill in is said at the settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import pi
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.annotations import Above0, Count, Seed, Weight
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.methods.contract import Scores, WordScores
from promptad.methods.settings import ScoringConfig
from promptad.methods.untrained import Untrained
from promptad.prompts.words import ensemble
from promptad.scoring.maps import aligned_upsample
from promptad.scoring.prototypes import anomalous_probability

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
"""Objects that have the sentences of textures."""


@dataclass(frozen=True)
class AnoVLConfig(ScoringConfig):
    """Settings of AnoVL besides those of every method; defect words do not change its scores."""

    # Sentences of objects or of textures; "auto": carpet, grid, leather, tile and wood are textures.
    domain: Literal["auto", "objects", "textures"] = "auto"
    # Inverse temperature of every softmax; the repository has none.
    scale: Above0 = 1.0
    # Views whose scores are averaged: the 22 of the repository, or the photo alone.
    views: Literal["all", "one"] = "all"
    # The adapter: through all sentences and back, one linear layer (the repository's for VisA), or none.
    adapter: Literal["sentences", "linear", "none"] = "sentences"
    # Steps of AdamW on every photo.
    steps: Count = 5
    # Their learning rate.
    lr: Above0 = 1e-3
    # And weight decay.
    weight_decay: Weight = 0.01
    # Deviation of the noise on the tokens.
    noise: Weight = 0.055
    # Weight of the loss that tells tokens with noise from those without, beside the entropy.
    noise_weight: Weight = 0.5
    # First block of the local stream.
    local_start: Count = 1
    # Of the adapter's start and the noise, the same for every photo.
    seed: Seed = 111


_PAPER = {"fit": "squash", "map_size": 240, "smoothing": 0.0}
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": _PAPER,
    "release": _PAPER,
    "no-adapter": {**_PAPER, "adapter": "none"},
    # As the repository looks at VisA: square tiles of the short edge, a linear adapter, the mean over the tiles.
    "visa": {**_PAPER, "fit": "tiles", "view_score": "mean", "adapter": "linear", "views": "one", "seed": 42},
}


class SentenceAdapter(nn.Module):
    """(T, E) tokens x -> x / 2 + a(x) / 2 with a(x) = tanh(W x / |x| + b) B, B (P, E) the unit features of all sentences."""

    bank: Tensor

    def __init__(self, bank: Tensor) -> None:
        super().__init__()
        self.register_buffer("bank", bank)
        self.weights = nn.Linear(bank.shape[1], bank.shape[0])

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        return (tokens + torch.tanh(self.weights(F.normalize(tokens, dim=-1))) @ self.bank) / 2


class LinearAdapter(nn.Module):
    """The same with a(x) = W x / |x| + b."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weights = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        return (tokens + self.weights(F.normalize(tokens, dim=-1))) / 2


class AnoVL(Untrained):
    """AnoVL for one object; see the module's docstring.

    Raises:
        ConfigError, TextError: words that do not exist or are too long.
    """

    name = "anovl"

    def __init__(self, backbone: Backbone, config: AnoVLConfig, object_name: str = "object") -> None:
        super().__init__(backbone, config, object_name)
        self.config = config
        several = config.views == "all"
        self.request = FeatureRequest(local=LocalStream(config.local_start, "vv"), inputs=several)
        auto = "textures" if object_name.lower() in TEXTURES else "objects"
        sides = ensemble(f"anovl_{auto if config.domain == 'auto' else config.domain}", self.object)
        features = [backbone.encode_texts(sentences) for sentences in sides]
        # The mean of raw features, as the repository has it.
        self._normal, self._anomalous = (F.normalize(side.mean(dim=0), dim=-1) for side in features)
        self._bank = F.normalize(torch.cat(features), dim=-1)

    # -- scores -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Mean probability of "anomalous" over the views (B,), and maps (B, n h, n w) at n values a patch side, in [0, 1]."""
        assert features.patches is not None  # `request` asks for them
        image = self._probability(features.image)
        if features.inputs is not None:
            others = [self._probability(self.backbone.vision(view).image) for view in photo_views(features.inputs)]
            image = torch.stack([image, *others]).mean(dim=0)
        grid = features.grid
        patches = torch.stack([self._adapted(rows) for rows in features.patches]).unflatten(1, grid)
        mean = F.avg_pool2d(F.pad(patches[:, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
        side = self.backbone.sizes.vision.patch_size
        return Scores(image, aligned_upsample(mean, (grid[0] * side, grid[1] * side)), {"text": image})

    def _probability(self, rows: Tensor) -> Tensor:
        return anomalous_probability(rows, self._normal, self._anomalous, self.config.scale)

    def adapter(self) -> nn.Module:
        """A new adapter as the seed draws it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            width = self._bank.shape[1]
            made = SentenceAdapter(self._bank) if self.config.adapter == "sentences" else LinearAdapter(width)
        return made.to(self._bank.device)

    def _adapted(self, tokens: Tensor) -> Tensor:
        """(T, E) local tokens of one view -> (T,) probabilities after the adapter has learned on them."""
        config = self.config
        if config.adapter == "none":
            return self._probability(tokens)
        generator = torch.Generator().manual_seed(config.seed)
        with torch.enable_grad():
            adapter, clean = self.adapter(), tokens.detach().clone()
            optimiser = torch.optim.AdamW(adapter.parameters(), lr=config.lr, weight_decay=config.weight_decay)
            for _ in range(config.steps):
                # Drawn anew in every step: our reading.
                noise = config.noise * torch.randn(clean.shape, generator=generator).to(clean.device)
                loss = self.loss(adapter(clean), adapter(clean + noise))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return self._probability(adapter(clean)).detach()

    def loss(self, clean: Tensor, noisy: Tensor) -> Tensor:
        """Mean over tokens (T, E) of the entropy of the clean ones, and of -log p(anomalous) of those with noise and -log p(normal) of
        the clean ones, weighted by `noise_weight`."""
        plain, other = (_log_sides(self._logit(rows)) for rows in (clean, noisy))
        entropy = -(plain.exp() * plain).sum(dim=-1)
        told = -other[..., 1] - plain[..., 0]
        return (entropy + self.config.noise_weight * told).mean()

    def _logit(self, rows: Tensor) -> Tensor:
        return self.config.scale * (F.normalize(rows, dim=-1) @ (self._anomalous - self._normal))

    # -- words -------------------------------------------------------------------------------------------------

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views; maps of several values a patch rank no words of patches."""
        return replace(self._ranked(features), patches=None)


def _log_sides(logits: Tensor) -> Tensor:
    """(...,) logits of "anomalous" -> (..., 2) log probabilities of normal and anomalous."""
    return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=-1)


def photo_views(images: Tensor) -> Iterator[Tensor]:
    """The 21 views beside the photo itself, (B, 3, H, W) each: 8 small turns, 8 shifts, mirrored, grey, and 3 quarter turns.

    What lies outside is reflected; grids have their corners aligned. The photo is normalised already, and grey is the luma of
    that.
    """
    for eighths in (1, 2, 3, 4):
        for sign in (1, -1):
            yield moved(images, sign * eighths * pi / 16)
    for length in (0.2, 0.1):
        for x in (length, -length):
            for y in (length, -length):
                yield moved(images, 0.0, (x, y))
    yield images.flip(-1)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    yield (images * weights).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    for quarters in (1, 2, 3):
        yield moved(images, quarters * pi / 2)


def moved(images: Tensor, angle: float, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Turned by `angle` in radians and shifted by shares of half the sides, bilinear, the outside reflected.

    Of photos that are not square the turn is one of the photo, not of its square of coordinates.
    """
    height, width = images.shape[-2:]
    turn = torch.tensor(angle)
    cos, sin = float(turn.cos()), float(turn.sin())
    ratio = (height - 1) / (width - 1)
    matrix = torch.tensor([[cos, -sin * ratio, shift[0]], [sin / ratio, cos, shift[1]]], device=images.device)
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True)

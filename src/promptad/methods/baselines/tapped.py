"""What memories of good photos on tapped tokens have in common: PatchCore, PaDiM, SPADE, FastRecon, SimpleNet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from promptad.annotations import Count
from promptad.clip import memory_tower
from promptad.clip.architecture import ResNetSizes
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.clip.preprocess import Fit
from promptad.errors import ConfigError
from promptad.inputs import setting
from promptad.methods.contract import Method, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import ScoringConfig, quarter_layers
from promptad.scoring.tokens import embedded_tokens, joined_tokens, share_inside


@dataclass(frozen=True)
class TappedConfig(ScoringConfig):
    """Settings of a memory on tapped tokens besides those of every method; defect words do not change its scores."""

    # Tapped layers whose tokens are compared; empty takes 3 and 8 of 12 blocks, 6, 12, 18 and 24 of 24, stages 2 and 3 of a
    # ResNet, and the same shares of any other depth; of a memory backbone the blocks at 7, 8 and 9 twelfths of its depth.
    layers: tuple[Count, ...] = ()
    # Whether each layer's tokens have length 1 before they are compared.
    normalise: bool = True

    @property
    def values_a_patch(self) -> int:
        """Values that adaptive pooling brings each patch to; 0 where whole layers are joined."""
        return 0

    @property
    def zero_edges(self) -> bool:
        """Whether windows of patches see zeros beyond the edge."""
        return False


@dataclass(frozen=True)
class PooledConfig(TappedConfig):
    """The same of those that average tokens over neighbouring patches first."""

    # Side of the windows of patches over which tokens are averaged first.
    pooling: Count = 3
    # What these windows see beyond the edge: nothing, so that they are means of what is there, or zeros as in the released codes.
    edges: Literal["present", "zeros"] = "present"

    @property
    def zero_edges(self) -> bool:
        """Whether windows of patches see zeros beyond the edge."""
        return self.edges == "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling % 2 == 0:
            raise ConfigError(f"pooling={self.pooling} must be odd")
        if self.zero_edges and self.normalise and not self.values_a_patch:
            raise ConfigError(
                f"edges=zeros only shortens tokens at the edge, and tokens of length 1 undo that; leave one of the two out "
                f"({setting('edges', 'present')} or {setting('normalise', 'false')})"
            )


@dataclass(frozen=True)
class EmbeddedConfig(PooledConfig):
    """The same of those whose released code has a fixed number of values a patch."""

    # Values of a patch: each layer's windows of patches, and then all layers together, are brought to so many by adaptive pooling
    # over channels, as the released codes do; 0 joins whole layers.
    embedding_width: Count = 0

    @property
    def values_a_patch(self) -> int:
        """Values that adaptive pooling brings each patch to; 0 where whole layers are joined."""
        return self.embedding_width


def usual_layers(backbone: Backbone) -> tuple[int, ...]:
    """Layers that these methods tap where none are named: blocks 3 and 8 of 12 (PromptAD's memory), four evenly spread ones of deeper
    ViTs (6, 12, 18, 24 of 24), stages 2 and 3 of a ResNet (PatchCore's), of a memory's own tower `clip.memory_tower.usual_layers`."""
    if backbone.memory is not None:
        return memory_tower.usual_layers(backbone.memory.sizes)
    vision = backbone.sizes.vision
    if isinstance(vision, ResNetSizes):
        return 2, 3
    if vision.layers > 12:
        return quarter_layers(vision.layers, 4)
    return tuple(sorted({max(1, round(vision.layers / 4)), max(1, round(vision.layers * 2 / 3))}))


def require_one_square(title: str, fit: Fit) -> None:
    """Raises ConfigError where photos would not all have the same patch grid, for a method that compares positions."""
    if fit not in ("squash", "crop"):
        raise ConfigError(f"fit={fit}: {title} compares positions, so it needs one square view: squash or crop")


def without(rows: Tensor, leave_out: int | None) -> Tensor:
    """Rows of good photos of one view each, without one of them; all where it is the only one."""
    if leave_out is None or len(rows) == 1:
        return rows
    return torch.cat([rows[:leave_out], rows[leave_out + 1 :]])


class TappedMemory(Method):
    """Base of these methods: what they read, and CLIP's ranking of defect words.

    Args:
        pooling: side of the windows of patches over which tokens are averaged first. also: what else is asked of the tower.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: Any,
        object_name: str = "object",
        *,
        pooling: int = 1,
        also: FeatureRequest = FeatureRequest(),
    ) -> None:
        self.backbone, self.config = backbone, config
        self.layers = config.layers or usual_layers(backbone)
        self._embedding_width: int = config.values_a_patch
        # Adaptive pooling needs the windows' patches, not their means.
        pool = 1 if self._embedding_width else pooling
        self.request = backbone.memory_request(replace(also, taps=self.layers, tap_pool=pool))
        self._ranked = RankedWords(backbone, config, object_name)

    @property
    def token_width(self) -> int:
        """Values of a patch of :meth:`tokens`."""
        return self._embedding_width or sum(self.backbone.tapped.tap_width(layer) for layer in self.layers)

    def tokens(self, features: Features) -> Tensor:
        """(B, T, D) what is compared: the layers' tokens side by side, or their adaptive pooling."""
        config, features = self.config, features.tapped
        zeros = config.zero_edges
        if self._embedding_width:
            width = self._embedding_width
            return embedded_tokens(
                features, self.layers, width, side=config.pooling, zeros=zeros, normalise=config.normalise
            )
        tokens = joined_tokens(features, self.layers, normalise=config.normalise)
        return tokens * share_inside(features.grid, config.pooling).to(tokens.device) if zeros else tokens

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views."""
        return self._ranked(features)

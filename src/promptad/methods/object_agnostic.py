"""What AnomalyCLIP (ICLR 2024) and FAPrompt (ICCV 2025) share: prompts that speak of an "object", trained once for all.

Learnable tokens stand in front of "object" and "damaged object", whatever the product is; deep tokens overwrite positions
1..4 before the following blocks of the text tower (flag F-21). Both towers stay frozen. Training uses the labelled test
photos of another data set, with masks. What is left to a method: which prompts, the loss and the scores.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.annotations import Above0, Count, Positive, Seed, Share, Weight
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalAttention, LocalStream, PositionResize
from promptad.inputs import setting
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import Checkpoint, Progress, Recipe, train_epochs
from promptad.methods.catalogue import Needs
from promptad.methods.learned_once import LearnedOnce
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import ScoringConfig
from promptad.notices import notice
from promptad.prompts.layout import Layout, PromptSet
from promptad.scoring.prototypes import anomalous_logit

OBJECT, DAMAGED = "object", "damaged object"

DEAD_PARAMETERS = 8 * (768 * 896 + 896)
"""Values of eight linear layers that both released codes create and never use; the papers count them (flag F-22)."""


@dataclass(frozen=True)
class ObjectAgnosticConfig(ScoringConfig):
    """Settings that both methods have. Flags F-n are the ledger's names for where paper and released code differ."""

    # Tokens of a deep set. Where they reach a prompt's end token they overwrite it too, with a line that says so.
    deep_tokens: Positive = 4
    # Blocks that see learnable tokens, the first through the prompts themselves, so there are `deep_depth` - 1 sets
    # (F-21), and never more than the text tower has blocks less one: 8 in CLIP's own 12 blocks, 5 in the starter's 6.
    # 0 or 1 gives none.
    deep_depth: Count = 9
    # Deep tokens enter as they are, or rounded through float16 as in the released codes.
    deep_precision: Literal["fp32", "fp16"] = "fp32"
    # Inverse temperature of losses and scores.
    scale: Above0 = 1 / 0.07
    # Patch features of the last layer alone (F-19).
    local: LocalAttention = "vv"
    # First block of the local stream.
    local_start: Positive = 6
    # LN_post on the class token; the released codes leave it out (F-20).
    normalise_class: bool = False
    # How CLIP's position table is brought to another grid: as OpenCLIP does, or bilinear as the released codes do.
    positions: PositionResize = "bicubic"
    # Passes over all photos (F-17).
    epochs: Positive = 15
    # Photos of a batch.
    batch_size: Positive = 8
    # Of Adam, without schedule and weight decay.
    lr: Above0 = 1e-3
    # Of Adam.
    betas: tuple[Share, Share] = (0.5, 0.999)
    # Sigma of the learnable tokens' first values.
    init_std: Weight = 0.02
    # Of these values and of the order of photos.
    seed: Seed = 111


class LearnedPrompts(nn.Module):
    """Everything that is learned: tokens of the prompts and deep tokens, drawn from N(0, std^2).

    Args:
        shapes: name -> (rows, tokens) of the prompts' slots. deep: (sets, tokens). width: of the text tower.

    Attributes:
        prior: a network that a method adds to the tokens (FAPrompt's psi), or None.
    """

    deep: nn.Parameter | None
    prior: nn.Module | None

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        deep: tuple[int, int],
        width: int,
        std: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()

        def draw(shape: tuple[int, int]) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, width, generator=generator) * std)

        self.slots = nn.ParameterDict({name: draw(shape) for name, shape in shapes.items()})
        self.register_parameter("deep", draw(deep) if deep[0] else None)
        self.register_module("prior", None)

    def deep_sets(self, *, rounded: bool = False) -> Sequence[Tensor]:
        """One (tokens, t) tensor a deep set; `rounded` through float16, with gradients."""
        if self.deep is None:
            return ()
        return (self.deep.half().float() if rounded else self.deep).unbind()


class ObjectAgnostic(LearnedOnce):
    """Base of both methods.

    Args:
        backbone: frozen CLIP. config: of the method. object_name: only for naming defects, never for scores.
        layouts: the normal prompt first, then the abnormal ones. shapes: name -> (rows, tokens) of their slots.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    needs: ClassVar[Needs] = "masks"
    module: LearnedPrompts

    def __init__(
        self,
        backbone: Backbone,
        config: ObjectAgnosticConfig,
        object_name: str,
        layouts: Sequence[Layout],
        shapes: Mapping[str, tuple[int, int]],
    ) -> None:
        self.backbone, self.config = backbone, config
        self.request = FeatureRequest(
            local=LocalStream(config.local_start, config.local),
            normalise_class=config.normalise_class,
            positions=config.positions,
        )
        self.prompts, self._shapes = PromptSet(layouts, shapes, backbone), dict(shapes)
        self._say_overwritten_ends()
        self._ranked = RankedWords(backbone, config, object_name)
        self.module = self._start()
        self._kept: tuple[Tensor, Tensor] | None = None

    def _say_overwritten_ends(self) -> None:
        config, ends = self.config, sorted(set(self.prompts.eot.tolist()))
        reached = [end for end in ends if end <= config.deep_tokens]
        if reached and self._sets:
            places = " and ".join(map(str, reached))
            notice(
                f"deep_tokens={config.deep_tokens} overwrites the end token of prompts, at position {places}, before block"
                f"{'s 2 to ' + str(self._sets + 1) if self._sets > 1 else ' 2'}; the feature is read there all the same, as "
                f"the released codes do; {setting('deep_tokens', str(ends[0] - 1))} leaves it alone"
            )

    # -- prompts ------------------------------------------------------------------------------------------------------

    @property
    def _sets(self) -> int:
        """Number of deep sets."""
        return max(0, min(self.config.deep_depth, self.backbone.sizes.text.layers) - 1)

    def _start(self) -> LearnedPrompts:
        """All learnable values as the seed draws them."""
        return self._draw(torch.Generator().manual_seed(self.config.seed)).to(self.backbone.device)

    def _draw(self, generator: torch.Generator) -> LearnedPrompts:
        config, width = self.config, self.backbone.sizes.text.width
        return LearnedPrompts(self._shapes, (self._sets, config.deep_tokens), width, config.init_std, generator)

    def encode(self, prompts: PromptSet, shift: Mapping[str, Tensor] | None = None) -> Tensor:
        """Features of prompts with the values learned so far, with gradients, not normalised.

        Args:
            prompts: P prompts of this method's slots. shift: name -> (B, t), see `PromptSet.assemble`; of slots that
                begin no prompt, so that all B images share the beginnings.

        Returns:
            (P, E) float32, or (B, P, E) with `shift`; one call of the text tower for all images.
        """
        embeddings = prompts.assemble(dict(self.module.slots.items()), shift)
        rows, m = embeddings.flatten(0, -3), prompts.shared
        times = len(rows) // len(prompts)
        features = self.backbone.text.encode_continued(
            rows[prompts.first, :m],
            prompts.groups.repeat(times),
            rows[:, m:],
            prompts.eot.repeat(times),
            self.module.deep_sets(rounded=self.config.deep_precision == "fp16"),
        )
        return features.view(*embeddings.shape[:-2], -1)

    @torch.no_grad()
    def prototypes(self) -> tuple[Tensor, Tensor]:
        """Feature of the normal prompt (E,) and mean of the raw features of the abnormal ones (E,), for scoring.

        Encoded once and kept until other values are trained or loaded.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        self._require()
        if self._kept is None:
            features = self.encode(self.prompts)
            self._kept = features[0], features[1:].mean(0)
        return self._kept

    @torch.no_grad()
    def prompt_maps(self, features: Features) -> Tensor:
        """(B, K, h, w) in [0, 1]: the map that each abnormal prompt alone gives of views, against the normal one."""
        assert features.patches is not None  # `request` asks for them
        encoded, patches = self.encode(self.prompts), F.normalize(features.patches, dim=-1)
        maps = [anomalous_logit(patches, encoded[0], own, self.config.scale).sigmoid() for own in encoded[1:]]
        return torch.stack(maps, dim=1).view(len(features), -1, *features.grid)

    # -- learning -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The training loss of a batch, a scalar."""

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Learns anew from labelled photos with masks; gives the mean loss of every epoch.

        Raises:
            ConfigError: no data or no masks, training diverged, or the checkpoint is of another training.
            WeightsError: the checkpoint is damaged.
        """
        config, labelled = self.config, self.with_masks(data)
        self.module, self._trained, self._kept = self._start(), False, None
        history = train_epochs(
            self.module,
            lambda generator: labelled.shuffled(generator, config.batch_size),
            lambda rows: self.loss(labelled.batch(rows)),
            Recipe("adam", config.epochs, config.lr, config.betas, seed=config.seed),
            checkpoint=checkpoint,
            progress=progress,
        )
        self._trained = True
        return history

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`. Raises WeightsError when a tensor is missing or of another shape."""
        super().load_learned(tensors)
        self._kept = None

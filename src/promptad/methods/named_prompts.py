"""What CoOp, CoCoOp and TCP share here: one learnable context in front of the object's name, trained once on other objects.

The papers on zero-shot detection compare with them as two-class prompts, "V1..Vn normal [c]." and "V1..Vn anomalous [c].", learned
from the labels of another data set's photos and read with the name of the object that is judged. Both towers stay frozen.
What is left to a method is how an object's two prompts become features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.annotations import Above0, Positive, Weight
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import Checkpoint, Progress, Recipe, train_epochs
from promptad.methods.catalogue import Needs
from promptad.methods.contract import Scores
from promptad.methods.learned_context import ContextConfig, LearnedContext, first_context
from promptad.methods.learned_once import LearnedOnce, class_words, say_nameless
from promptad.methods.object_agnostic import OBJECT
from promptad.methods.ranked_words import RankedWords
from promptad.prompts.layout import Layout, PromptSet, Slot
from promptad.prompts.words import object_words
from promptad.scoring.prototypes import anomalous_logit

STATES = ("normal", "anomalous")
"""The words in front of the object's name, the two classes."""


@dataclass(frozen=True)
class NamedPromptsConfig(ContextConfig):
    """Settings that CoOp, CoCoOp and TCP have; training never looks at patches."""

    # Learnable tokens in front of "normal [c]." and "anomalous [c].", one context for both and for every object.
    context_tokens: Positive = 12
    # Passes over all photos.
    epochs: Positive = 7
    # Photos of a batch.
    batch_size: Positive = 8
    # Learning rate, which falls by half a cosine, one step an epoch.
    lr: Above0 = 0.002
    # Learning rate of the first epoch alone; 0 has no such epoch.
    warm_lr: Weight = 1e-5


@dataclass(frozen=True, eq=False)
class ClassPrompts:
    """The two prompts of each of C objects, compiled once.

    Attributes:
        words: the objects. prompts: 2C prompts, the normal one of each object before its anomalous one.
        frozen: (2C, E) unit vectors of hand-written sentences of the same objects and states, for a method that has some.
    """

    words: tuple[str, ...]
    prompts: PromptSet
    frozen: Tensor | None = None

    def index(self, words: Iterable[str], device: torch.device) -> Tensor:
        """(B,) int64 places of the objects."""
        places = {name: place for place, name in enumerate(self.words)}
        return torch.tensor([places[name] for name in words], device=device)


class NamedPrompts(LearnedOnce):
    """Base of the three methods for one object.

    Args:
        backbone: frozen CLIP. config: of the method. object_name: what the prompts name, in words or as a data set has it.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    needs: ClassVar[Needs] = "labels"
    module: LearnedContext

    def __init__(self, backbone: Backbone, config: NamedPromptsConfig, object_name: str = OBJECT) -> None:
        self.backbone, self.config = backbone, config
        self.request = config.looks()
        self._own = self._compile([object_words(object_name)])
        self._training: ClassPrompts | None = None
        self._ranked = RankedWords(backbone, config, object_name)
        self.module = self._start()

    # -- prompts ------------------------------------------------------------------------------------------------------

    def _compile(self, words: Sequence[str]) -> ClassPrompts:
        layouts = [self._layout(f"{state} {name}") for name in words for state in STATES]
        return ClassPrompts(
            tuple(words), PromptSet(layouts, {"context": (1, self.config.context_tokens)}, self.backbone)
        )

    def _layout(self, words: str) -> Layout:
        """The prompt of an object in a state."""
        return Slot("context"), f"{words}."

    def _start(self) -> LearnedContext:
        """All learnable values as the seed draws them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            module = LearnedContext(first_context(self.backbone, self.config), self._meta_net())
        return module.to(self.backbone.device)

    def _meta_net(self) -> nn.Module | None:
        """What a method learns besides the context."""
        return None

    @abstractmethod
    def encode(self, table: ClassPrompts, classes: Tensor, features: Features) -> Tensor:
        """Features of the prompts of each view's object, with gradients, not normalised.

        Args:
            table: compiled prompts. classes: (B,) which of its objects each view shows. features: of the B views.

        Returns:
            (B, 2, E) float32: the normal and the anomalous prompt.
        """

    # -- learning -----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the class tokens against the two prompts of each photo's own object, a scalar."""
        table = self._table(batch.class_names)
        classes = table.index(map(class_words, batch.class_names), batch.labels.device)
        return self._cross_entropy(self.encode(table, classes, batch.features), batch)

    def _cross_entropy(self, prompts: Tensor, batch: Batch) -> Tensor:
        images, prompts = F.normalize(batch.features.image, dim=-1), F.normalize(prompts, dim=-1)
        return F.cross_entropy(self.config.scale * torch.einsum("be,bke->bk", images, prompts), batch.labels)

    def _table(self, names: Iterable[str]) -> ClassPrompts:
        words = list(dict.fromkeys(map(class_words, names)))
        if self._training is None or not set(words) <= set(self._training.words):
            self._training = self._compile(words)
        return self._training

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Learns anew from labelled photos; gives the mean loss of every epoch.

        Raises:
            ConfigError: no data, training diverged, or the checkpoint is of another training. TextError: the name of a
                class is too long. WeightsError: the checkpoint is damaged.
        """
        if data is None:
            raise ConfigError(f"{self.name} trains on labelled photos; give a data set ({argument('on')})")
        config = self.config
        say_nameless(data.records)
        self.module, self._trained = self._start(), False
        self._table(sorted({record.class_name for record in data.records}))
        recipe = Recipe(
            config.optimiser,
            config.epochs,
            config.lr,
            (config.momentum, 0.999),
            config.weight_decay,
            cosine=True,
            warm_lr=config.warm_lr,
            seed=config.seed,
        )
        history = train_epochs(
            self.module,
            lambda generator: data.shuffled(generator, config.batch_size),
            lambda rows: self.loss(data.batch(rows)),
            recipe,
            checkpoint=checkpoint,
            progress=progress,
        )
        self._training, self._trained = None, True
        return history

    # -- scores -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) and patch maps (B, h, w), both in [0, 1]; `parts` has "text".

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        self._require()
        assert features.patches is not None  # `request` asks for them
        classes = torch.zeros(len(features), dtype=torch.long, device=features.image.device)
        normal, anomalous = self.encode(self._own, classes, features).unbind(1)
        image, patches = (
            anomalous_logit(F.normalize(rows, dim=-1), normal, anomalous, self.config.scale).sigmoid()
            for rows in (features.image, features.patches)
        )
        return Scores(image, patches.view(len(features), *features.grid), {"text": image})

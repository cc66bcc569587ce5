"""CoOp, CoCoOp and MaPLe learned from good photos of the product alone, as PromptAD (CVPR 2024) compares with them in table 6.

How a classifier is learned where every photo is normal, that paper does not say. Three readings are ours: what the good photos are
told apart from is a second learnable context (R1), a fixed ensemble of sentences on defects (R2), or the same context in
front of the word "anomalous" (R3). There are two sets of learned values, one for photos and one for patches, trained together but
sharing nothing, as PromptAD's own prompts. No photo is kept. What is left to a method is how photos and prompts become features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.annotations import Count, Positive, Weight
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features, concatenate
from promptad.errors import ConfigError
from promptad.learning.optimise import Schedule, optimise
from promptad.methods.contract import TASKS, EpochHook, Method, Scores, WordScores
from promptad.methods.learned_context import ContextConfig, LearnedContext, encode_prompts, first_context
from promptad.methods.ranked_words import RankedWords
from promptad.methods.state import require_learned, saved_tensor
from promptad.prompts.layout import Layout, PromptSet, Slot
from promptad.prompts.words import ensemble, object_words
from promptad.scoring.prototypes import anomalous_logit, ensemble_prototype

_MOST_VIEWS = 8
"""Views whose graph is in memory at the same time."""


@dataclass(frozen=True)
class OneClassConfig(ContextConfig):
    """Settings of the three methods, besides those of every method with a learnable context."""

    # What good photos are told apart from: a learnable context of its own, which nothing holds ("R1"); WinCLIP's sentences
    # on anomalous objects, which do not learn ("R2"); or the same context with "anomalous" instead of "normal" ("R3").
    reading: Literal["R1", "R2", "R3"] = "R1"
    # Learnable tokens of a context.
    context_tokens: Positive = 4
    # Words that do not learn, between the learnable tokens and the object's name.
    fixed_words: str = ""
    # Steps over all good photos.
    epochs: Count = 100
    # Where the cosine of the learning rate ends.
    final_lr: Weight = 1e-5

    @property
    def fit_epochs(self) -> int:
        """Steps over all good photos."""
        return self.epochs


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "crop"},
    # PromptAD's released code has none of the three: this is how it looks at photos, and its temperature.
    "release": {"fit": "squash", "pre_resize": 1024, "test_channels": "bgr", "scale": 4.6052},
}


class OneClassPrompts(Method):
    """Base of the three methods for one object.

    Args:
        backbone: frozen CLIP; the numbers of table 6 are with ViT-B-16-plus-240. config: of the method.
        object_name: what the prompts name, in words or as a data set has it.

    Attributes:
        modules: everything that is learned, by task. history: the loss of every epoch of the last fit.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    modules: Mapping[str, LearnedContext]

    def __init__(self, backbone: Backbone, config: OneClassConfig, object_name: str = "object") -> None:
        self.backbone, self.config = backbone, config
        self.object = object_words(object_name)
        self.request = config.looks()
        self.contexts = 2 if config.reading == "R1" else 1
        self.prompts = PromptSet(self._layouts(), {"context": (self.contexts, config.context_tokens)}, backbone)
        self._against: Tensor | None = None
        if config.reading == "R2":
            self._against = ensemble_prototype(backbone.encode_texts(ensemble("winclip", self.object)[1]))
        self._ranked = RankedWords(backbone, config, object_name)
        self.modules = self._start()
        self._kept: dict[str, Tensor] = {}
        self._learned = False
        self.history: list[float] = []

    def _layouts(self) -> list[Layout]:
        """The normal prompt, and what is anomalous where that is learned too."""
        fixed, name = self.config.fixed_words, self.object
        if self.config.reading == "R3":
            return [(Slot("context"), fixed, f"{state} {name}", ".") for state in ("normal", "anomalous")]
        return [(Slot("context", row), fixed, name, ".") for row in range(self.contexts)]

    def _start(self) -> dict[str, LearnedContext]:
        """All learnable values as the seed draws them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return {task: self.draw().to(self.backbone.device) for task in TASKS}

    def draw(self) -> LearnedContext:
        """What is learned for one task, from torch's own generator: contexts (rows, n, t) alone."""
        return LearnedContext(first_context(self.backbone, self.config, self.contexts), None)

    @abstractmethod
    def encode(self, task: str, features: Features) -> tuple[Tensor, Tensor]:
        """Features of B views and of the learned prompts, with gradients, not normalised.

        Args:
            task: "image" or "pixel". features: of views of one grid.

        Returns:
            (B, n, E) rows to judge: the class token alone (n = 1), or all patches; and the P prompts of `_layouts`, (P, E)
            or (B, P, E) where each view has its own.
        """

    def texts(self, task: str) -> Tensor:
        """(P, E) prompts that follow no photo; without gradients they are kept until other values are learned or loaded."""
        if torch.is_grad_enabled():
            return self.encode_texts(task)
        if task not in self._kept:
            self._kept[task] = self.encode_texts(task)
        return self._kept[task]

    def encode_texts(self, task: str) -> Tensor:
        """(P, E) prompts with the contexts as they are, with gradients, not normalised."""
        return encode_prompts(self.backbone, self.prompts, {"context": self.modules[task].context})

    def parameter_count(self, task: str) -> int:
        """Number of values that are learned for "image" or "pixel"."""
        return sum(parameter.numel() for parameter in self.modules[task].parameters())

    # -- learning -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Learns both tasks anew from good photos, given as the features of their views.

        Raises:
            ConfigError: no photo, or training diverged.
        """
        if not photos:
            raise ConfigError("fit needs at least one good photo")
        self.modules, config = self._start(), self.config
        batches = list(_batches([view for photo in photos for view in photo]))

        def step(epoch: int, _: float) -> None:
            self._kept.clear()
            if after_epoch is not None:
                self._learned = True
                after_epoch(epoch, self)

        self.history = optimise(
            {f"{task}.{name}": p for task in TASKS for name, p in self.modules[task].named_parameters()},
            lambda: self._terms(batches),
            Schedule(config.optimiser, config.epochs, config.lr, config.momentum, config.weight_decay, config.final_lr),
            after_epoch=step,
        )
        self._kept.clear()
        self._learned = True

    def _terms(self, batches: Sequence[Features]) -> Iterator[Tensor]:
        """The cross-entropy with every view, and every patch, labelled normal: means over these, batch by batch."""
        views, patches = sum(map(len, batches)), sum(len(b) * b.grid[0] * b.grid[1] for b in batches)
        for batch in batches:
            for task, total in zip(TASKS, (views, patches), strict=True):
                yield F.softplus(self._logit(task, batch)).sum() / total

    def _logit(self, task: str, features: Features) -> Tensor:
        """(B, n) the anomalous logit minus the normal one, of views (n = 1) or of their patches."""
        rows, prompts = self.encode(task, features)
        normal = prompts[..., 0, :]
        anomalous = prompts[..., 1, :] if self._against is None else self._against
        return anomalous_logit(F.normalize(rows, dim=-1), normal, anomalous, self.config.scale)

    def snapshot(self, task: str) -> dict[str, Tensor]:
        """What is learned of "image" or "pixel" up to now; learning on does not change it."""
        return {name: value.detach().clone() for name, value in self.modules[task].state_dict().items()}

    def restore(self, task: str, snapshot: Mapping[str, Tensor]) -> None:
        """Goes back to a :meth:`snapshot` of the same task."""
        self.modules[task].load_state_dict(snapshot)
        self._kept.clear()

    # -- scores -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) and patch maps (B, h, w), the probabilities of the anomalous side; `parts` has "text".

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(self._learned)
        image = self._logit("image", features)[:, 0].sigmoid()
        patches = self._logit("pixel", features).sigmoid()
        return Scores(image, patches.view(len(features), *features.grid), {"text": image})

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views and patches, from CLIP's own words."""
        return self._ranked(features)

    # -- saving -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """All learned values: no photo is kept."""
        return {f"{task}.{name}": value for task in TASKS for name, value in self.snapshot(task).items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`. Raises WeightsError when a tensor is missing or of another shape."""
        for task, module in self.modules.items():
            shapes = {name: value.shape for name, value in module.state_dict().items()}
            self.restore(task, {n: saved_tensor(state, f"{task}.{n}", s, self.name) for n, s in shapes.items()})
        self._learned = True


def class_rows(task: str, features: Features) -> Tensor:
    """(B, n, E): the class token (n = 1) for "image", the patches for "pixel"."""
    if task == "image":
        return features.image[:, None]
    assert features.patches is not None  # `request` asks for them
    return features.patches


def _batches(views: Sequence[Features]) -> Iterator[Features]:
    """Views of one grid together, a few at a time."""
    grids: dict[tuple[int, int], list[Features]] = {}
    for view in views:
        grids.setdefault(view.grid, []).append(view)
    for group in grids.values():
        joined = concatenate(group)
        for start in range(0, len(joined), _MOST_VIEWS):
            yield joined[start : start + _MOST_VIEWS]

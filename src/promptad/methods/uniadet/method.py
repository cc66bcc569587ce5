"""UniADet (Gao and Wang, 2026, arXiv 2601.05552): zero-shot detection by learned weights alone, without a text tower.

All that a text tower gives a detector are two vectors, "normal" and "anomalous". They are learned here directly, for every
tapped block of the frozen image tower two pairs: one for its class token, one for its patches.

* map of a block: softmax over the two classes of s cos(patch, W_seg), at the size of the input (equations 7 and 8); photo's
  score of a block: the same of the class token and W_cls; both are averaged over the blocks;
* loss: cross-entropy of the photo + focal + dice of the map + dice of its complement, averaged over the blocks;
* with good photos (equations 9 to 12): the mean over the blocks of 1 - the largest cosine with any of their tokens is mixed
  into the map, and a maximum into the photo's score. Nothing is trained for it.

Equations as notes on the paper number them, its text was not at hand; `config.py` marks our readings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.learning.augmented import AugmentedSet
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import Checkpoint, Progress, Recipe, train_epochs
from promptad.learning.map_losses import map_loss
from promptad.methods.catalogue import Needs
from promptad.methods.contract import EpochHook, Scores
from promptad.methods.learned_once import NAMELESS, LearnedOnce
from promptad.methods.ranked_words import RankedWords
from promptad.methods.state import saved_tensor
from promptad.methods.uniadet.config import UniADetConfig
from promptad.scoring.memory import MemoryBank, build_memory

_TITLE, _OWNERS = "UniADet", "good.owners"


def upper_layers(depth: int) -> tuple[int, ...]:
    """The blocks at 4, 5, 6, 7 and 8 eighths of a tower, rounded half up: 12, 15, 18, 21, 24 of 24."""
    return tuple(sorted({max(1, (depth * part + 4) // 8) for part in range(4, 9)}))


class UniADet(LearnedOnce):
    """UniADet for one object; see the module's docstring.

    Args:
        backbone: frozen CLIP with a ViT as its image tower; the published CLIP numbers are with ViT-L-14-336.
        config: see :class:`UniADetConfig`. object_name: only for naming defects, never for scores.

    Raises:
        ConfigError: a ResNet, or words that do not exist. TextError: words that are too long.
    """

    name = "uniadet"
    needs: ClassVar[Needs] = "masks"
    module: nn.ParameterDict

    def __init__(self, backbone: Backbone, config: UniADetConfig, object_name: str = NAMELESS) -> None:
        sizes = backbone.vit(_TITLE)[1]
        self.backbone, self.config = backbone, config
        self.layers = config.layers or upper_layers(sizes.layers)
        self.width = backbone.sizes.embed_dim if config.space == "joint" else sizes.width
        self.scale = config.scale or self.width**0.5
        local = LocalStream() if config.stream == "local" else None
        self.request = FeatureRequest(
            self.layers, local, tap_class=True, tap_space=config.space, tap_stream=config.stream
        )
        self._ranked = RankedWords(backbone, config, object_name)
        self.module, self._memory = self._start(), dict[int, MemoryBank]()

    def _start(self) -> nn.ParameterDict:
        """W_cls ("image") and W_seg ("patch"), (L, 2, D) each, normal first, as the seed draws them."""
        own, shape = torch.Generator().manual_seed(self.config.seed), (len(self.layers), 2, self.width)

        def draw() -> nn.Parameter:
            if self.config.init == "xavier":
                return nn.Parameter((2 * torch.rand(*shape, generator=own) - 1) * (6 / (self.width + 2)) ** 0.5)
            return nn.Parameter(torch.randn(*shape, generator=own) * self.config.init_std)

        return nn.ParameterDict({"image": draw(), "patch": draw()}).to(self.backbone.device)

    def _logits(self, features: Features) -> tuple[Tensor, Tensor]:
        """s (cos with anomalous - cos with normal), whose sigmoid is the softmax: (B, L) of views, (B, L, h, w) of patches."""
        sides = {task: F.normalize(weights, dim=-1) for task, weights in self.module.items()}
        views, patches = [], []
        for number, layer in enumerate(self.layers):
            tokens = features.taps[layer]
            lengths = tokens.norm(dim=-1).clamp(min=1e-12) / self.scale  # cheaper than to divide the tokens
            image, patch = (own[number, 1] - own[number, 0] for own in (sides["image"], sides["patch"]))
            views.append(tokens[:, 0] @ image / lengths[:, 0])
            patches.append(tokens[:, 1:] @ patch / lengths[:, 1:])
        return torch.stack(views, 1), torch.stack(patches, 1).unflatten(2, features.grid)

    def _enlarged(self, planes: Tensor, detail: int = 0) -> Tensor:
        """(B, n, h, w) -> so many values along the side of a patch, 0 as many as it has pixels. Interpolation is linear, so the
        difference of logits alone is enlarged, before the softmax as U1 and U2 do."""
        size = [side * (detail or self.backbone.sizes.vision.stride) for side in planes.shape[2:]]
        return F.interpolate(planes, size=size, mode="bilinear", align_corners=False)

    # -- learning -----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the photo + weight * (focal + dice + dice of the complement) of the map."""
        assert batch.masks is not None  # `train` asks for them
        views, patches = self._logits(batch.features)
        pixels = self._enlarged(patches, self.config.loss_detail)
        if self.config.blocks == "mean":
            views, pixels = views.mean(1, keepdim=True), pixels.mean(1, keepdim=True)
        labels = batch.labels.to(views.dtype).unsqueeze(1).expand_as(views)
        # With two classes the softmax cross-entropy is the binary one of the logits' difference.
        of_photo = F.binary_cross_entropy_with_logits(views, labels)
        count, height, width = pixels.shape[1:]
        masks = F.adaptive_avg_pool2d(batch.masks, (height, width)).repeat_interleave(count, 0)
        return of_photo + self.config.map_weight * map_loss(pixels.sigmoid().flatten(0, 1), masks)

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Learns anew from labelled photos with masks, and copies of them; gives the mean loss of every epoch.

        Raises:
            ConfigError: no data or no masks, training diverged, or the checkpoint is of another training.
            WeightsError: the checkpoint is damaged.
        """
        config = self.config
        mixed = AugmentedSet(self.with_masks(data), config.augment, config.copies)
        self.module, self._trained, self._memory = self._start(), False, {}
        recipe = Recipe(
            config.optimiser, config.epochs, config.lr, config.betas, config.weight_decay, seed=config.seed,
            cosine=config.lr_end < 1, lowest=config.lr_end,
        )  # fmt: skip
        plan, loss = lambda own: mixed.shuffled(own, config.batch_size), lambda items: self.loss(mixed.batch(items))
        history = train_epochs(self.module, plan, loss, recipe, checkpoint=checkpoint, progress=progress)
        self._trained = True
        return history

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps all patch tokens of good photos, block by block. Raises ConfigError where nothing was trained or loaded yet."""
        self._require()
        self._memory = {}
        for n in self.layers if photos else ():
            rows = [torch.cat([view.taps[n][:, 1:].flatten(0, 1) for view in views]) for views in photos]
            self._memory[n] = build_memory(rows, self.config.memory_precision)

    # -- scores -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) and maps (B, H, W) at the size of the input, from 0 to 1, with good photos further where cosines are
        negative; `parts` has "class", the class tokens' score, and with good photos "map", the maximum.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        self._require()
        config, (views, patches) = self.config, self._logits(features)
        image, maps = views.sigmoid().mean(1), self._enlarged(patches).sigmoid().mean(1)
        if not self._memory:
            share = config.map_in_image
            return Scores((1 - share) * image + share * maps.amax((1, 2)), maps, {"class": image})
        own = {n: features.taps[n][:, 1:] for n in self._memory}
        near = [2 * bank.distance(own[n], leave_out=leave_out) for n, bank in self._memory.items()]
        distance = self._enlarged(torch.stack(near, 1).unflatten(2, features.grid)).mean(1)
        fused = (1 - config.memory_in_map) * maps + config.memory_in_map * distance
        peak = (fused if config.peak == "fused" else distance).amax((1, 2))
        share = config.memory_in_image
        return Scores((1 - share) * image + share * peak, fused, {"class": image, "map": peak})

    # -- saving -------------------------------------------------------------------------------------------------------

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`; good photos are forgotten. Raises WeightsError for missing and misshapen tensors."""
        super().load_learned(tensors)
        self._memory = {}

    def state(self) -> dict[str, Tensor]:
        """What was learned; of good photos each block's unit tokens and whose they are."""
        good = {f"good.{layer}": bank.stored for layer, bank in self._memory.items()}
        return self.learned() | good | ({_OWNERS: self._memory[self.layers[0]].owners} if good else {})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        banks: dict[int, MemoryBank] = {}
        if _OWNERS in state:
            owners, device = saved_tensor(state, _OWNERS, (None,), _TITLE), self.backbone.device
            for n in self.layers:
                rows = saved_tensor(state, f"good.{n}", (len(owners), self.width), _TITLE)
                banks[n] = MemoryBank(rows.to(device), owners.to(device))
        self.load_learned(state)
        self._memory = banks

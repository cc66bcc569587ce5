"""APRIL-GAN (Chen X., Han Y., Zhang J., "APRIL-GAN: A Zero-/Few-Shot Anomaly Classification and Segmentation Method for CVPR
2023 VAND Workshop Challenge Tracks 1&2: 1st Place on Zero-shot AD and 4th Place on Few-shot AD", 2023, arXiv 2305.17382).

Four linear maps bring patch tokens of four layers of the frozen image tower to the space of the words; they are learned once, on
labelled photos of other products with masks. Written from a reading of the released code.

* prototypes: 7 normal and 5 abnormal states in 35 sentences each, every sentence normalised before the mean;
* map: a softmax of 100 cos of the mapped tokens with both, at the size of the input, one map a layer, summed: 0 to 4;
* loss: focal + dice of every layer's map; image score: the same softmax of the class token, which nothing is trained for;
* with good photos: of every layer 1 - the largest cosine of a token with theirs is added to the map, and the image score becomes
  the mean of the text's probability and of how far the map's maximum lies above theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.errors import ConfigError
from promptad.inputs import argument, setting
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import Checkpoint, Progress, Recipe, train_epochs
from promptad.learning.map_losses import dice, focal
from promptad.learning.mosaic import MosaicSet
from promptad.methods.aprilgan.config import AprilGANConfig
from promptad.methods.catalogue import Needs
from promptad.methods.contract import EpochHook, Scores
from promptad.methods.learned_once import NAMELESS, LearnedOnce, class_words, say_nameless
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import quarter_layers
from promptad.methods.state import saved_tensor
from promptad.notices import notice
from promptad.prompts.words import ensemble
from promptad.scoring.maps import aligned_upsample
from promptad.scoring.memory import MemoryBank, layer_memories
from promptad.scoring.prototypes import anomalous_logit, anomalous_probability, ensemble_prototype

_TITLE = "APRIL-GAN"
_OWNERS, _PEAKS = "good.owners", "good.peaks"


class AprilGAN(LearnedOnce):
    """APRIL-GAN for one object; see the module's docstring.

    Args:
        backbone: frozen CLIP; the published numbers are with ViT-L-14-336 and the exact GELU. Of a ResNet the stages are tapped.
        config: see :class:`AprilGANConfig`. object_name: the object in words or as the data set names it.

    Raises:
        ConfigError: towers with another activation than is asked for, or words that do not exist. TextError: words that are
            too long.
    """

    name = "aprilgan"
    needs: ClassVar[Needs] = "masks"
    module: nn.ModuleDict

    def __init__(self, backbone: Backbone, config: AprilGANConfig, object_name: str = NAMELESS) -> None:
        self.backbone, self.config = backbone, config
        self._check_activation()
        self.layers = config.layers or quarter_layers(backbone.sizes.vision.layers, 4)
        self.request = FeatureRequest(taps=self.layers)
        self._ranked = RankedWords(backbone, config, object_name)
        self._own = self._prototypes(object_name)
        self._of_class: dict[str, Tensor] = {}
        self.module = self._start()
        self._forget()

    def _check_activation(self) -> None:
        asked, own = self.config.tower_activation, self.backbone.sizes.activation
        if asked not in ("any", own):
            raise ConfigError(
                f"these settings of {_TITLE} belong to towers with the activation {asked}, and {self.backbone.name} runs with "
                f"{own}; load it with {argument('activation', asked)}, or take it as it is "
                f"({setting('tower_activation', 'any')})"
            )

    def _prototypes(self, class_name: str) -> Tensor:
        """(2, E) unit vectors of an object's normal and abnormal sentences."""
        named = class_name if self.config.class_names == "raw" and class_name else class_words(class_name)
        sides = ensemble("april_gan", named)
        return torch.stack([ensemble_prototype(self.backbone.encode_texts(sentences)) for sentences in sides])

    def _start(self) -> nn.ModuleDict:
        """The linear maps with torch's own first values, as the seed draws them."""
        sizes = self.backbone.sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            maps = {f"tap{n}": nn.Linear(sizes.vision.tap_width(n), sizes.embed_dim) for n in self.layers}
        return nn.ModuleDict(maps).to(self.backbone.device)

    def _text_maps(self, features: Features, prototypes: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """The probability of "abnormal", (B, H, W) a layer, each view against its own prototypes (B, 2, E).

        The logits are enlarged, bilinear with the corners aligned, and the softmax is taken at `size`. Of two classes it is the
        sigmoid of the difference, and interpolation is linear, so the difference alone is enlarged.
        """
        normal, abnormal = prototypes.unbind(1)
        maps = []
        for layer in self.layers:
            rows = F.normalize(self.module[f"tap{layer}"](features.taps[layer]), dim=-1)
            logits = anomalous_logit(rows, normal, abnormal, self.config.scale)
            maps.append(aligned_upsample(logits.unflatten(1, features.grid), size).sigmoid())
        return maps

    # -- learning -----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        """Focal + dice of every layer's map, summed over the layers."""
        assert batch.masks is not None  # `train` asks for them
        prototypes = torch.stack([self._class_prototypes(name) for name in batch.class_names])
        maps = self._text_maps(batch.features, prototypes, cast(tuple[int, int], batch.masks.shape[-2:]))
        return torch.stack([focal(layer_map, batch.masks) + dice(layer_map, batch.masks) for layer_map in maps]).sum()

    def _class_prototypes(self, name: str) -> Tensor:
        if name not in self._of_class:
            self._of_class[name] = self._prototypes(name)
        return self._of_class[name]

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Learns anew from labelled photos with masks, and mosaics of them; gives the mean loss of every epoch.

        Raises:
            ConfigError: no data or no masks, training diverged, or the checkpoint is of another training. TextError: the name
                of a class is too long. WeightsError: the checkpoint is damaged.
        """
        config = self.config
        data = self.with_masks(data)
        mixed = MosaicSet(data, config.mosaic)
        say_nameless(data.records)
        self.module, self._trained = self._start(), False
        self._forget()
        history = train_epochs(
            self.module,
            lambda generator: mixed.shuffled(generator, config.batch_size),
            lambda items: self.loss(mixed.batch(items)),
            Recipe("adam", config.epochs, config.lr, config.betas, seed=config.seed),
            checkpoint=checkpoint,
            progress=progress,
        )
        self._of_class, self._trained = {}, True
        return history

    # -- good photos --------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._memory: dict[int, MemoryBank] = {}
        self._peaks = torch.empty(0, device=self.backbone.device)

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps the tokens of good photos and the maximum of each one's map.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        self._require()
        self._forget()
        if not photos:
            return
        notice(
            f"{_TITLE}'s image score with good photos: the maximum of a map counts from the lowest of the good photos on; the "
            "authors scale it by the least and the largest of all test photos of a class, which a photo alone does not have"
        )
        self._memory = layer_memories(photos, self.layers, self.config.memory_precision)
        # Compared with itself a photo has no distance at all, which is the lowest that can be said of a single one.
        apart: list[int | None] = [None] if len(photos) == 1 else list(range(len(photos)))
        peaks = [
            torch.cat([self._map(view, number).amax((1, 2)) for view in photo]).max()
            for number, photo in zip(apart, photos, strict=True)
        ]
        self._peaks = torch.stack(peaks)

    def _lowest(self, leave_out: int | None) -> Tensor:
        """The lowest maximum of a good photo's map; of the others, where there are any."""
        others = [number for number in range(len(self._peaks)) if number != leave_out]
        return self._peaks[others].min() if others else self._peaks.min()

    # -- scores -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _map(self, features: Features, leave_out: int | None) -> Tensor:
        """(B, H, W) at the size of the input: 0 to 1 a layer, and with good photos a distance of 0 to 2 more."""
        stride = self.backbone.sizes.vision.stride
        size = features.grid[0] * stride, features.grid[1] * stride
        total = torch.stack(self._text_maps(features, self._own.expand(len(features), -1, -1), size)).sum(0)
        if self._memory:
            distances = [2 * bank.distance(features.taps[n], leave_out=leave_out) for n, bank in self._memory.items()]
            total = total + aligned_upsample(torch.stack(distances).sum(0).unflatten(1, features.grid), size)
        return total

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) in [0, 1] and maps (B, H, W) at the size of the input; `parts` has "text", with good photos "map".

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        self._require()
        text = anomalous_probability(features.image, self._own[0], self._own[1], self.config.scale)
        maps = self._map(features, leave_out)
        if not self._memory:
            return Scores(text, maps, {"text": text})
        above = ((maps.amax((1, 2)) - self._lowest(leave_out)) / len(self.layers)).clamp(0, 1)
        return Scores((text + above) / 2, maps, {"text": text, "map": above})

    # -- saving -------------------------------------------------------------------------------------------------------

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`; good photos are forgotten. Raises WeightsError for missing and misshapen tensors."""
        super().load_learned(tensors)
        self._forget()

    def state(self) -> dict[str, Tensor]:
        """What was learned; of good photos each layer's unit tokens, whose they are, and the maxima of their maps."""
        out = self.learned()
        if self._memory:
            out |= {f"good.{layer}": bank.stored for layer, bank in self._memory.items()}
            out |= {_OWNERS: self._memory[self.layers[0]].owners, _PEAKS: self._peaks}
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        peaks = owners = None
        banks: dict[int, Tensor] = {}
        if _PEAKS in state:
            peaks, owners = (saved_tensor(state, name, (None,), _TITLE) for name in (_PEAKS, _OWNERS))
            for layer in self.layers:
                width = self.backbone.sizes.vision.tap_width(layer)
                banks[layer] = saved_tensor(state, f"good.{layer}", (len(owners), width), _TITLE)
        self.load_learned(state)
        if peaks is not None and owners is not None:
            device = self.backbone.device
            self._memory = {n: MemoryBank(rows.to(device), owners.to(device)) for n, rows in banks.items()}
            self._peaks = peaks.to(device)

"""MRAD (ICLR 2026): zero-shot detection by retrieval from a memory of labelled features of other products.

The memory holds a key for every labelled photo, and for every photo up to two keys of its patches, the means inside and outside
of its defect. A query's score is the share of anomalous keys among all, weighed by the softmax of their similarity:

* "tf" trains nothing: similarity is the cosine over `temperature`;
* "ft" learns a linear map for queries and one for keys, of photos and of patches: cross-entropy of the photo's two channels over
  0.07, focal and dice of the map; a training photo does not see keys that it is part of (`exclude`);
* photo's score: its own channel and the mean of the map's highest pixels.

Written from a reading of the released code; no constant of it that depends on the test set is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.errors import ConfigError
from promptad.inputs import setting
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.epochs import Checkpoint, Progress, Recipe, train_epochs
from promptad.learning.map_losses import dice, focal
from promptad.methods.catalogue import Needs
from promptad.methods.contract import Scores
from promptad.methods.learned_once import NAMELESS, LearnedOnce
from promptad.methods.mrad.config import MRADConfig
from promptad.methods.ranked_words import RankedWords
from promptad.methods.state import saved_tensor
from promptad.scoring.maps import top_of_smoothed
from promptad.scoring.retrieval import neighbourhood_mean, retrieved, two_sides

_TITLE = "MRAD"
_TASKS = ("image", "patch")
# Temperature of the loss of the photo's channels, in the released code.
_LOSS_TEMPERATURE = 0.07


@dataclass(frozen=True)
class Own:
    """What keys belong to: (N,) int64 each, of the photo and of its class."""

    photo: Tensor
    group: Tensor


class MRAD(LearnedOnce):
    """MRAD for one object; see the module's docstring.

    Args:
        backbone: frozen CLIP with a ViT as its image tower; the published numbers are with ViT-L-14-336.
        config: see :class:`MRADConfig`. object_name: only for naming defects, never for scores.

    Raises:
        ConfigError: a ResNet, or words that do not exist. TextError: words that are too long.
    """

    name = "mrad"
    needs: ClassVar[Needs] = "masks"

    def __init__(self, backbone: Backbone, config: MRADConfig, object_name: str = NAMELESS) -> None:
        sizes = backbone.vit(_TITLE)[1]
        self.backbone, self.config, self.layer = backbone, config, sizes.layers
        self.widths = {"image": backbone.sizes.embed_dim, "patch": sizes.width}
        self.request = FeatureRequest(
            taps=(self.layer,),
            local=LocalStream(config.local_start),
            normalise_class=False,
            tap_space="normed",
            tap_stream="local",
        )
        self._ranked = RankedWords(backbone, config, object_name)
        self.module = self._start()

    def _start(self) -> nn.Module:
        """An empty memory, and of "ft" the linear maps with torch's own first values, as the seed draws them."""
        module = nn.Module()
        for task in _TASKS:
            module.register_buffer(f"{task}_keys", torch.empty(0, self.widths[task]))
            module.register_buffer(f"{task}_labels", torch.empty(0))
        # Mean and deviation of the map's top and of the photo's channel over the memory's own photos.
        module.register_buffer("usual", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        if self.config.variant == "ft":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.config.seed)
                for task in _TASKS:
                    for side in ("query", "key"):
                        module.add_module(f"{task}_{side}", nn.Linear(self.widths[task], self.widths["image"]))
        return module.to(self.backbone.device)

    # -- queries and keys ---------------------------------------------------------------------------------------------

    def _patches(self, features: Features) -> Tensor:
        """(B, T, D) patches with their neighbourhood, not normalised."""
        return neighbourhood_mean(features.taps[self.layer], features.grid, self.config.neighbourhood)

    def _channel(self, task: str, queries: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The anomalous channel (...) of unit queries (..., D); `hidden` (..., N) True for keys that a query does not see."""
        module = self.module
        keys, labels = cast(Tensor, getattr(module, f"{task}_keys")), cast(Tensor, getattr(module, f"{task}_labels"))
        if self.config.exclude == "quantile" and hidden is not None:
            similar = queries @ keys.T
            hidden = similar > similar.quantile(self.config.excluded, dim=-1, keepdim=True)
        if self.config.variant == "ft":
            queries, keys = getattr(module, f"{task}_query")(queries), getattr(module, f"{task}_key")(keys)
        return retrieved(queries, keys, labels, self.config.temperature, hidden)

    def _channels(self, features: Features, hidden: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B,) of views and (B, h, w) of patches, from 0 to 1; `hidden` (B, N) of each task."""
        image = F.normalize(features.image, dim=-1)
        patches = F.normalize(self._patches(features), dim=-1)
        seen = hidden or {}
        own = seen["patch"][:, None].expand(-1, patches.shape[1], -1) if seen else None
        maps = self._channel("patch", patches, own).unflatten(1, features.grid)
        return self._channel("image", image, seen.get("image")), maps

    # -- learning -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _remember(self, data: AuxiliarySet) -> dict[str, Own]:
        """Fills the memory from all examples, in their order; gives whose the keys are."""
        classes = {name: number for number, name in enumerate(sorted({r.class_name for r in data.records}))}
        keys: dict[str, list[Tensor]] = {task: [] for task in _TASKS}
        about: dict[str, list[tuple[float, int, int]]] = {task: [] for task in _TASKS}
        for index, example in enumerate(data.examples):
            batch = data.batch([index])
            assert batch.masks is not None  # `train` asks for them
            group = classes[batch.class_names[0]]
            keys["image"].append(batch.features.image)
            about["image"].append((float(example.label), example.photo, group))
            rows, labels = two_sides(
                self._patches(batch.features)[0], batch.masks[0], batch.features.grid, self.config.cells
            )
            keys["patch"].append(rows)
            about["patch"] += [(label, example.photo, group) for label in labels]
        out = {}
        for task in _TASKS:
            table = torch.tensor(about[task], device=self.backbone.device)
            # Half precision, as files keep them.
            setattr(self.module, f"{task}_keys", F.normalize(torch.cat(keys[task]), dim=-1).half().float())
            setattr(self.module, f"{task}_labels", table[:, 0].float())
            out[task] = Own(table[:, 1].long(), table[:, 2].long())
        self._require_others(out, data)
        return out

    def _require_others(self, own: Mapping[str, Own], data: AuxiliarySet) -> None:
        if self.config.exclude == "class" and len(own["image"].group.unique()) == 1:
            raise ConfigError(
                f"all {len(data.records)} training photos are of one class, and {_TITLE} compares each with those of other "
                f"classes; give photos of several, or leave out its own keys alone ({setting('exclude', 'photo')})"
            )

    def _hidden(self, own: Mapping[str, Own], data: AuxiliarySet, rows: Sequence[int]) -> dict[str, Tensor]:
        """(B, N) of each task, True where examples do not see a key."""
        out = {}
        for task in _TASKS:
            first = own["image"]  # a key an example, in their order
            of = "photo" if self.config.exclude == "photo" else "group"
            mine = getattr(first, of)[list(rows)]
            out[task] = mine[:, None] == getattr(own[task], of)[None]
        return out

    def loss(self, batch: Batch, hidden: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the photo's channels over 0.07 + focal + dice of the map at the size of the masks."""
        assert batch.masks is not None  # `train` asks for them
        image, maps = self._channels(batch.features, hidden)
        # Both channels sum to one, so their difference is twice the anomalous one less one.
        of_photo = F.binary_cross_entropy_with_logits((2 * image - 1) / _LOSS_TEMPERATURE, batch.labels.to(image.dtype))
        size = batch.masks.shape[-2:]
        large = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False).squeeze(1)
        return of_photo + focal(large, batch.masks) + dice(large, batch.masks)

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Builds the memory from labelled photos with masks, and with "ft" learns the linear maps; gives the mean loss of every
        epoch, and none with "tf".

        Raises:
            ConfigError: no data or no masks, photos of one class alone, training diverged, or the checkpoint is of another training.
            WeightsError: the checkpoint is damaged.
        """
        config, labelled = self.config, self.with_masks(data)
        self.module, self._trained = self._start(), False
        own, history = self._remember(labelled), []
        if config.variant == "ft":
            history = train_epochs(
                self.module,
                lambda generator: labelled.shuffled(generator, config.batch_size),
                lambda rows: self.loss(labelled.batch(rows), self._hidden(own, labelled, rows)),
                Recipe(
                    "adam", config.epochs, config.lr, config.betas, seed=config.seed, cosine=True, lowest=config.lr_end,
                    by_batch=True,
                ),
                checkpoint=checkpoint,
                progress=progress,
            )  # fmt: skip
        cast(Tensor, self.module.usual).copy_(self._usual(labelled, own))
        self._trained = True
        return history

    @torch.no_grad()
    def _usual(self, data: AuxiliarySet, own: Mapping[str, Own]) -> Tensor:
        """(2, 2): mean and deviation of the map's top and of the photo's channel over all examples, none seeing itself."""
        values = []
        for index in range(len(data)):
            image, maps = self._channels(data.batch([index]).features, self._hidden(own, data, [index]))
            values.append(torch.stack([self._top(maps)[0], image[0]]))
        table = torch.stack(values)
        return torch.stack([table.mean(0), table.std(0).clamp(min=1e-6)], dim=1)

    # -- scores -------------------------------------------------------------------------------------------------------

    def _top(self, maps: Tensor) -> Tensor:
        """(B,): mean of the highest pixels of maps (B, h, w), enlarged to the size of the input and smoothed."""
        stride = self.backbone.sizes.vision.stride
        size = maps.shape[1] * stride, maps.shape[2] * stride
        side = self.config.input_size or self.backbone.input_size
        return top_of_smoothed(maps, size, self.config.top_smoothing * side / 518, self.config.top)

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,), standard deviations of both parts mixed or (fusion "plain") from 0 to 1, and patch maps (B, h, w)
        from 0 to 1; `parts` has "class", the photo's channel, and "map", the top of the map.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        self._require()
        image, maps = self._channels(features)
        both = torch.stack([self._top(maps), image])
        share = self.config.image_share
        if self.config.fusion == "standard":
            mean, deviation = cast(Tensor, self.module.usual).unbind(1)
            joined = (both - mean[:, None]) / deviation[:, None]
        else:
            joined = both
        return Scores((1 - share) * joined[0] + share * joined[1], maps, {"class": image, "map": both[0]})

    # -- saving -------------------------------------------------------------------------------------------------------

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`, a memory of any length. Raises WeightsError when a tensor is missing or of another shape."""
        given, lengths = {}, dict(self._lengths(tensors))
        module = self._start()
        for name, own in module.state_dict().items():
            task = name.partition("_")[0]
            shape = (lengths[task], *own.shape[1:]) if name.endswith(("keys", "labels")) else tuple(own.shape)
            given[name] = saved_tensor(tensors, name, shape, _TITLE).float().to(self.backbone.device)
        for name, value in given.items():
            if name.endswith(("_keys", "_labels", "usual")):
                setattr(module, name, value)
        module.load_state_dict(given)
        self.module, self._trained = module, True

    def _lengths(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, int]]:
        for task in _TASKS:
            yield task, len(saved_tensor(tensors, f"{task}_labels", (None,), _TITLE))

    def learned(self) -> dict[str, Tensor]:
        """The memory in half precision, which its keys have, and the rest as it is. Raises ConfigError before training."""
        return {name: value.half() if name.endswith("_keys") else value for name, value in super().learned().items()}

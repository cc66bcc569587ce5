"""PromptAD, zero-shot with two branches (Li Y. et al., "PromptAD: Zero-shot Anomaly Detection using Text Prompts", WACV 2024).

Trained once on good photos and a few labelled anomalies of other objects; a new object then needs words alone:

* the normality prompt defines the object, the abnormality prompt lists its anomaly types (section 4.1); each is one frozen
  embedding;
* two decoders read taps of the frozen image tower, each under the sign of its own prompt (section 3.3, `dual_branch`), compare
  with the other's prompt (3.4, eqs. 1 and 2) and mask each other (3.5, eqs. 3 and 4);
* both are trained by the symmetric deviation loss (3.6, eq. 5) on the mean of a map's hottest places (`learning.deviation`);
* the map is s_n + s_a (3.6), and good photos, if there are any, take the place of the normality prompt's prototype (4.2).

No code was released, and the paper leaves much open; `config` and the method's page say what was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.data.records import Record
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.deviation import deviation_loss, top_mean
from promptad.learning.drawn_photos import drawn_photos
from promptad.learning.epochs import Checkpoint, Progress, Recipe, train_epochs
from promptad.methods.catalogue import Needs
from promptad.methods.contract import EpochHook, Scores, Trained, WordScores
from promptad.methods.promptad_zs.config import PromptADZeroShotConfig
from promptad.methods.promptad_zs.dual_branch import DualBranch
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import quarter_layers
from promptad.methods.state import saved_tensor
from promptad.notices import notice
from promptad.prompts.words import anomaly_types, definition, object_words

_TITLE = "PromptAD zero-shot"
_DECODERS, _GOOD, _PROMPTS = "decoders.", "good.images", "prompts"


class PromptADZeroShot(Trained):
    """PromptAD zero-shot for one object.

    Args:
        backbone: frozen CLIP; the paper names ViT-B/16.
        config: see :class:`PromptADZeroShotConfig`.
        object_name: the object in words or as the data set names it.

    Raises:
        ConfigError: words that do not exist. TextError: words too long for the text tower.
    """

    name = "promptad-zs"
    needs: ClassVar[Needs] = "labels"

    def __init__(self, backbone: Backbone, config: PromptADZeroShotConfig, object_name: str = "object") -> None:
        self.backbone, self.config = backbone, config
        depth = backbone.vit("PromptAD zero-shot")[1].layers
        self.layers = config.layers or quarter_layers(depth, 3)
        self.request = FeatureRequest(taps=self.layers, tap_class=True)
        types = anomaly_types(object_name, source=config.state_bank, extra=config.defects, replace=config.only_defects)
        self.prompts = (config.definition or definition(object_name), self._abnormality(object_name, types))
        self._normal, self._abnormal = self._embed(self.prompts)
        self._ranked = RankedWords(backbone, config, object_name)
        self._net: DualBranch | None = None
        self._good = torch.empty(0, backbone.sizes.embed_dim, device=backbone.device)

    # -- prompts ------------------------------------------------------------------------------------------------------

    def _abnormality(self, class_name: str, types: Sequence[str]) -> str:
        """The abnormality prompt, with as many anomaly types as the text tower can read."""
        words, tokenizer = object_words(class_name), self.backbone.tokenizer
        for count in range(len(types), 0, -1):
            sentence = f"abnormality of {words} is {', '.join(types[:count])}"
            if len(tokenizer.words(sentence)) + 2 <= tokenizer.context_length:  # start and end token
                break
        if count < len(types):
            left = ", ".join(types[count:])
            notice(f"{words}: too many defect words for the text tower; left out: {left}")
        return sentence

    def _embed(self, texts: Sequence[str]) -> Tensor:
        """(P, E) embeddings as they enter the decoders."""
        return self._scaled(self.backbone.encode_texts(texts), self.config.prompt_norm)

    @staticmethod
    def _scaled(rows: Tensor, length: float | Tensor) -> Tensor:
        return F.normalize(rows, dim=-1) * length if length else rows

    def training_prompts(self, data: AuxiliarySet) -> dict[str, tuple[str, str]]:
        """Normality and abnormality prompt of every class; a person's own words and definition have no part in them.

        The abnormality prompt names all types of damage that the class has, not only the one that was drawn.
        """
        return {
            name: (definition(name), self._abnormality(name, anomaly_types(name, seen=data.defect_types.get(name, ()))))
            for name in sorted({record.class_name for record in data.records})
        }

    # -- training -----------------------------------------------------------------------------------------------------

    def choose(self, records: Sequence[Record]) -> list[Record]:
        """Per class its good *train* photos, and anomalies of one anomaly type of its *test* split, drawn by the seed.

        Raises:
            DataError: no good training photo or no anomaly at all.
        """
        config = self.config
        return drawn_photos(records, normals=config.normals, anomalies=config.anomalies, seed=config.seed)

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Trains both decoders anew; gives the mean loss of every epoch.

        Raises:
            ConfigError: no data, or training diverged. TextError: a class name too long for the text tower.
        """
        if data is None:
            raise ConfigError("PromptAD zero-shot trains on labelled photos; give a data set")
        config, device = self.config, self.backbone.device
        prompts = self.training_prompts(data)
        row = {name: index for index, name in enumerate(prompts)}
        normal = self._embed([pair[0] for pair in prompts.values()])
        abnormal = self._embed([pair[1] for pair in prompts.values()])
        net = self._build()
        net.text_norm.copy_(normal.norm(dim=-1).mean())
        if config.standardise:
            self._standardise(net, data)

        def loss(indices: Sequence[int]) -> Tensor:
            batch = data.batch(indices)
            rows = torch.tensor([row[name] for name in batch.class_names], device=device)
            levels = net(self._taps(batch.features), normal[rows], abnormal[rows])
            if config.loss_layers == "last":
                levels = levels[-1:]
            terms = [
                deviation_loss(self._top(scores), batch.labels, margin=config.margin)
                for maps in levels
                for scores in maps.values()
            ]
            return torch.stack(terms).sum()

        recipe = Recipe(
            config.optimiser,
            config.epochs,
            config.lr,
            weight_decay=config.weight_decay,
            decay_every=config.decay_every,
            decay=config.decay,
            seed=config.seed,
        )
        history = train_epochs(
            net, lambda g: self.plan(data, g), loss, recipe, checkpoint=checkpoint, progress=progress
        )
        self._net = net.requires_grad_(False)
        return history

    def _standardise(self, net: DualBranch, data: AuxiliarySet) -> None:
        """Sets mean and deviation of every channel over all patches of the training photos."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for indices in data.grouped(range(len(data)), self.config.batch_size):
            taps = torch.stack(self._taps(data.batch(indices).features))[:, :, 1:].cpu().double()
            count += taps.shape[1] * taps.shape[2]
            total, squares = total + taps.sum(dim=(1, 2)), squares + taps.square().sum(dim=(1, 2))
        mean = total / count
        net.tap_mean.copy_(mean)
        net.tap_scale.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())

    def plan(self, data: AuxiliarySet, generator: torch.Generator) -> list[list[int]]:
        """The batches of one epoch, as indices of `data.examples`: `iterations` of them, and a few shorter ones more
        where photos of different shapes cannot share one."""
        config = self.config
        if config.batches == "mixed":
            order = self._draw(data, range(len(data)), config.iterations * config.batch_size, generator)
            return data.grouped(order, config.batch_size)
        classes: dict[str, list[int]] = {}
        for index, example in enumerate(data):
            classes.setdefault(data.records[example.photo].class_name, []).append(index)
        batches: list[list[int]] = []
        names = sorted(classes)
        for episode in _endless(range(len(names)), config.iterations, generator):
            order = self._draw(data, classes[names[episode]], config.batch_size, generator)
            batches += data.grouped(order, config.batch_size)
        return batches

    def _draw(self, data: AuxiliarySet, members: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
        """`count` of the examples `members`, from a pool in which every anomaly stands `oversample` times."""
        normal = [index for index in members if data.examples[index].label == 0]
        anomalous = [index for index in members if data.examples[index].label == 1]
        if self.config.balanced and normal and anomalous:
            first = _endless(normal, count - count // 2, generator)
            second = _endless(anomalous, count // 2, generator)
            order = [0] * count
            order[::2], order[1::2] = first, second
            return order
        return _endless(normal + anomalous * self.config.oversample, count, generator)

    def _build(self) -> DualBranch:
        sizes = self.backbone.sizes
        with torch.random.fork_rng(devices=[]):  # the seed decides, and nobody else's random numbers move
            torch.default_generator.manual_seed(self.config.seed)
            net = DualBranch(self.config, len(self.layers), sizes.vision.width, sizes.embed_dim)
        return net.to(self.backbone.device).eval()

    def _taps(self, features: Features) -> list[Tensor]:
        return [features.taps[layer] for layer in self.layers]

    # -- scores -------------------------------------------------------------------------------------------------------

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps the image features of good photos of the object (few-shot, W-16); nothing is trained.

        Raises:
            ConfigError: no photo.
        """
        if not photos:
            raise ConfigError("fit needs at least one good photo")
        self._good = torch.stack(
            [F.normalize(torch.cat([view.image for view in photo]), dim=-1).mean(dim=0) for photo in photos]
        )

    def _prototype(self, net: DualBranch, leave_out: int | None) -> Tensor | None:
        """(E,) what stands for the normality prompt in phi_nor: the good photos' mean; None without good photos."""
        rows = [row for index, row in enumerate(self._good) if index != leave_out]
        if self.config.few_shot == "off" or not rows:
            return None
        return self._scaled(torch.stack(rows).mean(dim=0), net.text_norm)

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) and patch maps (B, h, w) of views; unbounded, around zero where the margin's middle is.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        net = self._trained_net()
        config, batch = self.config, len(features)
        prototype = self._prototype(net, leave_out)
        maps = net(
            self._taps(features),
            self._normal.expand(batch, -1),
            self._abnormal.expand(batch, -1),
            None if prototype is None else prototype.expand(batch, -1),
        )[-1]
        if config.scored != "both":
            maps = {config.scored: maps[config.scored]}
        total = torch.stack(list(maps.values())).sum(dim=0)
        parts = {side: self._top(scores) for side, scores in maps.items()}
        if config.image_score == "sum_of_tops":
            image = torch.stack(list(parts.values())).sum(dim=0)
        else:
            image = self._top(total)
        return Scores(image, total.view(batch, *features.grid), parts)

    @torch.no_grad()
    def photo_features(self, features: Features) -> Tensor:
        """(B, branches x width) what the decoders make of views: the mean over places of the last block's states.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        batch = len(features)
        prompts = self._normal.expand(batch, -1), self._abnormal.expand(batch, -1)
        states = self._trained_net().decoded(self._taps(features), *prompts)[1]
        return torch.cat([state[:, 1:].mean(dim=1) for state in states.values()], dim=-1)

    def _top(self, maps: Tensor) -> Tensor:
        """(B, T) scores of places -> (B,) mean of the hottest ones."""
        return top_mean(maps, self.config.top_fraction, self.config.top_rounding)

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views; the untrained ranking of `RankedWords`."""
        return self._ranked(features)

    # -- saving -------------------------------------------------------------------------------------------------------

    def _trained_net(self) -> DualBranch:
        if self._net is None:
            raise ConfigError(
                "PromptAD zero-shot has no trained decoders yet; train them with `promptad train promptad-zs`, or load "
                f"a file of them ({argument('weights')})"
            )
        return self._net

    def learned(self) -> dict[str, Tensor]:
        """Weights of both decoders, and the mean length of the training's normality prompts.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        state = self._trained_net().state_dict()
        return {_DECODERS + name: tensor.detach().contiguous() for name, tensor in state.items()}

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`; the scores are then those of the method that was trained."""
        net = self._build()
        expected = net.state_dict()
        given = {n: saved_tensor(tensors, _DECODERS + n, own.shape, _TITLE) for n, own in expected.items()}
        net.load_state_dict(given)
        self._net = net.requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """:meth:`learned`, (K, E) the mean unit image feature of every good photo, and (2, E) both prompts' embeddings:
        a threshold belongs to the prompts that it was set with, whatever a word file says later."""
        return self.learned() | {_GOOD: self._good, _PROMPTS: torch.stack([self._normal, self._abnormal])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`. Raises WeightsError when a tensor is missing or of another shape."""
        width = self.backbone.sizes.embed_dim
        good = saved_tensor(state, _GOOD, (len(state.get(_GOOD, ())), width), _TITLE)
        prompts = saved_tensor(state, _PROMPTS, (2, width), _TITLE)
        self.load_learned(state)
        self._normal, self._abnormal = prompts.to(self.backbone.device)
        self._good = good.to(self.backbone.device)


def _endless(members: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """`count` of the members in random order, each once before any comes again."""
    order: list[int] = []
    while len(order) < count:
        order += [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
    return order[:count]

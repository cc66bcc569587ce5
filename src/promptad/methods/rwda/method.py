"""RWDA, random-word data augmentation (Tamura, "Random Word Data Augmentation with CLIP for Zero-Shot Anomaly
Detection", BMVC 2023).

A small classifier is trained on text alone: on sentences of random words around "a" (normal) and "a damaged"
(anomalous, section 3.2). No photo and no object's name is used. Because CLIP puts photos and sentences into one space, the classifier
then judges photos; the score of a photo is the sum of

* s_pg, the probability of "a photo of a damaged object" against "a photo of an object" (section 3.1, "CLIP"),
* s_fnn, the classifier's probability of "anomalous" (section 3.3, "ours"),
* s_img, half the cosine distance to the nearest good photo, where there are any (section 4.2; its form is our reading).

There are no anomaly maps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.data.records import Record
from promptad.errors import ConfigError
from promptad.inputs import argument, setting
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.epochs import Checkpoint, Progress, train_epochs
from promptad.methods.catalogue import Needs
from promptad.methods.contract import EpochHook, Scores, Trained, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.rwda.config import RWDAConfig
from promptad.methods.state import saved_tensor
from promptad.notices import notice
from promptad.prompts.articles import with_articles
from promptad.prompts.random_words import SIDES, RandomWords, Side, encode_sentences, guide_sentence
from promptad.prompts.words import object_words
from promptad.scoring.memory import MemoryBank, build_memory
from promptad.scoring.prototypes import anomalous_probability

# Encoded sides of random sentences that are kept in memory: 10,000 x 640 floats are 25 MB. Training again with other
# guide words on one side, another lr or other widths then encodes nothing twice.
_KEPT_SIDES = 8
_encoded: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()


def _untrained() -> ConfigError:
    way_out = f"train it with `promptad train rwda -o FILE`, and load the file ({argument('weights')})"
    return ConfigError(f"the classifier of RWDA is not trained; {way_out}")


class Classifier(nn.Module):
    """Linear, batch norm, ReLU and dropout for every hidden width, then one linear layer to the logit.

    The paper names the parts (section 4.2); their order, and nothing but a linear layer at the end, are our reading. Batch
    norm keeps the statistics of the sentences it was trained on, and uses them for photos (our reading too).
    """

    def __init__(
        self, width: int, hidden: Sequence[int], dropout: float, *, normalize: bool, noise: float = 0.0
    ) -> None:
        super().__init__()
        self.normalize, self.noise = normalize, noise
        layers: list[nn.Module] = []
        for before, after in zip([width, *hidden[:-1]], hidden, strict=True):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, E) embeddings of sentences or photos -> (B,) logits, larger = more anomalous."""
        rows = F.normalize(embeddings, dim=-1) if self.normalize else embeddings
        if self.training and self.noise:
            length = rows.norm(dim=-1, keepdim=True) / rows.shape[-1] ** 0.5
            rows = rows + self.noise * length * torch.randn_like(rows)
        return self.layers(rows).squeeze(-1)

    @torch.no_grad()
    def hidden(self, embeddings: Tensor) -> list[Tensor]:
        """(B, E) embeddings -> the features (B, W) after each hidden layer."""
        rows, made = (F.normalize(embeddings, dim=-1) if self.normalize else embeddings), []
        for layer in list(self.layers)[:-1]:
            rows = layer(rows)
            if isinstance(layer, nn.Dropout):
                made.append(rows)
        return made


class RWDA(Trained):
    """RWDA for one object; the classifier is the same for all objects.

    Args:
        backbone: frozen CLIP; the paper's numbers are with ViT-B-16-plus-240.
        config: see :class:`RWDAConfig`.
        object_name: in words or as a data set names it; "object" is the paper's unknown object.

    Raises:
        ConfigError: words that do not exist. TextError: words too long for the text tower.
    """

    name = "rwda"
    needs: ClassVar[Needs] = "nothing"

    def __init__(self, backbone: Backbone, config: RWDAConfig, object_name: str = "object") -> None:
        self.backbone, self.config = backbone, config
        self.object = object_words(object_name)
        self.request = FeatureRequest()
        self._ranked = RankedWords(backbone, config, object_name)
        named = self.object if config.name_object else None
        agree = config.articles != "literal"
        sentences = [
            guide_sentence(side, guide, named, agree=agree) for side, guide in zip(SIDES, config.guides, strict=True)
        ]
        for guide in config.guides:
            if agree and with_articles(guide) != guide:
                notice(
                    f"guide words {guide!r}: their articles follow the next word; {setting('articles', 'literal')} keeps them"
                )
        self._normal, self._anomalous = backbone.encode_texts(sentences)
        self._classifier = self._start()
        self._trained = False
        self._memory: MemoryBank | None = None

    def _start(self) -> Classifier:
        """The classifier as the seed draws it, in eval mode."""
        config, width = self.config, self.backbone.sizes.embed_dim
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            start = Classifier(
                width, config.hidden, config.dropout, normalize=config.normalize_input, noise=config.noise
            )
        return start.to(self.backbone.device).eval()

    def sentence_embeddings(self, number: int) -> dict[str, Tensor]:
        """Embeddings (number, E) of the first random-word sentences of both sides, "normal" and "anomalous"."""
        words = replace(self.config, pairs=number).random_words()
        return {
            side: encode_side(self.backbone, words, side, guide)
            for side, guide in zip(SIDES, self.config.guides, strict=True)
        }

    def hidden(self, embeddings: Tensor) -> list[Tensor]:
        """(B, E) embeddings -> what the classifier's hidden layers make of them, (B, W) each."""
        return self._classifier.hidden(embeddings)

    @property
    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self._classifier.parameters())

    # -- training (sections 3.2 and 3.3) ------------------------------------------------------------------------------

    def choose(self, records: Sequence[Record]) -> list[Record]:
        """None of them: training reads no photo."""
        return []

    def train(
        self,
        data: AuxiliarySet | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> list[float]:
        """Encodes the random sentences and learns the classifier from them.

        Args:
            data: None; there is nothing to train on but words.
            checkpoint: where to go on from, see `learning.epochs`. The sentences are encoded again.
            progress: called with batches of sentences and of training done, and in all.

        Returns:
            Mean binary cross-entropy of every epoch.

        Raises:
            ConfigError: training diverged, or the checkpoint is of another training.
        """
        if data is not None:
            raise ConfigError("RWDA is trained on words alone; leave the data set out")
        config, words = self.config, self.config.random_words()
        batches = -(-config.pairs // config.batch_pairs)
        total = (len(SIDES) + config.epochs) * batches
        encoded = 0

        def tick(sentences: int) -> None:
            nonlocal encoded
            encoded += sentences
            if progress is not None:
                progress(encoded // config.batch_pairs, total)

        normal, anomalous = (
            encode_side(self.backbone, words, side, guide, tick)
            for side, guide in zip(SIDES, config.guides, strict=True)
        )

        def plan(generator: torch.Generator) -> list[Tensor]:
            return list(torch.randperm(config.pairs, generator=generator).split(config.batch_pairs))

        def loss(pairs: Tensor) -> Tensor:
            own = pairs.to(normal.device)
            logits = self._classifier(torch.cat([normal[own], anomalous[own]]))
            labels = torch.cat([torch.zeros(len(own)), torch.ones(len(own))]).to(logits.device)
            return F.binary_cross_entropy_with_logits(logits, labels)

        def trained(done: int, _: int) -> None:
            if progress is not None:
                progress(len(SIDES) * batches + done, total)

        self._classifier, self._trained = self._start(), False
        history = train_epochs(self._classifier, plan, loss, config.recipe(), checkpoint=checkpoint, progress=trained)
        self._trained = True
        return history

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Remembers the embeddings of good photos, all views of each.

        Raises:
            ConfigError: no photo.
        """
        if not photos:
            raise ConfigError("fit needs at least one good photo")
        # Few rows: nothing is gained by rounding them.
        self._memory = build_memory([torch.cat([view.image for view in photo]) for photo in photos], "fp32")

    # -- scores (sections 3.1, 3.3 and 4.2) --------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) of views: the sum of parts in [0, 1] each, or one part alone; there are no maps.

        A view is compared with all views of the good photos: where something lies in the photo need not agree.

        Raises:
            ConfigError: the classifier is neither trained nor loaded.
        """
        config = self.config
        if not self._trained:
            raise _untrained()
        parts: dict[str, Tensor] = {}
        if config.parts != "classifier":
            parts["guided"] = anomalous_probability(features.image, self._normal, self._anomalous, config.scale)
        if config.parts != "guided":
            parts["classifier"] = torch.sigmoid(self._classifier(features.image))
        if config.parts == "sum" and self._memory is not None:
            parts["reference"] = self._memory.distance(features.image, leave_out=leave_out)
        weights = {"reference": config.reference_weight}
        image = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum(0)
        return Scores(image, None, parts)

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for the views."""
        return self._ranked(features)

    # -- saving -------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Tensor]:
        """The classifier: weights, and the statistics of batch norm.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        if not self._trained:
            raise _untrained()
        return {f"classifier.{name}": value.detach().clone() for name, value in self._classifier.state_dict().items()}

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`. Raises WeightsError when a tensor is missing or of another shape."""
        expected = self._classifier.state_dict()
        given = {n: saved_tensor(tensors, f"classifier.{n}", own.shape, "RWDA") for n, own in expected.items()}
        self._classifier.load_state_dict(given)
        self._classifier.eval()
        self._trained = True

    def state(self) -> dict[str, Tensor]:
        """The classifier, and the embeddings of good photos where there are any."""
        out = self.learned()
        if self._memory is not None:
            out |= {"memory.rows": self._memory.stored, "memory.owners": self._memory.owners}
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`; the scores are then those of the saved detector."""
        self.load_learned(state)
        self._memory = None
        if "memory.rows" in state or "memory.owners" in state:
            count = len(state.get("memory.owners", ()))
            rows = saved_tensor(state, "memory.rows", (count, self.backbone.sizes.embed_dim), "RWDA")
            owners = saved_tensor(state, "memory.owners", (count,), "RWDA")
            device = self.backbone.device
            self._memory = MemoryBank(rows.to(device), owners.to(device))


def encode_side(
    backbone: Backbone, words: RandomWords, side: Side, guide: str, tick: Callable[[int], None] | None = None
) -> Tensor:
    """Features (pairs, E) of the sentences of one side, kept for the next training in this process.

    Args:
        tick: called with the number of sentences of every batch, or of all at once where they were kept.
    """
    key = (backbone.fingerprint, str(backbone.device), words, side, guide)
    if key in _encoded:
        _encoded.move_to_end(key)
        if tick is not None:
            tick(words.pairs)
        return _encoded[key]
    features = _encoded[key] = encode_sentences(backbone, words.sentences(side, guide), tick=tick)
    while len(_encoded) > _KEPT_SIDES:
        _encoded.popitem(last=False)
    return features

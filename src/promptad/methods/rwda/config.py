"""Settings and presets of RWDA (BMVC 2023). No code of its author exists, so `release` is `paper`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from promptad.annotations import Above0, Positive, Seed, Share, Weight
from promptad.clip.preprocess import Fit
from promptad.errors import ConfigError
from promptad.learning.epochs import Recipe
from promptad.methods.settings import FREE_SETTINGS, ScoringConfig
from promptad.prompts.random_words import Alphabet, Articles, RandomWords, check_guide_words, word_pairs


@dataclass(frozen=True)
class RWDAConfig(ScoringConfig):
    """Settings of RWDA, besides those of every method. What the paper leaves open is flag F-28."""

    idle: ClassVar[Mapping[str, str]] = dict.fromkeys(("map_size", "smoothing"), "RWDA gives no anomaly maps")

    # The paper looks at a photo in several crops.
    fit: Fit = "multicrop"
    # Mean over the crops, as printed.
    view_score: Literal["max", "mean"] = "mean"

    # -- sentences -------------------------------------------------------------------------------------------------
    # Guide words of normal sentences, those of training and those that guide.
    normal_words: str = "a"
    # Guide words of anomalous sentences.
    anomalous_words: str = "a damaged"
    # Whether the articles of guide words follow the next word (F-29): everywhere, by the letter in front of random words
    # and by sound in front of the object; in the guide sentences alone; or nowhere, the words stay as they are given.
    articles: Articles = "agree"
    # Pairs of random-word sentences that are trained on.
    pairs: Positive = 10_000
    # Fewest characters of a random word.
    shortest_word: Positive = 5
    # Most characters of a random word.
    longest_word: Positive = 10
    # "mixed" draws characters from A-Z, a-z and 0-9, "lower" from a-z and 0-9; the tokenizer does not tell case apart,
    # but digits are rarer in "mixed".
    alphabet: Alphabet = "mixed"

    # -- classifier ------------------------------------------------------------------------------------------------
    # Widths of the hidden layers.
    hidden: tuple[Positive, ...] = (512, 256, 128)
    # After each of them (F-28).
    dropout: Share = 0.5
    # The classifier reads unit vectors; off reads embeddings as the towers give them (F-28).
    normalize_input: bool = False
    # Length of the Gaussian noise on every training embedding, as a share of its own length; 0 as printed. Photos lie
    # about one length away from all sentences (the modality gap), so what is learned must survive a shift of that size.
    noise: Weight = 0.0
    # Pairs in a batch; both sentences of a pair are always in the same one.
    batch_pairs: Positive = 64
    # Passes over all pairs.
    epochs: Positive = 2
    # Learning rate of AdamW.
    lr: Above0 = 1e-3
    # Of AdamW (F-28).
    weight_decay: Weight = 1e-4
    # Factor on the learning rate after every epoch (F-28).
    decay: Weight = 0.1
    # Of the random words, the classifier's start, and the order of pairs.
    seed: Seed = 111

    # -- scores ----------------------------------------------------------------------------------------------------
    # Inverse temperature of the guide sentences.
    scale: Weight = 100.0
    # The guide sentences name the object, where it is known; off is the paper's "unknown object".
    name_object: bool = True
    # Of the distance to the good photos, where there are any (F-28).
    reference_weight: Weight = 1.0
    # The sum, or one of its parts alone: "guided" (CLIP and the guide sentences) or "classifier".
    parts: Literal["guided", "classifier", "sum"] = "sum"

    @property
    def scored_parts(self) -> str:
        """The parts that make the image score."""
        return self.parts

    def __post_init__(self) -> None:
        super().__post_init__()
        check_guide_words(*self.guides, self.articles)
        self.random_words()  # checks the lengths
        if not self.hidden:
            raise ConfigError("hidden must name at least one width, such as 512, 256, 128")

    @property
    def guides(self) -> tuple[str, str]:
        """Normal and anomalous guide words."""
        return self.normal_words, self.anomalous_words

    def random_words(self) -> RandomWords:
        """The words of the training sentences. Raises ConfigError for numbers that make no sense."""
        lengths = (self.shortest_word, self.longest_word)
        return RandomWords(self.pairs, self.seed, *lengths, self.alphabet, agree=self.articles == "agree")

    def recipe(self) -> Recipe:
        """How the classifier is trained."""
        return Recipe(
            "adamw",
            self.epochs,
            self.lr,
            weight_decay=self.weight_decay,
            decay_every=1,
            decay=self.decay,
            seed=self.seed,
        )


PARTS = ("guided", "classifier", "sum")
# The words of the guide sentences are those that were trained with; all else that only scores may be changed.
FREE = (*FREE_SETTINGS, "scale", "name_object", "reference_weight", "parts")

# What is printed, as we read it. What `clean` changes was measured, see docs/methods/rwda.md.
_PAPER = {"articles": "guide"}
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "fit": "auto",
        "view_score": "max",
        "normalize_input": True,
        "noise": 2.0,
        "scale": 10.0,
    },
    "paper": _PAPER,
    "release": _PAPER,
}


def pair_preset(normal: str, anomalous: str) -> str:
    """The name of a word pair's preset: "a good", "a broken" -> "paper-good-broken"."""
    return "-".join(["paper", *(words.split()[-1] for words in (normal, anomalous))])


# The word pairs of the paper's table 3, otherwise as printed; "paper-a-damaged" is `paper` itself.
PAIR_PRESETS = {
    pair_preset(normal, anomalous): _PAPER | {"normal_words": normal, "anomalous_words": anomalous}
    for normal, anomalous in word_pairs()
}
PRESETS |= PAIR_PRESETS

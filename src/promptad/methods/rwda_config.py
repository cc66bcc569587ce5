"""Settings and presets of RWDA (BMVC 2023). No code of its author exists, so `release` is `paper`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptad.errors import ConfigError
from promptad.learning.epochs import Recipe
from promptad.methods.base import FREE_SETTINGS, ScoringConfig, require_choices
from promptad.prompts.random_words import RandomWords, check_guide_words, word_pairs


@dataclass(frozen=True)
class RWDAConfig(ScoringConfig):
    """Settings of RWDA, besides those of every method. What the paper leaves open is flag F-28.

    Attributes:
        normal_words, anomalous_words: guide words, of the training sentences and of the guide sentences; "a" is written
            "an" in front of a vowel (F-29).
        pairs: pairs of random-word sentences that are trained on.
        shortest_word, longest_word: characters of a random word, both included. alphabet: "mixed" draws them from A-Z,
            a-z and 0-9, "lower" from a-z and 0-9; the tokenizer does not tell case apart, but digits are rarer in "mixed".
        hidden: widths of the classifier's hidden layers. dropout: after each of them (F-28).
        normalize_input: the classifier reads unit vectors; off reads embeddings as the towers give them (F-28).
        noise: length of the Gaussian noise on every training embedding, as a share of its own length; 0 as printed.
            Photos lie about one length away from all sentences (the modality gap), so what the classifier learns must
            survive a shift of that size.
        batch_pairs: pairs in a batch; both sentences of a pair are always in the same one.
        epochs, lr, weight_decay: of AdamW; decay: factor on lr after every epoch (F-28).
        scale: inverse temperature of the guide sentences.
        name_object: the guide sentences name the object, where it is known; off is the paper's "unknown object".
        reference_weight: of the distance to the good photos, where there are any (F-28).
        parts: "sum", or one of its parts alone: "guided" (CLIP and the guide sentences) or "classifier".
        seed: of the random words, the classifier's start, and the order of pairs.
    """

    fit: str = "multicrop"
    view_score: str = "mean"
    normal_words: str = "a"
    anomalous_words: str = "a damaged"
    pairs: int = 10_000
    shortest_word: int = 5
    longest_word: int = 10
    alphabet: str = "mixed"
    hidden: tuple[int, ...] = (512, 256, 128)
    dropout: float = 0.5
    normalize_input: bool = False
    noise: float = 0.0
    batch_pairs: int = 64
    epochs: int = 2
    lr: float = 1e-3
    weight_decay: float = 1e-4
    decay: float = 0.1
    scale: float = 100.0
    name_object: bool = True
    reference_weight: float = 1.0
    parts: str = "sum"
    seed: int = 111

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choices(self, {"parts": PARTS})
        check_guide_words(*self.guides)
        self.random_words()  # checks lengths and alphabet
        if not self.hidden or min(self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError("hidden must name at least one width, all at least 1; dropout must lie in 0..1 without 1")
        if self.batch_pairs < 1 or self.epochs < 1:
            raise ConfigError("batch_pairs and epochs must be at least 1")
        if self.lr <= 0 or min(self.noise, self.weight_decay, self.decay, self.scale, self.reference_weight) < 0:
            raise ConfigError(
                "lr must be positive; noise, weight_decay, decay, scale and reference_weight must not be negative"
            )

    @property
    def guides(self) -> tuple[str, str]:
        """Normal and anomalous guide words."""
        return self.normal_words, self.anomalous_words

    def random_words(self) -> RandomWords:
        """The words of the training sentences. Raises ConfigError for numbers that make no sense."""
        return RandomWords(
            self.pairs,
            self.seed,
            self.shortest_word,
            self.longest_word,
            self.alphabet,  # type: ignore[arg-type]
        )

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

# The fields' defaults are what is printed. What `clean` changes was measured, see docs/methods/rwda.md.
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "fit": "auto",
        "view_score": "max",
        "normalize_input": True,
        "noise": 2.0,
        "scale": 10.0,
    },
    "paper": {},
    "release": {},
}


def pair_preset(normal: str, anomalous: str) -> str:
    """The name of a word pair's preset: "a good", "a broken" -> "paper-good-broken"."""
    return "-".join(["paper", *(words.split()[-1] for words in (normal, anomalous))])


# The word pairs of the paper's table 3, otherwise as printed; "paper-a-damaged" is `paper` itself.
PAIR_PRESETS = {
    pair_preset(normal, anomalous): {"normal_words": normal, "anomalous_words": anomalous}
    for normal, anomalous in word_pairs()
}
PRESETS |= PAIR_PRESETS

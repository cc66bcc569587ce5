"""Sentences of random words around guide words, and their text features (RWDA, Tamura, BMVC 2023, section 3.2).

A random word says nothing about any object, so what sentences of many of them have in common is their guide words alone.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.clip.tokenizer import Tokenizer
from promptad.errors import ConfigError
from promptad.prompts.articles import with_articles
from promptad.prompts.words import bank

Articles = Literal["agree", "guide", "literal"]
Alphabet = Literal["mixed", "lower"]
Side = Literal["normal", "anomalous"]
SIDES: tuple[Side, Side] = ("normal", "anomalous")
RANDOM = "[r]"
_GUIDE = {"normal": "[n]", "anomalous": "[a]"}
# The tokenizer lower-cases, so the alphabet only decides how rare digits are: 10 of 62, or 10 of 36.
_CHARACTERS = {"mixed": string.ascii_letters + string.digits, "lower": string.ascii_lowercase + string.digits}
_PLAIN = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*")


@dataclass(frozen=True)
class RandomWords:
    """Pairs of sentences full of random words; the same values always give the same words.

    Attributes:
        pairs: how many pairs of a normal and an anomalous sentence. seed: of the words.
        shortest, longest: characters of a word, both ends included, each length equally likely.
        alphabet: "mixed" draws from A-Z, a-z and 0-9, "lower" from a-z and 0-9; words are always written in lower case.
        agree: the articles of guide words are "an" in front of random words with a vowel letter; off keeps them as given.

    Raises:
        ConfigError: no pair, impossible lengths, or an unknown alphabet.
    """

    pairs: int
    seed: int
    shortest: int = 5
    longest: int = 10
    alphabet: Alphabet = "mixed"
    agree: bool = True

    def __post_init__(self) -> None:
        if self.pairs < 1 or not 1 <= self.shortest <= self.longest:
            raise ConfigError("pairs must be at least 1, and words as long as 1 <= shortest_word <= longest_word")
        if self.alphabet not in _CHARACTERS:
            raise ConfigError(f"alphabet must be one of {', '.join(_CHARACTERS)}; got {self.alphabet!r}")

    def sentences(self, side: Side, guide: str) -> list[str]:
        """The sentences of one side around its guide words ("a", "a damaged"), (pairs,); the i-th of both are a pair.

        The random words do not depend on the guide words, and more pairs begin with the same ones.
        """
        template = bank("rwda")["templates"][side]
        form, slots = template.replace(RANDOM, "{}"), template.count(RANDOM)
        generator = np.random.default_rng([self.seed, SIDES.index(side)])
        words = self._words(generator, self.pairs * slots)
        rows = (words[start : start + slots] for start in range(0, len(words), slots))
        fill = _fill_by_letter if self.agree else _fill_literally
        return [fill(form.format(*row), _GUIDE[side], guide) for row in rows]

    def _words(self, generator: np.random.Generator, count: int) -> list[str]:
        characters = np.array(list(_CHARACTERS[self.alphabet].lower()))
        # Row by row, so that a word's draw does not depend on how many follow.
        rows = generator.random((count, self.longest + 1))
        lengths = self.shortest + (rows[:, 0] * (self.longest - self.shortest + 1)).astype(np.int64)
        letters: NDArray[np.str_] = characters[(rows[:, 1:] * len(characters)).astype(np.int64)]
        return ["".join(row[:length]) for row, length in zip(letters, lengths, strict=True)]


def guide_words(side: Side) -> list[str]:
    """The guide words of one side that the paper compares (table 3), its own choice first."""
    return list(bank("rwda")["words"][side])


def word_pairs() -> list[tuple[str, str]]:
    """The 16 pairs (normal, anomalous) of the paper's table 3, row by row."""
    return [(normal, anomalous) for normal in guide_words("normal") for anomalous in guide_words("anomalous")]


def guide_sentence(side: Side, guide: str, words: str | None = None, *, agree: bool = True) -> str:
    """What a photo is compared with: "a photo of a damaged bottle"; without an object's words, "... object".

    Args:
        agree: the articles of the guide words are spoken as English does ("an object"); off keeps them as given.
    """
    known = bank("rwda")["guide"]
    fill = _fill_by_sound if agree else _fill_literally
    return fill(known[side].replace("[c]", words or known["object"]), _GUIDE[side], guide)


def check_guide_words(normal: str, anomalous: str, articles: Articles = "agree") -> None:
    """Raises ConfigError for guide words that are none, or the same on both sides."""
    for words in (normal, anomalous):
        if not _PLAIN.fullmatch(words):
            raise ConfigError(f'guide words must be words such as "a damaged", got {words!r}')
    written = [words if articles == "literal" else with_articles(words) for words in (normal, anomalous)]
    if written[0] == written[1]:
        raise ConfigError(
            f'normal and anomalous guide words are both {normal!r}; give different ones such as "a" and "a damaged"'
        )


def _fill_literally(sentence: str, slot: str, guide: str) -> str:
    """The sentence with the guide words in place, as they are."""
    return sentence.replace(slot, guide)


def _fill_by_sound(sentence: str, slot: str, guide: str) -> str:
    """The sentence with the guide words in place; only their own articles follow the next word, not the template's."""
    before, after = sentence.split(slot)
    return before + " ".join(with_articles(f"{guide} {after.split()[0]}").split()[:-1]) + after


def _fill_by_letter(sentence: str, slot: str, guide: str) -> str:
    """The same where random words stand, which nobody speaks."""
    before, after = sentence.split(slot)
    return before + " ".join(with_articles(f"{guide} {after.split()[0]}", by_sound=False).split()[:-1]) + after


def encode_sentences(
    backbone: Backbone,
    sentences: Sequence[str],
    *,
    batch_size: int = 64,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Sentences -> (P, E) float32 text features in their order, not normalised.

    They are encoded from short to long, so that few positions are padding; one above the context length is cut, and keeps
    its end token.

    Args:
        tick: called after every batch with the number of sentences in it.
    """
    ids = [cut(backbone.tokenizer, sentence) for sentence in sentences]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    out = torch.empty(len(ids), backbone.sizes.embed_dim, device=backbone.device)
    end = backbone.tokenizer.end
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            longest = len(ids[chosen[-1]])
            rows = torch.tensor([ids[i] + [end] * (longest - len(ids[i])) for i in chosen], device=backbone.device)
            eot = torch.tensor([len(ids[i]) - 1 for i in chosen], device=backbone.device)
            out[chosen] = backbone.text(rows, eot)
            if tick is not None:
                tick(len(chosen))
    return out


def cut(tokenizer: Tokenizer, sentence: str) -> list[int]:
    """Token ids with start and end, the words cut where they do not fit in the context length."""
    return [tokenizer.start, *tokenizer.words(sentence)[: tokenizer.context_length - 2], tokenizer.end]

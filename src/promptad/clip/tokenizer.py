"""CLIP's byte-pair tokenizer, through the `tokenizers` library."""

from __future__ import annotations

import gzip
import hashlib
import string
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

import tokenizers

from promptad.errors import TextError, WeightsError
from promptad.notices import notice

START, END = "<|startoftext|>", "<|endoftext|>"
# One special token, a contraction, a run of letters, a single digit, or a run of anything else: CLIP's word pattern.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Turns strings into token ids between a start and an end token.

    Args:
        backend: a loaded `tokenizers.Tokenizer` that knows `<|startoftext|>` and `<|endoftext|>`.
        context_length: longest sequence allowed, start and end included.

    Raises:
        WeightsError: the backend lacks the start or end token.
    """

    def __init__(self, backend: tokenizers.Tokenizer, context_length: int = 77) -> None:
        start, end = backend.token_to_id(START), backend.token_to_id(END)
        if start is None or end is None:
            raise WeightsError(f"tokenizer has no {START} or {END} token; give a tokenizer.json made for CLIP")
        self.start, self.end, self.context_length = start, end, context_length
        self.vocab_size = backend.get_vocab_size()
        self._backend = backend
        self._unread: dict[str, str] = {}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the vocabulary, the merges and every step of reading, hexadecimal."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def reads_like(self, other: Tokenizer) -> bool:
        """Whether both have the same vocabulary with the same numbers."""
        return bool(self._backend.get_vocab() == other._backend.get_vocab())

    def words(self, text: str) -> list[int]:
        """Token ids of `text` alone, without start and end."""
        try:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        except TypeError as error:  # what the library says to lone surrogates, bytes of an argument that are no text
            raise TextError(f"text {text!a} is not valid Unicode; write it in UTF-8") from error

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` with start and end.

        Raises:
            TextError: more than `context_length` tokens; the text is not cut silently.
        """
        ids = [self.start, *self.words(text), self.end]
        if len(ids) > self.context_length:
            line = " ".join(text.split())
            shown = line if len(line) <= 60 else line[:57] + "..."
            raise TextError(
                f'text "{shown}" has {len(ids)} tokens, this model reads at most {self.context_length}; shorten it'
            )
        return ids

    def unread(self, text: str) -> dict[str, str]:
        """Words of the text of which characters are lost, and those characters.

        A character is lost where no token holds it whole: it is left out, or falls to single bytes. The starter knows
        English letters alone, and drops the last byte of such a word besides.
        """
        out = {}
        for word in (part.strip(string.punctuation) for part in text.split()):
            if word not in self._unread:
                self._unread[word] = self._lost(word)
            if self._unread[word]:
                out[word] = self._unread[word]
        return out

    def _lost(self, word: str) -> str:
        normaliser = self._backend.normalizer
        plain = normaliser.normalize_str(word) if normaliser is not None else word
        tokens = [str(token) for token in self._backend.encode(word, add_special_tokens=False).tokens]
        shown = self._as_tokens_show if self._of_bytes else str
        return "".join(c for c in dict.fromkeys(plain) if not any(shown(c) in token for token in tokens))

    @staticmethod
    def _as_tokens_show(character: str) -> str:
        return "".join(_BYTES[byte] for byte in character.encode("utf-8", "replace"))

    @cached_property
    def _of_bytes(self) -> bool:
        """Whether tokens are runs of bytes, as CLIP's are, rather than of characters."""
        return '"ByteLevel"' in self._backend.to_str()

    def batch(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Rows of ids padded to the longest with the end token, and the index of the end token of each row.

        The padding is never seen: the text tower is causal and is read at the first end token.
        """
        rows = [self.encode(text) for text in texts]
        longest = max((len(row) for row in rows), default=0)
        return [row + [self.end] * (longest - len(row)) for row in rows], [len(row) - 1 for row in rows]


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes, in the vocabulary's order (GPT-2's byte-level BPE)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(hidden))]


def _byte_stand_ins() -> dict[int, str]:
    """Byte -> the character that stands for it in the tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = printable + [byte for byte in range(256) if byte not in printable]
    return dict(zip(order, _byte_alphabet(), strict=True))


_BYTES = _byte_stand_ins()


def say_unread(tokenizer: Tokenizer, texts: Iterable[str], model: str) -> None:
    """A notice for every word that the tokenizer of a model cannot read; such words all mean the same to it: nothing."""
    words: dict[str, str] = {}
    for text in texts:
        words.update(tokenizer.unread(text))
    for word, lost in words.items():
        which = "none" if set(lost) >= set(word.lower()) else f"not {', '.join(map(repr, lost))}"
        notice(
            f"the tokenizer of {model} reads {which} of the characters of {word!r}, so to it such words are all alike; "
            "write it in English words, numbers as words"
        )


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's 49,408 tokens and 48,894 merges, from the merge list in the package (OpenAI, MIT)."""
    packed = files("promptad.clip").joinpath("openai_merges.txt.gz").read_bytes()
    lines = (line.partition(" ") for line in gzip.decompress(packed).decode().splitlines())
    merges = [(first, second) for first, _, second in lines]
    letters = _byte_alphabet()
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + [START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


@cache
def clip_tokenizer(context_length: int = 77) -> Tokenizer:
    """The tokenizer of every OpenAI and OpenCLIP model with the 49,408-token vocabulary."""
    from tokenizers import Regex, models, normalizers, pre_tokenizers

    vocabulary, merges = clip_vocabulary()
    model = models.BPE(
        vocab=vocabulary, merges=merges, unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.add_special_tokens([START, END])
    return Tokenizer(backend, context_length)


def read_tokenizer(path: Path, context_length: int = 77) -> Tokenizer:
    """A tokenizer from a `tokenizer.json`.

    Raises:
        WeightsError: the file is missing or is not a tokenizer.
    """
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise WeightsError(f"{path}: not a readable tokenizer.json ({error}); fetch the model folder again") from error
    # Some files carry truncation or padding; the length is checked here instead, and rows are padded here.
    backend.no_truncation()
    backend.no_padding()
    return Tokenizer(backend, context_length)

"""Token ids, lengths and damaged tokenizer files. The ids of running text are compared in tests/parity."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from promptad.clip.backbone import load_backbone
from promptad.clip.tokenizer import Tokenizer, clip_tokenizer, clip_vocabulary, read_tokenizer
from promptad.clip.zoo import STARTER_FOLDER
from promptad.errors import TextError, WeightsError
from promptad.methods.registry import find_method
from promptad.notices import collected_notices
from promptad.prompts.layout import PromptSet, Slot
from promptad.prompts.words import bank, ensemble, object_words


def small_file(path: Path, special: tuple[str, ...] = ("<|startoftext|>", "<|endoftext|>")) -> Path:
    words = [*special, "[UNK]", "a", "nut", "bent"]
    backend = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.enable_truncation(3)
    backend.enable_padding(length=7, pad_id=1, pad_token="[UNK]")
    backend.save(str(path))
    return path


def test_vocabulary_and_special_tokens_are_those_of_clip():
    tokenizer, (vocabulary, merges) = clip_tokenizer(), clip_vocabulary()
    assert (tokenizer.vocab_size, tokenizer.start, tokenizer.end) == (49408, 49406, 49407)
    assert tokenizer.context_length == 77 and len(merges) == 48894
    assert sorted(vocabulary.values()) == list(range(49408))
    assert vocabulary["!"] == 0 and vocabulary["!</w>"] == 256
    assert tokenizer.encode("a photo of a cat") == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize("word", ["object", "damaged", "normal", ".", "N", "A", "X", "with", "nut", "metal"])
def test_words_of_the_prompt_layouts_are_one_token(word):
    assert len(clip_tokenizer().words(word)) == 1


def test_a_batch_is_padded_with_the_end_token_and_says_where_each_row_ends():
    tokenizer = clip_tokenizer()
    rows, eot = tokenizer.batch(["metal nut", "", "a very bent metal nut."])
    assert len({len(row) for row in rows}) == 1 and eot == [3, 1, 7]
    for row, end, text in zip(rows, eot, ["metal nut", "", "a very bent metal nut."], strict=True):
        assert row[: end + 1] == [tokenizer.start, *tokenizer.words(text), tokenizer.end]
        assert set(row[end:]) == {tokenizer.end}
    assert tokenizer.batch([]) == ([], [])


def test_case_and_spaces_do_not_matter():
    tokenizer = clip_tokenizer()
    assert tokenizer.words("  Metal\t NUT\n") == tokenizer.words("metal nut")
    assert tokenizer.words("") == [] and tokenizer.words(" \n") == []


def test_a_text_of_exactly_the_context_length_passes_and_one_more_token_raises():
    tokenizer = clip_tokenizer()
    assert len(tokenizer.encode("nut " * 75)) == 77
    with pytest.raises(TextError) as caught:
        tokenizer.encode("nut " * 76)
    message = str(caught.value)
    assert "78 tokens" in message and "at most 77" in message and len(message) < 200
    assert "\n" not in message
    short = clip_tokenizer(5)
    assert len(short.encode("bent metal nut")) == 5
    with pytest.raises(TextError, match="at most 5"):
        short.encode("a bent metal nut")


def test_the_error_for_a_long_text_with_line_breaks_is_one_line():
    with pytest.raises(TextError) as caught:
        clip_tokenizer(4).encode("bent\nmetal\nnut")
    assert "\n" not in str(caught.value)


def test_text_that_is_no_unicode_is_a_text_error():
    """Arguments and file names of a Linux system can hold bytes that are not text."""
    with pytest.raises(TextError):
        clip_tokenizer().encode("nut \udcff")


def test_a_tokenizer_file_is_read_and_its_truncation_and_padding_are_ignored(tmp_path):
    tokenizer = read_tokenizer(small_file(tmp_path / "tokenizer.json"), context_length=8)
    assert (tokenizer.start, tokenizer.end, tokenizer.vocab_size) == (0, 1, 6)
    assert tokenizer.words("a bent nut a bent nut") == [3, 5, 4, 3, 5, 4]
    assert tokenizer.encode("nut") == [0, 4, 1]
    with pytest.raises(TextError, match="9 tokens"):
        tokenizer.encode("a nut a nut a nut a")


def test_a_saved_clip_tokenizer_reads_back_the_same(tmp_path):
    path = tmp_path / "tokenizer.json"
    clip_tokenizer()._backend.save(str(path))
    read, own = read_tokenizer(path), clip_tokenizer()
    assert read.vocab_size == own.vocab_size
    for text in ("a photo of a metal nut", "Ø12 naïve, isn't 0.05mm!", "螺丝 🔩"):
        assert read.encode(text) == own.encode(text)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", json.dumps({"version": "1.0"}).encode(), b"\xff\xfe\x00"])
def test_a_damaged_tokenizer_file_is_a_weights_error_of_one_line(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"not a readable tokenizer\.json") as caught:
        read_tokenizer(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_one_without_the_special_tokens_are_weights_errors(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.json"):
        read_tokenizer(tmp_path / "absent.json")
    with pytest.raises(WeightsError, match=r"no <\|startoftext\|>"):
        read_tokenizer(small_file(tmp_path / "tokenizer.json", ("<s>", "</s>")))
    with pytest.raises(WeightsError):
        Tokenizer(tokenizers.Tokenizer(models.WordLevel({"<|startoftext|>": 0}, unk_token="x")))


STARTER = read_tokenizer(STARTER_FOLDER / "tokenizer.json")


@pytest.mark.parametrize(
    ("text", "starter", "clip"),
    [
        ("a photo of a metal nut with scratch.", {}, {}),
        ("It's O-ring, (left)!", {}, {}),
        ("螺丝 with 划痕", {"螺丝": "螺丝", "划痕": "划痕"}, {"螺丝": "螺丝", "划痕": "划痕"}),
        ("\N{NUT AND BOLT} nut", {"\N{NUT AND BOLT}": "\N{NUT AND BOLT}"}, {"\N{NUT AND BOLT}": "\N{NUT AND BOLT}"}),
        ("гайка", {"гайка": "гайк"}, None),
        ("M8 screw", {"M8": "8"}, {}),
        ("größe", {"größe": "öß"}, {"größe": "ß"}),
        ("µm", {"µm": "µ"}, None),
        ("cafe\u0301", {"cafe\u0301": "é"}, {}),
    ],
)
def test_words_that_a_tokenizer_cannot_read_are_known_by_their_characters(text, starter, clip):
    """Against the bytes: a character is read where its UTF-8 bytes stand together in one token."""
    assert STARTER.unread(text) == starter
    if clip is not None:
        assert clip_tokenizer().unread(text) == clip


def test_what_is_unread_is_what_the_tokens_do_not_spell():
    """A slow, independent check: decoding the tokens gives the word back exactly where no character is lost."""
    backend = STARTER._backend
    for word in ("scratch", "o-ring", "zähler", "m8", "螺丝", "wood,", "café", "x-ray", "½″"):
        stand_ins = "".join(backend.id_to_token(i).removesuffix("</w>") for i in STARTER.words(word))
        spelled = bytes(_byte_alphabet_order()[c] for c in stand_ins) == word.encode()
        whole = all(len(backend.id_to_token(i).removesuffix("</w>")) >= 1 for i in STARTER.words(word))
        assert whole and (not STARTER.unread(word)) <= spelled, word
        assert STARTER.unread(word) or spelled


def _byte_alphabet_order() -> dict[str, int]:
    """Character -> byte of GPT-2's alphabet, written here from its rule: printable bytes stand for themselves."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def test_every_word_of_the_banks_is_read_by_the_starter():
    """No prompt of the package falls to bytes; a person's own words may."""
    words = [text for name in ("mvtec", "visa") for texts in bank(name)["classes"].values() for text in texts]
    words += [object_words(name) for dataset in ("mvtec", "visa") for name in bank(dataset)["classes"]]
    for name in ("winclip", "april_gan", "clip_ac", "two_prompt"):
        words += [text for side in ensemble(name, "cable") for text in side]
    assert len(words) > 600 and not any(STARTER.unread(text.replace("[c]", " ")) for text in words)


def test_unread_words_are_said_once_each_wherever_text_enters():
    clip = load_backbone()
    said = []
    for text in ("a photo of a 螺丝.", "a damaged 螺丝 with a scratch"):
        with warnings.catch_warnings(), collected_notices() as lines:
            warnings.simplefilter("ignore")
            clip.encode_texts([text, text])
            PromptSet([[Slot("p"), text]], {"p": (1, 4)}, clip)
        said += lines
    assert len(said) == 2 and all("starter" in line and "none of the characters of '螺丝" in line for line in said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_texts(["a photo of a metal nut."])


@pytest.mark.parametrize("method", ["promptad", "maple", "rwda"])
def test_unread_words_that_only_begin_or_guide_what_is_learned_are_said(method):
    settings = {
        "promptad": {"prefix_init": "a photo of a, 一张"},
        "maple": {"context_words": "a 一张", "context_tokens": 6},
        "rwda": {"normal_words": "一张"},
    }[method]
    entry = find_method(method)
    with warnings.catch_warnings(), collected_notices() as lines:
        warnings.simplefilter("ignore")
        entry.build(load_backbone(), entry.make_config("clean", **settings), "nut")
    assert any("none of the characters of '一张'" in line for line in lines)

"""Token ids, lengths and damaged tokenizer files. The ids of running text are compared in tests/parity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from promptad.clip.tokenizer import Tokenizer, clip_tokenizer, clip_vocabulary, read_tokenizer
from promptad.errors import TextError, WeightsError


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

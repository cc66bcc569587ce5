"""Random words and the sentences around guide words: what the paper says of them, and their text features."""

from __future__ import annotations

import re
import string

import pytest
import torch

from promptad.clip.backbone import load_backbone
from promptad.clip.tokenizer import Tokenizer, clip_tokenizer
from promptad.errors import ConfigError
from promptad.prompts.articles import with_articles
from promptad.prompts.random_words import (
    SIDES,
    RandomWords,
    check_guide_words,
    cut,
    encode_sentences,
    guide_sentence,
    guide_words,
    word_pairs,
)
from tiny import tiny_backbone

FORMS = {
    "normal": r"(\w+) a (\w+) photo (\w+) of (\w+) an? (\w+)",
    "anomalous": r"(\w+) a (\w+) photo (\w+) of (\w+) a damaged (\w+)",
}


def drawn(words: RandomWords, side: str) -> list[tuple[str, ...]]:
    """The random words of every sentence; the sentences have the paper's form."""
    guide = "a" if side == "normal" else "a damaged"
    matches = [re.fullmatch(FORMS[side], sentence) for sentence in words.sentences(side, guide)]
    assert all(matches)
    return [match.groups() for match in matches]


@pytest.fixture(scope="module", params=["starter", "clip"])
def tokenizer(request) -> Tokenizer:
    return clip_tokenizer() if request.param == "clip" else load_backbone("starter").tokenizer


@pytest.mark.parametrize("alphabet", ["mixed", "lower"])
def test_words_have_5_to_10_letters_and_digits_each_length_as_often(alphabet):
    rows = [row for side in SIDES for row in drawn(RandomWords(2000, 3, alphabet=alphabet), side)]
    words = [word for row in rows for word in row]
    assert len(words) == 2 * 2000 * 5 and len(set(words)) > 0.999 * len(words)
    assert set("".join(words)) == set(string.ascii_lowercase + string.digits)
    counts = [sum(len(word) == n for word in words) / len(words) for n in range(5, 11)]
    assert sum(counts) == pytest.approx(1) and max(abs(share - 1 / 6) for share in counts) < 0.01
    letters = "".join(words)
    digits = sum(letter.isdigit() for letter in letters) / len(letters)
    assert digits == pytest.approx(10 / 62 if alphabet == "mixed" else 10 / 36, abs=0.01)
    assert letters.count("e") / len(letters) == pytest.approx(2 / 62 if alphabet == "mixed" else 1 / 36, abs=0.004)


def test_other_lengths_and_the_same_words_for_the_same_seed():
    assert {len(w) for row in drawn(RandomWords(50, 0, 2, 3), "normal") for w in row} == {2, 3}
    first = RandomWords(40, 7)
    assert drawn(first, "normal") == drawn(RandomWords(40, 7), "normal")
    assert drawn(first, "normal") == drawn(RandomWords(90, 7), "normal")[:40]  # more pairs begin with the same ones
    others = [drawn(RandomWords(40, 8), "normal"), drawn(first, "anomalous")]
    assert not {w for row in drawn(first, "normal") for w in row} & {w for o in others for row in o for w in row}
    last = [sentence.split()[-1] for sentence in first.sentences("anomalous", "a broken")]
    assert last == [row[-1] for row in drawn(first, "anomalous")]


def test_the_article_follows_the_next_word():
    sentences = [sentence.split() for sentence in RandomWords(500, 1).sentences("normal", "a")]
    assert {article for *_, article, word in sentences if word[0] in "aeiou"} == {"an"}
    assert {article for *_, article, word in sentences if word[0] not in "aeiou"} == {"a"}
    assert all(row[1] == "a" for row in sentences)  # the template's own article is printed
    assert RandomWords(9, 1).sentences("normal", "an") == RandomWords(9, 1).sentences("normal", "a")
    assert all(" an anomalous " in s for s in RandomWords(9, 1).sentences("anomalous", "a anomalous"))
    assert all(" good " in s and " a good " in s for s in RandomWords(9, 1).sentences("normal", "an good"))


def test_articles_are_kept_as_given_where_that_is_asked_for():
    for words in ("a", "an", "a anomalous"):
        sentences = RandomWords(300, 1, agree=False).sentences("normal", words)
        assert all(f" {words} " in sentence for sentence in sentences)
        assert {sentence.split()[-1][0] for sentence in sentences} >= set("aeioub")
        assert guide_sentence("normal", words, "USB stick", agree=False) == f"a photo of {words} USB stick"
    check_guide_words("a", "an", "literal")
    with pytest.raises(ConfigError, match="are both"):
        check_guide_words("a", "a", "literal")


def test_guide_sentences_of_known_and_unknown_objects():
    assert guide_sentence("normal", "a") == "a photo of an object"
    assert guide_sentence("normal", "an") == "a photo of an object"
    assert guide_sentence("anomalous", "a damaged") == "a photo of a damaged object"
    assert guide_sentence("normal", "a", "metal nut") == "a photo of a metal nut"
    assert guide_sentence("normal", "a", "apple") == "a photo of an apple"
    assert guide_sentence("normal", "a", "USB stick") == "a photo of a USB stick"
    assert guide_sentence("normal", "a", "LED lamp") == "a photo of an LED lamp"
    assert guide_sentence("anomalous", "an anomalous", "metal nut") == "a photo of an anomalous metal nut"


def test_the_table_has_16_pairs():
    assert len(set(word_pairs())) == 16 and word_pairs()[0] == ("a", "a damaged")
    assert word_pairs()[5] == ("a normal", "a broken") and word_pairs()[-1] == ("a flawless", "an anomalous")
    assert guide_words("normal")[0] == "a" and guide_words("anomalous")[0] == "a damaged"
    for pair in word_pairs():
        check_guide_words(*pair)
        assert all(with_articles(f"{words} nut") == f"{words} nut" for words in pair)


def test_every_pair_fits_both_vocabularies(tokenizer):
    longest = 0
    for normal, anomalous in word_pairs():
        for side, guide in zip(SIDES, (normal, anomalous), strict=True):
            for sentence in RandomWords(40, 5).sentences(side, guide):
                ids = cut(tokenizer, sentence)
                assert ids == tokenizer.encode(sentence)  # nothing is cut
                assert ids.count(tokenizer.end) == 1 and max(ids) < tokenizer.vocab_size
                longest = max(longest, len(ids))
    assert 30 < longest <= 77


def test_a_sentence_above_the_context_length_keeps_its_end(tokenizer):
    (sentence,) = RandomWords(1, 0, 60, 60).sentences("normal", "a")
    assert len(tokenizer.words(sentence)) > 75
    ids = cut(tokenizer, sentence)
    assert len(ids) == 77 and ids[0] == tokenizer.start and ids.index(tokenizer.end) == 76
    assert ids[1:-1] == tokenizer.words(sentence)[:75]


def test_features_are_in_order_whatever_the_length():
    backbone, seen = tiny_backbone(), []
    sentences = [
        "a",
        *RandomWords(6, 2).sentences("normal", "a"),
        "a photo",
        *RandomWords(1, 2, 90, 90).sentences("normal", "a"),
    ]
    ours = encode_sentences(backbone, sentences, batch_size=3, tick=seen.append)
    assert seen == [3, 3, 3] and ours.shape == (9, backbone.sizes.embed_dim) and not ours.requires_grad
    assert torch.allclose(ours[:8], backbone.encode_texts(sentences[:8]), atol=1e-5)
    ids = torch.tensor([cut(backbone.tokenizer, sentences[8])])
    assert torch.allclose(ours[8:], backbone.text(ids, torch.tensor([76])), atol=1e-5)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"pairs": 0}, "pairs must be at least 1"),
        ({"shortest": 0}, "1 <= shortest_word"),
        ({"shortest": 6, "longest": 5}, "shortest_word <= longest_word"),
        ({"alphabet": "upper"}, "mixed, lower"),
    ],
)
def test_words_that_cannot_be_drawn(values, says):
    with pytest.raises(ConfigError, match=says):
        RandomWords(**({"pairs": 3, "seed": 0} | values))


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (("", "a damaged"), "must be words"),
        (("a", "a [c]"), "must be words"),
        (("a", "  "), "must be words"),
        (("a", "d4maged"), "must be words"),
        (("a {}", "a damaged"), "must be words"),
        (("a", "an"), "are both"),
        (("a anomalous", "an anomalous"), "are both"),
    ],
)
def test_guide_words_that_say_nothing(pair, says):
    with pytest.raises(ConfigError, match=says) as caught:
        check_guide_words(*pair)
    assert "\n" not in str(caught.value)

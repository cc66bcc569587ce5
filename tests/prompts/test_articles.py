"""The indefinite article, by sound and by letter."""

from __future__ import annotations

import pytest

from promptad.prompts.articles import with_articles

AN = """object apple engine image orange umbrella urn hour honest heirloom honourable LED-lamp SD-card X-ray MRI
unlit unimportant unintended unidentified onerous 8-pin 11-pole 18-bit 80-mm opener usher utter urban eight"""
A = """nut bottle used unit uniform union unique universal unicoloured unilateral USB-stick UV-lamp PCB urethane utensil
euro eucalyptus ewer one-piece one once house handle usual useless Ubiquitous yoke 7-pin 110-volt uranium hand"""


@pytest.mark.parametrize(
    ("word", "article"), [(word, "an") for word in AN.split()] + [(word, "a") for word in A.split()]
)
def test_the_article_goes_by_sound(word, article):
    for given in ("a", "an"):
        assert with_articles(f"photo of {given} {word}") == f"photo of {article} {word}"


def test_by_letter_it_goes_by_the_first_letter_alone():
    for word, article in {"used": "an", "hour": "a", "x5e": "a", "e5x": "an", "8u": "a", "usb": "an"}.items():
        assert with_articles(f"a {word}", by_sound=False) == f"{article} {word}"


def test_a_last_article_has_no_next_word():
    assert with_articles("an good a anomalous thing an") == "a good an anomalous thing a"

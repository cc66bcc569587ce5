""" "a" or "an": the indefinite article as the next word wants it, by letter or by sound."""

from __future__ import annotations

import re

# Words that are written with a vowel and spoken with a consonant: used, unit, USB, urethane, utensil, euro, one-piece.
_CONSONANT = re.compile(
    r"(eu|ewe|ufo|ubi|uk\b|us[aeiu]|usb|uni[acflopqtv]|unisex|unison|ur[aeio]|ut[aeio]|one\b|once\b)", re.IGNORECASE
)
# Words that are written with a consonant and spoken with a vowel: hour, honest, 8-pin, 11, 18-bit.
_VOWEL = re.compile(r"(hour|honest|honou?r|heir|8|(11|18)(?!\d))", re.IGNORECASE)
# LED, X-ray.
_SPELLED_OUT = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z](?![A-Za-z])")
# Letters whose names begin with a vowel: an LED, an SD card.
_SPELLED = frozenset("AEFHILMNORSX")


def sounds_like_vowel(word: str) -> bool:
    """Whether English says "an" in front of the word.

    Capitals are taken as spelled out ("an LED", "a USB stick"), all else by its first letter and a short list of words whose
    sound and spelling differ; a word that is in neither goes by its letter.
    """
    if _SPELLED_OUT.match(word):
        return word[0] in _SPELLED
    if _CONSONANT.match(word):
        return False
    return bool(_VOWEL.match(word)) or starts_with_vowel(word)


def starts_with_vowel(word: str) -> bool:
    """Whether its first letter is a, e, i, o or u."""
    return word[:1].lower() in tuple("aeiou")


def with_articles(text: str, *, by_sound: bool = True) -> str:
    """The text with every "a" and "an" as the next word wants it (flag F-29); a last one becomes "a".

    Args:
        by_sound: as it is spoken; off goes by the letter, for words that nobody speaks.
    """
    words, wants_an = text.split(), sounds_like_vowel if by_sound else starts_with_vowel
    for index, word in enumerate(words):
        if word in ("a", "an"):
            words[index] = "an" if index + 1 < len(words) and wants_an(words[index + 1]) else "a"
    return " ".join(words)

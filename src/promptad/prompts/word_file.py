"""A person's own defect words: a TOML file, or the same tables as data, so that they can travel inside another file.

::

    [classes]
    metal_nut = ["[c] with scratch", "bent [c]"]   # for this object; case, spaces and hyphens make no difference

    [states]
    all = ["dirty [c]"]                            # for every object
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.parsing import parsed_json, parsed_toml

OBJECT = "[c]"
INLINE = "{"
"""How a source of words begins that holds the words themselves, as JSON, and is no name or path."""
LARGEST_FILE = 4 << 20
"""Bytes of a word file; what is larger is some other file by mistake."""
_EXAMPLE = '["[c] with scratch"]'


def lookup_key(name: str) -> str:
    """What names of one object have in common: "Metal Nut", "METAL-NUT" and "metal_nut" give "metal_nut"."""
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def check_text(text: str, what: str) -> None:
    """Raises ConfigError for characters that are no text: controls (NUL, escape, ...) and turns of the reading direction."""
    for character in text:
        # Bidirectional overrides make a report show other words than those that were scored.
        turned = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        if turned or (unicodedata.category(character) == "Cc" and not character.isspace()):
            raise ConfigError(
                f"{what} {text!a} holds the character U+{ord(character):04X}, which is no text; leave it out"
            )


def as_state(defect: str) -> str:
    """A person's own words as a state: "with scratch", "scratch" -> "[c] with scratch"; "bent [c]" stays.

    The words that decide about the form ("with", "without", "[c]") are known in any case, the others are kept as written.

    Raises:
        ConfigError: empty words, or characters that are no text.
    """
    check_text(defect, "the defect")
    words = re.sub(re.escape(OBJECT), OBJECT, " ".join(defect.split()), flags=re.IGNORECASE)
    if not words.replace(OBJECT, "").strip():
        raise ConfigError(
            f"a defect needs words, for example {argument('defects', 'with scratch')} or {argument('defects', 'bent [c]')}"
        )
    if OBJECT in words:
        return words
    first, _, rest = words.partition(" ")
    if rest and first.lower() in ("with", "without"):
        return f"{OBJECT} {first.lower()} {rest}"
    if rest and first.lower() in ("a", "an", "the"):
        return f"{OBJECT} with {first.lower()} {rest}"
    return f"{OBJECT} with {words}"


@dataclass(frozen=True)
class WordFile:
    """Defect words of objects, checked.

    Attributes:
        classes: name of an object, as written -> its states ("[c] with scratch").
        everywhere: states for every object.
        where: the file, or "these words": what lines about it call it.
    """

    classes: Mapping[str, tuple[str, ...]]
    everywhere: tuple[str, ...]
    where: str = "these words"

    def states(self, object_name: str) -> list[str]:
        """The states for every object and those of this one; a notice where there are none."""
        wanted = lookup_key(object_name)
        own = next((words for name, words in self.classes.items() if lookup_key(name) == wanted), ())
        states = [*self.everywhere, *own]
        if not states:
            names = ", ".join(list(self.classes)[:6]) + (", ..." if len(self.classes) > 6 else "")
            notice(
                f"{self.where}: no words for {object_name!r}, so none of it is used; it has words for "
                f"{names or 'no object'}; a line all = [...] in [states] serves every object"
            )
        return states

    def to_dict(self) -> dict[str, dict[str, list[str]]]:
        """JSON-ready tables of the form of the file; :func:`words_from_dict` reads them."""
        classes = {name: list(words) for name, words in self.classes.items()}
        return {"classes": classes, "states": {"all": list(self.everywhere)}}

    @property
    def text(self) -> str:
        """The words as one line of JSON that can stand wherever the path of the file can; equal words, equal text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of :attr:`text`, hexadecimal: the words' own, whatever the file's comments and order."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def read_words(path: Path) -> WordFile:
    """Reads a TOML word file.

    Raises:
        ConfigError: missing, unreadable, not TOML, or a table of another form; the line names the file and the entry.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is no file; give a .toml file with words")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such word file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"{str(path)!a}: this word file cannot be read ({_reason(error)})") from error
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path}: is larger than {LARGEST_FILE >> 20} MB, so it is no word file; give the right one")
    try:
        table = parsed_toml(content.decode("utf-8-sig"))
    except ValueError as error:  # TOML, UTF-8, and numbers of more digits than Python converts
        raise ConfigError(f"{path}: not a readable TOML word file ({_reason(error)})") from error
    return words_from_dict(table, str(path))


def words_from_text(text: str, where: str = "these words") -> WordFile:
    """Reads what :attr:`WordFile.text` gave.

    Raises:
        ConfigError: not JSON, or a table of another form.
    """
    try:
        table = parsed_json(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not readable as JSON ({_reason(error)})") from error
    return words_from_dict(table, where)


def words_from_dict(table: Any, where: str = "these words") -> WordFile:
    """Checks tables of words: `{"classes": {name: [words, ...]}, "states": {"all": [words, ...]}}`, either may be left out.

    Raises:
        ConfigError: another form, words that are no text, an entry that nobody would read, or no words at all.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: holds a {type(table).__name__}, expected tables [classes] or [states]")
    sections = {"classes": table.get("classes", {}), "states": table.get("states", {})}
    if not any(sections.values()):
        raise ConfigError(f'{where}: has neither a [classes] nor a [states] table; see docs, "Your own words"')
    for section, entries in sections.items():
        if not isinstance(entries, Mapping):
            raise ConfigError(f"{where}: {section} must be a table, [{section}], with lines such as name = {_EXAMPLE}")
    read = {section: _states(entries, f"{where}: {section}") for section, entries in sections.items()}
    if unread := sorted(set(read["states"]) - {"all"}):
        raise ConfigError(
            f"{where}: states.{unread[0]} is not read; write [states] all = [...] or [classes] {unread[0]} = [...]"
        )
    keys: dict[str, str] = {}
    for name in read["classes"]:
        if (other := keys.setdefault(lookup_key(name), name)) != name:
            raise ConfigError(
                f"{where}: classes.{other} and classes.{name} name the same object; put their words together"
            )
    if ignored := sorted(str(name) for name in set(table) - {"classes", "states"}):
        notice(f"{where}: only [classes] and [states] are read, so {', '.join(ignored)[:100]} is not used")
    return WordFile(read["classes"], read["states"].get("all", ()), where)


def _states(entries: Mapping[Any, Any], where: str) -> dict[str, tuple[str, ...]]:
    """The entries of one table, every list of words as states."""
    out = {}
    for name, words in entries.items():
        check_text(str(name), f"{where}: the name")
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise ConfigError(f"{where}.{name} must be a list of texts such as {_EXAMPLE}")
        try:
            out[str(name)] = tuple(as_state(word) for word in words)
        except ConfigError as error:
            raise ConfigError(f"{where}.{name}: {error}") from error
    return out


def _reason(error: Exception) -> str:
    """One line of an error that another library raised, at most 160 characters of it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:160]

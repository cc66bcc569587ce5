"""Words: object names, defect states and prompt ensembles, read from the TOML banks or from a person's own file.

A state is a phrase with `[c]` where the object's name goes: "damaged [c]", "[c] with scratch". Which words an object gets,
and from where, is what :func:`words_in_use` and :func:`types_in_use` answer.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from promptad.errors import ConfigError
from promptad.inputs import argument, setting
from promptad.notices import notice_about
from promptad.prompts.word_file import (
    INLINE,
    OBJECT,
    WordFile,
    as_state,
    check_text,
    lookup_key,
    read_words,
    words_from_text,
)

_DATASET_BANKS = {"mvtec": "MVTec AD", "visa": "VisA"}
GENERAL, OWN = "general", "your own"
"""Origins of words that belong to no object, and that a person gave."""


@cache
def bank(name: str) -> dict[str, Any]:
    """The bank `name` of the package, one of the files in `prompts/banks`, such as "generic" or "mvtec".

    Raises:
        ConfigError: no such bank. Only names are taken, never a path.
    """
    folder = files("promptad.prompts").joinpath("banks")
    known = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    if name not in known:
        raise ConfigError(f"no word bank {name!r}; there are {', '.join(known)}; a file of your own ends in .toml")
    return tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def check_object(name: str) -> str:
    """The object's name, if it stands on one line, as it does in tables, lines and file headers.

    Raises:
        ConfigError: it holds line breaks, or characters that are no text.
    """
    check_text(name, "the object's name")
    if name.splitlines() not in ([], [name]):
        raise ConfigError(f"the object's name {name!a} has line breaks; give it on one line")
    return name


def object_words(name: str) -> str:
    """The words for an object: the data sets' own for their classes, in whatever case and with whatever separators they are
    written, otherwise what was given, with spaces for underscores.

    Raises:
        ConfigError: no words, or characters that are no text.
    """
    check_text(name, "the object's name")
    key = lookup_key(name)
    for dataset in _DATASET_BANKS:
        if key in bank(dataset)["names"]:
            return str(bank(dataset)["names"][key])
        if key in bank(dataset)["classes"]:
            return key.replace("_", " ")
    words = " ".join(name.replace("_", " ").split())
    if not words:
        raise ConfigError(
            f"the object has no name; say what the photos show, for example {argument('object', 'metal nut')}"
        )
    return words


def resolved_words(source: str) -> str:
    """A source of words that depends on no file: the words of a TOML file as one line of JSON, a bank's name as it is.

    What it gives can be used wherever `source` can, today and in another place: a saved detector holds it.

    Raises:
        ConfigError: an unknown bank, or a file that cannot be read or is of another form.
    """
    own = own_words(source)
    if own is not None:
        return own.text
    _bank_classes(source)
    return source


def own_words(source: str) -> WordFile | None:
    """The words of a TOML file, or of what :func:`resolved_words` made of one; None where `source` is a bank's name.

    Raises:
        ConfigError: a file that cannot be read, or words of another form.
    """
    if source.lstrip().startswith(INLINE):
        return words_from_text(source)
    return read_words(Path(source)) if source.lower().endswith(".toml") else None


@dataclass(frozen=True)
class WordsInUse:
    """The defect words of one object, and where each comes from.

    Attributes:
        object: the object's words.
        groups: (origin, states) in the order of their use; origins are "general", a data set ("MVTec AD"), a word file, and
            "your own". Words that a source repeats are kept.
    """

    object: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def states(self) -> list[str]:
        """All states in order."""
        return [state for _, states in self.groups for state in states]

    @property
    def digest(self) -> str:
        """SHA-256 of the object's words and the states in order, hexadecimal; the origins have no part in it."""
        content = json.dumps([self.object, self.states], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `{"object": ..., "words": [{"from": origin, "states": [...]}, ...], "sha256": ...}`."""
        words = [{"from": origin, "states": list(states)} for origin, states in self.groups]
        return {"object": self.object, "words": words, "sha256": self.digest}

    def describe(self) -> str:
        """One line for a report: "general: damaged, flawed, ...; MVTec AD: with scratch, ...; your own: bent"."""
        parts = (f"{origin}: {', '.join(map(defect_words, states))}" for origin, states in self.groups)
        return "; ".join(parts)


def defect_words(state: str) -> str:
    """What a report shows for a state: "[c] with scratch" -> "with scratch"."""
    return " ".join(state.replace(OBJECT, " ").split())


def fill(state: str, words: str) -> str:
    """The state with the object's words in place of `[c]`."""
    return state.replace(OBJECT, words)


def words_in_use(
    object_name: str,
    *,
    generic: str = "eight",
    source: str = "auto",
    extra: Sequence[str] = (),
    replace: bool = False,
) -> WordsInUse:
    """Which defect words an object gets: the general ones, then those of its class, then a person's own.

    Args:
        object_name: as the data set or the person writes it ("metal_nut", "Metal nut", "cookie").
        generic: "eight", "five" (flag F-10 of PromptAD) or "none".
        source: where class states come from: "auto" (MVTec AD or VisA when the class is theirs, which is said in a notice),
            "none", a bank of the package with classes, the path of a TOML file, or the words themselves
            (:func:`resolved_words`).
        extra: a person's own words, see :func:`as_state`.
        replace: use `extra` alone.

    Returns:
        States in a fixed order; entries that a source repeats are kept, a person's repetitions are dropped.

    Raises:
        ConfigError: unknown bank, unreadable file, or nothing left.
    """
    own = [as_state(words) for words in extra]
    groups: list[tuple[str, tuple[str, ...]]] = []
    if not replace:
        if generic != "none":
            known = bank("generic")["states"]
            if generic not in known:
                raise ConfigError(f"generic states {generic!r} unknown; expected 'eight', 'five' or 'none'")
            groups.append((GENERAL, tuple(known[generic])))
        groups += _class_words(object_name, source)
        _say_added(object_name, source, groups)
    # The tokenizer reads no case, so words that differ in case alone are the same.
    seen = {state.casefold() for _, states in groups for state in states}
    new = []
    for state in own:
        if state.casefold() not in seen:
            new.append(state)
            seen.add(state.casefold())
    if new:
        groups.append((OWN, tuple(new)))
    if not any(states for _, states in groups):
        raise ConfigError(f"no defect words at all; name some, for example {argument('defects', 'with scratch')}")
    return WordsInUse(object_words(object_name), tuple(groups))


def anomaly_states(
    class_name: str,
    *,
    generic: str = "eight",
    source: str = "auto",
    extra: Sequence[str] = (),
    replace: bool = False,
) -> list[str]:
    """The states alone of :func:`words_in_use`."""
    return words_in_use(class_name, generic=generic, source=source, extra=extra, replace=replace).states


def _class_words(object_name: str, source: str) -> list[tuple[str, tuple[str, ...]]]:
    """(origin, states) of the object's class in each place where `source` says to look and there are some."""
    if source == "none":
        return []
    if (own := own_words(source)) is not None:
        states = own.states(object_name)
        return [(Path(own.where).name, tuple(states))] if states else []
    key = lookup_key(object_name)
    listed = [(title, table.get(key, ())) for title, table in _bank_classes(source)]
    return [(title, tuple(states)) for title, states in listed if states]


def _bank_classes(source: str) -> list[tuple[str, dict[str, list[str]]]]:
    """(title, class -> states) of the banks that a source names.

    Raises:
        ConfigError: no such bank, or one without words of classes.
    """
    if source in ("auto", "none"):
        return [(title, bank(name)["classes"]) for name, title in _DATASET_BANKS.items() if source == "auto"]
    if "classes" not in bank(source):
        raise ConfigError(
            f"word bank {source!r} has no defect words of objects; those that have are {', '.join(_DATASET_BANKS)}"
        )
    return [(_DATASET_BANKS.get(source, source), bank(source)["classes"])]


def _say_added(object_name: str, source: str, groups: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A notice for words that nobody asked for by name: those of a data set that knows an object of this name."""
    for origin, states in groups if source == "auto" else ():
        if origin in _DATASET_BANKS.values():
            way_out = f"{setting('state_bank', 'none')} leaves them out"
            notice_about(
                repr(object_name),
                f"{object_name!r} is an object of {origin}, so the defect words of that data set are used too: "
                f"{', '.join(dict.fromkeys(map(defect_words, states)))}; {way_out}",
                f"{{}} are objects of {origin}, so the defect words that belong to each there are used too; {way_out}",
            )


def definition(class_name: str) -> str:
    """What an object is, in one sentence as of a dictionary; a general one for objects that the bank does not know."""
    table = bank("definitions")
    known = table["definitions"].get(_definition_key(class_name))
    return str(known) if known else fill(table["generic"], object_words(class_name))


def types_in_use(
    object_name: str,
    *,
    source: str = "auto",
    extra: Sequence[str] = (),
    replace: bool = False,
    seen: Sequence[str] = (),
) -> WordsInUse:
    """Names of an object's anomaly types, as PromptAD zero-shot (WACV 2024) lists them in a sentence: "bent wire".

    Args:
        object_name, source, extra, replace: see :func:`words_in_use`; "auto" knows the types of MVTec AD and VisA.
        seen: further types, as the folders of a data set are named; those that say nothing ("bad") are dropped.

    Returns:
        A person's own words first, each once; the generic states where nothing else is known.

    Raises:
        ConfigError: unknown bank, unreadable file, or words that are empty.
    """
    groups: list[tuple[str, tuple[str, ...]]] = [(OWN, tuple(as_state(words) for words in extra))]
    if not replace:
        known = bank("definitions")["types"].get(_definition_key(object_name), ()) if source == "auto" else ()
        classes = [(_TYPES, tuple(known))] if known else _class_words(object_name, source)
        if not seen:  # whoever names the folders of a data set knows that it is one
            _say_types(object_name, source, classes)
        groups += [*classes, ("the data set's folders", tuple(name for name in seen if name not in _SAY_NOTHING))]
    if not any(states for _, states in groups):
        groups = [(GENERAL, tuple(bank("generic")["states"]["eight"]))]
    listed: dict[str, str] = {}
    for origin, states in groups:
        for state in states:
            listed.setdefault(defect_words(state.replace("_", " ")).removeprefix("with "), origin)
    origins = dict.fromkeys(listed.values())
    ordered = tuple((origin, tuple(word for word, its in listed.items() if its == origin)) for origin in origins)
    return WordsInUse(object_words(object_name), ordered)


def anomaly_types(
    class_name: str,
    *,
    source: str = "auto",
    extra: Sequence[str] = (),
    replace: bool = False,
    seen: Sequence[str] = (),
) -> list[str]:
    """The types alone of :func:`types_in_use`."""
    return types_in_use(class_name, source=source, extra=extra, replace=replace, seen=seen).states


def _say_types(object_name: str, source: str, classes: Sequence[tuple[str, Sequence[str]]]) -> None:
    """As :func:`_say_added`, where the words are types of the bank of definitions."""
    for origin, types in classes if source == "auto" else ():
        if origin == _TYPES:
            names = ", ".join(defect_words(name.replace("_", " ")) for name in types)
            way_out = f"{setting('state_bank', 'none')} leaves them out"
            notice_about(
                repr(object_name),
                f"{object_name!r} is an object of a public data set, so the types of damage there are named in its prompt: "
                f"{names}; {way_out}",
                f"{{}} are objects of a public data set, so the types of damage there are named in their prompts; {way_out}",
            )
    _say_added(object_name, source, classes)


_TYPES = "a public data set"
# Folder names of data sets that name no type: VisA's two, the mixed folder of MVTec, and no name at all.
_SAY_NOTHING = ("", "good", "bad", "anomaly", "combined")


def _definition_key(class_name: str) -> str:
    key = lookup_key(class_name)
    return str(bank("definitions")["same"].get(key, key))


def ensemble(name: str, words: str) -> tuple[list[str], list[str]]:
    """Normal and anomalous sentences of a prompt ensemble ("winclip": 154 and 88, "april_gan": 245 and 175)."""
    table = bank(name)
    if "templates" not in table:
        raise ConfigError(f"word bank {name!r} has no sentence templates, so it is no prompt ensemble")
    templates: Iterable[str] = table["templates"]["list"]

    def sentences(side: str) -> list[str]:
        return [t.replace("X", fill(state, words)) for state in table["states"][side] for t in templates]

    return sentences("normal"), sentences("anomalous")

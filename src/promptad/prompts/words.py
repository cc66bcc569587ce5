"""Words: object names, defect states and prompt ensembles, read from the TOML banks or from a person's own file.

A state is a phrase with `[c]` where the object's name goes: "damaged [c]", "[c] with scratch".
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from promptad.errors import ConfigError

OBJECT = "[c]"
_DATASET_BANKS = ("mvtec", "visa")


@cache
def bank(name: str) -> dict[str, Any]:
    """The bank `name` of the package, one of the files in `prompts/banks`, such as "generic" or "mvtec".

    Raises:
        ConfigError: no such bank.
    """
    folder = files("promptad.prompts").joinpath("banks")
    try:
        return tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
        raise ConfigError(f"no word bank {name!r}; there are {', '.join(known)}") from error


def object_words(name: str) -> str:
    """The words for a class name: the data sets' own mapping, otherwise underscores become spaces."""
    for dataset in _DATASET_BANKS:
        if name in bank(dataset).get("names", {}):
            return str(bank(dataset)["names"][name])
    words = " ".join(name.replace("_", " ").split())
    if not words:
        raise ConfigError('the object has no name; say what the photos show, for example --object "metal nut"')
    return words


def as_state(defect: str) -> str:
    """A person's own words as a state: "with scratch", "scratch" -> "[c] with scratch"; "bent [c]" stays.

    Raises:
        ConfigError: empty words.
    """
    words = " ".join(defect.split())
    if not words.replace(OBJECT, "").strip():
        raise ConfigError('a defect needs words, for example --defect "with scratch" or --defect "bent [c]"')
    if OBJECT in words:
        return words
    return f"{OBJECT} {words}" if words.startswith(("with ", "without ")) else f"{OBJECT} with {words}"


def defect_words(state: str) -> str:
    """What a report shows for a state: "[c] with scratch" -> "with scratch"."""
    return " ".join(state.replace(OBJECT, " ").split())


def fill(state: str, words: str) -> str:
    """The state with the object's words in place of `[c]`."""
    return state.replace(OBJECT, words)


def anomaly_states(
    class_name: str,
    *,
    generic: str = "eight",
    source: str = "auto",
    extra: Sequence[str] = (),
    replace: bool = False,
) -> list[str]:
    """States of one object: the generic ones, then those of its class, then a person's own.

    Args:
        class_name: as the data set or the person writes it ("metal_nut", "cookie").
        generic: "eight", "five" (flag F-10 of PromptAD) or "none".
        source: where class states come from: "auto" (MVTec or VisA when the class is theirs), "none", a bank of the
            package, or the path of a TOML file with a `[classes]` table (and optional `[states] all = [...]`).
        extra: a person's own words, see :func:`as_state`.
        replace: use `extra` alone.

    Returns:
        States in a fixed order; entries that a source repeats are kept, a person's repetitions are dropped.

    Raises:
        ConfigError: unknown bank, unreadable file, or nothing left.
    """
    own = [as_state(words) for words in extra]
    states: list[str] = []
    if not replace:
        if generic != "none":
            known = bank("generic")["states"]
            if generic not in known:
                raise ConfigError(f"generic states {generic!r} unknown; expected 'eight', 'five' or 'none'")
            states += known[generic]
        states += _class_states(class_name, source)
    seen = set(states)
    for state in own:
        if state not in seen:
            states.append(state)
            seen.add(state)
    if not states:
        raise ConfigError('no defect words at all; name some, for example --defect "with scratch"')
    return states


def _class_states(class_name: str, source: str) -> list[str]:
    if source == "none":
        return []
    if source == "auto":
        tables = [bank(dataset) for dataset in _DATASET_BANKS]
    elif source.endswith(".toml"):
        tables = [read_bank(Path(source))]
    else:
        tables = [bank(source)]
    key = class_name.replace(" ", "_")
    states: list[str] = []
    for table in tables:
        if source.endswith(".toml"):
            states += table.get("states", {}).get("all", [])
        states += table.get("classes", {}).get(class_name, table.get("classes", {}).get(key, []))
    return states


def definition(class_name: str) -> str:
    """What an object is, in one sentence as of a dictionary; a general one for objects that the bank does not know."""
    table = bank("definitions")
    known = table["definitions"].get(_definition_key(class_name))
    return str(known) if known else fill(table["generic"], object_words(class_name))


def anomaly_types(
    class_name: str,
    *,
    source: str = "auto",
    extra: Sequence[str] = (),
    replace: bool = False,
    seen: Sequence[str] = (),
) -> list[str]:
    """Names of an object's anomaly types, as PromptAD zero-shot (WACV 2024) lists them in a sentence: "bent wire".

    Args:
        class_name, source, extra, replace: see :func:`anomaly_states`; "auto" knows the types of MVTec and VisA.
        seen: further types, as the folders of a data set are named; those that say nothing ("bad") are dropped.

    Returns:
        A person's own words first, each once; the generic states where nothing else is known.

    Raises:
        ConfigError: unknown bank, unreadable file, or words that are empty.
    """
    own = [as_state(words) for words in extra]
    known: list[str] = []
    if not replace:
        known = bank("definitions")["types"].get(_definition_key(class_name), []) if source == "auto" else []
        known = known or _class_states(class_name, source)
        known = [*known, *(name for name in seen if name not in _SAY_NOTHING)]
    states = own + known or bank("generic")["states"]["eight"]
    types = (defect_words(state.replace("_", " ")).removeprefix("with ") for state in states)
    return list(dict.fromkeys(types))


# Folder names of data sets that name no type: VisA's two, the mixed folder of MVTec, and no name at all.
_SAY_NOTHING = ("", "good", "bad", "anomaly", "combined")


def _definition_key(class_name: str) -> str:
    key = "_".join(class_name.replace("_", " ").lower().split())
    return str(bank("definitions")["same"].get(key, key))


def read_bank(path: Path) -> dict[str, Any]:
    """A person's own word file: TOML with `[classes] name = ["[c] with scratch", ...]` and `[states] all = [...]`.

    Raises:
        ConfigError: missing, not TOML, or a table of another form; the line names the file and the entry.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such word file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not a readable TOML word file ({error})") from error
    sections = {"classes": table.get("classes", {}), "states": table.get("states", {})}
    if not any(sections.values()):
        raise ConfigError(f'{path}: has neither a [classes] nor a [states] table; see docs, "Your own words"')
    for section, entries in sections.items():
        for name, words in entries.items() if isinstance(entries, dict) else [(section, None)]:
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ConfigError(f'{path}: {section}.{name} must be a list of texts such as ["[c] with scratch"]')
            try:
                entries[name] = [as_state(word) for word in words]
            except ConfigError as error:
                raise ConfigError(f"{path}: {section}.{name}: {error}") from error
    if unread := sorted(set(sections["states"]) - {"all"}):
        raise ConfigError(
            f"{path}: states.{unread[0]} is not read; write [states] all = [...] or [classes] {unread[0]} = [...]"
        )
    return table


def ensemble(name: str, words: str) -> tuple[list[str], list[str]]:
    """Normal and anomalous sentences of a prompt ensemble ("winclip": 154 and 88, "april_gan": 245 and 175)."""
    table = bank(name)
    if "templates" not in table:
        raise ConfigError(f"word bank {name!r} has no sentence templates, so it is no prompt ensemble")
    templates: Iterable[str] = table["templates"]["list"]

    def sentences(side: str) -> list[str]:
        return [t.replace("X", fill(state, words)) for state in table["states"][side] for t in templates]

    return sentences("normal"), sentences("anomalous")

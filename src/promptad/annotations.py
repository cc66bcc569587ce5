"""Dataclasses whose annotations say what is allowed, and are held to it.

A field is a `Literal` where there is a choice, and `Annotated[..., Range(...)]` where a number has bounds. Configs of
methods, requests of commands and what saved files hold are checked here, with the same words.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from promptad.errors import ConfigError
from promptad.inputs import argument


@dataclass(frozen=True)
class Range:
    """Bounds of a number; the bounds themselves are allowed unless they are open."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies inside."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        """`at least 1`, `above 0`, `from 0 to below 1`."""
        below = f"{'below' if self.open_high else 'at most'} {self.high:g}"
        if self.low == -math.inf:
            return below
        if self.high == math.inf:
            return f"{'above' if self.open_low else 'at least'} {self.low:g}"
        last = f"below {self.high:.15g}" if self.open_high else f"{self.high:.15g}"
        return f"{'above' if self.open_low else 'from'} {self.low:g} to {last}"


Positive = Annotated[int, Range(1, 10**6)]
"""A whole number from 1 to a million: more of anything that is counted here would only exhaust the memory."""
Count = Annotated[int, Range(0, 10**6)]
"""A whole number from 0 to a million."""
ALL = -1
"""A number of good photos that stands for all normal training photos of a class; written "all"."""


@dataclass(frozen=True)
class OrAll:
    """Of a number: the word "all" is allowed too, and becomes `ALL`."""


Shots = Annotated[int, Range(0, 10**6), OrAll()]
"""A number of good photos: a whole number from 0 to a million, or "all"."""
Weight = Annotated[float, Range(0)]
"""A number that is not negative."""
Above0 = Annotated[float, Range(0, open_low=True)]
"""A number larger than 0."""
Share = Annotated[float, Range(0, 1, open_high=True)]
"""From 0 to below 1, such as a dropout or a momentum."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A seed, as NumPy takes it."""


def shortened(value: Any) -> str:
    """`repr` for messages: one short line, whatever a file holds."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def field_types(cls: Any) -> Mapping[str, Any]:
    """Field name -> its annotation, with `Range` and `Literal` as they stand."""
    if cls not in _types:
        hints = get_type_hints(cls, include_extras=True)
        _types[cls] = {field.name: hints[field.name] for field in fields(cls)}
    return _types[cls]


# Reading annotations takes longer than all checks together.
_types: dict[Any, Mapping[str, Any]] = {}


def check_fields(record: Any) -> None:
    """Raises ConfigError, on one line that names it, where a field's value is not what its annotation allows."""
    for name, annotation in field_types(type(record)).items():
        checked_value(name, annotation, getattr(record, name))


def check_arguments(types: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raises ConfigError, on one line, where an argument of a public function is not what its annotation allows.

    Args:
        types: name of the argument -> its annotation. values: the arguments of these names.
    """
    for name, annotation in types.items():
        checked_value(argument(name), annotation, values[name])
        if (
            isinstance(values[name], str) and values[name] == "" and NoneType in get_args(annotation)
        ):  # not the same as left out
            raise ConfigError(f"{argument(name)} is empty; give a value, or leave it out")


def checked_value(name: str, annotation: Any, value: Any) -> Any:
    """The value of a field as its annotation wants it.

    Lists (as JSON gives them) and lists of numbers in words ("6,9", as a person types them) become tuples, whole numbers
    floats where floats stand, texts paths where paths stand.

    Raises:
        ConfigError: it is of another kind, not finite, or out of its range.
    """
    kind, bounds, or_all = annotation, None, False
    if get_origin(annotation) is Annotated:
        kind, *extras = get_args(annotation)
        bounds = next((extra for extra in extras if isinstance(extra, Range)), None)
        or_all = any(isinstance(extra, OrAll) for extra in extras)
    if or_all and (value == "all" or (type(value) is int and value == ALL)):
        return ALL
    origin = get_origin(kind)
    if origin is Literal:
        return _checked_choice(name, get_args(kind), value)
    if origin is tuple:
        return _checked_tuple(name, kind, value)
    if origin in (Union, UnionType):
        return _checked_union(name, get_args(kind), value)
    known = _KINDS.get(origin or kind)
    if known is None and kind is not Any and isinstance(kind, type) and not isinstance(value, kind):
        raise ConfigError(f"{name} must be a {kind.__name__}; got {shortened(value)}")
    value = _checked_plain(name, known, value)
    if bounds is not None and not bounds.holds(value):
        raise ConfigError(f"{name} must be {bounds}{', or all' if or_all else ''}; got {shortened(value)}")
    return value


# What is accepted for a kind of field, what it becomes, and the words for it.
_KINDS: dict[Any, tuple[tuple[type, ...], Any, str]] = {
    int: ((int,), int, "a whole number, such as 4"),
    float: ((float, int), float, "a number, such as 0.5"),
    bool: ((bool,), bool, "true or false"),
    str: ((str,), str, "text"),
    Path: ((Path, str), Path, "a path"),
    dict: ((dict,), dict, "a table of names and values"),
    Mapping: ((Mapping,), dict, "a table of names and values"),
}


def _checked_plain(name: str, kind: tuple[tuple[type, ...], Any, str] | None, value: Any) -> Any:
    if kind is None:  # the annotation allows more than can be checked
        return value
    accepted, become, words = kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and become is not bool):
        raise ConfigError(f"{name} must be {words}; got {shortened(value)}")
    try:
        value = become(value)
    except (OverflowError, ValueError):
        raise ConfigError(f"{name} must be {words}; got {shortened(value)}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be {words}; got {shortened(value)}")
    return value


def _checked_choice(name: str, choices: Sequence[Any], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise ConfigError(f"{name} must be one of {', '.join(map(str, choices))}; got {shortened(value)}")


def _checked_union(name: str, members: Sequence[Any], value: Any) -> Any:
    if value is None and NoneType in members:
        return None
    words = [str(choice) for member in members if get_origin(member) is Literal for choice in get_args(member)]
    first: ConfigError | None = None
    for member in members:
        if member is not NoneType:
            try:
                return checked_value(name, member, value)
            except ConfigError as error:
                first = first or error
    seen = f"; got {shortened(value)}"
    reason = str(first).removesuffix(seen) if first else f"{name} must be left out"
    also = f", or {' or '.join(words)}" if words and not reason.endswith(words[-1]) else ""
    raise ConfigError(f"{reason}{also}{seen}")


def _checked_tuple(name: str, kind: Any, value: Any) -> tuple[Any, ...]:
    members = get_args(kind)
    several, member = members[-1] is Ellipsis, members[0]
    base = get_args(member)[0] if get_origin(member) is Annotated else member
    example = "3, 8" if base is int else "0.5, 0.999" if base is float else '["with scratch", "bent"]'
    wanted = f"a list such as {example}" if several else f"{len(members)} numbers such as {example}"
    values = value
    if base is not str and not isinstance(value, bool):
        if isinstance(value, str):
            values = _numbers(value, base)
        elif isinstance(value, int | float):
            values = (value,)
    if not isinstance(values, list | tuple) or not (several or len(values) == len(members)):
        raise ConfigError(f"{name} must be {wanted}; got {shortened(value)}")
    try:
        # A person writes "all"; its number comes from the package itself, in tuples.
        if not isinstance(value, tuple) and member == Shots and ALL in values:
            raise ConfigError(f"{name} must be {Range(0, 10**6)}, or all; got {ALL}")
        return tuple(checked_value(name, member, entry) for entry in values)
    except ConfigError as error:
        raise ConfigError(f"{error} in {shortened(value)}; expected {wanted}") from error


def _numbers(text: str, base: type) -> list[Any] | None:
    """`"6, 9"`, `"(6, 9)"` or `"[6 9]"` -> `[6, 9]`; None where it is no list of numbers; "all" stays as it is."""
    try:
        words = text.strip(" ()[]").replace(",", " ").split()
        return [word if word == "all" else base(word) for word in words]
    except ValueError:
        return None

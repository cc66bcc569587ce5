"""Configs of methods: frozen dataclasses whose annotations say what is allowed, and their presets.

A field is a `Literal` where there is a choice, and `Annotated[..., Range(...)]` where a number has bounds. Every config
checks itself against its annotations when it is made, from Python, from the command line and from a saved file alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from promptad.clip.preprocess import Channels, Fit
from promptad.data.files import sha256_file
from promptad.errors import ConfigError, DataError

PRESETS = ("clean", "paper", "release")
C = TypeVar("C")


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


Positive = Annotated[int, Range(1)]
"""A whole number of at least 1."""
Count = Annotated[int, Range(0)]
"""A whole number, 0 included."""
Weight = Annotated[float, Range(0)]
"""A number that is not negative."""
Above0 = Annotated[float, Range(0, open_low=True)]
"""A number larger than 0."""
Share = Annotated[float, Range(0, 1, open_high=True)]
"""From 0 to below 1, such as a dropout or a momentum."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A seed, as NumPy takes it."""


@dataclass(frozen=True)
class ScoringConfig:
    """Settings that every method has; a config of a method adds its own to them."""

    # Side of the input in pixels; 0 takes what the backbone recommends.
    input_size: Count = 0
    # How a photo that is not square becomes input, see `clip.preprocess.Preprocess`.
    fit: Fit = "auto"
    # Side in pixels to which a photo is brought before everything else; 0 leaves that out.
    pre_resize: Count = 0
    # Order of the colours of photos that are judged; "bgr" is a slip of PromptAD's released code (F-6).
    test_channels: Channels = "rgb"
    # A person's own defect words, added to the known ones.
    defects: tuple[str, ...] = ()
    # The words of `defects` replace all others.
    only_defects: bool = False
    # Where further words come from: "auto", "none", a bank of the package or a TOML file.
    state_bank: str = "auto"
    # Side in pixels of the square on which maps are smoothed.
    map_size: Positive = 400
    # Gaussian sigma there, in its pixels.
    smoothing: Weight = 4.0
    # Score of a photo of several views: the largest or the mean.
    view_score: Literal["max", "mean"] = "max"

    def __post_init__(self) -> None:
        check_fields(self)


# Settings that may differ from those of training: they touch words and presentation, not what was learned.
FREE_SETTINGS = ("fit", "defects", "only_defects", "state_bank", "map_size", "smoothing", "view_score")


def setting_types(cls: Any) -> dict[str, Any]:
    """Field name -> its annotation, with `Range` and `Literal` as they stand."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def check_fields(config: Any) -> None:
    """Raises ConfigError, on one line that names it, where a field's value is not what its annotation allows."""
    for name, annotation in setting_types(type(config)).items():
        checked_value(name, annotation, getattr(config, name))


def make_config(cls: type[C], preset: str, presets: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Any]) -> C:
    """A config from a preset and overrides; unknown presets and keys are errors.

    Raises:
        ConfigError: unknown preset or key (with the nearest known key), or a value that its annotation does not allow.
    """
    if preset not in presets:
        raise ConfigError(f"preset {preset!r} unknown; expected one of {', '.join(presets)}")
    return cls(**{**presets[preset], **check_keys(cls, overrides)})


def check_keys(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the dataclass `cls` holds them: lists (as JSON gives them) and number lists in words ("6,9", as a
    person types them) become tuples, whole numbers floats where floats stand.

    Raises:
        ConfigError: an unknown key, or a value that its annotation does not allow.
    """
    types = setting_types(cls)
    out = {}
    for key, value in values.items():
        if key not in types:
            near = get_close_matches(key, types, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(types)}"
            raise ConfigError(f"{cls.__name__} has no setting {key!r}{hint}")
        out[key] = checked_value(key, types[key], value)
    return out


def checked_value(name: str, annotation: Any, value: Any) -> Any:
    """The value of a setting as its annotation wants it.

    Raises:
        ConfigError: it is of another kind, or out of its range.
    """
    kind, bounds = annotation, None
    if get_origin(annotation) is Annotated:
        kind, bounds = get_args(annotation)[0], next(r for r in get_args(annotation)[1:] if isinstance(r, Range))
    if get_origin(kind) is Literal:
        if value not in get_args(kind) or isinstance(value, bool) not in {isinstance(c, bool) for c in get_args(kind)}:
            raise ConfigError(f"{name} must be one of {', '.join(map(str, get_args(kind)))}; got {value!r}")
        return value
    if get_origin(kind) is tuple:
        return _checked_tuple(name, kind, value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name} must be {_KINDS[kind]}; got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be {_KINDS[kind]}; got {value!r}")
    if bounds is not None and not bounds.holds(value):
        raise ConfigError(f"{name} must be {bounds}; got {value!r}")
    return value


_KINDS: dict[Any, str] = {
    int: "a whole number, such as 4",
    float: "a number, such as 0.5",
    bool: "true or false",
    str: "text",
}


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
        raise ConfigError(f"{name} must be {wanted}; got {value!r}")
    try:
        return tuple(checked_value(name, member, entry) for entry in values)
    except ConfigError as error:
        raise ConfigError(f"{error} in {value!r}; expected {wanted}") from error


def _numbers(text: str, base: type) -> list[Any] | None:
    """`"6, 9"`, `"(6, 9)"` or `"[6 9]"` -> `[6, 9]`; None where it is no list of numbers."""
    try:
        return [base(word) for word in text.strip(" ()[]").replace(",", " ").split()]
    except ValueError:
        return None


def words_digest(config: Any) -> str:
    """SHA-256 of a person's own word file, if the config names one; "" otherwise, also when it cannot be read."""
    bank = getattr(config, "state_bank", "")
    if not bank.endswith(".toml"):
        return ""
    try:
        return sha256_file(bank)
    except DataError:
        return ""


def config_dict(config: Any) -> dict[str, Any]:
    """A JSON-ready copy of a config dataclass."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}

"""The contract between the methods and everything around them.

A method never sees a photo or a path: it gets frozen features and gives scores. What it needs from the image tower it
says in `request`; the detector and the benchmarks encode every photo once and keep the features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, runtime_checkable

from torch import Tensor

from promptad.clip.preprocess import Fit
from promptad.clip.vision import FeatureRequest, Features
from promptad.data.files import sha256_file
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError, WeightsError
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.epochs import Checkpoint, Progress

PRESETS = ("clean", "paper", "release")


@dataclass(frozen=True)
class Scores:
    """Scores of a batch of B views; larger = more anomalous.

    Attributes:
        image: (B,) score of the whole view.
        map: (B, h, w) score of every patch, or None for methods without maps.
        parts: named components of the image score, (B,) each ("text", "memory").
    """

    image: Tensor
    map: Tensor | None
    parts: Mapping[str, Tensor]


@dataclass(frozen=True)
class WordScores:
    """Which defect words fit best, were there a defect, summing to one: `image` (B, S) for the view, `patches` (B, T, S)
    for every patch, or None for methods that look at no patches."""

    words: tuple[str, ...]
    image: Tensor
    patches: Tensor | None


EpochHook = Callable[[int, "Method"], None]


@dataclass(frozen=True)
class ScoringConfig:
    """Settings that every method has; a config of a method adds its own to them.

    Attributes:
        input_size: side of the input in pixels; 0 takes what the backbone recommends.
        fit, pre_resize, test_channels: preprocessing, see `clip.preprocess.Preprocess`.
        defects: a person's own defect words, added to the known ones; with `only_defects` they replace all others.
        state_bank: where further words come from: "auto", "none", a bank of the package or a TOML file.
        map_size: side in pixels of the square on which maps are smoothed; smoothing: Gaussian sigma there.
        view_score: score of a photo of several views: "max" or "mean" over them.
    """

    input_size: int = 0
    fit: str = "auto"
    pre_resize: int = 0
    test_channels: str = "rgb"
    defects: tuple[str, ...] = ()
    only_defects: bool = False
    state_bank: str = "auto"
    map_size: int = 400
    smoothing: float = 4.0
    view_score: str = "max"

    def __post_init__(self) -> None:
        require_choices(self, {"fit": get_args(Fit), "test_channels": ("rgb", "bgr"), "view_score": ("max", "mean")})
        seed = getattr(self, "seed", 0)  # not every method draws something
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed must lie in 0..{2**32 - 1}; got {seed}")
        if self.map_size < 1 or self.smoothing < 0 or self.input_size < 0:
            raise ConfigError("map_size must be at least 1, smoothing and input_size not negative")


# Settings that may differ from those of training: they touch words and presentation, not what was learned.
FREE_SETTINGS = ("fit", "defects", "only_defects", "state_bank", "map_size", "smoothing", "view_score")


def require_choices(config: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Raises ConfigError where a setting is none of its choices."""
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise ConfigError(f"{name} must be one of {', '.join(allowed)}; got {getattr(config, name)!r}")


@runtime_checkable
class Method(Protocol):
    """What the detector, the benchmarks and the commands ask of a method."""

    name: str
    config: Any
    request: FeatureRequest

    def fit(self, photos: Sequence[Sequence[Features]], *, after_epoch: EpochHook | None = None) -> None:
        """Learns from good photos; photo i is given as the features of its views."""

    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores views; `leave_out` is the index of a good photo that is not to be compared with itself."""

    def words(self, features: Features) -> WordScores | None:
        """Probabilities of the defect words, or None for methods without words."""

    def state(self) -> dict[str, Tensor]:
        """All tensors that must be saved besides the config."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what :meth:`state` gave. Raises WeightsError when a tensor is missing or of another shape."""


Needs = Literal["masks", "labels", "nothing"]


@runtime_checkable
class Trained(Method, Protocol):
    """A method that is trained once, on other things than the product, and then needs no photo of it.

    Attributes:
        needs: what training photos must have: "masks" and labels, "labels" alone, or "nothing": no photo at all.
    """

    needs: ClassVar[Needs]

    def choose(self, records: Sequence[Record]) -> list[Record]:
        """Those photos of labelled data sets that this method trains on. Raises DataError where there is none."""

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Learns anew and gives the mean loss of every epoch. `data` is None exactly where `needs` is "nothing"."""

    def learned(self) -> dict[str, Tensor]:
        """What training learned, and nothing that belongs to a product: the content of a file of trained prompts."""

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`. Raises WeightsError when a tensor is missing or of another shape."""


C = TypeVar("C")


def make_config(cls: type[C], preset: str, presets: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Any]) -> C:
    """A config from a preset and overrides; unknown presets and keys are errors.

    Raises:
        ConfigError: unknown preset or key (with the nearest known key), or a value of another type.
    """
    if preset not in presets:
        raise ConfigError(f"preset {preset!r} unknown; expected one of {', '.join(presets)}")
    base = cls(**presets[preset])
    return replace(base, **check_keys(cls, overrides))  # type: ignore[type-var]


def check_keys(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with every key known to the dataclass `cls`, lists turned into tuples (as JSON gives them).

    Raises:
        ConfigError: an unknown key, or a value whose type differs from the default's.
    """
    from difflib import get_close_matches

    known = {field.name: field for field in fields(cls)}
    out = {}
    for key, value in values.items():
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise ConfigError(f"{cls.__name__} has no setting {key!r}{hint}")
        default = known[key].default
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if (default is not None and not isinstance(value, type(default))) or isinstance(value, bool) != isinstance(
            default, bool
        ):
            raise ConfigError(f"setting {key!r} must be like {default!r}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"setting {key!r} must be like {default!r}, got {value!r}")
        if isinstance(default, tuple) and default and any(type(one) is not type(default[0]) for one in value):
            raise ConfigError(f"setting {key!r} must be like {default!r}, got {value!r}")
        out[key] = value
    return out


def saved_tensor(tensors: Mapping[str, Tensor], name: str, shape: Sequence[int], title: str) -> Tensor:
    """The tensor of that name, as files of trained prompts and saved detectors give it back.

    Args:
        shape: what it must have. title: the method, as the error names it.

    Raises:
        WeightsError: it is missing or of another shape.
    """
    found = tuple(tensors[name].shape) if name in tensors else None
    if found != tuple(shape):
        raise WeightsError(
            f"saved tensor {name!r} of {title} is missing or of another shape (found "
            f"{'nothing' if found is None else found}, expected {tuple(shape)}); the file is of other settings or damaged, "
            "make it again"
        )
    return tensors[name]


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

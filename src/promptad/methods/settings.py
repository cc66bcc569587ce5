"""Configs of methods: frozen dataclasses whose annotations say what is allowed, and their presets.

Every config checks itself against its annotations (`promptad.annotations`) when it is made, from Python, from the command
line and from a saved file alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from promptad.annotations import Count, Positive, Range, Weight, check_fields, checked_value, field_types
from promptad.clip.architecture import Activation
from promptad.clip.preprocess import Channels, Fit, Preprocess
from promptad.errors import ConfigError
from promptad.inputs import argument, setting
from promptad.notices import notice
from promptad.prompts.words import WordsInUse, own_words, resolved_words, words_in_use

PRESETS = ("clean", "paper", "release")
GeneralWords = Literal["eight", "five", "none"]
"""Which state words stand for every object."""
C = TypeVar("C")


@dataclass(frozen=True)
class ScoringConfig:
    """Settings that every method has; a config of a method adds its own to them.

    `retired` names settings that earlier versions wrote into files and that never changed a score, with what to use now;
    `idle` names those of all methods that this one has no use for, with the reason: nobody may give them.
    """

    retired: ClassVar[Mapping[str, str]] = {}
    idle: ClassVar[Mapping[str, str]] = {}

    # Side of the input in pixels; 0 takes what the backbone recommends.
    input_size: Annotated[int, Range(0, 4096)] = 0
    # How a photo that is not square becomes input, see `clip.preprocess.Preprocess`.
    fit: Fit = "auto"
    # Side in photo pixels of the smallest defect that has to be seen, at which photos are then looked at in one scale and
    # in tiles (with fit "auto"); 0: the photo as a whole, whatever that hides.
    finest_defect: Count = 0
    # The value that is white in photos of more than 8 bits, such as 4095 for a 12-bit camera whose files have 16; 0: as the
    # file says, else the full range, with a line where no value comes near it.
    input_range: Weight = 0.0
    # Photos of more megapixels are refused: a photo takes up to 17 bytes a pixel of memory while it is read (PPM as text 28).
    max_megapixels: Positive = 100
    # Side in pixels to which a photo is brought before everything else; 0 leaves that out.
    pre_resize: Count = 0
    # Order of the colours of photos that are judged; "bgr" is a slip of PromptAD's released code (F-6).
    test_channels: Channels = "rgb"
    # A person's own defect words, added to the known ones.
    defects: tuple[str, ...] = ()
    # The words of `defects` replace all others.
    only_defects: bool = False
    # Where further words come from: "auto", "none", a bank of the package or a TOML file. Of a file the config holds the
    # words themselves (`prompts.words.resolved_words`), so that they travel with it and nobody has to keep the file.
    state_bank: str = "auto"
    # Side in pixels of the square on which maps are smoothed.
    map_size: Annotated[int, Range(1, 8192)] = 400
    # Gaussian sigma there, in its pixels.
    smoothing: Weight = 4.0
    # Score of a photo of several views: the largest or the mean.
    view_score: Literal["max", "mean"] = "max"

    # What other rooms ask of any config; one that has a setting for it says what that holds.

    @property
    def asked_activation(self) -> Activation | Literal["any"]:
        """The activation that the towers must have."""
        return "any"

    @property
    def fit_epochs(self) -> int:
        """Passes over the good photos of a fit; of a method that is trained away from the product none."""
        return 0

    @property
    def scored_parts(self) -> str:
        """The parts of the score that make the image score; "" where it cannot be chosen."""
        return ""

    @property
    def own_map_range(self) -> tuple[float, float] | None:
        """Where the colours of heat maps begin and end if these settings give maps another range than the method's; None if not."""
        return None

    @property
    def general_words(self) -> GeneralWords:
        """Which state words stand for every object."""
        return "eight"

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "state_bank", resolved_words(self.state_bank))
        if self.only_defects and self.state_bank not in ("auto", "none"):
            own = own_words(self.state_bank) is not None
            notice(
                f"the words of {'the word file' if own else f'the bank {self.state_bank}'} are not used, since the given defects "
                f"replace all others ({argument('only_defects', 'True')}); leave one of the two out"
            )


def layout(config: ScoringConfig, input_size: int, patch: int) -> Preprocess:
    """How photos are laid out under a config, for a tower with that recommended input size and patch size in pixels."""
    return Preprocess(
        config.input_size or input_size,
        patch,
        config.fit,
        config.pre_resize,
        config.test_channels,
        config.finest_defect,
        config.input_range,
        config.max_megapixels * 10**6,
    )


def quarter_layers(depth: int, count: int) -> tuple[int, ...]:
    """The first `count` of four layers that are evenly spread over a tower of so many, its last one the fourth."""
    return tuple(sorted({max(1, round(depth * part / 4)) for part in range(1, count + 1)}))


def check_rising(layers: Sequence[int]) -> None:
    """Raises ConfigError for tapped layers that are not named once each, from shallow to deep."""
    if list(layers) != sorted(set(layers)):
        raise ConfigError(f"layers {list(layers)} must rise, for example 3, 6, 9; empty takes the usual ones")


# Settings that may differ from those of training: they touch words and presentation, not what was learned.
FREE_SETTINGS = (
    "fit",
    "finest_defect",
    "input_range",
    "max_megapixels",
    "defects",
    "only_defects",
    "state_bank",
    "map_size",
    "smoothing",
    "view_score",
)


def make_config(
    cls: type[C], preset: str, presets: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Any], title: str = ""
) -> C:
    """A config from a preset and overrides; unknown presets and keys are errors, which name the method by its `title`.

    Raises:
        ConfigError: unknown preset or key (with the nearest known key), or a value that its annotation does not allow.
    """
    if preset not in presets:
        raise ConfigError(f"{argument('preset')} {preset!r} unknown; expected one of {', '.join(presets)}")
    return cls(**{**presets[preset], **check_keys(cls, overrides, title)})


def check_keys(cls: type[Any], values: Mapping[str, Any], title: str = "", *, saved: bool = False) -> dict[str, Any]:
    """The values as the dataclass `cls` holds them: lists (as JSON gives them) and number lists in words ("6,9", as a
    person types them) become tuples, whole numbers floats where floats stand.

    Args:
        title: whose settings these are, for errors.
        saved: the values come from a file, in which settings of earlier versions (`ScoringConfig.retired`) are read over:
            they changed no score.

    Raises:
        ConfigError: an unknown, retired or idle key, or a value that its annotation does not allow.
    """
    types, retired, idle = field_types(cls), getattr(cls, "retired", {}), getattr(cls, "idle", {})
    out = {}
    for key, value in values.items():
        if key in retired:
            if saved:
                continue
            raise ConfigError(f"{key} is no setting of a method any more: {retired[key]}")
        if key in idle and not saved:
            raise ConfigError(f"{key} changes nothing here: {idle[key]}; leave it out")
        if key not in types:
            raise ConfigError(f"{title or 'this method'} has no setting {key!r}; {_instead_of(key, types)}")
        # A person who reads a line about a file has typed nothing.
        out[key] = checked_value(key if saved else setting(key), types[key], value)
    return out


# Arguments of `Detector` and options of the commands that are no settings, and may be mistyped for one.
ARGUMENTS = (
    "method",
    "object",
    "preset",
    "backbone",
    "memory_backbone",
    "precision",
    "device",
    "activation",
    "cache",
    "weights",
    "roi",
    "ignore",
)


def _instead_of(key: str, known: Mapping[str, Any]) -> str:
    """What a person may have meant by a name that is no setting."""
    near = get_close_matches(key, [*known, *ARGUMENTS], n=1)
    if near:
        return f"did you mean {setting(near[0]) if near[0] in known else argument(near[0])}?"
    named = ", ".join(name for name in known if name not in field_types(ScoringConfig))
    return f"its own are {_shortened_list(named)}, and the method's page (docs) has all" if named else "it has none"


def _shortened_list(names: str, most: int = 240) -> str:
    """Names with commas, cut between two of them where they are more than a line."""
    return names if len(names) <= most else names[: names.rindex(",", 0, most)] + ", ..."


def words_digest(config: ScoringConfig) -> str:
    """SHA-256 of the words of a person's own word file, if the config was made with one; "" otherwise."""
    own = own_words(config.state_bank)
    return own.digest if own else ""


def config_dict(config: Any) -> dict[str, Any]:
    """A JSON-ready copy of a config dataclass."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def config_words(object_name: str, config: ScoringConfig) -> WordsInUse:
    """The defect words of an object under a config, as its method reads them.

    Raises:
        ConfigError: unknown bank, or no words at all.
    """
    return words_in_use(
        object_name,
        generic=config.general_words,
        source=config.state_bank,
        extra=config.defects,
        replace=config.only_defects,
    )

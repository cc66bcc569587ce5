"""Fields of requests: what each is, in words, how the command line calls it, and the check of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from promptad.annotations import Weight, checked_value, field_types
from promptad.data.files import shown
from promptad.errors import ConfigError, WeightsError
from promptad.inputs import argument
from promptad.methods.catalogue import names_with_memory
from promptad.notices import notice

if TYPE_CHECKING:
    from promptad.clip.backbone import Backbone
    from promptad.learning.features import FeatureStore

Said = Callable[[str], None]
"""Called with one line about what was left out."""


@dataclass(frozen=True)
class Lines:
    """Who is told what a job leaves out, line by line.

    Attributes:
        skipped: told of files that are no photos. failed: told of what should have been read or made and could not be; as
            `skipped` where nobody is named. Where there is neither, each line is a notice.
    """

    skipped: Said | None = None
    failed: Said | None = None

    def skip(self, line: str) -> None:
        """A file that is no photo."""
        (self.skipped or notice)(line)

    def fail(self, line: str) -> None:
        """Something that could not be read or made."""
        (self.failed or self.skipped or notice)(line)


def asked(words: str, default: Any = MISSING, *, option: str = "", place: str = "", commas: bool = False) -> Any:
    """A field of a request.

    Args:
        words: what it is. default: MISSING where it must be given. option: what the command line calls it, where that is
            not its own name; may have several with blanks between. place: "argument" where it stands without a name, or
            "hidden" where the command line has it not. commas: of a tuple, whether it may be one text with commas.
    """
    metadata = {"words": words, "option": option, "place": place, "commas": commas}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


INPUT_RANGE = "The value that is white in photos of more than 8 bits, such as 4095 for a 12-bit camera. Default: as their files say."
"""What `input_range` is, in every request that reads photos."""
LAYOUT = "How the photos lie, by name, where it is not recognised or another reading is wanted (docs, Public sets)."
"""What `layout` is, in every request for one data set."""


@dataclass(frozen=True)
class Request:
    """Base of all requests: every field is held to its annotation when it is made.

    Raises:
        ConfigError: a value that cannot be, or inputs that do not go together; one line that names them.
    """

    def __post_init__(self) -> None:
        types = field_types(type(self))
        for entry in fields(self):
            value = getattr(self, entry.name)
            _refuse_empty(entry, value)
            if isinstance(value, str | Path) and _holds_paths(types[entry.name]):
                value = (value,)
            if isinstance(value, str) and entry.metadata.get("commas"):
                if not (names := split_names(value)):
                    raise ConfigError(f"{argument(entry.name)} names nothing; name something, or leave it out")
                value = names
                if _holds_numbers(types[entry.name]):
                    value = ", ".join(value)
            object.__setattr__(self, entry.name, checked_value(argument(entry.name), types[entry.name], value))
        self.check()

    def check(self) -> None:
        """The rules of inputs that belong together. Raises ConfigError."""

    def given(self, names: Iterable[str]) -> list[str]:
        """Those of these fields that are not left at what they are without being asked for."""
        defaults = {
            entry.name: entry.default if entry.default_factory is MISSING else entry.default_factory()
            for entry in fields(self)
        }
        return [name for name in names if getattr(self, name) != defaults[name]]

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raises ConfigError where one of these fields is given."""
        if given := self.given(names):
            raise ConfigError(f"{', '.join(argument(name) for name in given)}: {why}")


def _refuse_empty(entry: Field[Any], value: Any) -> None:
    """An empty text is what a shell gives for a variable that is not set: neither the folder that one is in nor left out."""
    if (value == "" and entry.default != "") or (isinstance(value, list | tuple) and "" in value):
        raise ConfigError(f"{argument(entry.name)} is empty; give a value, or leave it out")


def tensors_file(path: Path) -> Path:
    """An output with the ending of the files that promptad saves. Raises ConfigError for a path without a name (".", "/")."""
    if path.name in ("", ".."):
        raise ConfigError(
            f"{argument('output')} {shown(path)}: names a folder; give a file, such as {argument('output', 'out.safetensors')}"
        )
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def require_file(path: Path, what: str) -> None:
    """Asks for a file by its place alone, before the seconds that reading it takes.

    Raises:
        WeightsError: there is none.
    """
    if not path.exists():
        raise WeightsError(f"{shown(path)}: no such {what}; check the path")


def _holds_numbers(annotation: Any) -> bool:
    member = get_args(annotation)[0]
    return (get_args(member)[0] if get_origin(member) is Annotated else member) in (int, float)


def split_names(text: str) -> tuple[str, ...]:
    """`"a, b,a"` -> `("a", "b")`."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _holds_paths(annotation: Any) -> bool:
    return annotation == tuple[Path, ...]


def add_once(settings: dict[str, Any], name: str, value: Any, source: str) -> None:
    """Puts a setting that an input of its own gives among the settings.

    Raises:
        ConfigError: it is among them already.
    """
    if name in settings:
        raise ConfigError(
            f"{name} is given twice, as {argument(source)} and among the {argument('settings')}; leave one out"
        )
    settings[name] = value


@dataclass(frozen=True)
class BackboneRequest(Request):
    """Which CLIP, and where it runs."""

    backbone: str | None = asked(
        "CLIP weights: a name from `promptad models`, a file or a folder. Default: starter.", None
    )
    activation: Literal["quick_gelu", "gelu"] | None = asked(
        "quick_gelu (OpenAI's own weights) or gelu: for weights files of which neither the zoo nor a config says.", None
    )
    precision: Literal["fp32", "bf16", "fp16"] | None = asked("fp32, bf16 or fp16, of the towers. Default: fp32.", None)
    device: str = asked("cpu, cuda, cuda:1, mps.", "cpu")

    def require_backbone(self) -> None:
        """Asks whether the weights are on this machine, without loading anything.

        Raises:
            WeightsError: they are not, or are damaged.
        """
        from promptad.clip.zoo import locate, require_family

        require_family(locate(self.backbone or "starter"), "clip", self.backbone or "starter")

    def open_backbone(self) -> Backbone:
        """Loads it.

        Raises:
            WeightsError: not there, or damaged. ConfigError: a device that is not there.
        """
        from promptad.clip.backbone import load_backbone
        from promptad.clip.device import usable_device

        usable_device(self.device)
        return load_backbone(
            self.backbone or "starter",
            precision=self.precision or "fp32",
            device=self.device,
            activation=self.activation,
        )


@dataclass(frozen=True)
class TowersRequest(BackboneRequest):
    """Which CLIP, and which second image tower for the memory of good photos."""

    memory_backbone: str | None = asked(
        f"A DINOv2 whose tokens the memory is made of, instead of CLIP's ({names_with_memory()}): a name from `promptad models`, "
        "with @672 behind it photos at that side; a file or a folder. Default: none.",
        None,
    )

    def require_backbone(self) -> None:
        """Asks for both. Raises WeightsError: one is not there, damaged, or the other kind."""
        super().require_backbone()
        if self.memory_backbone is not None:
            from promptad.clip.zoo import locate_memory

            locate_memory(self.memory_backbone)

    def open_backbone(self) -> Backbone:
        """Loads both."""
        return super().open_backbone().with_memory(self.memory_backbone)


@dataclass(frozen=True)
class FeaturesRequest(BackboneRequest):
    """How much of the photos' features is kept."""

    no_cache: bool = asked("Keep features in memory only, not on disk.", False)
    feature_memory: Weight = asked(
        "GiB of features kept in memory; more are read or encoded again for every pass.", 2.0
    )
    feature_disk: Weight = asked("GiB of features kept on disk; the longest unused are removed and encoded again.", 4.0)

    def check(self) -> None:
        """Features that are not kept on disk take no room there."""
        super().check()
        if self.no_cache:
            self.refuse(["feature_disk"], f"nothing is kept on disk ({argument('no_cache', 'True')}); leave one out")

    def feature_store(self) -> FeatureStore | None:
        """The store on disk, in the user's cache folder; None without one."""
        from promptad.learning.features import GIB, default_store

        if self.no_cache:
            return None
        store = default_store()
        store.max_bytes = int(self.feature_disk * GIB)
        return store

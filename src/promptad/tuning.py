"""Settings for one product, chosen before anything is learned: on its good photos and copies of them with painted damage.

No test photo and no real defect is seen. Every photo, and every damaged copy of it, is compared with the other good photos.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from promptad.annotations import checked_value
from promptad.clip.features import FeatureRequest
from promptad.data.duplicates import CopyFinder
from promptad.data.pixels import Rgb
from promptad.errors import ConfigError, PhotoError
from promptad.learning.features import Encoder
from promptad.learning.painted import damaged_patches, painted_copies
from promptad.methods.promptad.config import PromptADConfig
from promptad.methods.promptad.tuning import Answer, Example, orientations, tune

PHOTOS = 6
"""Good photos that damage is painted on, at most, evenly spread; all of them would take longer, not tell more."""
COPIES = 36
"""Damaged copies, about."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        photos, copies: how many good photos and damaged copies were compared.
        answers: to each question; none where there were too few photos. why: then, the reason.
    """

    photos: int
    copies: int
    answers: tuple[Answer, ...] = ()
    why: str = ""

    def lines(self) -> list[str]:
        """For people: what was compared, and each answer."""
        if self.why:
            return [f"not at all: {self.why}"]
        head = f"on {self.copies} copies of {self.photos} good photos with painted damage, each photo compared with the others"
        return [head, *map(str, self.answers)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tuned:
        """From :meth:`to_dict`. Raises ConfigError, KeyError or TypeError for other content."""
        answers = checked_value("answers", list[dict[str, Any]], list(values["answers"]))
        rest = {name: value for name, value in values.items() if name != "answers"}
        return cls(answers=tuple(Answer(**answer) for answer in answers), **rest)


def tuned(
    config: PromptADConfig, encoder: Encoder, photos: Sequence[Any], done: Callable[[], None] | None = None
) -> tuple[PromptADConfig, Tuned]:
    """The config with the settings that good photos speak for, and what was found.

    Args:
        config: of a method with settings to tune (`methods.catalogue`). encoder: reads photos and knows the towers and the layout. photos: good ones, paths, Pillow images
            or arrays. done: called after each photo and each copy.

    Raises:
        ConfigError: parts without settings to tune. PhotoError: photos too small for damage that one could see.
    """
    if config.parts == "text":
        raise ConfigError("what is tuned are settings of the memory, and parts=text has none; leave one of the two out")
    good = _different(encoder, photos)
    if len(good) < 2:
        return config, Tuned(len(good), 0, why="it compares good photos with each other, and there is one")
    turns, mirrored = orientations(config)
    request = replace(encoder.request, local=None, turns=1, mirrored=False)
    plain = asking(encoder, request)
    turning = asking(encoder, replace(request, turns=turns, mirrored=mirrored))
    views = []
    for photo in good:
        views.append(turning.encode([photo], learned=True)[0].features)
        _tick(done)
    examples = []
    for copy in painted_copies(good, COPIES):
        _tick(done)
        seen = copy.mask if encoder.area is None else copy.mask & encoder.area.at(copy.mask.shape)
        if seen.any():  # damage outside the region of interest says nothing
            encoded = plain.encode([copy.photo])[0]
            examples.append(Example(copy.owner, encoded.features, damaged_patches(seen, encoded)))
    if not examples:
        raise PhotoError(
            "no damage that is painted on these good photos can be seen where they are looked at; leave tuning out"
        )
    settings, answers = tune(config, encoder.backbone, views, examples)
    return replace(config, **settings), Tuned(len(good), len(examples), tuple(answers))


def asking(encoder: Encoder, request: FeatureRequest) -> Encoder:
    """An encoder that is the same but for what it asks of the towers."""
    backbone, layout = encoder.backbone, encoder.preprocess
    return Encoder(backbone, layout, request, batch_size=encoder.batch_size, cache=encoder.cache, area=encoder.area)


def steps_of(photos: int) -> int:
    """About how often :func:`tuned` says that something is done."""
    return min(PHOTOS, photos) + COPIES if photos > 1 else 0


def _different(encoder: Encoder, photos: Sequence[Any]) -> list[Rgb]:
    """The good photos that are read, at most `PHOTOS` of them, evenly spread, without copies; who cannot be read is told by the fit."""
    finder, out = CopyFinder(), list[Rgb]()
    step = max(1.0, len(photos) / PHOTOS)
    for item in (photos[int(number * step)] for number in range(min(PHOTOS, len(photos)))):
        try:
            photo = encoder.read(item)
        except PhotoError:
            continue
        if finder.add(photo) is None:
            out.append(photo)
    return out


def _tick(done: Callable[[], None] | None) -> None:
    if done is not None:
        done()

"""The contract between the methods and everything around them.

A method never sees a photo or a path: it gets frozen features and gives scores. What it needs from the image tower it says
in `request`; the detector and the benchmarks encode every photo once and keep the features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from promptad.clip.features import FeatureRequest, Features
from promptad.data.records import Record
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.epochs import Checkpoint, Progress
from promptad.methods.catalogue import Needs


@dataclass(frozen=True)
class Scores:
    """Scores of a batch of B views; larger = more anomalous: `image` (B,) of whole views, `map` (B, h, w) of patches, or
    (B, n h, n w) of a method that says n values along the side of a patch and ranks no words of patches, or None for methods
    without maps, `parts` the named components of the image score, (B,) each ("text", "memory")."""

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


TASKS = ("image", "pixel")
"""What is learned apart where a method has prompts for photos and others for patches."""
EpochHook = Callable[[int, "Method"], None]
# What image scores are: "distance" and "sum" are positive and spread in proportion to their size, "probability" lies
# between 0 and 1, "deviation" is any number.
ScoreKind = Literal["distance", "sum", "probability", "deviation"]


@runtime_checkable
class Method(Protocol):
    """What the detector, the benchmarks and the commands ask of a method."""

    name: str
    config: Any
    request: FeatureRequest

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Learns from good photos; photo i is given as the features of its views.

        `anomalies` are labelled defective photos, given in the same way to methods that learn from them
        (`methods.catalogue.Facts.anomalies`) and to no others.
        """

    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores views; `leave_out` is the index of a good photo that is not to be compared with itself."""

    def words(self, features: Features) -> WordScores | None:
        """Probabilities of the defect words, or None for methods without words."""

    def state(self) -> dict[str, Tensor]:
        """All tensors that must be saved besides the config."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what :meth:`state` gave. Raises WeightsError when a tensor is missing or of another shape."""


@runtime_checkable
class FittedInEpochs(Method, Protocol):
    """A method whose fit on good photos has epochs, and which can go back to one of them, task by task (`TASKS`)."""

    def snapshot(self, task: str) -> Any:
        """What of a task has been learned up to now; learning on does not change it."""

    def restore(self, task: str, snapshot: Any) -> None:
        """Goes back to a :meth:`snapshot` of the same task and the same detector."""


@runtime_checkable
class Trained(Method, Protocol):
    """A method that is trained once, on other things than the product, and then needs no photo of it.

    `needs` says what training photos must have: "masks" and labels, "labels" alone, or "nothing": no photo at all.
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

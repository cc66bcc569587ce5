"""What methods have in common whose whole learning is one module, trained once on labelled photos of test splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from promptad.clip.features import Features
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.learning.auxiliary import AuxiliarySet
from promptad.methods.contract import Trained, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.state import saved_tensor
from promptad.methods.untrained import Unfitted
from promptad.notices import notice
from promptad.prompts.words import object_words

NAMELESS = "object"
"""What stands in sentences for photos of no named class."""


class LearnedOnce(Unfitted, Trained):
    """Base of these methods: good photos teach them nothing, and a detector's state is what was trained.

    Attributes:
        module: everything that is learned, with the values that the seed draws until something is trained or loaded.
    """

    module: nn.Module
    _ranked: RankedWords
    _trained = False

    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def choose(self, records: Sequence[Record]) -> list[Record]:
        """The labelled photos of the test split, good and anomalous, of all data sets given.

        Raises:
            DataError: there is none.
        """
        chosen = [record for record in records if record.split == "test" and record.label is not None]
        if not chosen:
            masks = ", and masks" if self.needs == "masks" else ""
            raise DataError(
                f"none of {len(records)} photos is a labelled one of a test split, which {self.name} trains on; give a "
                f"data set with a test folder of good and anomalous photos{masks}"
            )
        return chosen

    def with_masks(self, data: AuxiliarySet | None) -> AuxiliarySet:
        """The photos to train on. Raises ConfigError where there are none, or none of them has a mask."""
        if data is None or not data.masks:
            raise ConfigError(f"{self.name} trains on labelled photos with masks; give a data set that has them")
        return data

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views and patches, from CLIP's own words."""
        return self._ranked(features)

    def _require(self) -> None:
        if not self._trained:
            raise ConfigError(
                f"{self.name}: its prompts are not trained yet; train them with `promptad train {self.name}`, or load a "
                f"file of trained prompts ({argument('weights')})"
            )

    def learned(self) -> dict[str, Tensor]:
        """All learned values. Raises ConfigError before training."""
        self._require()
        return {name: value.detach().clone().contiguous() for name, value in self.module.state_dict().items()}

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`. Raises WeightsError when a tensor is missing or of another shape."""
        expected: dict[str, Any] = self.module.state_dict()
        given = {name: saved_tensor(tensors, name, own.shape, self.name) for name, own in expected.items()}
        self.module.load_state_dict(given)
        self._trained = True

    def state(self) -> dict[str, Tensor]:
        """What was learned: good photos add nothing to it."""
        return self.learned()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        self.load_learned(state)


def class_words(name: str) -> str:
    """A training class in words; "object" where it has no name."""
    return object_words(name) if name else NAMELESS


def say_nameless(records: Sequence[Record]) -> None:
    """A notice where training photos, whose class enters the prompts, are of no named class."""
    nameless = sum(not record.class_name for record in records)
    if nameless:
        notice(
            f'{nameless} training photos are of no named class; their prompts say "{NAMELESS}"; folders named after what the '
            "photos show give better words"
        )

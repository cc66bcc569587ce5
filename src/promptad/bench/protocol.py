"""What is evaluated and how: the protocol and its units of work.

A unit is one fit: a method variant, a class, k good photos and a run. The run decides both the photos
that are drawn and the prompts' initial values, or which of several trained prompts are used. A unit's key
(`bench.keys`) hashes everything that its result depends on, the photos' content included, so a finished unit is
reused only where it would come out the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from promptad.annotations import ALL
from promptad.bench.anomalies import AnomalyDraw
from promptad.bench.conventions import Conventions, conventions_of
from promptad.bench.draw import GivenShots
from promptad.bench.variants import DEFAULT_SEED, Variant
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.methods.catalogue import require_anomalies


@dataclass(frozen=True)
class Unit:
    """One fit: `shots` good photos of a class, drawn in run `run`; 0 shots for methods that need none, `ALL` for all training
    photos. `anomalies` is the number of labelled anomalies, 0 for methods that learn from none."""

    variant: Variant
    class_name: str
    shots: int
    run: int
    anomalies: int = 0


@dataclass(frozen=True)
class Protocol:
    """Which variants are evaluated, with which good photos, at which size.

    Attributes:
        variants: see :func:`make_variants`; each says how its epoch is selected.
        shots: the k of every k-shot row; 0 for methods that can do without, `ALL` for all training photos. runs: draws of the good photos per k.
        base_seed: run r draws photos and initial prompts with seed base_seed + r.
        conventions: fields of `Conventions` that hold for every variant, instead of those of its preset.
        objects: class -> words for it, where the class name is not to be used.
        given: the good photos of every class, instead of a draw; see `bench.given_shots`.
        anomalies: numbers of labelled anomalies, a row each, of methods that learn from them. anomaly_draw: how they are drawn,
            see `bench.anomalies`.
        limit: at most so many normal and so many anomalous test photos of a class, for a first look; 0 takes all.

    Raises:
        ConfigError: a number out of range, no variant, or conventions that do not exist.
    """

    variants: tuple[Variant, ...]
    shots: tuple[int, ...] = (1, 2, 4)
    runs: int = 5
    base_seed: int = DEFAULT_SEED
    conventions: Mapping[str, Any] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)
    given: GivenShots | None = None
    limit: int = 0
    anomalies: tuple[int, ...] = ()
    anomaly_draw: AnomalyDraw = "general"

    def __post_init__(self) -> None:
        if not self.variants:
            raise ConfigError(f"no method to evaluate; name one, for example {argument('method', 'promptad')}")
        if self.runs < 1 or self.base_seed < 0:
            raise ConfigError(f"runs must be at least 1 and the seed at least 0; got {self.runs} and {self.base_seed}")
        if not self.shots or any(k < 0 and k != ALL for k in self.shots):
            raise ConfigError(f"shots must be numbers of at least 0, such as 0,1,2,4, or all; got {self.shots}")
        needing = [
            variant.method
            for variant in self.variants
            if variant.entry.needs_good_photos and not any(self.shots if variant.shots is None else variant.shots)
        ]
        if needing:
            raise ConfigError(
                f"{needing[0]} learns from good photos; give {argument('shots')} of at least 1, such as 1,2,4"
            )
        if self.limit < 0:
            raise ConfigError(f"the limit is {self.limit} test photos; expected at least 1, or 0 for all")
        if self.anomalies and min(self.anomalies) < 1:
            raise ConfigError(f"numbers of labelled anomalies must be at least 1, such as 1,10; got {self.anomalies}")
        for variant in self.variants:
            require_anomalies(variant.method, len(self.anomalies), "anomalies")
            self.measured_by(variant)  # raises

    def measured_by(self, variant: Variant) -> Conventions:
        """The conventions of a variant: its preset's, as far as none are given for all."""
        own = conventions_of(variant.method, variant.preset)
        return own.changed(self.conventions).changed(dict(variant.conventions))

    def oracle(self, variant: Variant) -> bool:
        """Whether the epoch is also chosen on the test set (flag F-7)."""
        return variant.fitted_in_epochs and self.measured_by(variant).selection == "oracle_test"

    def seed(self, run: int) -> int:
        """Seed of the draw and of the prompts of a run."""
        return self.base_seed + run

    def object_of(self, class_name: str) -> str:
        """Words for a class."""
        return self.objects.get(class_name, class_name)

    def units(self, class_name: str) -> list[Unit]:
        """All fits of one class. Without good photos nothing is drawn: there is one run for each trained prompts."""
        units = []
        for variant in self.variants:
            use = variant.entry.good_photos
            shots = self.shots if variant.shots is None else variant.shots
            for k in dict.fromkeys(shots if use != "unused" else (0,)):
                if k or use != "needed":
                    runs = (variant.runs or self.runs) if k else max(1, len(variant.seeds))
                    counts = dict.fromkeys(self.anomalies) if variant.entry.learns_anomalies else (0,)
                    units += [Unit(variant, class_name, k, run, count) for count in counts for run in range(runs)]
        return units

"""A request to train prompts once, for every product: `promptad train`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptad.annotations import Above0, Positive, Seed, Weight
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.methods.catalogue import trained_facts
from promptad.requests.asked import INPUT_RANGE, FeaturesRequest, add_once, asked, tensors_file
from promptad.requests.data import chosen_classes
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.clip.backbone import Backbone
    from promptad.data.records import Record
    from promptad.training import Source, Training

Watched = tuple[Progress | None, Progress | None]
"""Progress of reading photos and of training, each called with what is done and what there is in all."""


@dataclass(frozen=True)
class TrainRequest(FeaturesRequest):
    """Prompts trained once, on labelled data sets or on nothing but words."""

    method: str = asked(
        "faprompt, anomalyclip, aprilgan, uniadet, mrad, promptad-zs, devnet-zs, dra-zs, mlep-proxy-zs, coop, cocoop, tcp, or rwda (which needs no photo).",
        "",
        place="argument",
    )
    output: Path = asked("The trained prompts, one small .safetensors file.", Path("prompts"), option="-o --output")
    on: tuple[Path, ...] = asked("Labelled data set: its folder, or a meta.json; repeat for more.", ())
    licence: tuple[str, ...] = asked(
        "Licence of each data set, in their order, for the file's card. Default: as public sets are known to state it.",
        (),
    )
    classes: tuple[str, ...] = asked("Only these classes, with commas. Default: all.", (), commas=True)
    leave_out: tuple[str, ...] = asked("Not these classes, with commas: those that will be measured.", (), commas=True)
    normal: tuple[str, ...] = asked(
        "Folders of good photos that have another name than good, ok, pass, ..., with commas.", (), commas=True
    )
    layout: tuple[str, ...] = asked(
        "How the photos of each data set lie, in their order, by name; one is of all. Default: recognised.", ()
    )
    preset: str = asked("clean (recommended), paper or release.", "clean")
    seeds: Positive = asked("Train this many times, with seeds one apart, into FILE-SEED.", 1)
    seed: Seed | None = asked("Seed of the first values and of what is drawn.", None)
    input_range: Above0 | None = asked(INPUT_RANGE, None)
    settings: Mapping[str, Any] = asked(
        "Any setting of the method as key=value, e.g. epochs=200; repeat for more.", {}, option="--set"
    )
    compact: bool = asked("Store large matrices in 4 or 8 bits: small files, slightly other scores.", False)
    fresh: bool = asked("Start anew, whatever an earlier run left.", False)
    feature_memory: Weight = asked(
        "GiB of features kept in memory; more are read or encoded again in every epoch.", 4.0
    )
    command: str = asked("For the file's card.", "", place="hidden")

    def check(self) -> None:
        """What the method needs, before anything is loaded."""
        super().check()
        facts = trained_facts(self.method)
        if facts.trained_on == "nothing":
            about_sets = ("on", "licence", "classes", "leave_out", "normal", "layout")
            self.refuse(about_sets, f"{facts.title} is trained on words alone; leave the data set out")
            features = ("no_cache", "feature_memory", "feature_disk")
            self.refuse(
                features, f"{facts.title} is trained on words alone, so there are no features of photos to keep"
            )
        elif not self.on:
            raise ConfigError(f"{facts.title} is trained on labelled photos; name a data set ({argument('on')})")
        if len(self.layout) > 1 and len(self.layout) != len(self.on):
            raise ConfigError(
                f"{len(self.layout)} {argument('layout')} for {len(self.on)} {argument('on')}: give one for each data set, or one"
            )
        if self.licence and len(self.licence) != len(self.on):
            raise ConfigError(
                f"{len(self.licence)} {argument('licence')} for {len(self.on)} {argument('on')}: give one for each data "
                "set, or none"
            )
        self.method_settings()

    def method_settings(self) -> dict[str, Any]:
        """All settings of the method. Raises ConfigError where one is given twice."""
        values = dict(self.settings)
        if self.seed is not None:
            add_once(values, "seed", self.seed, "seed")
        if self.input_range is not None:
            add_once(values, "input_range", self.input_range, "input_range")
        return values

    def sources(self) -> list[Source]:
        """The data sets with the classes that are asked for.

        Raises:
            DataError: a data set that cannot be read, or without what the method needs. ConfigError: no class is left.
        """
        from promptad.data.datasets import open_dataset
        from promptad.data.duplicates import say_copies

        real = [os.path.realpath(path) for path in self.on]
        twice = [path for number, path in enumerate(self.on) if real[number] in real[:number]]
        if twice:
            raise ConfigError(f"{argument('on')}: {twice[0]} is given twice, and its photos would count twice")
        layouts = self.layout * len(self.on) if len(self.layout) == 1 else self.layout or ("auto",) * len(self.on)
        sets = [open_dataset(path, layout, self.normal) for path, layout in zip(self.on, layouts, strict=True)]
        loaded = [list(data.records) for data in sets]
        together = [record for records in loaded for record in records]
        kept = set(chosen_classes(together, self.classes, self.leave_out))
        if len(loaded) > 1:
            say_copies(sorted(kept, key=lambda record: str(record.path)), Path(", ".join(map(str, self.on))))
        if self.on and not kept:
            raise ConfigError(f"{argument('classes')} and {argument('leave_out')} leave no class to train on")
        self._require_labels([record for record in together if record in kept])
        # Only now, with torch: what is wrong with the data has been told.
        from promptad.training import Source

        known = [data.facts.stated_licence if data.facts is not None else "not stated" for data in sets]
        licences = self.licence or known
        return [
            Source(Path(os.path.realpath(path)).name, licence, [record for record in records if record in kept])
            for path, licence, records in zip(self.on, licences, loaded, strict=True)
        ]

    def _require_labels(self, records: Sequence[Record]) -> None:
        """Says at once, not after all photos were read, that a data set has not what the method is trained on."""
        facts = trained_facts(self.method)
        where = ", ".join(str(path) for path in self.on)
        if facts.trained_on in ("masks", "labels") and not any(record.label == 1 for record in records):
            raise DataError(
                f"{where}: no photo is labelled as anomalous, and {facts.title} is trained on some; add them"
            )
        if facts.trained_on == "masks" and not any(record.mask is not None for record in records):
            raise DataError(
                f"{where}: no photo has a mask, and {facts.title} is trained on masks; add them, or train a method that "
                "needs labels alone (promptad-zs, devnet-zs, dra-zs, mlep-proxy-zs, coop, cocoop, tcp)"
            )

    def outputs(self, first_seed: int) -> list[Path]:
        """The files, one a seed."""
        path = tensors_file(self.output)
        if self.seeds == 1:
            return [path]
        return [path.with_stem(f"{path.stem}-{first_seed + number}") for number in range(self.seeds)]

    def run(
        self,
        *,
        watch: Callable[[Path], Watched] | None = None,
        trained: Callable[[Training, Backbone], None] | None = None,
    ) -> list[Training]:
        """Trains, and gives what each seed gave; photos that could not be used are in its `problems`.

        Args:
            watch: called with each file before its training; gives who is told of the progress.
            trained: called with what a seed gave as soon as its file is written, and the backbone.

        Raises:
            PromptadError: whatever cannot be, on one line.
        """
        from promptad.data.lock import prepared_folder

        self.require_backbone()
        with prepared_folder(self.output.parent):
            return self._trained(watch, trained)

    def _trained(
        self, watch: Callable[[Path], Watched] | None, trained: Callable[[Training, Backbone], None] | None
    ) -> list[Training]:
        sources = self.sources()
        from promptad.learning.features import GIB
        from promptad.methods.registry import find_method
        from promptad.training import train_prompts

        values = self.method_settings()
        first = find_method(self.method).make_config(self.preset, **values).seed
        seeds = range(first, first + self.seeds)
        find_method(self.method).make_config(self.preset, **{**values, "seed": seeds[-1]})  # the largest seed there is
        clip, cache = self.open_backbone(), self.feature_store()
        results = []
        for seed, path in zip(seeds, self.outputs(first), strict=True):
            reading, training = watch(path) if watch is not None else (None, None)
            train = functools.partial(train_prompts, self.method, sources, clip, path, preset=self.preset, cache=cache)
            result = train(
                settings={**values, "seed": seed},
                keep_bytes=int(self.feature_memory * GIB),
                fresh=self.fresh,
                compact=self.compact,
                command=self.command,
                reading=reading,
                training=training,
            )
            results.append(result)
            if trained is not None:
                trained(result, clip)
        return results

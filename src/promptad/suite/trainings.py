"""What is trained before anything is measured: prompts on auxiliary sets, on all classes but one, or on words alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptad import __version__
from promptad.bench.keys import fingerprint_of
from promptad.clip.backbone import Backbone
from promptad.data.datasets import DataSet
from promptad.data.records import Record
from promptad.errors import ConfigError
from promptad.learning.features import FeatureStore
from promptad.methods.catalogue import trained_facts
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict, words_digest
from promptad.suite.plan import RowPlan, TrainPlan, row_label
from promptad.suite.processes import Context, Tick
from promptad.training import Source, train_prompts

# What a training counts for in progress, whatever it trains on: half for reading its photos, half for its epochs.
COST = 200


@dataclass(frozen=True)
class TrainingJob:
    """Prompts of one seed on one choice of photos.

    Attributes:
        title: for messages. path: the file that it makes; its name tells everything that decides what is learned.
        row: whose prompts they are, with the seed among its settings. sources: names of sets -> their photos.
    """

    title: str
    path: Path
    row: RowPlan
    seed: int
    backbone: str
    sources: tuple[Source, ...]
    cache: FeatureStore | None
    cost: int = COST

    def run(self, context: Context, tick: Tick) -> list[str]:
        """Trains; a line for every photo that could not be used."""
        if self.path.exists():
            tick(self.cost)
            return []
        given = _Shares(tick)
        result = train_prompts(
            self.row.method,
            self.sources,
            context.backbone(self.backbone),
            self.path,
            preset=self.row.preset,
            settings={**self.row.settings, "seed": self.seed},
            cache=self.cache,
            command=f"promptad bench: {self.title}",
            reading=lambda done, total: given(0, done, total),
            training=lambda done, total: given(1, done, total),
        )
        tick(self.cost - sum(given.told))
        return result.problems


class _Shares:
    """Turns what is done of each half into ticks."""

    def __init__(self, tick: Tick) -> None:
        self.tick, self.told = tick, [0, 0]

    def __call__(self, half: int, done: int, total: int) -> None:
        share = (COST // 2) * min(done, total) // max(1, total)
        if share > self.told[half]:
            self.tick(share - self.told[half])
            self.told[half] = share


def trained_on(row: RowPlan, measured: str) -> tuple[str, ...]:
    """The sets that a row's prompts are trained on for a measured set.

    Raises:
        ConfigError: the rule names none for it.
    """
    train = row.train or TrainPlan()
    names: list[str] = []
    for name in train.on:
        if name != "auxiliary":
            names.append(name)
        elif (source := train.auxiliary.get(measured, train.auxiliary.get("*"))) is not None:
            names.append(source)
        else:
            raise ConfigError(
                f"{row_label(row)}: no auxiliary set is named for {measured}; name it, or '*' for all others"
            )
    return tuple(names)


def training_jobs(
    row: RowPlan,
    measured: str,
    sets: Mapping[str, DataSet],
    backbone: tuple[str, Backbone],
    folder: Path,
    cache: FeatureStore | None,
) -> list[TrainingJob]:
    """The trainings that a row needs before it is measured on a set: one a seed, and where each class is left out, one a class.

    Args:
        sets: name -> opened. backbone: its name and itself. folder: gets the files.

    Raises:
        ConfigError: settings that cannot be, a method that is not trained, or photos where only words are learned from.
    """
    train, facts = row.train, trained_facts(row.method)
    assert train is not None
    names = trained_on(row, measured)
    if train.leave_class_out:
        names = names or (measured,)
    if bool(names) == (facts.trained_on == "nothing"):
        what = (
            "is trained on words alone; leave train.on out" if names else "is trained on photos; name sets in train.on"
        )
        raise ConfigError(f"{row_label(row)}: {facts.title} {what}")
    chosen = [record for name in names for record in sets[name].records if _wanted(record, train)]
    left_out = sorted({record.class_name for record in sets[measured].records}) if train.leave_class_out else [""]
    first = (
        train.seed if train.seed is not None else find_method(row.method).make_config(row.preset, **row.settings).seed
    )
    jobs = []
    for seed in range(first, first + train.seeds):
        for name in left_out:
            kept = {id(record) for record in chosen if record.class_name != name}
            sources = tuple(
                Source(key, _licence(sets[key]), [record for record in sets[key].records if id(record) in kept])
                for key in names
            )
            jobs.append(_job(row, seed, name, sources, backbone, folder, cache))
    return jobs


def _wanted(record: Record, train: TrainPlan) -> bool:
    return not train.classes or record.class_name in train.classes


def _licence(data: DataSet) -> str:
    return data.facts.stated_licence if data.facts is not None else "not stated"


def _job(
    row: RowPlan,
    seed: int,
    left_out: str,
    sources: Sequence[Source],
    backbone: tuple[str, Backbone],
    folder: Path,
    cache: FeatureStore | None,
) -> TrainingJob:
    entry = find_method(row.method)
    config = entry.make_config(row.preset, **{**row.settings, "seed": seed})
    decides: dict[str, Any] = {
        "version": __version__,
        "method": [row.method, row.preset],
        # What may be chosen after training is not part of it: rows that differ there alone share their training.
        "config": {key: value for key, value in config_dict(config).items() if key not in entry.free},
        "words": words_digest(config),
        "backbone": backbone[1].fingerprint,
        "data": [[source.name, fingerprint_of(source.records)] for source in sources],
        "records": [[record.split, record.label, record.class_name] for source in sources for record in source.records],
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    without = f"-without-{re.sub(r'[^A-Za-z0-9_]+', '-', left_out)}" if left_out else ""
    path = folder / f"{row.method}-{row.preset}{without}-{seed}-{digest}.safetensors"
    title = f"training of {row_label(row)}, seed {seed}{f', without {left_out}' if left_out else ''}"
    return TrainingJob(title, path, row, seed, backbone[0], tuple(sources), cache)

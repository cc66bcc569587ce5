"""Training prompts once, on labelled data sets or on nothing but words, into one small file for every product."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from promptad import __version__
from promptad.clip.backbone import Backbone
from promptad.data.files import refuse_foreign
from promptad.data.lock import only_writer, prepared_folder
from promptad.data.records import Record
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.learning.auxiliary import KEEP_BYTES, AuxiliarySet
from promptad.learning.epochs import Checkpoint
from promptad.learning.features import Encoder, FeatureStore
from promptad.methods.catalogue import trained_facts
from promptad.methods.contract import Trained
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict, layout
from promptad.saved.prompts import read_learned, write_learned

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """One data set that prompts are trained on: its name and licence as the card shows them, and its records."""

    name: str
    licence: str
    records: Sequence[Record]


@dataclass
class Training:
    """What a training gave.

    Attributes:
        path: the file of trained prompts. losses: mean loss of every epoch. reused: it was there already.
        problems: one line for every photo that was left out.
        card: what the file says about itself.
    """

    path: Path
    losses: list[float] = field(default_factory=list)
    reused: bool = False
    problems: list[str] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)


def train_prompts(
    name: str,
    sources: Sequence[Source],
    backbone: Backbone,
    output: Path,
    *,
    preset: str = "clean",
    settings: Mapping[str, Any] | None = None,
    cache: FeatureStore | None = None,
    keep_bytes: int = KEEP_BYTES,
    fresh: bool = False,
    compact: bool = False,
    command: str = "",
    reading: Progress | None = None,
    training: Progress | None = None,
) -> Training:
    """Trains a method and writes what it learned to `output`.

    After every epoch the state lies in `<output>.training.safetensors`; the same call goes on from there, to the same
    result as without the interruption. A finished file of the very same training is left as it is.

    Args:
        sources: labelled data sets; none for a method that needs no photo.
        preset, settings: of the method's config. cache: keeps features on disk.
        keep_bytes: features that are kept in memory; beyond them they are read or encoded again in every epoch.
        fresh: forget what an earlier call left. compact: large matrices in few bits. command: for the card.
        reading, training: called with photos, and batches, done and in all.

    Raises:
        ConfigError: settings, no data where it is needed, or data where none is. DataError: no usable photo, or photos
            of one kind only, or another run trains the same file. WeightsError: a damaged state of an earlier training.
    """
    trained_facts(name)
    entry = find_method(name)
    config = entry.make_config(preset, **(settings or {}))
    method = cast(Trained, entry.build(backbone, config, "object"))
    _require_sources(entry.title, method, sources)
    asked: dict[str, Any] = {"method": [name, preset], "config": config_dict(config), "backbone": backbone.fingerprint}
    with prepared_folder(output.parent), only_writer(output):
        if output.exists():  # before all photos are read
            refuse_foreign(output) if fresh else _refuse_other(output, asked, backbone)
        data = _read(method, config, sources, backbone, cache, keep_bytes, reading) if sources else None
        result = Training(output, problems=data.problems if data else [])
        identity = {**asked, "data": data.fingerprint if data else None, "version": __version__}
        identity |= {"compact": True} if compact else {}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        state = output.with_name(f"{output.name.removesuffix('.safetensors')}.training.safetensors")
        if fresh:
            state.unlink(missing_ok=True)
        elif output.exists():
            return replace(result, reused=True, card=(card := _finished_card(output, key)), losses=list(card["losses"]))
        began = time.perf_counter()
        result.losses = method.train(data, checkpoint=Checkpoint(state, identity), progress=training)
        described = [_described(source, data) for source in sources] if data else []
        result.card = {"title": f"{entry.title}, preset {preset}", "data": described, "command": command}
        result.card |= {"losses": result.losses, "seconds": round(time.perf_counter() - began, 1), "key": key}
        hashes = tuple(data.hashes) if data else ()
        write_learned(output, method, backbone, preset, result.card, hashes, compact=compact)
        state.unlink(missing_ok=True)
    return result


def _require_sources(title: str, method: Trained, sources: Sequence[Source]) -> None:
    if bool(sources) == (method.needs == "nothing"):
        raise ConfigError(
            f"{title} is trained on words alone; leave the data set out"
            if sources
            else f"{title} is trained on labelled photos; name a data set ({argument('on')})"
        )


def _refuse_other(output: Path, asked: Mapping[str, Any], backbone: Backbone) -> None:
    """Raises ConfigError where a file is there that another method, preset, config or backbone gave."""
    learned = read_learned(output)
    there = {"method": [learned.method, learned.preset], "config": config_dict(learned.make_config({}))}
    other = learned.backbone["sha256"] != backbone.sha256 or backbone.read_otherwise(learned.decides)
    if other or any(there[name] != asked[name] for name in there):
        raise _other_training(output)


def _other_training(output: Path) -> ConfigError:
    return ConfigError(
        f"{output}: holds prompts of another training; choose another output, or replace it ({argument('fresh', 'True')})"
    )


def _finished_card(output: Path, key: str) -> dict[str, Any]:
    """The card of the very same training. Raises ConfigError where the file is of another one."""
    card = read_learned(output).card
    if card.get("key") != key:
        raise _other_training(output)
    return card


def _read(
    method: Trained,
    config: Any,
    sources: Sequence[Source],
    backbone: Backbone,
    cache: FeatureStore | None,
    keep_bytes: int,
    reading: Progress | None,
) -> AuxiliarySet:
    records = [record for source in sources for record in source.records]
    chosen = method.choose(records)
    # Training photos are shown as good photos are: the channel slip of PromptAD's release is one of test photos.
    preprocess = replace(layout(config, backbone.input_size, backbone.sizes.vision.patch_size), channels="rgb")
    encoder = Encoder(backbone, preprocess, method.request, cache=cache)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if reading is not None:
            reading(done, len(chosen))

    return AuxiliarySet(
        chosen, encoder, masks=method.needs == "masks", described=records, keep_bytes=keep_bytes, tick=tick
    )


def _described(source: Source, data: AuxiliarySet) -> dict[str, Any]:
    own = {record.photo for record in source.records}
    used = [record for record in data.records if record.photo in own]
    return {
        "name": source.name,
        "licence": source.licence,
        "classes": sorted({record.class_name for record in used}),
        "normal": sum(record.label == 0 for record in used),
        "anomalous": sum(record.label == 1 for record in used),
    }

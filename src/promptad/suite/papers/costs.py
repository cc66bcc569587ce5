"""What methods cost: values that are trained, time of a training step and of a photo (FAPrompt, ICCV 2025, table 3)."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from promptad.bench.hardware import hardware
from promptad.bench.published import costs
from promptad.bench.tables import Table
from promptad.clip.architecture import Activation
from promptad.clip.backbone import Backbone
from promptad.clip.preprocess import Preprocess
from promptad.data.records import Record
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.features import Encoder
from promptad.methods.contract import Method, Trained
from promptad.methods.registry import find_method
from promptad.suite.papers.experiments import PaperRow
from promptad.suite.papers.plans import PaperPlan

_BATCH = 8
_REPEATS = 3


def cost_table(made: PaperPlan, backbone_of: Callable[[Activation | None], Backbone]) -> Table:
    """One row a method: ours on this machine beside what is printed. `backbone_of` gives the backbone, with another activation than its
    own where settings ask for one."""
    paper = {cost.method: cost for cost in costs() if cost.source == made.experiment.paper.source}
    backbone, rows = backbone_of(None), []
    for row in made.experiment.rows:
        asked = _config(row, made).asked_activation
        same = asked == "any" or asked == backbone.sizes.activation
        own = backbone if same else backbone_of(None if asked == "any" else asked)
        count, training, scoring = _measured(row, made, own)
        known = paper.get(row.name)
        print_training = known.training_ms_a_batch if known else None
        rows.append(
            (
                row.name,
                f"{count:,}",
                f"{known.parameters:,}" if known else "–",
                "–" if training is None else f"{1000 * training:.0f}",
                f"{print_training[0]:.1f} ± {print_training[1]:.1f}" if print_training else "–",
                f"{1000 * scoring:.0f}",
                "{:.1f} ± {:.1f}".format(*known.inference_ms_a_photo) if known else "–",
            )
        )
    heads = ("method", "trained values", "printed", f"ms a batch of {_BATCH}", "printed", "ms a photo", "printed")
    where = " ".join(str(value) for value in hardware(backbone.device).values())
    return Table(f"{made.experiment.title} (ours: {backbone.name} on {where})", heads, tuple(rows))


def _config(row: PaperRow, made: PaperPlan) -> Any:
    """A row's config with the settings that were wished, and one epoch."""
    entry = find_method(row.method)
    settings = made.wish.settings_of(row.method) | dict(row.settings)
    if "epochs" in entry.setting_names:
        settings["epochs"] = 1
    return entry.make_config(made.wish.preset, **settings)


def _measured(row: PaperRow, made: PaperPlan, backbone: Backbone) -> tuple[int, float | None, float]:
    """(trained values, seconds of a training step or None, seconds of a photo)."""
    config = _config(row, made)
    method = find_method(row.method).build(backbone, config, "object")
    size = config.input_size or backbone.input_size
    encoder = Encoder(backbone, Preprocess(size, backbone.sizes.vision.patch_size, fit="squash"), method.request)
    training = _training(method, encoder, size) if isinstance(method, Trained) else None
    return trained_values(method), training, _scoring(method, encoder, size)


def trained_values(method: Method) -> int:
    """How many values a method trains; 0 where it trains none."""
    count: Any = getattr(method, "parameter_count", 0)
    return int(count() if callable(count) else count)


def _scoring(method: Method, encoder: Encoder, size: int) -> float:
    """Median seconds of one photo, from its pixels to its scores."""
    generator, seconds = np.random.default_rng(0), []
    for _ in range(_REPEATS + 1):
        photo = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
        began = time.perf_counter()
        for view in encoder.encode([photo])[0].features:
            method.score(view)
        _wait(encoder.backbone)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _training(method: Trained, encoder: Encoder, size: int) -> float:
    """Seconds of one step on a batch, its features included: an epoch of one batch, the second time."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        records = [_drawn(Path(folder), number, size, generator) for number in range(_BATCH)]
        began = time.perf_counter()
        data = AuxiliarySet(records, encoder, masks=method.needs == "masks")
        _wait(encoder.backbone)
        encoding = time.perf_counter() - began
        method.train(data)
        began = time.perf_counter()
        method.train(data)
        _wait(encoder.backbone)
        return encoding + time.perf_counter() - began


def _drawn(folder: Path, number: int, size: int, generator: np.random.Generator) -> Record:
    path = folder / f"{number}.png"
    Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    good = Record(path, 0, class_name="object", defect_type="good")
    if number % 2 == 0:
        return good
    values = np.zeros((size, size), np.uint8)
    values[: size // 2, : size // 2] = 255
    mask = folder / f"{number}-mask.png"
    Image.fromarray(values).save(mask)
    return replace(good, label=1, defect_type="damage", mask=mask)


def _wait(backbone: Backbone) -> None:
    if backbone.device.type == "cuda":
        torch.cuda.synchronize(backbone.device)

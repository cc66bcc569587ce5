"""Saved files of every method in whose header anything may stand: they load, or are refused in one line."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mutations import metadata, mutated, rewritten
from promptad.data.tensor_file import content_digest, write_saved
from promptad.detector import Detector, load
from promptad.errors import PromptadError, WeightsError
from promptad.learning.epochs import Checkpoint, Recipe, train_epochs
from promptad.methods.registry import METHODS
from promptad.methods.settings import config_dict
from promptad.notices import PromptadNotice
from promptad.saved.prompts import SHIPPED, read_learned
from tiny import tiny_backbone

BACKBONE = tiny_backbone()
QUICK: dict[str, Any] = {"epochs": 2, "iterations": 2, "batch_size": 6, "input_size": 48, "map_size": 48}
QUICK |= {"memory_layers": (1, 3), "layers": (1, 3), "steps": 2}
TRAINED = sorted(name for name, entry in METHODS.items() if entry.trained)
FITTED = sorted(set(METHODS) - set(TRAINED))
pytestmark = pytest.mark.filterwarnings("ignore::promptad.notices.PromptadNotice")


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 130, (48, 48, 3), dtype=np.uint8)


def try_mutations(source: Path, target: Path, number: int, use: Callable[[Path, int], None]) -> int:
    """Uses so many copies with a mutated header; how many were refused, each in one line."""
    rng, text, refused = random.Random(source.name), metadata(source)["promptad"], 0
    for attempt in range(number):
        rewritten(source, target, mutated(text, rng))
        try:
            with warnings.catch_warnings(record=True) as lines:
                warnings.simplefilter("always", PromptadNotice)
                use(target, attempt)
            assert all("\n" not in str(line.message) for line in lines)
        except PromptadError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 5000
    return refused


@pytest.fixture(scope="module", params=FITTED)
def fitted(request, tmp_path_factory) -> Path:
    """A detector of each method that learns nothing away from the product."""
    entry = METHODS[request.param]
    settings = {key: value for key, value in QUICK.items() if key in entry.setting_names}
    if "layers" in settings and len(entry.make_config().layers) == 1:
        settings["layers"] = (2,)
    detector = Detector(request.param, object="nut", backbone=BACKBONE, **settings)
    detector.fit([photo(i) for i in range(3)], defective=[photo(i) for i in (3, 4)] if entry.learns_anomalies else ())
    return detector.save(tmp_path_factory.mktemp("fitted") / f"{request.param}.safetensors")


def test_detectors_with_mutated_headers_load_or_give_one_line(fitted, tmp_path):
    def use(path: Path, attempt: int) -> None:
        again = load(path, backbone=BACKBONE)
        if attempt % 10 == 0:
            repr(again), again.identity(), again.predict(photo(5)).to_dict()

    number = 400 if fitted.stem == "promptad" else 40
    assert try_mutations(fitted, tmp_path / "m.safetensors", number, use) > number // 4


def test_flipped_and_zeroed_tensors_of_detectors_are_noticed(fitted, tmp_path):
    content = fitted.read_bytes()
    start, rng, target = 8 + int.from_bytes(content[:8], "little"), random.Random(0), tmp_path / "damaged.safetensors"
    assert len(content) > start
    for _ in range(20):
        damaged = bytearray(content)
        damaged[rng.randrange(start, len(content))] ^= 1 << rng.randrange(8)
        target.write_bytes(damaged)
        with pytest.raises(WeightsError, match="content is not what was saved"):
            load(target, backbone=BACKBONE)
    for name, tensor in load_file(fitted).items():
        other = torch.zeros_like(tensor) if tensor.any() else torch.ones_like(tensor)
        save_file(load_file(fitted) | {name: other}, target, metadata=metadata(fitted))
        with pytest.raises(WeightsError, match="content is not what was saved"):
            load(target, backbone=BACKBONE)


@pytest.fixture(params=TRAINED)
def prompts(request, tmp_path) -> Path:
    """A small file of trained prompts, its header as `promptad train` writes it, with the config of each method."""
    source = SHIPPED / "anomalyclip.safetensors"
    header = json.loads(metadata(source)["promptad"])
    header["photos"], header["method"] = header["photos"][:3], request.param
    header["config"] = config_dict(METHODS[request.param].make_config())
    tensors, text = dict(list(load_file(source).items())[:2]), json.dumps(header)
    path = tmp_path / f"{request.param}.safetensors"
    save_file(tensors, path, metadata={"promptad": text, "promptad_sha256": content_digest(text, tensors)})
    assert read_learned(path).method == request.param
    return path


def test_prompts_with_mutated_headers_load_or_give_one_line(prompts, tmp_path):
    def use(path: Path, _: int) -> None:
        learned = read_learned(path)
        for entry in learned.card["data"]:
            f"{entry['name']} {entry['normal'] + entry['anomalous']} {len(entry['classes'])}"
        assert all(isinstance(loss, float) for loss in learned.card["losses"])
        learned.make_config({})

    number = 300 if prompts.stem == "anomalyclip" else 40
    assert try_mutations(prompts, tmp_path / "m.safetensors", number, use) > number // 4


def training(path: Path) -> list[float]:
    """A training of two values over three epochs, from where the file stands."""
    module = torch.nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(1.0)
    return train_epochs(
        module,
        lambda generator: [torch.rand(2, 1, generator=generator)],
        lambda batch: module(batch).square().mean(),
        Recipe(epochs=3, lr=0.1),
        checkpoint=Checkpoint(path, {"data": ["a"], "settings": {"epochs": 3}}),
    )


def test_training_states_with_mutated_headers_go_on_or_give_one_line(tmp_path, monkeypatch):
    state, kept = tmp_path / "state.safetensors", tmp_path / "kept.safetensors"

    def kill(path: Path, header: dict[str, Any], tensors: dict[str, Any]) -> None:
        write_saved(path, header, tensors)
        if len(header["history"]) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("promptad.learning.epochs.write_saved", kill)
        with pytest.raises(KeyboardInterrupt):
            training(state)
    kept.write_bytes(state.read_bytes())
    assert len(training(state)) == 3

    def use(path: Path, _: int) -> None:
        losses = training(path)
        assert len(losses) == 3 and all(isinstance(loss, float) for loss in losses)

    assert try_mutations(kept, tmp_path / "m.safetensors", 200, use) > 100

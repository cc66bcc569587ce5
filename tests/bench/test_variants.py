"""Trained prompts as rows: seeds are runs, and files that each left one class out score that class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from drawn_data import make_class
from promptad.bench.protocol import Protocol
from promptad.bench.run import Evaluation, run
from promptad.bench.tables import make_report
from promptad.bench.variants import make_variants, trained_classes
from promptad.data.datasets import load_dataset
from promptad.errors import ConfigError
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict
from promptad.saved.prompts import Learned, read_learned
from promptad.training import Source, train_prompts
from tiny import tiny_backbone

CLASSES = ("bottle", "cable", "carpet")


def learned(name: str, classes: tuple[str, ...], seed: int = 111, data: str = "mvtec", **settings: Any) -> Learned:
    """A file of trained prompts as its header describes it."""
    config = config_dict(find_method("promptad-zs").make_config("paper", seed=seed, **settings))
    card = {"data": [{"name": data, "licence": "-", "classes": list(classes), "normal": 1, "anomalous": 1}]}
    backbone = {"name": "random", "sha256": "0" * 64, "precision": "fp32"}
    photos = tuple(f"{seed}{name}" for name in classes)  # every seed draws other photos
    return Learned(
        Path(f"{name}.safetensors"), name, "promptad-zs", "paper", config, backbone, {"x": torch.zeros(1)}, card, photos
    )


def without(class_name: str) -> tuple[str, ...]:
    return tuple(name for name in CLASSES if name != class_name)


def test_runs_are_seeds_whatever_photos_they_drew() -> None:
    files = [learned(f"s{seed}", CLASSES, seed) for seed in (111, 112, 113)]
    [variant] = make_variants(["promptad-zs"], learned=files)
    assert variant.seeds == (111, 112, 113)
    assert [variant.weights(run, "cup") for run in range(3)] == files


def test_each_class_is_scored_by_the_file_that_left_it_out() -> None:
    files = [learned(f"{name}-{seed}", without(name), seed) for seed in (1, 2) for name in CLASSES]
    [variant] = make_variants(["promptad-zs"], learned=files)
    assert variant.seeds == (1, 2) and len(Protocol((variant,), (0,)).units("cable")) == 2
    for name in CLASSES:
        for number, seed in enumerate((1, 2)):
            chosen = variant.weights(number, name)
            assert chosen is not None and chosen.path.stem == f"{name}-{seed}"
            assert name not in trained_classes(chosen)
    with pytest.raises(ConfigError, match=r"wood: 3 of .* left this class out; expected one"):
        variant.weights(0, "wood")
    [partial] = make_variants(["promptad-zs"], learned=files[:2])
    with pytest.raises(
        ConfigError, match=r"carpet: none of bottle-1.safetensors, cable-1.safetensors left this class out"
    ):
        partial.weights(0, "carpet")


@pytest.mark.parametrize(
    "other",
    [
        {"classes": CLASSES, "data": "visa"},
        {"classes": ("bottle",)},
        {"classes": CLASSES, "anomalies": 1},
    ],
)
def test_other_sets_classes_or_settings_are_rows_of_their_own(other: dict[str, Any]) -> None:
    files = [learned("a", CLASSES), learned("b", **{"seed": 112, **other})]
    assert [len(variant.learned) for variant in make_variants(["promptad-zs"], learned=files)] == [1, 1]


def test_leave_one_out_end_to_end(tmp_path: Path) -> None:
    backbone, root = tiny_backbone(), tmp_path / "data"
    for name in CLASSES:
        make_class(root, name, train=4, good=2, bad=2)
    records = load_dataset(root)
    settings = {"layers": [1, 2, 3], "width": 8, "heads": 2, "feedforward": 16, "epochs": 1, "iterations": 1,
                "batch_size": 4, "map_size": 48, "anomalies": 1}  # fmt: skip
    files = []
    for name in CLASSES:
        kept = [record for record in records if record.class_name != name]
        path = tmp_path / f"{name}.safetensors"
        train_prompts("promptad-zs", [Source("data", "-", kept)], backbone, path, settings=settings)
        files.append(read_learned(path))
    protocol = Protocol(make_variants(["promptad-zs"], learned=files), (0,), conventions={"eval_size": 24})
    outcome = run(Evaluation(protocol, records, backbone, tmp_path / "out", root=root))
    assert not outcome.failures
    assert {unit["class"]: unit["trained"]["file"] for unit in outcome.units} == {
        name: f"{name}.safetensors" for name in CLASSES
    }
    assert not any(unit["seen_in_training"] for unit in outcome.units)
    [line] = make_report("data", protocol, ("tiny", "tiny"), outcome).lines
    assert line.cells["image_auroc"] is not None and set(line.cells["image_auroc"].classes) == set(CLASSES)

"""Fixtures of the tests of whole benchmarks: tiny weights in a file, and two drawn data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from drawn_data import make_class
from tiny import openclip, tiny_backbone


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads in their last bits. Of a module, so that what its fixtures compute has one too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP under OpenCLIP's names."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    tiny = tiny_backbone()
    save_file({name: tensor.contiguous() for name, tensor in openclip(tiny.vision, tiny.text).items()}, path)
    return path


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sets "kitchen" (two classes) and "garden" (one class)."""
    folder = tmp_path_factory.mktemp("suite") / "data"
    make_class(folder / "kitchen", "cup")
    make_class(folder / "kitchen", "pan")
    make_class(folder / "garden", "rake")
    return folder


PLAN = """
title = "drawn"
shots = [0, 2]
seeds = 2
backbone = "tiny"
convention = { eval_size = 24 }

[[sets]]
path = "data/kitchen"
groups = ["home"]

[[sets]]
path = "data/garden"
groups = ["home"]

[[rows]]
method = "clip"
settings = { map_size = 48, smoothing = 1.0 }

[[rows]]
method = "padim"
settings = { layers = [1, 3], map_size = 48, smoothing = 1.0 }

[[rows]]
method = "promptad"
settings = { memory_layers = [1, 3], epochs = 2, lr = 0.5, map_size = 48, smoothing = 1.0 }

[[rows]]
method = "promptad"
name = "w/o EAM"
shots = [2]
seeds = 1
settings = { memory_layers = [1, 3], epochs = 2, lr = 0.5, map_size = 48, smoothing = 1.0, margin = false }

[[rows]]
method = "anomalyclip"
settings = { epochs = 1, map_size = 48, smoothing = 1.0, deep_depth = 2, local_start = 2 }
train = { on = ["auxiliary"], auxiliary = { kitchen = "garden", "*" = "kitchen" } }
"""


@pytest.fixture(scope="session")
def plan_file(sets: Path) -> Path:
    """A plan of five rows on the two sets."""
    path = sets.parent / "drawn.toml"
    path.write_text(PLAN, encoding="utf-8")
    return path

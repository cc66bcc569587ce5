"""The choice of the epoch on the test set, with scripted AUROCs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from drawn_data import SETTINGS, make_class
from promptad.bench.selection import OracleSelection
from promptad.detector import Detector
from promptad.methods.contract import Method
from promptad.methods.registry import find_method
from tiny import tiny_backbone

NAN = float("nan")


class Scripted:
    """Stands for a test set whose AUROCs are known beforehand, epoch by epoch."""

    def __init__(self, image: list[float], pixel: list[float]) -> None:
        self.script = [{"image": a, "pixel": b} for a, b in zip(image, pixel, strict=True)]
        self.parts: list[str] = []

    def __len__(self) -> int:
        return 10

    def aurocs(self, detector: Detector) -> dict[str, float]:
        self.parts.append(getattr(detector.method.config, "parts", ""))
        return self.script.pop(0)


def prototypes(method: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.state().items() if not name.startswith("memory")}


def trained(
    folder: Path, tests: Scripted, parts: tuple[str, ...], name: str = "promptad"
) -> tuple[Detector, OracleSelection, list[dict[str, Tensor]], list[int]]:
    settings = {**SETTINGS, "epochs": 4}
    settings = {key: value for key, value in settings.items() if key in find_method(name).setting_names}
    detector = Detector(name, object="cup", backbone=tiny_backbone(), **settings)
    ticks: list[int] = []
    oracle = OracleSelection(detector, tests, parts, ticks.append)  # type: ignore[arg-type]
    seen: list[dict[str, Tensor]] = []

    def hook(epoch: int, method: Method) -> None:
        oracle(epoch, method)
        seen.append(prototypes(method))

    good = detector.encoder.encode_files(sorted((folder / "train/good").iterdir()), reference=True)
    detector.fit_features(good, after_epoch=hook, set_threshold=False)
    return detector, oracle, seen, ticks


def same(snapshot: dict[str, Tensor], expected: dict[str, Tensor], task: str) -> bool:
    return all(torch.equal(snapshot[name], expected[name]) for name in expected if name.startswith(task))


@pytest.mark.parametrize(("name", "part"), [("promptad", "fused"), ("cocoop-oneclass", "")])
def test_each_task_has_its_own_best_epoch_and_the_last_one_comes_back(tmp_path: Path, name: str, part: str) -> None:
    tests = Scripted([0.5, 0.9, 0.9, 0.2], [0.7, 0.6, 0.8, 0.8])
    detector, oracle, seen, ticks = trained(make_class(tmp_path, "cup"), tests, (part,), name)
    assert oracle.parts == (part,) and ticks == [10] * 4
    assert oracle.epochs(part) == {"image": 2, "pixel": 3}  # the first of equally good ones
    assert not same(seen[1], seen[3], "image") and not same(seen[2], seen[3], "pixel")
    with oracle.best(part):
        inside = prototypes(detector.method)
    assert same(inside, seen[1], "image") and same(inside, seen[2], "pixel")
    after = prototypes(detector.method)
    assert same(after, seen[3], "image") and same(after, seen[3], "pixel")
    with pytest.raises(RuntimeError), oracle.best(part):
        raise RuntimeError
    assert same(prototypes(detector.method), seen[3], "image")


def test_every_row_chooses_for_itself_and_the_memory_has_no_epoch(tmp_path: Path) -> None:
    tests = Scripted([0.9, 0.1] + [0.2, 0.3] * 3, [0.1, 0.9] + [0.2, 0.3] * 3)
    _, oracle, _, ticks = trained(make_class(tmp_path, "cup"), tests, ("text", "memory", "fused"))
    assert tests.parts == ["text", "fused"] * 4 and len(ticks) == 8
    assert oracle.parts == ("text", "fused")
    assert oracle.epochs("text") == {"image": 1, "pixel": 2}
    assert oracle.epochs("fused") == {"image": 2, "pixel": 1}


def test_a_task_without_auroc_keeps_its_last_epoch(tmp_path: Path) -> None:
    tests = Scripted([0.5, 0.9, 0.1, 0.1], [NAN] * 4)
    detector, oracle, seen, _ = trained(make_class(tmp_path, "cup"), tests, ("fused",))
    assert oracle.epochs("fused") == {"image": 2, "pixel": None}
    with oracle.best("fused"):
        inside = prototypes(detector.method)
    assert same(inside, seen[1], "image") and same(inside, seen[3], "pixel")
    tests = Scripted([NAN] * 4, [NAN] * 4)
    assert trained(make_class(tmp_path, "mug"), tests, ("fused",))[1].parts == ()

"""Every table and figure of the four papers runs to its end, on miniature trees of the public sets with a tiny random CLIP."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from safetensors.torch import save_file

import miniature_sets
from promptad.clip.backbone import random_backbone
from promptad.clip.tokenizer import clip_tokenizer
from promptad.methods.registry import find_method
from promptad.requests.benchmarking import Benchmarked, BenchRequest
from promptad.suite.papers.experiments import Experiment, experiments
from promptad.suite.papers.printed import measured_sets, printed_rows
from tiny import SIZES, openclip

pytestmark = pytest.mark.filterwarnings("ignore")
# Nothing that is learned here means anything: the shortest of everything.
SHORT: dict[str, Any] = {
    "epochs": 1,
    "iterations": 1,
    "pairs": 64,
    "input_size": 48,
    "map_size": 32,
    "coreset": 1.0,
    "patch_count": 4,
    "mosaic": 0.0,
    "width": 16,
    "heads": 2,
    "feedforward": 16,
}
MVTEC = {
    "bottle": {"broken_large": 2},
    "grid": {"bent": 2},
    "cable": {"cable_swap": 1},
    "transistor": {"misplaced": 1},
    "metal_nut": {"flip": 1},
    "zipper": {"combined": 1},
    "pill": {"combined": 1},
    "wood": {"combined": 1},
    "tile": {"crack": 1},
}
# One class of sets of many is enough.
SPARED = (
    "mpdd/bracket*",
    "mpdd/[ct]*",
    "btad/*/0[23]",
    "dtd_synthetic/[BMPFS]*",
    "dtd_synthetic/Woven_1*",
    "dagm/*/Class[2-9]",
    "dagm/*/Class10",
    "dagm/Class[2-9]",
    "dagm/Class10",
    "loco/[c-z]*",
)
VISA = {"candle": 3, "pcb4": 3, "capsules": 3, "pipe_fryum": 3, "chewinggum": 3}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP with as many blocks as the papers' towers, and very few patches."""
    vision = replace(SIZES.vision, width=16, layers=12, mlp_width=16, patch_size=16)
    text = replace(SIZES.text, width=16, layers=10, mlp_width=16)
    tiny = random_backbone(replace(SIZES, embed_dim=16, vision=vision, text=text), clip_tokenizer(), 0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in openclip(tiny.vision, tiny.text).items()}, path)
    return path


def mvtec(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        miniature_sets.mvtec_class(root, name, MVTEC[name], train=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Experiment], Path]:
    """A folder with all sets: for figures of certain classes with these, else with two classes of MVTec AD and VisA."""
    made: dict[bool, Path] = {}

    def folder(experiment: Experiment) -> Path:
        wide = bool(experiment.classes)
        if wide not in made:
            made[wide] = root = tmp_path_factory.mktemp("sets")
            mvtec(root / "mvtec", tuple(MVTEC) if wide else ("bottle", "grid"))
            miniature_sets.visa(root / "visa", VISA if wide else {"candle": 3}, normals=6)
            for name in ("mpdd", "btad", "dtd_synthetic", "kolektor", "aitex", "dagm", "elpv", "loco", "sewerml"):
                getattr(miniature_sets, name)(root / name)
            for name in ("brainmri", "headct", "lag", "br35h", "colondb", "clinicdb", "kvasir", "endo", "isic", "tn3k"):
                getattr(miniature_sets, name)(root / name)
            for few in ("mpdd/metal_plate", "loco/breakfast_box"):
                for number in range(2, 5):
                    miniature_sets.photo(root / few / "train/good" / f"{number:03}.png")
            for name in SPARED:
                for place in root.glob(name):
                    shutil.rmtree(place) if place.is_dir() else place.unlink()
        return made[wide]

    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all results go: tables of one paper have most of their units and trainings in common."""
    return tmp_path_factory.mktemp("papers")


def run(name: str, folder: Path, weights: Path, out: Path, **more: Any) -> Benchmarked:
    methods = {row.ours.method for row in printed_rows(experiments()[name])} | {
        r.method for r in experiments()[name].rows
    }
    known = {key for method in methods for key in find_method(method).setting_names}
    settings = {key: value for key, value in SHORT.items() if key in known}
    given = {"seeds": 1, "settings": settings, "activation": "quick_gelu", **more}
    return BenchRequest(
        paper=name,
        data=(str(folder),),
        weights=(str(weights),),
        output=out,
        **given,
    ).run()


@pytest.mark.parametrize("name", experiments())
def test_it_runs_to_its_end(
    name: str, data: Callable[[Experiment], Path], weights: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiments()[name]
    monkeypatch.setenv("PROMPTAD_HOME", str(place / "home"))
    monkeypatch.setattr("promptad.suite.papers.embeddings._SENTENCES", 20)
    if experiment.kind not in ("sweep", "embedding"):  # the curves of sets are slow, and no matter here
        monkeypatch.setattr("promptad.suite.page.plots.available", lambda: False)
    if name == "bmvc23-fig4":  # what is varied stays what the figure varies; two small values are enough
        pairs = replace(experiment.rows[0].vary[0], values=(64, 96))
        experiment = replace(experiment, rows=(replace(experiment.rows[0], vary=(pairs,)),))
        monkeypatch.setitem(experiments(), name, experiment)
    out = place / f"{experiment.paper.key}{'-wide' if experiment.classes else ''}"
    made = run(name, data(experiment), weights, out)
    assert not made.lines
    measured = {s.plan.title for s in made.result.sets if s.outcome.units}
    if experiment.kind in ("means", "classes", "sweep", "maps"):
        assert measured == set(measured_sets(experiment))
    page = (out / "report.html").read_text("utf-8")
    assert escape(experiment.says) in page


def test_a_drawing_trains_once_and_goes_on_with_what_was_trained(
    data: Callable[[Experiment], Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTAD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("promptad.suite.papers.embeddings._SENTENCES", 20)
    name, out = "bmvc23-fig5", tmp_path / "out"
    folder = data(experiments()[name])
    first = run(name, folder, weights, out)
    [trained] = (out / "trained").glob("rwda-*.safetensors")
    page, content = (out / "report.html").read_text("utf-8"), trained.read_bytes()
    second = run(name, folder, weights, out)
    assert (first.result.trained, second.result.trained) == (1, 0) and not first.lines
    assert (out / "report.html").read_text("utf-8") == page and trained.read_bytes() == content
    # Nothing but the file is read: without it, the same is learned again.
    trained.unlink()
    assert run(name, folder, weights, out).result.trained == 1
    assert (out / "report.html").read_text("utf-8") == page

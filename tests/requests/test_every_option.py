"""An input is used, refused, or named as not used: a walk over every option of every command, for methods of every kind.

A run with an option is compared with the same run without it: what was loaded, every score and word, the threshold and its
words, the files and what they say. Where all of that is equal, there must be a line that names the option.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from option_values import ABOUT_FEATURES, OPTIONS
from PIL import Image

import miniature_sets
from drawn_data import make_class
from promptad import (
    AcceptRequest,
    BenchRequest,
    CheckRequest,
    DamageRequest,
    Detector,
    EvaluateRequest,
    FitRequest,
    InspectRequest,
    ReviewRequest,
    SubmitRequest,
    TrainRequest,
    VerifyRequest,
    WatchRequest,
    WriteRequest,
)
from promptad.bench.draw import LIST_FORMAT
from promptad.clip.backbone import Backbone
from promptad.data.files import sha256_file
from promptad.data.labels import Label, write_labels
from promptad.data.tensor_file import read_saved
from promptad.errors import PromptadError
from promptad.report.audit import AuditLog
from promptad.report.log import ResultLog
from promptad.report.rows import Row
from promptad.requests.asked import BackboneRequest, Request, TowersRequest
from promptad.saved.detectors import SavedDetector
from promptad.training import train_prompts
from tiny import dino_official, tiny_backbone, tiny_dino

QUICK: dict[str, dict[str, Any]] = {
    "promptad": {"epochs": 1, "input_size": 48, "memory_layers": "1,3"},
    "rwda": {"epochs": 1, "pairs": 64, "hidden": [8, 8, 4]},
    "anomalyclip": {"epochs": 1, "local_start": 2, "map_size": 48},
    "promptad-zs": {"epochs": 1, "iterations": 1, "batch_size": 6, "width": 8, "heads": 2, "feedforward": 16},
    "clip": {},
}
REFUSED = "refused"
INPUTS = (
    "good",
    "more",
    "bad",
    "photos",
    "set",
    "other",
    "shipped",
    "server",
    "server-one",
    "mine.safetensors",
    "model.safetensors",
    "second.safetensors",
    "audit.jsonl",
    "second.jsonl",
    "labels.csv",
    "more.csv",
    "reviewed",
    "reviewed-too",
    "loaded.txt",
    "roi.png",
    "ignore.png",
)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """Photos, labelled sets, words, trained prompts, a detector, given shots."""
    root = tmp_path_factory.mktemp("template")
    rng = np.random.default_rng(0)
    for folder, count in (("good", 3), ("more", 2), ("bad", 1), ("photos", 2)):
        (root / folder).mkdir()
        for number in range(count):
            pixels = rng.integers(90, 130, (72, 150, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    Image.fromarray(rng.integers(0, 4095, (72, 150), dtype=np.uint16)).save(root / "photos" / "deep.png")
    for name in ("nut", "cup"):
        make_class(root / "set", name, train=4, good=2, bad=2)
    (root / "set/nut/test/good").rename(root / "set/nut/test/fine")
    miniature_sets.ad2(root / "server")
    miniature_sets.ad2(root / "server-one", private=1)
    make_class(root / "other", "tile", train=2, good=1, bad=1)
    halves = np.kron(np.array([[255, 0]], np.uint8), np.ones((72, 75), np.uint8))
    Image.fromarray(halves).save(root / "roi.png")
    Image.fromarray(halves).save(root / "ignore.png")
    (root / "words.toml").write_text('[states]\nall = ["dirty [c]"]\n')
    shots = {name: [["train/good/002.png"], ["train/good/003.png"]] for name in ("nut", "cup")}
    (root / "shots.json").write_text(json.dumps({"format": LIST_FORMAT, "classes": shots}))
    clip = tiny_backbone()
    (root / "shipped").mkdir()
    for seed, name in ((1, "shipped/rwda.safetensors"), (2, "mine.safetensors")):
        train_prompts("rwda", [], clip, root / name, settings={**QUICK["rwda"], "seed": seed})
    torch.save(dino_official(tiny_dino()), root / "tower.pth")
    detector = Detector(object="nut", backbone=clip, **QUICK["promptad"])
    detector.fit([root / "good/0.png", root / "good/1.png"]).save(root / "model.safetensors")
    detector.fit([root / "good/1.png", root / "good/2.png"]).save(root / "second.safetensors")
    marks = {"labels.csv": (("good/2.png", "good"), ("bad/0.png", "defect"), ("more/0.png", "good"))}
    marks["more.csv"] = (("more/1.png", "good"), ("good/2.png", "unsure"))
    for name, labels in marks.items():  # known by content alone: at these places nothing lies
        write_labels(root / name, [Label(f"x/{photo}", sha256_file(root / photo), label) for photo, label in labels])
    for name, photos in (("reviewed", ["good/2.png"]), ("reviewed-too", ["bad/0.png", "more/0.png"])):
        with ResultLog(root / name / "results.jsonl", "0" * 16) as results:
            for photo in photos:
                results.append(Row(photo, "anomalous", 0.9, 0.5, sha256=sha256_file(root / photo), run="0" * 16))
    for name, photo in (("audit.jsonl", "good/0.png"), ("second.jsonl", "good/1.png")):
        log = AuditLog(root / name)
        known = {"detector": sha256_file(root / "model.safetensors"), "sha256": sha256_file(root / photo)}
        log.add("photo", photo=photo, score=9.0, threshold=0.5, verdict="normal", error="", camera={}, **known)
        log.close()
    return root


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template to work in; every loading of weights is noted in `loaded.txt`."""
    root = shutil.copytree(template, tmp_path / "place")
    clip = tiny_backbone()

    def load(name: object = "starter", **options: object) -> Backbone:
        with (root / "loaded.txt").open("a") as file:
            file.write(f"{name} {sorted(options.items(), key=str)}\n")
        return clip.with_memory(options.get("memory"))

    for module in ("promptad.clip.backbone", "promptad.detector", "promptad.suite.run"):
        monkeypatch.setattr(f"{module}.load_backbone", load)
    monkeypatch.setattr("promptad.clip.device.usable_device", lambda device: None)
    again = lambda self, name, device, memory: load(name, device=device, memory=memory)  # noqa: E731
    monkeypatch.setattr(SavedDetector, "backbone", again)
    monkeypatch.setattr(BackboneRequest, "require_backbone", lambda self: None)
    monkeypatch.setattr(TowersRequest, "require_backbone", lambda self: None)
    monkeypatch.setattr("promptad.saved.prompts.SHIPPED", root / "shipped")
    monkeypatch.setattr("promptad.run.watch.LAST_CHANCE", 0.5)
    monkeypatch.setenv("PROMPTAD_HOME", str(root / "home"))
    monkeypatch.chdir(root)
    return root


# What can be seen of a run ------------------------------------------------------------------------------------------


def observed(place: Path, run: Callable[[], Any]) -> tuple[dict[str, Any], list[str]]:
    """Everything that a run left behind, and its lines; `refused` with the error's line where it did nothing."""
    (place / "loaded.txt").write_text("")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            seen: Any = run()
        except PromptadError as error:
            return {REFUSED: str(error)}, [str(error)]
    lines = [str(warning.message).replace(str(place), "PLACE") for warning in said]
    return {"loaded": (place / "loaded.txt").read_text(), "seen": seen, "files": _files(place)}, lines


def _files(place: Path) -> dict[str, str]:
    """Name -> what a file says, for files that a run wrote; times left out."""
    kept = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if not path.is_file() or name.split("/")[0] in INPUTS:
            continue
        if path.suffix == ".safetensors" and not {"features", "maps"} & set(path.parts):
            saved = read_saved(
                path, kind="prompts" if "prompts" in path.name or "trained" in path.parts else "detector"
            )
            header = re.sub(r"'seconds': [\d.e-]+", "", str(saved.header))
            kept[name] = header + str(
                {key: _digest(tensor.numpy().tobytes()) for key, tensor in sorted(saved.tensors.items())}
            )
        elif path.suffix == ".html":
            page = path.read_text(encoding="utf-8")
            kept[name] = f"{page.count('data:image')} pictures" + "".join(
                re.findall(r"promptad (?:inspect|bench) \w+", page)
            )
        elif path.suffix in (".csv", ".md", ".toml"):
            kept[name] = _digest(_without_times(path.read_text(encoding="utf-8-sig")).encode())
        else:
            kept[name] = ""
    return kept


def _without_times(text: str) -> str:
    lines = text.splitlines()
    if not lines or "seconds" not in lines[0].split(","):
        return re.sub(r"\d+(\.\d+)? (s|ms)\b", "", text)
    column = lines[0].split(",").index("seconds")
    return "\n".join(
        ",".join(part for number, part in enumerate(line.split(",")) if number != column) for line in lines
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def fit(request: FitRequest) -> Any:
    detector, _ = request.run(said=str)
    level = detector.calibration and (detector.calibration.threshold, detector.calibration.note)
    return level, repr(detector.words), detector.tuned


def review(request: ReviewRequest) -> Any:
    return request.run()


def accept(request: AcceptRequest) -> Any:
    accepted = request.run(said=str)
    page = request.output.read_text("utf-8")
    seen = re.findall(r"Tested by</dt><dd><bdi>([^<]*)<|<footer><code>([^<]*)<", page)
    return accepted.digest, accepted.tested, accepted.left_out, accepted.result, seen


def inspect(request: InspectRequest) -> Any:
    InspectRequest(**{**_given(request), "fresh": False}).run(said=str)  # an earlier run, for `fresh`
    detector, report = request.run(said=str)
    rows = [
        (row.photo, row.score, row.verdict, row.defects, row.remarks, row.rule, row.map_threshold)
        for row in report.rows
    ]
    return rows, detector.calibration and (detector.calibration.threshold, detector.calibration.note), report.reused


def watch(request: WatchRequest) -> Any:
    detector, watched = request.run()
    return watched.counts, detector.calibration and (detector.calibration.threshold, detector.calibration.note)


def verify(request: VerifyRequest) -> Any:
    return {name: value for name, value in vars(request.run()).items() if name not in ("first", "last", "head")}


def train(request: TrainRequest) -> Any:
    TrainRequest(**{**_given(request), "fresh": False}).run()
    return [(result.path.name, result.losses, result.reused, str(result.problems)) for result in request.run()]


def evaluate(request: EvaluateRequest) -> Any:
    EvaluateRequest(**{**_given(request), "fresh": False}).run().write()
    evaluated = request.run()
    evaluated.write()
    return evaluated.outcome.scored, str(evaluated.lines)


def bench(request: BenchRequest) -> Any:
    if request.dry_run:
        return request.dry_lines()
    BenchRequest(**{**_given(request), "fresh": False}).run()
    made = request.run()
    return made.result.scored, str(made.lines)


def damage(request: DamageRequest) -> Any:
    folder = request.run(said=str)
    return {str(path.relative_to(folder)): _digest(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def check(request: CheckRequest) -> Any:
    checked = request.run()
    return checked.lines(), checked.unreadable


def write(request: WriteRequest) -> Any:
    file, photos = request.run()
    return file.name, photos, file.read_text("utf-8")


def submit(request: SubmitRequest) -> Any:
    file, maps = request.run()
    with tarfile.open(file) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]
    return file.name, maps, {name: _digest(content) for name, content in members.items()}


def _given(request: Request) -> dict[str, Any]:
    return {entry.name: getattr(request, entry.name) for entry in fields(request)}


# The options --------------------------------------------------------------------------------------------------------

RUNS: dict[type[Request], Callable[[Any], Any]] = {
    FitRequest: fit,
    ReviewRequest: review,
    AcceptRequest: accept,
    InspectRequest: inspect,
    WatchRequest: watch,
    VerifyRequest: verify,
    TrainRequest: train,
    EvaluateRequest: evaluate,
    BenchRequest: bench,
    DamageRequest: damage,
    CheckRequest: check,
    WriteRequest: write,
    SubmitRequest: submit,
}


def beginnings() -> dict[str, tuple[type[Request], dict[str, Any]]]:
    """Runs to which each option is added: every command with methods of every kind."""
    learning = {"object": "nut", "settings": QUICK["promptad"]}
    return {
        "fit promptad": (FitRequest, {"good": ["good"], "output": "new", **learning}),
        "fit clip": (FitRequest, {"good": ["good"], "output": "new", "object": "nut", "method": "clip"}),
        "fit labels": (
            FitRequest,
            {"model": "model.safetensors", "labels": ["labels.csv"], "photos": ["good", "bad"], "output": "new"},
        ),
        "accept": (
            AcceptRequest,
            {
                **{"model": "model.safetensors", "good": ["more"], "bad": ["bad"], "labels": ["labels.csv"]},
                "photos": ["good", "more", "bad"],
            },
        ),
        "review": (ReviewRequest, {"folder": "reviewed", "labels": ["labels.csv"]}),
        "inspect promptad": (InspectRequest, {"photos": ["photos"], "good": ["good"], **learning}),
        "inspect clip": (InspectRequest, {"photos": ["photos"], "method": "clip", "object": "nut"}),
        "inspect rwda": (InspectRequest, {"photos": ["photos"], "method": "rwda", "object": "nut"}),
        "inspect unlabelled": (InspectRequest, {"photos": ["photos"], "unlabelled": True, "object": "nut"}),
        "watch": (
            WatchRequest,
            {"inbox": "photos", "model": "model.safetensors", "once": True, "every": 0.05, "settle": 0.05},
        ),
        "verify": (VerifyRequest, {"file": "audit.jsonl", "photos": ["good/0.png"], "model": "model.safetensors"}),
        "train rwda": (TrainRequest, {"method": "rwda", "settings": QUICK["rwda"]}),
        "train anomalyclip": (
            TrainRequest,
            {"method": "anomalyclip", "on": ["set"], "settings": QUICK["anomalyclip"]},
        ),
        "evaluate promptad": (
            EvaluateRequest,
            {
                "dataset": "set",
                "method": "promptad",
                "shots": "1",
                "seeds": 2,
                "settings": {**QUICK["promptad"], "epochs": 2},
            },
        ),
        "evaluate clip": (EvaluateRequest, {"dataset": "set", "method": "clip"}),
        "evaluate rwda": (EvaluateRequest, {"dataset": "set", "method": "rwda", "shots": "0,1", "seeds": 2}),
        "bench rwda": (BenchRequest, {"on": ["set"], "method": "rwda", "shots": "0,1", "seeds": 2}),
        "bench paper": (
            BenchRequest,
            {
                "paper": "cvpr24-table2",
                "data": ["mvtec=set"],
                "backbone": "tiny",
                "seeds": 1,
                "limit": 1,
                "settings": {"epochs": 1, "map_size": 48, "input_size": 48, "memory_layers": [1, 3], "layers": [1, 3]},
            },
        ),
        "damage": (DamageRequest, {"good": ["good"], "count": 2}),
        "data check": (CheckRequest, {"dataset": "set"}),
        "data write": (WriteRequest, {"dataset": "set", "output": "list.json"}),
        "data submit": (
            SubmitRequest,
            {"dataset": "server", "output": "a.tar.gz", "method": "winclip", "settings": {"windows": [2]}},
        ),
    }


# Nothing is to be seen of how many processes work: the same numbers, as `tests/suite/test_suite.py` shows. A switch that is on
# already has no other value. When a watch looks, and that it goes on, `tests/run/test_watch.py` shows.
WHEN = {("watch", option) for option in ("once", "every", "settle", "patience")}
CASES = [
    (name, option)
    for name, (kind, _) in beginnings().items()
    for option in OPTIONS[kind]
    if option != "processes" and (name, option) not in {*WHEN, ("inspect unlabelled", "unlabelled")}
]
# Where another value than the one above is needed.
OTHERWISE = {
    ("bench paper", "paper"): "cvpr24-fig3",
    ("bench paper", "preset"): "release",
    ("bench paper", "seeds"): 2,
    ("bench paper", "limit"): 2,
    ("fit clip", "method"): "rwda",
    ("inspect clip", "method"): "rwda",
    ("inspect unlabelled", "photos"): ["photos/0.png", "photos/1.png"],
    ("evaluate clip", "method"): "rwda",
}
# The pairs that are refused. What they need, or what brings their input already, is in the line.
REFUSALS = {
    *((f"inspect {name}", "fdr") for name in ("clip", "rwda", "unlabelled")),
    *(
        (name, "memory_backbone")
        for name in ("fit clip", "inspect clip", "inspect rwda", "inspect unlabelled", "bench rwda")
    ),
    *((name, "memory_backbone") for name in ("evaluate clip", "evaluate rwda")),
    *(("fit promptad", option) for option in ("only_defects",)),
    *(
        (f"fit {name}", option)
        for name in ("promptad", "clip")
        for option in ("model", "labels", "photos", "budget", "threshold")
    ),
    ("fit labels", "threshold"),
    *(("accept", option) for option in ("memory_backbone", "defect_share")),
    *(
        ("fit labels", option)
        for option in (
            *("held_out", "defective", "object", "defects", "only_defects", "words", "method", "weights", "preset"),
            *("activation", "precision", "seed", "input_range", "finest_defect", "settings", "memory_backbone"),
            *("roi", "ignore", "tune"),
        )
    ),
    *(("fit clip", option) for option in ("only_defects", "weights", "seed", "tune")),
    *(("inspect promptad", option) for option in ("only_defects", "model")),
    *(
        ("inspect clip", option)
        for option in ("held_out", "defective", "false_alarms", "only_defects", "weights", "seed")
    ),
    ("inspect clip", "model"),
    *((f"inspect {name}", "region_false_alarms") for name in ("clip", "rwda", "unlabelled")),
    *((f"inspect {name}", "regions_format") for name in ("promptad", "clip", "rwda", "unlabelled")),
    *((f"inspect {name}", "map_threshold") for name in ("clip", "unlabelled")),  # without a threshold beside it
    *(("watch", option) for option in ("queue", "memory_backbone")),
    ("verify", "memory_backbone"),
    *((f"inspect {name}", "unlabelled") for name in ("promptad", "clip", "rwda")),
    *(
        ("inspect unlabelled", option)
        for option in ("good", "held_out", "defective", "false_alarms", "only_defects", "weights", "method", "model")
    ),
    *(
        ("inspect rwda", option)
        for option in ("held_out", "defective", "false_alarms", "only_defects", "preset", "seed")
    ),
    *(("inspect rwda", option) for option in ("model", "settings")),
    *(
        ("train rwda", option)
        for option in (*ABOUT_FEATURES, "method", "on", "licence", "classes", "leave_out", "normal", "layout")
    ),
    ("train anomalyclip", "preset"),
    *((name, "layout") for name in ("train anomalyclip", "evaluate promptad", "evaluate clip", "evaluate rwda")),
    *((name, "layout") for name in ("data check", "data write")),
    *(("data submit", option) for option in ("weights", "seed")),
    *(("evaluate promptad", option) for option in ("weights", "object")),
    *(("evaluate clip", option) for option in ("weights", "object", "parts", "shots_from", "oracle_test")),
    *(("evaluate rwda", option) for option in ("preset", "object", "parts", "eval_size", "convention", "oracle_test")),
    ("evaluate rwda", "settings"),
    *(("bench rwda", option) for option in ("plan", "paper", "data", "settings", "anomalies", "anomaly_draw")),
    *(
        ("bench paper", option)
        for option in ("plan", "on", "method", "shots", "anomalies", "anomaly_draw", "convention", "weights")
    ),
    # What they do where a method learns from labelled anomalies, `tests/bench/test_anomalies.py` shows.
    *(
        (f"evaluate {name}", option)
        for name in ("promptad", "clip", "rwda")
        for option in ("anomalies", "anomaly_draw")
    ),
}
# Words of a refusal or a line that does not call the option by its name.
WORDS = {
    "method": "is trained on labelled photos",
    "preset": "input size 518 must be a multiple of the patch size 8",  # paper of AnomalyCLIP, and the tiny tower
    "memory_backbone": "saved tensor 'memory.2.rows'",  # the stand-in for the reader of saved backbones lets it pass
    "settings": "smoothing changes nothing here: RWDA gives no anomaly maps",
}


def test_every_option_of_every_request_is_tried():
    for kind, options in OPTIONS.items():
        assert {entry.name for entry in fields(kind)} == set(options), kind


BEFORE: dict[str, tuple[dict[str, Any], list[str]]] = {}


def plain(beginning: str, place: Path) -> tuple[dict[str, Any], list[str]]:
    """What is seen of a run without further options; looked at once. `place` is as new afterwards."""
    if beginning not in BEFORE:
        kind, values = beginnings()[beginning]
        new = shutil.copytree(place, place.with_name("new"))
        BEFORE[beginning] = observed(place, lambda: RUNS[kind](kind(**values)))
        shutil.rmtree(place)
        new.rename(place)
        os.chdir(place)
    return BEFORE[beginning]


@pytest.mark.parametrize("beginning", beginnings())
def test_the_same_run_looks_the_same(beginning, place):
    """Or any option would seem to be used."""
    kind, values = beginnings()[beginning]
    first = plain(beginning, place)
    assert REFUSED not in first[0], first
    again = observed(place, lambda: RUNS[kind](kind(**values)))
    before, other = first[0]["files"], again[0]["files"]
    assert {name for name in (*before, *other) if before.get(name) != other.get(name)} == set()
    assert again == first


@pytest.mark.parametrize(("beginning", "option"), CASES)
def test_an_option_is_used_or_refused_or_named_as_not_used(beginning, option, place):
    kind, values = beginnings()[beginning]
    before, lines_before = plain(beginning, place)
    value = OTHERWISE.get((beginning, option), OPTIONS[kind][option])
    with_option = {**values, option: {**values.get(option, {}), **value} if isinstance(value, dict) else value}
    if option in ("method", "weights") and kind is not BenchRequest:  # the settings are of another method
        with_option.pop("settings", None)
    after, lines = observed(place, lambda: RUNS[kind](kind(**with_option)))
    new = [line for line in lines if line not in lines_before]
    assert (REFUSED in after) == ((beginning, option) in REFUSALS), after.get(REFUSED, "not refused")
    if REFUSED in after or after == before:
        named = [line for line in new if re.search(rf"\b{option}\b", line) or WORDS.get(option, "-") in line]
        assert named, f"{option} is neither used nor named: {new}"

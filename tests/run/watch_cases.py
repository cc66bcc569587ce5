"""A watch in this process and in one of its own, and readers of what it wrote."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from run_cases import draw

from promptad.clip.backbone import load_backbone
from promptad.data.lock import only_one
from promptad.detector import Detector
from promptad.report.audit import audit_lines
from promptad.report.log import read_results
from promptad.run.watch import Watch, Watched, WatchPlan
from tiny import openclip, tiny_backbone

QUICK = {"epochs": 1, "input_size": 48, "memory_layers": (1, 3)}
FAST = {"every": 0.05, "settle": 0.05, "patience": 0.3, "once": True}
CHILD = "from promptad.cli import main; main()"


def weights(folder: Path) -> Path:
    """The tiny CLIP as a file, so that a process of its own can load it."""
    tiny = tiny_backbone()
    path = folder / "tiny.pt"
    torch.save(openclip(tiny.vision, tiny.text), path)
    return path


def saved_detector(folder: Path, count: int = 4, **settings: Any) -> Path:
    """A detector of 60 x 80 photos on the tiny CLIP, saved."""
    folder.mkdir(parents=True, exist_ok=True)
    good = draw(folder / "good", [f"{number}.png" for number in range(count)], first=1000)
    clip = load_backbone(str(weights(folder)), activation="quick_gelu")
    detector = Detector(object="nut", backbone=clip, **{**QUICK, **settings}).fit([good])
    return detector.save(folder / "nut.safetensors")


def watch(detector: Detector, inbox: Path, out: Path, receivers: Sequence[Any] = (), **plan: Any) -> Watched:
    """A watch in this process that ends when all is judged."""
    out.mkdir(exist_ok=True)
    said = plan.pop("said", None) or (lambda line: None)
    with only_one(out):
        return Watch(detector, "0" * 64, WatchPlan(inbox, out, **{**FAST, **plan}), receivers, said=said).run()


def start(model: Path, inbox: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """The command in a process of its own, as a person starts it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    arguments = [
        "watch",
        str(inbox),
        "--model",
        str(model),
        "-o",
        str(out),
        "--every",
        "0.05",
        "--settle",
        "0.05",
        *options,
    ]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def entries(out: Path, kind: str = "photo") -> list[dict[str, Any]]:
    """The audit log's entries of a kind; the chain must be whole."""
    lines = list(audit_lines(out / "audit.jsonl"))
    assert [line.fault for line in lines if line.fault] == []
    return [dict(line.values) for line in lines if line.values["kind"] == kind]


def judged_once(out: Path, inbox: Path) -> None:
    """Each photo of the inbox stands once in the audit log, the results and the table, with one score."""
    places = sorted(path.relative_to(inbox).as_posix() for path in inbox.rglob("*.png"))
    scores = {entry["photo"]: entry["score"] for entry in entries(out)}
    assert sorted(entry["photo"] for entry in entries(out)) == places
    rows = read_results(out / "results.jsonl")
    assert {row.photo: row.score for row in rows} == scores and len(rows) == len(places)
    with (out / "results.csv").open(encoding="utf-8-sig", newline="") as file:
        assert {row["photo"]: float(row["score"]) for row in csv.DictReader(file)} == scores

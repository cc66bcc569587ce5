"""Kills `inspect`, `fit`, `train` and `evaluate` at random moments and compares what the reruns end with.

    python tools/kill_test.py                                    # 60 kills, about a quarter of an hour on two cores
    python tools/kill_test.py --commands inspect --kills 8 --seed 3

For each command, one run is left alone: its results are what every other must end with. Then, again and again into one folder,
the command is started and killed (SIGKILL, SIGTERM or SIGINT) at a moment drawn from its running time, a few times, before one
run is let through. After every kill, what was finished before must still be there, unchanged; and what the last run leaves
must equal what the undisturbed run left. Everything is drawn from the seed, except how far a process had come when it was hit.

Ends with 1 when anything was lost, differed, or a traceback was seen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from promptad.cli.demo import DEMO_PHOTOS

PROGRAM = [sys.executable, "-c", "from promptad.cli import main; main()"]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STREAK = 4  # so many kills into one folder before a run is let through

State = dict[str, object]
"""What lies in a folder, by name; equal values mean equal results."""


@dataclass(frozen=True)
class Command:
    """A command that can be killed.

    Attributes:
        arguments: for an output folder. finished: what is done for good there. final: what a whole run leaves, without what
            differs from run to run (times).
    """

    arguments: Callable[[Path], list[str]]
    finished: Callable[[Path], State]
    final: Callable[[Path], State]


@dataclass
class Tally:
    """What was seen; only kills that met a running process count."""

    kills: int = 0
    kept: int = 0
    faults: list[str] = field(default_factory=list)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lines_of(out: Path) -> State:
    """Whole lines of a run's log by photo; the newest of a photo counts."""
    log = out / "results.jsonl"
    if not log.exists():
        return {}
    lines = log.read_bytes().split(b"\n")[1:-1]
    results = [json.loads(line) for line in lines]
    return {values["photo"]: values for values in results if values["score"] is not None}


def inspected(out: Path) -> State:
    """Results, without times, and the bytes of all heat maps."""
    results = {name: {**values, "timings": None} for name, values in lines_of(out).items()}  # type: ignore[dict-item]
    pictures = {str(path.relative_to(out)): digest(path) for path in sorted((out / "heatmaps").rglob("*.jpg"))}
    left = [path.name for path in out.rglob("*.tmp")]
    return {**results, **pictures, "report": (out / "report.html").exists(), "left over": left}


def tensors(name: str) -> Callable[[Path], State]:
    """Tensors of a saved file, if it is there; one that cannot be read ends the test."""

    def read(out: Path) -> State:
        from promptad.data.tensor_file import read_saved

        path = out / name
        if not path.exists():
            return {}
        saved = read_saved(path, "prompts" if name.startswith("prompts") else "detector")
        return {key: value.numpy().tobytes() for key, value in saved.tensors.items()}

    return read


def units(out: Path) -> State:
    """The benchmark's finished units, as bytes."""
    return {path.name: digest(path) for path in sorted((out / "units").glob("*.json"))}


def measured(out: Path) -> State:
    """The benchmark's tables, without the columns of times."""
    return {name: (out / name).read_text(encoding="utf-8") for name in ("summary.csv", "per-class.csv")}


def commands(folder: Path) -> dict[str, Command]:
    good, test = str(DEMO_PHOTOS / "train" / "good"), str(DEMO_PHOTOS / "test")
    model = folder / "cookie.safetensors"
    fit = ["fit", good, "--object", "cookie", "--set", "epochs=20"]
    train = ["train", "rwda", "--set", "pairs=6400", "--set", "epochs=12", "--set", "hidden=[64,32,16]"]
    evaluate = ["evaluate", str(DEMO_PHOTOS), "--shots", "1,2", "--seeds", "2", "--set", "epochs=5", "--no-cache"]
    if not model.exists():
        run([*fit, "-o", str(model)])
    return {
        "inspect": Command(lambda out: ["inspect", test, "--model", str(model), "-o", str(out)], lines_of, inspected),
        "fit": Command(
            lambda out: [*fit, "-o", str(out / "d.safetensors")], tensors("d.safetensors"), tensors("d.safetensors")
        ),
        "train": Command(
            lambda out: [*train, "-o", str(out / "prompts.safetensors")],
            tensors("prompts.safetensors"),
            tensors("prompts.safetensors"),
        ),
        "evaluate": Command(lambda out: [*evaluate, "-o", str(out)], units, measured),
    }


def run(
    arguments: list[str], after: float | None = None, how: signal.Signals = signal.SIGKILL
) -> tuple[int, str, float]:
    """Runs the command, killed after some seconds if given: exit code, what it said on stderr, seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
            process.wait(timeout=120)
        errors.seek(0)
        return process.returncode, errors.read(), time.monotonic() - began


def lost(before: State, after: State) -> list[str]:
    """Names of what was finished and is gone or other now."""
    return [name for name, value in before.items() if after.get(name) != value]


def torment(name: str, command: Command, kills: int, folder: Path, rng: random.Random) -> Tally:
    """Kills a command and tells what came of it."""
    tally = Tally()
    whole = folder / f"{name}-whole"
    whole.mkdir()
    code, said, seconds = run(command.arguments(whole))
    if code:
        tally.faults.append(f"the undisturbed run ended with {code}: {said[-300:]}")
        return tally
    expected = command.final(whole)
    print(f"{name}: undisturbed {seconds:.0f} s", flush=True)
    streak = 0
    while tally.kills < kills:
        out = folder / f"{name}-{streak}"
        out.mkdir()
        for _ in range(min(STREAK, kills - tally.kills)):
            before = command.finished(out)
            how = rng.choice(SIGNALS)
            code, said, took = run(command.arguments(out), rng.uniform(0, seconds), how)
            after = command.finished(out)
            tally.faults += [f"{how.name}: {item} was finished and is lost" for item in lost(before, after)]
            tally.kept += len(after)
            if code == 0:  # it was done before the signal came
                seconds = seconds if before else took  # of a whole run: the machine is quicker by now
                break
            tally.kills += 1
            if "Traceback" in said:
                tally.faults.append(f"{how.name}: {said[-500:]}")
        before = command.finished(out)
        code, said, _ = run(command.arguments(out))
        if code or "Traceback" in said:
            tally.faults.append(f"the rerun ended with {code}: {said[-500:]}")
        tally.faults += [f"rerun: {item} was finished and is lost" for item in lost(before, command.finished(out))]
        if command.final(out) != expected:
            tally.faults.append(f"{out.name}: other results than the undisturbed run")
        else:
            shutil.rmtree(out)
        streak += 1
        print(f"{name}: {tally.kills} kills, {len(tally.faults)} faults", flush=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default="inspect,fit,train,evaluate")
    parser.add_argument("--kills", type=int, default=15, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Behind a shell's `&` SIGINT is ignored, and what is started there ignores it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        known = commands(Path(name))
        for command in options.commands.split(","):
            rng = random.Random(f"{options.seed} {command}")
            tally = torment(command, known[command], options.kills, Path(name), rng)
            faults += len(tally.faults)
            print(
                f"{command}: killed {tally.kills} times while it ran, {tally.kept} finished results seen after that, "
                f"{len(tally.faults)} faults"
            )
            for fault in tally.faults:
                print(f"  {fault}")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()

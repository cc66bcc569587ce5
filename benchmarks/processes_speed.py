"""`promptad bench` in two processes against one, in one run: `python benchmarks/processes_speed.py [--repeats 3]`.

One thread a process, on the demo photos and the starter weights; both sides begin with no cached feature and no finished unit, take turns, and
must give the same numbers. The ratio of the wall times is printed for every pair, their median last.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import promptad

PHOTOS = Path(promptad.__file__).resolve().parent / "demo_photos" / "cookies"
KEYS = ("where", "method", "preset", "name", "parts", "shots", "selection", "metric")
PLAN = """
title = "two processes"
shots = [0, 1, 2]
seeds = 3
pictures = 1
[[sets]]
path = "{photos}"
object = "cookie"
[[rows]]
method = "clip"
[[rows]]
method = "clip"
preset = "clip-ac"
[[rows]]
method = "promptad"
[[rows]]
method = "patchcore"
[[rows]]
method = "fastrecon"
[[rows]]
method = "coop-oneclass"
"""


def measured(plan: Path, out: Path, processes: int) -> float:
    """Seconds of one whole run, with nothing from an earlier one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PROMPTAD_HOME": str(out / "home")}
    command = [sys.executable, "-m", "promptad", "bench", str(plan), "-o", str(out), "--processes", str(processes)]
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def difference(first: Path, second: Path) -> float:
    """The largest difference of two tables' means. Photos share batches with other photos there, which moves the last digits."""
    tables = []
    for out in (first, second):
        with (out / "overview.csv").open(encoding="utf-8", newline="") as file:
            tables.append({tuple(row[key] for key in KEYS): float(row["mean"]) for row in csv.DictReader(file)})
    if tables[0].keys() != tables[1].keys():
        raise SystemExit("the two have different rows")
    return max(abs(value - tables[1][key]) for key, value in tables[0].items())


def main() -> None:
    """Prints one line a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.toml"
        plan.write_text(PLAN.format(photos=PHOTOS.as_posix()), encoding="utf-8")
        for repeat in range(arguments.repeats):
            outs = {number: Path(folder) / f"{repeat}-{number}" for number in (1, 2)}
            seconds = {number: measured(plan, out, number) for number, out in outs.items()}
            apart = difference(*outs.values())
            if apart > 1e-3:
                raise SystemExit(f"the two gave different tables, {apart:.4f} apart")
            ratios.append(seconds[2] / seconds[1])
            words = f"one process {seconds[1]:.0f} s, two {seconds[2]:.0f} s, ratio {ratios[-1]:.2f}"
            print(f"{words}; numbers at most {apart:.1e} apart", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} of {len(ratios)} pairs")


if __name__ == "__main__":
    main()

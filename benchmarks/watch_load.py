"""`promptad watch` under load: photos dropped in bursts, the process killed at random moments; is each judged exactly once?

    python benchmarks/watch_load.py --photos 2000 --kills 20

The detector is one of a tiny random CLIP (`tests/tiny.py`): the load is on the watch, not on the towers. Events go to a web server
in this process. Prints what `docs/watch.md` says.
"""

from __future__ import annotations

import argparse
import http.server
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "run")]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Counts how often each photo was told of."""

    told: ClassVar[dict[str, int]] = {}

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if event["kind"] == "photo":
            self.told[event["sha256"]] = self.told.get(event["sha256"], 0) + 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def drop(inbox: Path, first: int, count: int) -> None:
    """Photos of their own content, as a camera writes them: under their last name from the beginning."""
    rng = np.random.default_rng(first)
    for number in range(first, first + count):
        grey = rng.integers(90, 130, (15, 20, 3), dtype=np.uint8)
        Image.fromarray(grey).resize((80, 60)).save(inbox / f"{number:05d}.png")


def memory_mib(process: subprocess.Popen[str], field: str = "VmRSS") -> float:
    """Resident memory of a process; `VmHWM` is the most that it ever was."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def entries(log: Path) -> int:
    """Whole lines of the audit log."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def killed_watches(arguments: argparse.Namespace, model: Path, inbox: Path, out: Path, url: str) -> list[str]:
    """Drops photos in bursts while watches are started and killed."""
    from watch_cases import start

    rng, dropped, signals = random.Random(arguments.seed), 0, []
    for _ in range(arguments.kills):
        process = start(model, inbox, out, "--webhook", url, "--sort", "copy", "--heatmaps", "none")
        process.stdout.readline()
        share = min(arguments.photos // arguments.kills, arguments.photos - dropped)
        drop(inbox, dropped, share)
        dropped += share
        goal = entries(out / "audit.jsonl") + rng.randrange(1, max(2, share))
        until = time.monotonic() + 120
        while entries(out / "audit.jsonl") < goal and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        name = rng.choice(["SIGKILL", "SIGKILL", "SIGTERM"])
        process.send_signal(getattr(signal, name))
        process.wait()
        signals.append(name)
    drop(inbox, dropped, arguments.photos - dropped)
    return signals


def last_watch(model: Path, inbox: Path, out: Path, url: str) -> tuple[int, list[tuple[int, float]]]:
    """The rest, in a watch that ends by itself: its exit code, and (photos judged, MiB) as it goes."""
    from watch_cases import start

    process = start(model, inbox, out, "--once", "--webhook", url, "--sort", "copy", "--heatmaps", "none")
    memory, judged = list[tuple[int, float]](), 0
    for line in process.stdout:
        judged += "  normal " in line or "  anomalous " in line
        if judged and judged % 50 == 0 and process.poll() is None:
            memory.append((judged, memory_mib(process)))
    return process.wait(), memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flat", type=int, default=1500, help="further photos for a watch whose memory is looked at")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from watch_cases import entries as photo_entries
    from watch_cases import judged_once, saved_detector

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, inbox, out = saved_detector(root / "model"), root / "inbox", root / "out"
        inbox.mkdir()
        began = time.monotonic()
        signals = killed_watches(arguments, model, inbox, out, url)
        code, _ = last_watch(model, inbox, out, url)
        seconds = time.monotonic() - began
        judged_once(out, inbox)
        judged = photo_entries(out)
        sorted_photos = sum(1 for name in ("NG", "OK") for _ in (out / name).iterdir())
        assert code == 0 and len(judged) == arguments.photos == len({entry["sha256"] for entry in judged})
        assert {entry["sha256"] for entry in judged} == set(Receiver.told)
        print(f"{arguments.photos} photos, {len(signals)} kills ({signals.count('SIGKILL')} SIGKILL), {seconds:.0f} s")
        print(f"entries {len(judged)}, each content once; copies among NG and OK {sorted_photos}; chain whole")
        again = sum(count - 1 for count in Receiver.told.values())
        print(f"events: every photo arrived, {again} of {sum(Receiver.told.values())} came twice")
        drop(inbox, arguments.photos, arguments.flat)
        began = time.monotonic()
        _, memory = last_watch(model, inbox, out, url)
        pace = arguments.flat / (time.monotonic() - began)
        print(
            f"{pace:.0f} photos a second; MiB after so many photos: "
            + ", ".join(f"{n}: {m:.0f}" for n, m in memory[::5])
        )
        assert len(photo_entries(out)) == arguments.photos + arguments.flat
    server.shutdown()


if __name__ == "__main__":
    main()

"""Wall time of `import promptad` and `promptad --help`, against an empty Python: `python benchmarks/start_up.py`."""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import promptad": [sys.executable, "-c", "import promptad"],
    "promptad --help": [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['promptad', '--help']; from promptad.cli import main; main()",
    ],
    "import torch": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    """Best of seven for each, in turn, so that other load falls on all alike."""
    best = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(7):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            best[name] = min(best[name], time.perf_counter() - began)
    for name, seconds in best.items():
        print(f"{name:18s} {seconds:.3f} s")


if __name__ == "__main__":
    main()

"""The entry point: Ctrl-C at any moment, `python -m promptad`."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import promptad

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(promptad.__file__).parents[1])}

LISTED = """
import sys
from promptad.cli import build
before = set(sys.modules)
build()
print(*(name for name in sys.modules if name not in before and name.partition(".")[0] in ("promptad", "typer")))
"""
# Ends the program as Ctrl-C does, at the moment at which it would import a module; a process for each of them.
INTERRUPTED = """
import os, sys
from promptad.cli import main

class Stop:
    def __init__(self, name): self.name = name
    def find_spec(self, name, path=None, target=None):
        if name == self.name: raise KeyboardInterrupt

modules, sys.argv = sys.argv[1:], ["promptad", "--version"]
for name in modules:
    process = os.fork()
    if process == 0:
        sys.meta_path.insert(0, Stop(name))
        try: main()
        except SystemExit as stop: os._exit(stop.code or 0)
        os._exit(99)
    print(name, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX")
def test_ctrl_c_while_the_command_line_is_built_is_exit_code_130_without_traceback():
    run = functools.partial(subprocess.run, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    modules = run([sys.executable, "-c", LISTED]).stdout.split()
    assert {"typer", "promptad.cli.console", "promptad.cli.train", "promptad.requests.evaluating"} <= set(modules)
    done = run([sys.executable, "-c", INTERRUPTED, *modules])
    codes = dict(line.split() for line in done.stdout.splitlines())
    assert list(codes) == modules and set(codes.values()) == {"130"}, codes
    assert "Traceback" not in done.stderr


def test_the_package_runs_as_a_module():
    run = lambda *words: subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=True).stdout  # noqa: E731
    assert run(sys.executable, "-m", "promptad", "--version") == f"promptad {promptad.__version__}\n"

"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each of the processes that run side by side has a core; torch reads this when it is imported, those that tests start too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photos and weights beside the repository; skips where it is absent."""
    if not (_SHARED / "data").is_dir():
        pytest.skip(f"no real photos and weights here: {_SHARED} is absent")
    return _SHARED


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    """Real data sets in the MVTec layout: ``cookies``, ``mvtec/bottle``, ``magnetic_tile``."""
    return shared / "data"


@pytest.fixture(autouse=True, scope="session")
def interrupts_reach_children() -> Iterator[None]:
    """Processes that tests start hear SIGINT, also where the tests themselves run behind a shell's `&`, which ignores it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

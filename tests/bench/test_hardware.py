"""What a unit says of the machine."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

SCRIPT = "from promptad.bench.hardware import peak_memory_mb; print(peak_memory_mb())"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of a process alone")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it() -> None:
    def peak() -> int:
        return int(subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout)

    before = peak()
    large = np.ones(2**27)  # 1 GiB in this process
    assert large.sum() == 2**27
    assert abs(peak() - before) < 200

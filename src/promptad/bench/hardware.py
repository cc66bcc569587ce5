"""On what something was measured: processor, cores, threads, accelerator, and the largest memory so far."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch


def hardware(device: torch.device) -> dict[str, Any]:
    """JSON-ready: "cpu", "cores", "threads" of this process, "accelerator" or None, "peak_memory_mb" of this process since it
    began (None where the system does not tell), and "peak_device_memory_mb" of a CUDA device."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    on_device = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": accelerator if device.type in ("cuda", "cpu") else device.type,
        "peak_memory_mb": peak_memory_mb(),
        "peak_device_memory_mb": None if on_device is None else round(on_device),
    }


def peak_memory_mb() -> int | None:
    """The largest resident memory of this process in MiB; None on Windows, which has no such count."""
    if sys.platform == "win32":
        return None
    try:  # Linux; its ru_maxrss begins with the memory of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 2**10)
    except (OSError, IndexError, ValueError):
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes there, kibibytes elsewhere


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

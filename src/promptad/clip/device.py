"""Which devices torch can compute on here, and in which numbers the towers do."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch

from promptad.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def usable_device(device: str | torch.device) -> torch.device:
    """The device, after a number was computed on it.

    Raises:
        ConfigError: no such device in this machine, none of this kind in this build of torch, or a name that is none.
    """
    reason = _refusal(str(device))
    if reason:
        raise ConfigError(f"device {str(device)!r}: not usable here ({reason}); use cpu")
    return torch.device(device)


@lru_cache(maxsize=32)
def _refusal(device: str) -> str:
    """Why nothing can be computed there, in one line; "" where it can."""
    try:
        torch.ones(1, device=device).sum().item()  # "meta" makes tensors, but computes nothing
    except Exception as error:  # every backend has its own: RuntimeError, AssertionError, ImportError, ...
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
    return ""

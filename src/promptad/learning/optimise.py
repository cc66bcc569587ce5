"""A small full-batch training loop: the photos are few and their features are frozen, so a step is one epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from promptad.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """SGD or Adam with a cosine from `lr` to `final_lr` over `epochs` steps, stepped once per epoch.

    Adam's step does not depend on the size of the gradient, which differs by an order between text towers.
    """

    optimiser: Literal["sgd", "adam"] = "sgd"
    epochs: int = 100
    lr: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 5e-4
    final_lr: float = 1e-5


def optimise(
    parameters: Mapping[str, Tensor],
    loss: Callable[[], Tensor | Iterable[Tensor]],
    schedule: Schedule,
    *,
    rates: Mapping[str, float] | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Minimises `loss` over `parameters` in place and gives the loss of every epoch.

    Args:
        parameters: leaf tensors that require gradients.
        loss: a scalar of their present values, or its terms one after the other: the graph of a term is gone before the
            next is made, so that many photos need no more memory than the largest term.
        rates: learning rates of single parameters, instead of the schedule's.
        after_epoch: called with the 1-based epoch and its loss, after the step.

    Raises:
        ConfigError: the loss is not finite; the parameters are then useless and training stops.
    """
    decay = schedule.weight_decay
    values = [{"params": [p], "lr": (rates or {}).get(name, schedule.lr)} for name, p in parameters.items()]
    optimiser: torch.optim.Optimizer
    if schedule.optimiser == "adam":
        optimiser = torch.optim.Adam(values, lr=schedule.lr, betas=(schedule.momentum, 0.999), weight_decay=decay)
    else:
        optimiser = torch.optim.SGD(values, lr=schedule.lr, momentum=schedule.momentum, weight_decay=decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, schedule.epochs), eta_min=schedule.final_lr)
    history = []
    for epoch in range(1, schedule.epochs + 1):
        optimiser.zero_grad(set_to_none=True)
        history.append(_descend(loss()))
        if not math.isfinite(history[-1]):
            raise ConfigError(
                f"training diverged in epoch {epoch} (loss {history[-1]}); use a smaller lr than {schedule.lr}"
            )
        optimiser.step()
        cosine.step()
        if after_epoch is not None:
            after_epoch(epoch, history[-1])
    if not all(bool(torch.isfinite(tensor).all()) for tensor in parameters.values()):
        raise ConfigError(f"training diverged in its last step; use a smaller lr than {schedule.lr}")
    return history


def _descend(loss: Tensor | Iterable[Tensor]) -> float:
    """Adds the gradients of a loss, or of all its terms, and gives its value; one that is not finite ends it."""
    total = 0.0
    for term in [loss] if isinstance(loss, Tensor) else loss:
        total += float(term.detach())
        if not math.isfinite(total):
            break
        term.backward()
    return total

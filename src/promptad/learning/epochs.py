"""Training over epochs of batches that can be killed at any moment and goes on to the same result.

What is random in an epoch follows from the seed and the epoch's number alone, and after every epoch parameters, buffers
and the optimiser's state are written in one file. A run that was stopped repeats at most the epoch it was in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from promptad.data.tensor_file import read_saved, write_saved
from promptad.errors import ConfigError, WeightsError
from promptad.inputs import argument

B = TypeVar("B")
Progress = Callable[[int, int], None]
_KIND = "training"


@dataclass(frozen=True)
class Recipe:
    """How parameters are updated.

    Attributes:
        optimiser: "adam", "adamw" or "sgd" (momentum is the first beta). epochs, lr, betas, weight_decay: its settings.
        decay_every: epochs after which lr is multiplied by `decay`, again and again; 0 keeps it.
        cosine: lr follows a half cosine from `lr` towards 0, a step an epoch, instead.
        lowest: where that cosine ends, as a share of `lr`. by_batch: it takes a step a batch, not an epoch.
        warm_lr: of the first epoch alone, before everything else; 0 has no such epoch.
        decay_ahead: epochs by which each of these changes comes earlier, as where a schedule is stepped before its epoch.
        clip: largest norm of the gradient, which is shortened to it; 0 leaves it.
        seed: of everything that is random in an epoch.
    """

    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    epochs: int = 1
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    decay_every: int = 0
    decay: float = 0.1
    cosine: bool = False
    lowest: float = 0.0
    by_batch: bool = False
    warm_lr: float = 0.0
    decay_ahead: int = 0
    clip: float = 0.0
    seed: int = 111

    def rate(self, epoch: int, passed: float = 0.0) -> float:
        """lr of an epoch, counted from 1, when a share of it has passed (which counts with `by_batch` alone)."""
        if self.warm_lr and epoch == 1:
            return self.warm_lr
        if self.cosine:
            done = epoch - (2 if self.warm_lr else 1) + (passed if self.by_batch else 0.0)
            height = (1 + math.cos(math.pi * done / self.epochs)) / 2
            return self.lr * (self.lowest + (1 - self.lowest) * height)
        return self.lr * (self.decay ** ((epoch - 1 + self.decay_ahead) // self.decay_every) if self.decay_every else 1)


@dataclass(frozen=True)
class Checkpoint:
    """Where training is kept after every epoch, and what it belongs to.

    Attributes:
        path: one `.safetensors` file. identity: JSON-ready description of everything that decides the result.
    """

    path: Path
    identity: Mapping[str, Any]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The random numbers of one epoch, the same whether earlier epochs ran in this process or in another."""
    return torch.Generator().manual_seed(1_000_003 * seed + epoch)


def train_epochs(
    module: nn.Module,
    plan: Callable[[torch.Generator], Sequence[B]],
    loss: Callable[[B], Tensor],
    recipe: Recipe,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Minimises the mean of `loss` over batches; gives the mean loss of every epoch.

    Args:
        module: its parameters are updated, its buffers kept; left in eval mode.
        plan: the batches of an epoch, drawn with the generator it is given.
        loss: scalar of one batch, with the module in train mode.
        checkpoint: where to keep and find the state after each epoch; None keeps nothing.
        progress: called with batches done and batches in all (of epochs that are as long as the present one).
        after_epoch: called with the number of each epoch that is done, from 1, with the module in eval mode.

    Raises:
        ConfigError: the loss is not finite, an epoch without batches, or the checkpoint is of another training.
        WeightsError: the checkpoint is damaged.
    """
    parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
    optimiser = _optimiser(parameters.values(), recipe)
    history = _restore(checkpoint, module, optimiser, parameters) if checkpoint else []
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        generator = epoch_generator(recipe.seed, epoch)
        batches = plan(generator)
        if not batches:
            raise ConfigError("there is nothing to train on: no batch of photos; give a larger set")
        total = 0.0
        with torch.random.fork_rng():  # dropout draws from the global generator
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            module.train()
            for number, batch in enumerate(batches, 1):
                for group in optimiser.param_groups:
                    group["lr"] = recipe.rate(epoch, (number - 1) / len(batches))
                optimiser.zero_grad(set_to_none=True)
                value = loss(batch)
                _step(optimiser, value, parameters.values(), recipe.clip)
                total += float(value.detach())
                if not math.isfinite(total):
                    raise ConfigError(
                        f"training diverged in epoch {epoch}, batch {number}; use a smaller lr than {recipe.lr}"
                    )
                if progress is not None:
                    progress((epoch - 1) * len(batches) + number, recipe.epochs * len(batches))
        module.eval()
        history.append(total / len(batches))
        _require_finite(parameters, epoch, recipe.lr)
        if checkpoint is not None:
            _keep(checkpoint, module, optimiser, parameters, history)
        if after_epoch is not None:
            after_epoch(epoch)
    module.eval()
    return history


def _step(optimiser: torch.optim.Optimizer, loss: Tensor, parameters: Iterable[Tensor], clip: float) -> None:
    loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(list(parameters), clip)
    optimiser.step()


def _require_finite(parameters: Mapping[str, Tensor], epoch: int, lr: float) -> None:
    if not all(bool(torch.isfinite(value).all()) for value in parameters.values()):
        raise ConfigError(f"training diverged in epoch {epoch}; use a smaller lr than {lr}")


def _optimiser(parameters: Any, recipe: Recipe) -> torch.optim.Optimizer:
    values, decay = list(parameters), recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(values, lr=recipe.lr, momentum=recipe.betas[0], weight_decay=decay)
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(values, lr=recipe.lr, betas=recipe.betas, weight_decay=decay)


def _keep(
    checkpoint: Checkpoint,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    history: list[float],
) -> None:
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    for name, parameter in parameters.items():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{key}.{name}"] = torch.as_tensor(value)
    header = {"kind": _KIND, "identity": _plain(checkpoint.identity), "history": history}
    write_saved(checkpoint.path, header, tensors)


def _restore(
    checkpoint: Checkpoint, module: nn.Module, optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> list[float]:
    """The losses of the epochs that were finished; module and optimiser are then as they were after the last one."""
    path = checkpoint.path
    if not path.exists():
        return []
    saved = read_saved(path, kind=_KIND)
    if saved.header.get("identity") != _plain(checkpoint.identity):
        raise ConfigError(
            f"{path}: is of another training (other photos, settings or weights); finish that one, or start anew "
            f"({argument('fresh', 'True')})"
        )
    try:
        own = {k.removeprefix("module."): v for k, v in saved.tensors.items() if k.startswith("module.")}
        module.load_state_dict(own)
        for name, parameter in parameters.items():
            state = {}
            for full, value in saved.tensors.items():
                key, _, owner = full.removeprefix("optimiser.").partition(".")
                if full.startswith("optimiser.") and owner == name:
                    state[key] = value if key == "step" else value.to(parameter.device)
            optimiser.state[parameter] = state
        return [float(value) for value in saved.header["history"]]
    except (RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0][:100]
        raise WeightsError(
            f"{path}: does not hold what this training keeps ({reason}); start anew ({argument('fresh', 'True')})"
        ) from error


def _plain(identity: Mapping[str, Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(identity))

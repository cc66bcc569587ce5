"""What methods have learned: that there is something, and the tensors that come back from saved files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from promptad.errors import ConfigError, WeightsError


def require_learned(learned: bool) -> None:
    """Raises ConfigError where a detector that learns from good photos is asked for scores before it has seen one."""
    if not learned:
        raise ConfigError("this detector has not seen a good photo yet; call fit, or load a saved one")


def saved_tensor(tensors: Mapping[str, Tensor], name: str, shape: Sequence[int | None], title: str) -> Tensor:
    """The tensor of that name.

    Args:
        shape: what it must have; None stands for any length. title: the method, as the error names it.

    Raises:
        WeightsError: it is missing or of another shape.
    """
    given = tuple(tensors[name].shape) if name in tensors else None
    fits = given is not None and len(given) == len(shape)
    if not fits or any(want not in (None, have) for want, have in zip(shape, given or (), strict=True)):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise WeightsError(
            f"saved tensor {name!r} of {title} is missing or of another shape (found "
            f"{'nothing' if given is None else given}, expected ({wanted})); the file is of other settings or damaged, "
            "make it again"
        )
    return tensors[name]

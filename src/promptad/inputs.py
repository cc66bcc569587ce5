"""Names of inputs as whoever asked gave them: keyword arguments in Python, options on the command line.

The same rules hold for both, so the same line is said to both; only what the inputs are called differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_options: ContextVar[bool] = ContextVar("promptad_options", default=False)
_unnamed: ContextVar[tuple[str, ...]] = ContextVar("promptad_unnamed", default=())
# Options that are not called as the argument is.
_NAMES = {"defects": "--defect", "output": "-o", "settings": "--set"}


@contextmanager
def named_as_options() -> Iterator[None]:
    """Inside, inputs are called as on the command line."""
    token = _options.set(True)
    try:
        yield
    finally:
        _options.reset(token)


@contextmanager
def named_by_place(names: tuple[str, ...]) -> Iterator[None]:
    """Inside, on the command line, these inputs have no option: they are called `PHOTOS`, as help does."""
    token = _unnamed.set(names)
    try:
        yield
    finally:
        _unnamed.reset(token)


def argument(name: str, value: str = "") -> str:
    """An input by its name: `false_alarms=0.01`, or `--false-alarms 0.01`.

    Args:
        name: as the Python API calls it. value: an example, without the quotes that Python has around texts.
    """
    if not _options.get():
        return f"{name}={_as_python(value)}" if value else name
    option = name.upper() if name in _unnamed.get() else _NAMES.get(name, f"--{name.replace('_', '-')}")
    if value in ("True", ""):
        return option
    return f'{option} "{value}"' if " " in value else f"{option} {value}"


def setting(name: str, value: str = "") -> str:
    """A setting of a method, with a value: `fit='tiles'`, or `--set fit=tiles`; without one: `fit`, or `--set fit`."""
    if not value:
        return f"--set {name}" if _options.get() else name
    if _options.get():
        return f"--set {name}={value}"
    return f"{name}={_as_python(value)}"


def _as_python(value: str) -> str:
    """A value as Python code writes it: texts in quotes, numbers without."""
    plain = value.replace(".", "", 1).isdigit() or value in ("True", "False", "None")
    return value if plain else repr(value)

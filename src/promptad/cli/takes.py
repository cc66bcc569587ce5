"""Commands whose options are the fields of a request: each is described once, for the command line and for Python."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import typer

from promptad.annotations import field_types
from promptad.cli.console import friendly_errors
from promptad.errors import ConfigError
from promptad.inputs import argument, named_by_place
from promptad.parsing import parsed_json
from promptad.requests.asked import Request

R = TypeVar("R", bound=Request)


def takes(
    request: type[R], *, arguments: tuple[str, ...] = (), required: tuple[str, ...] = ()
) -> Callable[[Callable[[R], None]], Callable[..., None]]:
    """Makes `command(request)` a command of typer that has an option for every field of the request.

    Args:
        arguments: fields that stand on the command line without a name, in this order. required: fields that must be
            given there though Python may leave them out.
    """

    def wrap(command: Callable[[R], None]) -> Callable[..., None]:
        types = field_types(request)
        shown = [entry for entry in _ordered_fields(request) if entry.metadata.get("place") != "hidden"]
        named = {entry.name: _parameter(entry, types[entry.name], arguments, required) for entry in shown}
        ordered = [*(named[name] for name in arguments), *(p for name, p in named.items() if name not in arguments)]

        def run(**values: Any) -> None:
            with_command = {"command": shlex.join(["promptad", *sys.argv[1:]])}
            extra = {entry.name: with_command[entry.name] for entry in fields(request) if entry.name in with_command}
            with named_by_place(arguments):
                command(
                    request(
                        **{
                            name: _read(types[name], name, value) for name, value in values.items() if value is not None
                        },
                        **extra,
                    )
                )

        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered} | {"return": None}
        run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        return friendly_errors()(run)

    return wrap


def _ordered_fields(request: type[Request]) -> list[Field[Any]]:
    """The fields that a request has of its own, then those that it shares with others, as help shows them."""
    owners = {name: depth for depth, cls in enumerate(request.__mro__) for name in vars(cls).get("__annotations__", ())}
    return sorted(fields(request), key=lambda entry: owners[entry.name])


def _parameter(entry: Field[Any], annotation: Any, arguments: tuple[str, ...], required: tuple[str, ...]) -> Any:
    default = entry.default if entry.default_factory is MISSING else entry.default_factory()
    kind = str | None if entry.metadata.get("commas") else _plain(annotation)
    if entry.metadata.get("commas"):
        default = ",".join(map(str, cast("tuple[Any, ...]", entry.default))) or None
    if get_origin(kind) is list:
        default = []
    if default is MISSING or entry.name in required:
        default, kind = inspect.Parameter.empty, _without_none(kind)
    words = str(entry.metadata["words"])
    if entry.name in arguments:
        info: Any = typer.Argument(help=words, show_default=False, metavar=entry.name.upper())
        default = inspect.Parameter.empty if entry.name in required else default
    else:
        names = str(entry.metadata.get("option") or argument_option(entry.name)).split()
        info = typer.Option(*names, help=words, metavar=_metavar(kind))
    return inspect.Parameter(
        entry.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[_as_typed(kind), info]
    )


def _as_typed(kind: Any) -> Any:
    """Paths as texts: a request makes paths of them, and can still tell an empty text from the folder that one is in."""
    texts = {Path: str, Path | None: str | None, list[Path]: list[str]}
    return texts.get(kind, kind)


def _metavar(kind: Any) -> str | None:
    """What help calls a value of that kind; None for a flag, which has none."""
    kind = _without_none(kind)
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    return {Path: "PATH", int: "NUMBER", float: "NUMBER", str: "TEXT"}.get(kind)


def argument_option(name: str) -> str:
    """`false_alarms` -> `--false-alarms`."""
    return f"--{name.replace('_', '-')}"


def _plain(annotation: Any) -> Any:
    """The type by which typer reads texts: what a field allows beyond that is checked by its request."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin is Literal:
        return str
    if origin in (Union, UnionType):
        members = [_plain(member) for member in get_args(annotation) if member is not NoneType]
        return (members[0] if len(members) == 1 else str) | None
    if origin is tuple:
        return list[_plain(get_args(annotation)[0])]  # type: ignore[misc]
    if origin is not None and issubclass(origin, Mapping):
        return list[str]
    return annotation


def _without_none(kind: Any) -> Any:
    members = [member for member in get_args(kind) if member is not NoneType]
    return members[0] if get_origin(kind) in (Union, UnionType) else kind


def _read(annotation: Any, name: str, value: Any) -> Any:
    origin = get_origin(annotation)
    if origin is not None and origin is not Annotated and isinstance(origin, type) and issubclass(origin, Mapping):
        return parse_settings(value, name, "epochs=200" if name == "settings" else "masks=bilinear")
    if isinstance(value, str) and origin in (Union, UnionType) and len(get_args(annotation)) > 2:
        return int(value) if value.isdigit() else value  # a number of pixels, or a word instead
    return value


def parse_settings(pairs: list[str], name: str = "settings", example: str = "epochs=200") -> dict[str, Any]:
    """`["epochs=200", "fit=tiles"]` -> `{"epochs": 200, "fit": "tiles"}`; values are JSON where they can be.

    Raises:
        ConfigError: an entry without a key or an equals sign, or a key that is given twice.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not key:
            raise ConfigError(f"{argument(name)} {pair!r}: expected key=value, for example {argument(name)} {example}")
        if key in out:
            raise ConfigError(f"{argument(name)} {pair!r}: {key} is given twice; leave one out")
        try:
            out[key] = parsed_json(text)
        except ValueError:
            out[key] = text
    return out

"""The page of all options and settings, made from the commands and configs themselves; also a hook of mkdocs.

    python tools/options_page.py          # prints the page
    mkdocs build                          # makes it, as mkdocs.yml names this file under `hooks`

Nothing on the page is written by hand: commands, arguments and options come from the typer app with their help and defaults,
settings from the configs of the methods with the comment over each field, its annotation and its value in every preset.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

PAGE = "options.md"
_FIELD = re.compile(r"    (\w+): ")
_COMMENT = re.compile(r"    # ?(.*)")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>~?([\w.]+)</code>")


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        "# Options and settings",
        "Made from the commands and the configs when these pages are built. Options are given to a command, settings of a "
        'method with `--set name=value` on the command line or `Detector("promptad", name=value)` in Python.',
        *(command_section(name, command) for name, command in commands()),
        "## Settings of the methods",
        "A setting that is not given has the value of the preset: `clean` unless `--preset` names another. Lists are written "
        "with commas (`--set memory_layers=3,8`). "
        "`promptad evaluate` takes the settings of the methods that it measures.",
        *(settings_section(name) for name in method_names()),
    ]
    return "\n\n".join(parts) + "\n"


# -- commands ---------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """(full name, click command) of every command, those of groups after their group's place."""
    import typer

    from promptad.cli import build

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
            return
        for child in inner:
            yield from walk(f"{name} {child}", inner[child])

    yield from walk("promptad", typer.main.get_command(build()))


def command_section(name: str, command: Any) -> str:
    """Heading, help and table of one command."""
    arguments = [parameter for parameter in command.params if is_argument(parameter)]
    options = [
        parameter for parameter in command.params if not is_argument(parameter) and "--help" not in parameter.opts
    ]
    words = [name, *(_argument_usage(argument) for argument in arguments), "[OPTIONS]" if options else ""]
    words += [f"{max(o.opts, key=len)} ..." for o in options if o.required]
    out = [f"## {name}", f"```\n{' '.join(filter(None, words))}\n```", paragraphs(command.help or "")]
    rows = [[f"`{a.name.upper()}`", a.help or "", "required" if a.required else "none"] for a in arguments]
    rows += [
        [", ".join(f"`{o}`" for o in (*option.opts, *option.secondary_opts)), option.help or "", shown_default(option)]
        for option in options
    ]
    if rows:
        out.append(table(["argument or option", "what it is", "default"], rows))
    return "\n\n".join(out)


def is_argument(parameter: Any) -> bool:
    """Whether a parameter of a command is given by its place, not by a name with dashes."""
    return not parameter.opts[0].startswith("-")


def shown_default(option: Any) -> str:
    """The default as the table shows it."""
    default = option.default
    if option.required:
        return "required"
    if isinstance(default, bool):
        return "on" if default else "off"
    if default is None or default == [] or default == () or default == "":
        told = re.search(r"Default: (.+?)\.(?:\s|$)", option.help or "")
        return told[1] if told else "none"
    return f"`{default}`"


def _argument_usage(argument: Any) -> str:
    word = (argument.metavar or argument.name.upper()) + (" ..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


# -- settings ---------------------------------------------------------------------------------------------------------


def method_names() -> list[str]:
    """The methods, in the registry's order."""
    from promptad.methods.registry import METHODS

    return list(METHODS)


def settings_section(method: str) -> str:
    """Heading and table of the settings of one method."""
    from promptad.methods.registry import find_method

    entry = find_method(method)
    comments, types = field_comments(entry.config), get_type_hints(entry.config, include_extras=True)
    configs = {preset: entry.make_config(preset) for preset in entry.presets}
    shown = [preset for preset in configs if preset in ("clean", "paper", "release")]
    rows = []
    for field in fields(entry.config):
        values = [f"`{_value(getattr(configs[preset], field.name))}`" for preset in shown]
        rows.append([f"`{field.name}`", comments.get(field.name, ""), allowed(types[field.name]), *values])
    out = [f"### {method}", f"{entry.title}.", table(["setting", "what it is", "allowed", *shown], rows)]
    others = [f"`{preset}`" for preset in configs if preset not in shown]
    if others:
        out.append(f"Further presets: {', '.join(others)}.")
    return "\n\n".join(out)


def field_comments(config: type[Any]) -> dict[str, str]:
    """Field -> the comment lines right above it in the source of the config or of what it inherits from."""
    out: dict[str, str] = {}
    for cls in reversed(config.__mro__[:-1]):
        comment: list[str] = []
        for line in textwrap.dedent(inspect.getsource(cls)).splitlines():
            if (match := _COMMENT.fullmatch(line)) and not match[1].startswith("--"):
                comment.append(match[1])
            elif match := _FIELD.match(line):
                if comment:
                    out[match[1]] = " ".join(comment)
                comment = []
            else:
                comment = []
    return out


def allowed(annotation: Any) -> str:
    """What a field may hold, in words: `whole number, at least 1`."""
    bounds = ""
    if get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        bounds = ", ".join(str(entry) for entry in extra)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        members = get_args(annotation)
        return f"{'list' if members[-1] is Ellipsis else len(members)}, each: {allowed(members[0])}"
    kind = {int: "whole number", float: "number", bool: "true, false", str: "text"}.get(annotation, str(annotation))
    return f"{kind}, {bounds}" if bounds else kind


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return '""' if value == "" else f"{value:g}" if isinstance(value, float) else str(value)


# -- Markdown ---------------------------------------------------------------------------------------------------------


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def paragraphs(text: str) -> str:
    """A docstring's paragraphs, each on one line."""
    return "\n\n".join(" ".join(block.split()) for block in re.split(r"\n\s*\n", inspect.cleandoc(text)))


# -- mkdocs -----------------------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Adds the page to the site."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=page()))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name classes in Sphinx's way and end a line before code with two colons; the site shows both plainly."""
    return _ROLE.sub(r"<code>\1</code>", html).replace("::</p>", ":</p>")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    sys.stdout.write(page())

"""Errors and notices call inputs as whoever asked calls them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import promptad
from promptad.cli.console import show_notices
from promptad.inputs import argument, setting

PACKAGE = Path(promptad.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "cli")


def test_an_input_is_a_keyword_in_python_and_an_option_in_a_command():
    python = (argument("false_alarms"), argument("false_alarms", "0.01"), argument("defects", "with scratch"))
    assert python == ("false_alarms", "false_alarms=0.01", "defects='with scratch'")
    assert (setting("fit", "tiles"), setting("finest_defect", "12")) == ("fit='tiles'", "finest_defect=12")
    with show_notices():
        assert (
            argument("false_alarms") == "--false-alarms" and argument("false_alarms", "0.01") == "--false-alarms 0.01"
        )
        assert (
            argument("defects", "with scratch") == '--defect "with scratch"' and argument("fresh", "True") == "--fresh"
        )
        assert setting("fit", "tiles") == "--set fit=tiles"
    assert argument("fresh", "True") == "fresh=True"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_text_outside_the_commands_names_an_option_itself(path):
    """Python users would be told of options that they do not have; `promptad ...` in backticks is a way out for all."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    # What a field of a request is called on the command line is said in its field.
    options = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "option"}
    skipped = documentation | options | {id(part) for node in joined for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            text = node.value
        else:
            continue
        named = re.findall(r"(?<![\w`-])--[a-z][a-z-]*", re.sub(r"`promptad [^`]*(`|$)", "", text))
        allowed = path.name == "inputs.py" or not named
        assert allowed, f"{path.name}:{node.lineno}: {named} in {text!r}"

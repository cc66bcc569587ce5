"""The house rules that the source itself can show: length of files, names of things, what the contract holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from promptad.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("src", "tests", "tools", "benchmarks", "examples")
SOURCES = {path.relative_to(ROOT).as_posix(): path for place in PLACES for path in sorted((ROOT / place).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
PACKAGE = "src/promptad/"
# What a name stands for, not what it says: the thing itself has a name.
STAND_INS = {"one", "found", "it", "thing", "things", "stuff", "obj", "tmp"}


def lines_of(name: str) -> int:
    return len(SOURCES[name].read_text(encoding="utf-8").splitlines())


def test_the_sources_are_read():
    assert len(SOURCES) > 350 and all(any(name.startswith(place) for name in SOURCES) for place in PLACES)


def test_files_can_be_read_in_one_sitting():
    """About 400 lines; tests, which are read test by test, a half more."""
    assert {n: count for n in SOURCES if (count := lines_of(n)) > (600 if n.startswith("tests/") else 420)} == {}


def named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of all that a file gives a name: variables, arguments, functions and classes, but no fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def field_lines(tree: ast.Module) -> set[int]:
    """Lines of the fields of classes: "found" is what a table of alarms calls the share of defects that were."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {node.lineno for of_class in classes for node in of_class.body if isinstance(node, ast.AnnAssign)}


def test_the_reader_of_names_sees_every_kind_of_name():
    tree = ast.parse("class A:\n    b: int\ndef c(d, *e):\n    f = [g for g in e]\n    with d as h: pass\nlambda i: i")
    assert {name for _, name in named(tree)} == set("Abcdefghi") and field_lines(tree) == {2}


@pytest.mark.parametrize("place", PLACES)
def test_things_have_their_own_names(place):
    standing_in = [
        f"{path}:{line}: {name}"
        for path, tree in TREES.items()
        if path.startswith(f"{place}/")
        for line, name in named(tree)
        if name.strip("_") in STAND_INS and line not in field_lines(tree)
    ]
    assert standing_in == []


def test_the_contract_of_methods_is_a_screen_of_its_own():
    """No hashing, records of runs, training loops or configs: dataclasses and protocols whose methods have no body."""
    path = f"{PACKAGE}methods/contract.py"
    tree = TREES[path]
    assert lines_of(path) <= 150
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert set(classes) == {"Scores", "WordScores", "Method", "FittedInEpochs", "Trained"}
    assert not [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for of_class in classes.values():
        for function in of_class.body:
            if isinstance(function, ast.FunctionDef):
                [only] = function.body
                assert isinstance(only, ast.Expr) and ast.get_docstring(function), f"{of_class.name}.{function.name}"
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"hashlib", "promptad.methods.settings", "promptad.learning.optimise", "promptad.annotations"}


def test_types_are_checked_where_arguments_are_passed():
    """A dictionary that is unpacked into fields hides a wrong one from mypy."""
    escapes = [
        name
        for name, path in SOURCES.items()
        if name.startswith(PACKAGE)
        and re.search(r"#\s*type:\s*ignore(\[[^]]*arg-type|\s*$|\s*#)", path.read_text("utf-8"), re.M)
    ]
    assert escapes == [] and (ROOT / PACKAGE / "py.typed").exists()


def test_json_and_toml_of_others_are_parsed_in_one_place():
    """`promptad.parsing` alone: elsewhere a text that is nested too deeply would be a traceback."""
    # Tables of the package, and copies of what was a dictionary before.
    own = (
        "json.loads(json.dumps(",
        "tomllib.load(stream)",
        "files(",
        "folder.joinpath(",
        "tomllib.loads(text).items()",
        "manifest.read",
    )
    elsewhere = [
        f"{name}: {line.strip()}"
        for name, path in SOURCES.items()
        if name.startswith(PACKAGE) and name != f"{PACKAGE}parsing.py"
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"\b(json|tomllib)\.loads?\(", line) and not any(words in line for words in own)
    ]
    assert elsewhere == []


def test_settings_of_methods_are_asked_for_by_their_names():
    """A config says what it holds (`ScoringConfig`); nobody looks whether it has a field of some name."""
    settings = {field.name for entry in METHODS.values() for field in fields(entry.config)}
    asked = [
        f"{name}:{node.lineno}: {node.args[1].value}"
        for name, tree in TREES.items()
        if name.startswith(PACKAGE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in settings
    ]
    assert asked == []

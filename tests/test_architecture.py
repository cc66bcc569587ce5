"""Imports go one way, as docs/architecture.md says, and never in a circle; read from the source, nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import promptad

ROOT = Path(promptad.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def modules() -> dict[str, Path]:
    """Dotted name inside the package ("clip.zoo", "" for the package itself) -> its file."""
    out = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


MODULES = modules()


def imports(name: str) -> set[str]:
    """Modules of the package that one imports, at its head or inside a function; for type checkers alone does not count."""
    imported: set[str] = set()
    for node in walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{name}: relative import"
            # `from promptad.clip import zoo` is of the module zoo, `from promptad.clip.zoo import locate` too.
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        for target in targets:
            if target == "promptad" or target.startswith("promptad."):
                inside = target.removeprefix("promptad").removeprefix(".")
                imported.add(inside if inside in MODULES else inside.rpartition(".")[0])
    return imported - {name}


def walk(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from walk(node)


GRAPH = {name: imports(name) for name in MODULES}


def room(name: str) -> str:
    return name.partition(".")[0]


def levels() -> list[set[str]]:
    """The rooms from top to bottom, from the sentence "Imports go one way: `cli → run, ... → errors`" of the page."""
    sentence = re.search(r"Imports go one way: `([^`]+)`", PAGE.read_text(encoding="utf-8"))
    assert sentence is not None
    return [{word.strip() for word in part.split(",")} for part in sentence.group(1).split("→")]


def test_the_graph_is_that_of_the_source():
    """The reader of imports itself: what stands at the head, in a function, and under another module's name."""
    assert {"errors", "clip.pins"} <= GRAPH["clip.zoo"] and "clip.zoo" in GRAPH["clip.pull"]
    assert "clip.pull" in GRAPH["cli.models"]  # imported inside a function
    assert len(MODULES) > 100 and sum(map(len, GRAPH.values())) > 300
    assert all(target in MODULES for targets in GRAPH.values() for target in targets)


def test_no_module_imports_itself_through_others():
    """Neither at the head nor inside functions: a circle that is put off is a circle."""
    state: dict[str, int] = {}
    circles = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        state[name] = 1
        for target in sorted(GRAPH[name]):
            if state.get(target) == 1:
                circles.append(" -> ".join([*path[path.index(target) :], target] if target in path else [name, target]))
            elif target not in state:
                visit(target, (*path, target))
        state[name] = 2

    for name in GRAPH:
        if name not in state:
            visit(name, (name,))
    assert not circles, circles


def test_every_room_stands_in_the_order_of_the_page():
    known = set().union(*levels())
    assert {room(name) for name in MODULES if name} <= known


@pytest.mark.parametrize("name", sorted({room(name) for name in MODULES if name}))
def test_a_room_imports_from_its_own_level_or_below(name):
    order = {word: depth for depth, words in enumerate(levels()) for word in words}
    wrong = [
        f"{module} imports {target}"
        for module, targets in GRAPH.items()
        if room(module) == name
        for target in targets
        if target and room(target) != name and order[room(target)] < order[name]
    ]
    assert not wrong, wrong


def test_rooms_of_one_level_import_each_other_in_one_direction():
    between = {(room(m), room(t)) for m, targets in GRAPH.items() for t in targets if t and room(t) != room(m) and m}
    both = sorted(pair for pair in between if pair[::-1] in between and pair[0] < pair[1])
    assert not both, both


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone: two of one name end the whole run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_functions_fit_on_a_screen(name):
    """At most 60 lines, and less than 50 where options become requests and results are printed."""
    most = 49 if room(name) == "cli" else 60
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {node.name: lines for node in functions if (lines := (node.end_lineno or 0) - node.lineno + 1) > most}
    assert not long

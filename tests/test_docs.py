"""The documents against the code: links, commands, settings, rooms, and the page that is made from the commands."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from promptad import __version__
from promptad.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
GENERATED = {"options.md"}
SCRIPTS = ("benchmarks", "examples", "tools")
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)


@pytest.fixture(scope="module")
def tool():
    """`tools/options_page.py`."""
    spec = importlib.util.spec_from_file_location("options_page", ROOT / "tools" / "options_page.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def commands(tool) -> dict:
    return dict(tool.commands())


def blocks(text: str, *languages: str) -> list[str]:
    return [body for _, language, body in FENCE.findall(text) if language in languages]


# -- the page of options -----------------------------------------------------------------------------------------------


def test_the_options_page_has_every_command_option_and_setting(tool, commands):
    page = tool.page()
    sections = dict(re.findall(r"^##+ (.+?)\n(.*?)(?=^##|\Z)", page, re.M | re.S))
    assert len(commands) >= 11
    for name, command in commands.items():
        for parameter in command.params:
            if "--help" in parameter.opts:
                continue
            for option in parameter.opts:
                word = option.upper() if tool.is_argument(parameter) else option
                assert f"`{word}`" in sections[name], f"{name} {option}"
    for name, entry in METHODS.items():
        for field in fields(entry.config):
            assert f"| `{field.name}` |" in sections[name], f"{name} {field.name}"


def test_every_option_and_every_setting_is_explained(tool, commands):
    bare = [
        f"{name} {p.opts[-1]}" for name, c in commands.items() for p in c.params if not (p.help or "--help" in p.opts)
    ]
    assert not bare
    for name, entry in METHODS.items():
        comments = tool.field_comments(entry.config)
        without = [field.name for field in fields(entry.config) if len(comments.get(field.name, "")) < 5]
        assert not without, f"{name}: {without} have no comment above the field"


def test_defaults_on_the_options_page_are_the_commands_own(tool, commands):
    section = tool.command_section("promptad evaluate", commands["promptad evaluate"])
    assert re.search(r"\| `--shots` \|.*\| `0,1,2,4` \|", section)
    section = tool.command_section("promptad inspect", commands["promptad inspect"])
    assert re.search(r"\| `-o`, `--output` \|.*\| `out` \|", section) and re.search(r"`--fresh` \|.*\| off \|", section)


def test_values_of_presets_on_the_options_page_are_those_of_the_configs(tool):
    section = tool.settings_section("promptad")
    row = next(line for line in section.splitlines() if line.startswith("| `fit` |"))
    shown = [cell.strip(" `") for cell in row.strip("|").split(" | ")][-3:]
    assert shown == [METHODS["promptad"].make_config(preset).fit for preset in ("clean", "paper", "release")]


# -- the navigation ----------------------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation_and_every_entry_exists():
    nav = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | GENERATED
    assert sorted(nav) == sorted(pages)


def test_every_room_is_in_the_architecture():
    text = TEXTS["docs/architecture.md"]
    rooms_table = "\n".join(re.findall(r"^\| (.+?) \|", text, re.M))
    package = ROOT / "src" / "promptad"
    rooms = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    rooms |= {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    missing = [room for room in sorted(rooms) if f"`{room}`" not in rooms_table]
    assert not missing, f"docs/architecture.md: the table of rooms lacks {missing}"
    named = set(re.findall(r"`([a-z_]+(?:/|\.py))`", rooms_table))
    assert not named - rooms, f"docs/architecture.md names rooms that are not there: {sorted(named - rooms)}"


def test_api_pages_name_modules_that_exist():
    named = [
        name
        for path in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)", path.read_text("utf-8"), re.M)
    ]
    assert len(named) >= 20
    for name in named:
        importlib.import_module(name)


# -- links and names of files ------------------------------------------------------------------------------------------


def slugs(text: str) -> set[str]:
    """Anchors of a page's headings, as mkdocs makes them."""
    out: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        plain = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        out.add(re.sub(r"[-\s]+", "-", plain))
    return out


def test_no_command_reads_what_a_reader_does_not_have():
    """Photos that lie beside the repository of its authors: pages say what they are, and call their folder DATA."""
    pages = {page: text for page, text in TEXTS.items() if page != "CONTRIBUTING.md"}
    scripts = {
        path.name: path.read_text("utf-8")
        for folder in ("benchmarks", "examples")
        for path in (ROOT / folder).glob("*.py")
    }
    assert [name for name, text in (pages | scripts).items() if re.search(r"\bshared/", text)] == []


@pytest.mark.parametrize("page", TEXTS)
def test_relative_links_resolve(page, tool):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", TEXTS[page])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if file.parent == DOCS and file.name in GENERATED:
            text = tool.page()
        else:
            assert file.exists(), f"{page}: {target}"
            text = file.read_text("utf-8") if anchor else ""
        assert not anchor or anchor in slugs(text), f"{page}: {target}"


@pytest.mark.parametrize("page", sorted(set(TEXTS) - {"CHANGELOG.md"}))
def test_named_files_exist(page):
    """`src/promptad/x.py`, `learning/losses.py` or `test_x.py`: somewhere in the repository, by the end of its path."""
    known = [f"/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*") if ".git" not in path.parts]
    for name in re.findall(r"`([\w./-]+\.(?:py|toml|safetensors|cff))(?::[^`]*)?`", TEXTS[page]):
        if name.startswith(("src/", "tests/", "docs/", "tools/", "benchmarks/", "examples/", "methods/")) or (
            name.endswith(".py") and "paper" not in name and name != "utils.py"
        ):
            assert any(path.endswith(f"/{name}") for path in known), f"{page}: {name} is not there"


# -- commands and code -------------------------------------------------------------------------------------------------


def shell_commands(text: str) -> list[str]:
    """Every `promptad ...` of the code blocks and of the text of a page, one line each."""
    out = []
    for body in blocks(text, "sh", "bash", "console"):
        out += re.findall(r"(?:^|&& |; do |\| )\s*(promptad .*?)(?= && | ; |; done|$)", body.replace("\\\n", " "), re.M)
    spans = re.findall(r"`(promptad [^`]+)`", " ".join(FENCE.sub("", text).split()))
    return out + spans


def check_command(line: str, commands: dict) -> str | None:
    """What is wrong with a command, or None."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        return str(error)
    names = [name for name in commands if words[: len(name.split())] == name.split()]
    if not names:
        group = " ".join(words[:2])
        return (
            None if any(name.startswith(group) for name in commands) or words[1].startswith("-") else "no such command"
        )
    command = commands[names[0]]
    flags = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if isinstance(p.default, bool)}
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")} | {"--help"}
    rest = words[len(names[0].split()) :]
    for i, word in enumerate(rest):
        if not word.startswith("-") or word in ("-", "--") or re.fullmatch(r"-[\d.]+", word):
            continue
        option = word.partition("=")[0]
        if option not in options:
            return f"{names[0]} has no option {option}"
        value = rest[i + 1] if i + 1 < len(rest) and option not in flags else ""
        if option == "--set" and "=" in value and (wrong := check_setting(value.partition("=")[0])):
            return wrong
        if option == "--method" and value.islower() and not all(name in METHODS for name in value.split(",")):
            return f"no such method: {value}"
    return None


def check_setting(name: str) -> str | None:
    known = any(field.name == name for entry in METHODS.values() for field in fields(entry.config))
    return None if known else f"no method has a setting {name}"


@pytest.mark.parametrize("page", TEXTS)
def test_commands_in_the_documents_are_known(page, commands):
    wrong = {line: problem for line in shell_commands(TEXTS[page]) if (problem := check_command(line, commands))}
    assert not wrong


def test_the_check_of_commands_finds_what_is_wrong(commands):
    assert len([line for text in TEXTS.values() for line in shell_commands(text)]) > 40
    for line, word in {
        "promptad inspect photos/ --godo good/": "--godo",
        "promptad judge photos/": "no such command",
        "promptad fit good/ --set epoch=3": "setting epoch",
        "promptad evaluate data --method winclap": "winclap",
    }.items():
        assert word in (check_command(line, commands) or ""), line
    assert check_command("promptad models pull NAME --to DIR", commands) is None


def missing_imports(code: str) -> list[str]:
    """What Python code imports from the package and is not there."""
    out = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "promptad":
            try:
                module = importlib.import_module(node.module)
            except ImportError:
                out.append(node.module)
                continue
            out += [f"{node.module}.{alias.name}" for alias in node.names if not has(module, alias.name)]
    return out


def has(module: ModuleType, name: str) -> bool:
    inside = hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{name}") is not None
    return hasattr(module, name) or inside


def test_the_check_of_imports_finds_what_is_wrong():
    code = "from promptad.errors import DataError, Nothing\nfrom promptad.nowhere import load\nfrom promptad.clip import zoo"
    assert missing_imports(code) == ["promptad.errors.Nothing", "promptad.nowhere"]


@pytest.mark.parametrize("page", TEXTS)
def test_python_in_the_documents_parses_and_imports_what_exists(page):
    assert not [missing for body in blocks(TEXTS[page], "python") for missing in missing_imports(body)]


@pytest.mark.parametrize(
    "script", sorted(p.relative_to(ROOT).as_posix() for d in SCRIPTS for p in (ROOT / d).glob("*.py"))
)
def test_scripts_that_nothing_runs_import_what_exists(script):
    assert not missing_imports((ROOT / script).read_text("utf-8"))


def test_readmes_test_command_is_that_of_ci():
    section = TEXTS["README.md"].partition("## Tests")[2]
    command = blocks(section, "sh")[0].strip()
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()]
    assert command in lines


def test_the_citation_names_this_version_and_the_papers():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {__version__}\n" in text
    cited = set(re.findall(r"notes: method (\S+)", text))
    assert {"promptad", "faprompt", "promptad-zs", "rwda"} <= cited <= set(METHODS)
    for title in re.findall(r'^    title: "?(.+?)"?$', text, re.M):
        pages = " ".join(" ".join(text.split()) for name, text in TEXTS.items() if "methods/" in name)
        assert title in pages, f"{title}: no method's page cites it"

"""Every method that the papers compare with is one file of at most 250 lines, with a page that names it and what it can be set to."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from promptad.methods.registry import METHODS
from promptad.methods.settings import ScoringConfig

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/methods").glob("*.md")}
OWN = ("promptad", "faprompt", "rwda", "promptad-zs")
"""The methods of the four papers themselves."""
LATER = ("uniadet", "mrad", "musc")
"""Those that no table of the papers has."""


def page_of(name: str) -> str:
    """The page whose commands and text name the method most often."""
    if f"{name}.md" in PAGES:
        return f"{name}.md"
    command = re.compile(rf"(--method(=| )[\w,-]*(?<![\w-])|promptad train ){name}(?![\w-])")
    named = {page: text.count(f"`{name}`") + 3 * len(command.findall(text)) for page, text in PAGES.items()}
    best = max(named, key=lambda page: (page != "cards.md", named[page]))
    assert named[best], f"no page names {name}"
    return best


@pytest.mark.parametrize("name", METHODS)
def test_a_page_names_the_method_and_stands_in_the_contents(name):
    page = page_of(name)
    assert f"methods/{page}" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_a_page_names_every_preset(name):
    presets = METHODS[name].presets
    assert {"clean", "paper", "release"} <= set(presets)
    listed = [preset for preset in presets if not (name == "rwda" and preset.startswith("paper-"))]  # a word pair each
    assert not [preset for preset in listed if f"`{preset}`" not in PAGES[page_of(name)]]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OWN])
def test_a_page_names_every_setting_of_the_method_that_presets_change(name):
    entry, text = METHODS[name], PAGES[page_of(name)]
    for values in entry.presets.values():
        own = set(values) - {field.name for field in fields(ScoringConfig)}
        assert not [key for key in sorted(own) if f"`{key}" not in text and f"{key}=" not in text]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OWN + LATER])
def test_a_method_that_is_compared_with_has_at_most_250_lines(name):
    file = inspect.getsourcefile(METHODS[name].build)
    assert file is not None and len(Path(file).read_text(encoding="utf-8").splitlines()) <= 250

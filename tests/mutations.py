"""Files with a JSON text in which anything may stand: values replaced, removed, renamed, nested too deeply, or damaged."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from promptad.data.tensor_file import content_digest


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as file:
        return dict(file.metadata())


def rewritten(path: Path, target: Path, header: str, *, digest: bool = True) -> Path:
    """A copy with another header, and the digest that belongs to it."""
    tensors = load_file(path)
    extra = {"promptad_sha256": content_digest(header, tensors)} if digest else {}
    save_file(tensors, target, metadata={"promptad": header, **extra})
    return target


_JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    3.5,
    10**400,
    "",
    "\0",
    "x" * 3000,
    "../../clip/zoo",
    "\ud800",
    [],
    {},
    [[]],
    {"a": {}},
]


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values of a JSON tree."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(deeper for key, value in entries for deeper in places(value, (*at, key)))]


def mutated(text: str, rng: random.Random) -> str:
    """A header with one to three values replaced, removed or renamed, or with characters changed."""
    if rng.random() < 0.2:
        characters = list(text)
        for _ in range(rng.randint(1, 4)):
            characters[rng.randrange(len(characters))] = rng.choice('{}[]",:0e\\\0')
        return "".join(characters)
    tree = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        *way, key = rng.choice([place for place in places(tree) if place])
        parent = tree
        for step in way:
            parent = parent[step]
        choice = rng.random()
        if choice < 0.15:
            del parent[key]
        elif choice < 0.2 and isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        elif choice < 0.25:
            parent[key] = "deep"
        else:
            parent[key] = copy.deepcopy(rng.choice(_JUNK))
    depth = rng.choice([400, 100_000])
    text = json.dumps(tree).replace('"deep"', "[" * depth + "]" * depth)
    return text.replace("3.5", rng.choice(["NaN", "Infinity", "-Infinity", "1e999", "3.5"]))


_TOML_JUNK = (
    *('""', '"\\u0000"', f'"{"x" * 3000}"', '"../../x"', "-1", "0", "1e999", "nan", "true", "[]", "{}", "[[]]"),
    *("1979-05-27", "9" * 5000, "[" * 5000 + "]" * 5000, '{ a = "b" }', '["promptad", 3]'),
)


def mutated_toml(text: str, rng: random.Random) -> str:
    """The same for TOML: one to three lines with another value or key, left out or twice, or characters changed."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        at = rng.choice([number for number, line in enumerate(lines) if line.strip()])
        key, equals, _ = lines[at].partition("=")
        choice = rng.random()
        if choice < 0.6 and equals:
            lines[at] = f"{key}= {rng.choice(_TOML_JUNK)}"
        elif choice < 0.7:
            del lines[at]
        elif choice < 0.8:
            lines.insert(at, lines[at])
        elif choice < 0.9 and equals:
            lines[at] = lines[at].replace(key, f"{key.strip()}x ", 1)
        else:
            place = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + rng.choice('{}[]",=0e\\\0') + lines[at][place + 1 :]
    return "\n".join(lines)

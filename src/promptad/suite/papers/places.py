"""Finds the public sets that a table needs in the folders that a person names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptad.data.datasets import identify
from promptad.data.datasets.facts import all_facts
from promptad.data.files import shown
from promptad.errors import ConfigError, PromptadError
from promptad.inputs import argument

_DEPTH = 2
"""How deep below a folder sets are looked for: `data/mvtec` and `data/kaggle/brainmri`."""


@dataclass(frozen=True)
class Places:
    """Key of a set -> its folder, lines on what was not found, and the folders that were looked into."""

    sets: dict[str, Path]
    missing: list[str]
    folders: tuple[Path, ...] = ()


def find_sets(data: Sequence[str], wanted: Collection[str]) -> Places:
    """The folders of sets.

    Args:
        data: folders that hold sets or are one, or KEY=FOLDER for a set that is not recognised by itself.
        wanted: keys of `data/datasets/sets.toml`.

    Raises:
        ConfigError: a folder that does not exist, or a key that no set has.
    """
    folder_of: dict[str, Path] = {}
    folders = []
    for given in data:
        key, equals, path = given.partition("=")
        if equals and key in all_facts():
            folder_of[key] = _folder(path, given)
        elif equals and not Path(given).exists():
            raise ConfigError(
                f"{argument('data', given)}: no set has the key {key!r}; known are {', '.join(all_facts())}"
            )
        else:
            folders.append(_folder(given, given))
    for folder in folders:
        for place, known in _known_below(folder, _DEPTH):
            if set(wanted) <= set(folder_of):
                break
            if known in wanted:
                folder_of.setdefault(known, place)
    where = ", ".join(data) or "nothing"
    missing = [_missing_line(key, where) for key in wanted if key not in folder_of]
    return Places({key: path for key, path in folder_of.items() if key in wanted}, missing, tuple(folders))


def _folder(path: str, given: str) -> Path:
    folder = Path(path)
    if not folder.exists():
        raise ConfigError(f"{argument('data', given)}: there is no such folder; check the path")
    return folder


def _known_below(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """(folder, key) of the sets in a folder and below it, shallow ones first; not those inside a set."""
    level = [folder]
    for _ in range(depth + 1):
        further: list[Path] = []
        for place in level:
            key = _key(place)
            if key is not None:
                yield place, key
            elif place.is_dir():
                further += [child for child in sorted(place.iterdir()) if child.is_dir() and child.name[0] != "."]
        level = further


def _key(path: Path) -> str | None:
    try:
        facts = identify(path)
    except PromptadError:
        return None
    return facts.key if facts is not None else None


def caption_files(folders: Sequence[Path]) -> list[Path]:
    """COCO's files of captions in these folders or one and two below them."""
    return [
        path
        for folder in folders
        for level in ("", "*/", "*/*/")
        for path in sorted(folder.glob(f"{level}captions_*.json"))
    ]


def _missing_line(key: str, where: str) -> str:
    facts = all_facts()[key]
    return (
        f"{facts.title} is not among {shown(where)}: get it from {facts.where} (licence: {facts.stated_licence}), or name its "
        f"folder, {argument('data', f'{key}=FOLDER')}"
    )

"""Names of what a run writes: unique, short enough, possible on every file system, and inside the folder."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptad.run.naming import common_folder, picture_names, relative_path

ROOT = Path("/photos")


def names(*places: str) -> list[str]:
    return list(picture_names([ROOT / place for place in places], ROOT).values())


def test_a_plain_name_is_kept_with_its_folders() -> None:
    assert names("a.jpg", "sub dir/größe 写真.png", "a.png") == ["a.jpg", "sub dir/größe 写真.png", "a.png"]


@pytest.mark.parametrize(
    "pair",
    [("a.jpg", "A.JPG"), ("caf\u00e9.png", "cafe\u0301.png"), ("Straße.png", "STRASSE.png"), ("a?.png", "a*.png")],
)
def test_names_that_some_system_takes_for_the_same_are_told_apart(pair: tuple[str, str]) -> None:
    first, second = names(*pair)
    assert first.casefold() != second.casefold()
    assert re.search(r"-[0-9a-f]{8}$", second)


def test_a_picture_never_stands_in_the_way_of_a_folder() -> None:
    given_names = names("a.png", "a.png.jpg/b.png", "a.png.npy/c.png")
    folders = {str(parent) for name in given_names for parent in PurePosixPath(name).parents}
    assert not {name + ending for name in given_names for ending in (".jpg", ".png", ".npy")} & folders


@pytest.mark.parametrize("length", [240, 247, 248, 251])
def test_long_names_are_cut_at_a_letter_and_fit(length: int) -> None:
    for letter in ("n", "ü", "写"):
        stem = letter * (length // len(letter.encode()))
        first, second = names(f"{stem}.png", f"{stem}.bmp")
        assert first != second and max(len(os.fsencode(name + ".jpg")) for name in (first, second)) <= 255
        assert "\ufffd" not in first


PARTS = st.text(st.characters(codec=None, exclude_characters="/\x00"), min_size=1, max_size=120).filter(
    lambda part: part not in (".", "..")
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True))
def test_any_names(places: list[str]) -> None:
    try:
        for place in places:
            os.fsencode(place)
    except UnicodeEncodeError:
        return
    made = picture_names([Path("/photos/" + place) for place in places], ROOT)
    alike = [unicodedata.normalize("NFC", name).casefold() for name in made.values()]
    assert len(set(alike)) == len(alike) == len({os.path.normpath(place) for place in places})
    for name in made.values():
        parts = name.split("/")
        assert len(os.fsencode(parts[-1])) <= 251 and not {"", ".", ".."} & set(parts)
        assert not re.search(r'[\x00-\x1f\x7f<>:"\\|?*\ud800-\udfff]', name)


def test_the_common_folder_and_ways_between_folders() -> None:
    assert common_folder([Path("/x/a/1.jpg"), Path("/x/b/2.jpg")]) == Path("/x")
    assert common_folder([Path("/x/a/1.jpg")]) == Path("/x/a")
    assert common_folder([]) == Path.cwd()
    assert relative_path(Path("/x/photos"), Path("/x/out/monday")) == "../../photos"
    assert relative_path(Path("1.jpg"), Path.cwd()) == "1.jpg"

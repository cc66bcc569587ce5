"""Public sets as people really have them: other capitals, other line ends, links, what systems leave behind, archives, halves."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import miniature_sets
from miniature_sets import SETS
from promptad.data.datasets import open_dataset
from promptad.errors import DataError
from promptad.notices import collected_notices

pytestmark = pytest.mark.filterwarnings("ignore")
PHOTOS = (".png", ".jpg", ".jpeg", ".bmp", ".tif")
LISTS = (".csv", ".txt", ".json")


def capitals(root: Path) -> None:
    """000.png -> 000.PNG, as cameras and Windows write it; lists still say 000.png."""
    for file in [file for file in root.rglob("*") if file.suffix.lower() in PHOTOS]:
        file.rename(file.with_suffix(file.suffix.upper()))


def windows_lines(root: Path) -> None:
    """Lines end as Windows ends them, and files begin with a byte-order mark."""
    for file in [file for file in root.rglob("*") if file.suffix.lower() in LISTS]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def litter(root: Path) -> None:
    """What macOS and Windows leave in every folder."""
    for folder in [root, *(folder for folder in root.rglob("*") if folder.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0000.png"):
            (folder / name).write_bytes(b"litter")
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "._0000.png").write_bytes(b"litter")


def nested(root: Path) -> None:
    """An archive unpacked into a folder of its own name."""
    root.rename(root.parent / "moved")
    root.mkdir()
    (root.parent / "moved").rename(root / root.name)


def links(root: Path) -> None:
    """Every file is a link into a store, as git-annex and caches have them."""
    store = root.parent / "store"
    store.mkdir()
    for number, file in enumerate([file for file in root.rglob("*") if file.is_file()]):
        place = store / f"{number}{file.suffix}"
        shutil.move(file, place)
        file.symlink_to(place)


def contents(root: Path) -> tuple[str, str, Counter[tuple[object, ...]]]:
    """Layout, public set, and how many photos of each kind there are."""
    data = open_dataset(root)
    kinds = Counter((r.class_name.lower(), r.split, r.label, len(r.masks)) for r in data.records)
    return data.layout, data.facts.key if data.facts is not None else "", kinds


@pytest.mark.parametrize("change", [capitals, windows_lines, litter, nested, links], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", SETS)
def test_a_public_set_is_read_as_before(name: str, change: Callable[[Path], None], tmp_path: Path) -> None:
    root = SETS[name][0](tmp_path / "set")
    before = contents(root)
    change(root)
    assert contents(root) == before and before[2]


def test_an_archive_is_not_a_folder_and_says_so(tmp_path: Path) -> None:
    miniature_sets.btad(tmp_path / "set")
    for form in ("zip", "gztar"):
        file = Path(shutil.make_archive(str(tmp_path / "btad"), form, tmp_path / "set"))
        with pytest.raises(DataError, match=r"is an archive; unpack it and name the folder$"):
            open_dataset(file)
    (tmp_path / "had").mkdir()
    shutil.copy(tmp_path / "btad.zip", tmp_path / "had")
    with pytest.raises(DataError, match=r"1 archive \(btad\.zip\); unpack and try again"):
        open_dataset(tmp_path / "had")


def test_a_second_packaging_in_the_same_folder_is_said(tmp_path: Path) -> None:
    miniature_sets.kolektor(tmp_path / "set")
    miniature_sets.kolektor_packed(tmp_path / "set")
    with collected_notices() as lines:
        data = open_dataset(tmp_path / "set")
    assert data.layout == "kolektor"
    [line] = [str(line) for line in lines if "is not read" in str(line)]
    assert "looks like kolektor-packed" in line and "layout" in line


def test_classes_of_which_nothing_is_there_are_left_out_with_a_line(tmp_path: Path) -> None:
    root = miniature_sets.visa(tmp_path / "set")
    shutil.rmtree(root / "candle")
    with collected_notices() as lines:
        data = open_dataset(root)
    assert {record.class_name for record in data.records} == {"pcb1"}
    assert any("none of the listed photos of candle is there; left out" in str(line) for line in lines)
    next((root / "pcb1/Data/Images/Normal").iterdir()).unlink()  # a class in part is a broken copy
    with pytest.raises(DataError, match="listed files are missing"):
        open_dataset(root)


def test_a_list_that_was_cut_to_its_header_is_no_set(tmp_path: Path) -> None:
    root = miniature_sets.headct(tmp_path / "set")
    (root / "labels.csv").write_text("id, hemorrhage\n")
    with pytest.raises(DataError, match="holds no photo"):
        open_dataset(root)

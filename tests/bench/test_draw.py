"""Good photos that a person names: numbers, names, hashes, manifests, and what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from drawn_data import make_class
from promptad.annotations import ALL
from promptad.bench.draw import LIST_FORMAT, read_given_shots
from promptad.bench.files import summary_csv
from promptad.bench.plan import PhotoFiles, limited, plan_class
from promptad.bench.protocol import Protocol
from promptad.bench.run import Evaluation, run
from promptad.bench.tables import make_report, tables
from promptad.bench.variants import make_variants
from promptad.data.datasets import load_dataset
from promptad.data.files import sha256_file
from promptad.data.records import Record
from promptad.data.shots import write_manifest
from promptad.errors import DataError
from promptad.notices import PromptadNotice
from tiny import tiny_backbone


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cup", "mug"):
        make_class(tmp_path / "data", name, train=6)
    return tmp_path / "data"


def given(tmp_path: Path, root: Path, **content: Any):
    path = tmp_path / "shots.json"
    path.write_text(json.dumps({"format": LIST_FORMAT, **content}), encoding="utf-8")
    return read_given_shots([path], load_dataset(root))


def names(records: tuple[Record, ...]) -> list[str]:
    return [record.path.name for record in records]


def test_numbers_names_and_hashes_name_the_same_photos(tmp_path: Path, root: Path) -> None:
    photo = root / "cup/train/good/004.png"
    for entry in (
        4,
        "004.png",
        "good/004.png",
        "cup/train/good/004.png",
        sha256_file(photo),
        sha256_file(photo).upper(),
    ):
        shots = given(tmp_path, root, classes={"cup": [entry, 1]})
        assert names(shots.ordered("cup", 0)) == ["004.png", "001.png"]
        assert shots.ordered("cup", 3) == shots.ordered("cup", 0)  # one draw serves all runs, as in the released code


def test_numbers_count_in_the_directorys_own_order_where_that_is_asked_for(tmp_path, root, monkeypatch) -> None:
    listed = [entry.name for entry in os.scandir(root / "cup/train/good")]
    shots = given(tmp_path, root, listing="directory", classes={"cup": [2, 0]})
    assert names(shots.ordered("cup", 0)) == [listed[2], listed[0]]


def test_every_run_has_its_own_list(tmp_path: Path, root: Path) -> None:
    shots = given(tmp_path, root, classes={"cup": [[0, 1], [5]]})
    assert [names(shots.ordered("cup", run)) for run in (0, 1)] == [["000.png", "001.png"], ["005.png"]]
    with pytest.raises(DataError, match="names the photos of 2 runs; run 3 has none; choose seeds 2"):
        shots.ordered("cup", 2)
    with pytest.raises(DataError, match=r"mug: .*names no good photos of this class"):
        shots.ordered("mug", 0)


def test_manifests_of_an_earlier_run_find_their_photos_where_they_lie_now(tmp_path: Path, root: Path) -> None:
    paths = []
    for number, drawn in enumerate((["003.png", "000.png"], ["002.png", "005.png"])):
        paths.append(tmp_path / f"{number}.json")
        write_manifest(paths[-1], [root / "cup/train/good" / name for name in drawn], seed=number, k=2, root=root)
    moved = tmp_path / "elsewhere"
    shutil.move(root, moved)
    shots = read_given_shots(paths, load_dataset(moved))
    assert [names(shots.ordered("cup", run)) for run in (0, 1)] == [["003.png", "000.png"], ["002.png", "005.png"]]
    (moved / "cup/train/good/003.png").write_bytes(b"another")
    with pytest.raises(DataError, match=r"003\.png is not among the normal training photos, by its content"):
        read_given_shots(paths, load_dataset(moved))


def test_lists_of_other_classes_are_named_as_not_used(tmp_path: Path, root: Path) -> None:
    with pytest.warns(PromptadNotice, match="names photos of jug, which are not evaluated here; they are not used"):
        given(tmp_path, root, classes={"cup": [0], "jug": [0]})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"classes": {"cup": [6]}}, "number 6 is not in the listing of 6 photos, from 0"),
        ({"classes": {"cup": [-1]}}, "number -1 is not in the listing"),
        ({"classes": {"cup": ["nine.png"]}}, "'nine.png' is none of its 6 normal training photos"),
        ({"classes": {"cup": ["f" * 64]}}, "is none of its 6 normal training photos"),
        ({"classes": {"cup": [1, "001.png"]}}, "names a photo twice"),
        ({"classes": {"cup": [True]}}, "True is no number, name or SHA-256"),
        ({"classes": {"cup": [[1], []]}}, "expected a list of photos, or one for each run"),
        ({"classes": {"cup": 3}}, "expected a list of photos"),
        ({"classes": ["cup"]}, '"classes" with a list for each class'),
        ({"listing": "random", "classes": {}}, 'expected "listing": "sorted" or "directory"'),
    ],
)
def test_a_list_that_cannot_be_followed_is_one_line(tmp_path: Path, root: Path, content, words) -> None:
    with pytest.raises(DataError) as error:
        given(tmp_path, root, **content)
    assert words in str(error.value) and "shots.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "promptad unit 3"}', '{"format": "promptad shots 1"}'])
def test_other_files_are_refused(tmp_path: Path, root: Path, text: str) -> None:
    path = tmp_path / "shots.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"shots\.json: "):
        read_given_shots([path], load_dataset(root))


# -- plans ----------------------------------------------------------------------------------------------


def test_given_photos_replace_the_draw(tmp_path: Path, root: Path) -> None:
    records = [record for record in load_dataset(root) if record.class_name == "cup"]
    shots = given(tmp_path, root, classes={"cup": [3, 1]})
    protocol = Protocol(make_variants(["promptad"]), (1, 2, 4), runs=2, given=shots)
    plan = plan_class("cup", records, protocol, tiny_backbone(), PhotoFiles(), None)
    planned_names = [(planned.unit.shots, planned.unit.run, names(tuple(planned.shots))) for planned in plan.planned]
    assert planned_names == [(k, run, ["003.png", "001.png"][:k]) for k in (1, 2) for run in (0, 1)]
    assert all("names 2 good photos for run" in line and "4 were asked for" in line for line in plan.failures)


def test_all_good_photos_are_learned_from_and_named_so(tmp_path: Path, root: Path) -> None:
    records = [record for record in load_dataset(root) if record.class_name == "cup"]
    number = sum(record.split == "train" and record.label == 0 for record in records)
    settings = {"layers": [1, 3], "map_size": 48, "smoothing": 1.0, "coreset": 0.5}
    protocol = Protocol(make_variants(["patchcore"], settings=settings), (ALL, 2, number), 1)
    outcome = run(Evaluation(protocol, records, tiny_backbone(), tmp_path / "out", root=root))
    assert sorted((unit["shots"], len(unit["good_photos"])) for unit in outcome.units) == [
        (ALL, number),
        (2, 2),
        (number, number),
    ]
    assert not outcome.failures and outcome.scored == 2  # all of them are the same fit as so many
    report = make_report("cup", protocol, ("tiny", ""), outcome)
    few, many, every = tables(report, full=False)[0].rows
    assert [row[1] for row in (few, many, every)] == ["2", str(number), "all"] and many[3:] == every[3:]
    assert [line.split(",")[6] for line in summary_csv(report.lines).splitlines()[1:]] == ["2", str(number), "all"]


def test_a_first_look_takes_photos_from_everywhere() -> None:
    tests = [Record(Path(f"{label}{i}"), label) for label in (0, 1) for i in range(10)]
    few = limited(tests, 3)
    assert [record.label for record in few] == [0, 0, 0, 1, 1, 1] and [r.path.name for r in few[:3]] == [
        "00",
        "03",
        "06",
    ]
    assert limited(tests, 0) == tests == limited(tests, 99)


def test_test_photos_that_are_learned_from_are_found_by_content(root: Path) -> None:
    shutil.copy(root / "cup/train/good/002.png", root / "cup/test/good/copy.png")
    records = [record for record in load_dataset(root) if record.class_name == "cup"]
    protocol = Protocol(make_variants(["promptad"]), (1, 6), runs=1)
    plan = plan_class("cup", records, protocol, tiny_backbone(), PhotoFiles(), None)
    pairs = {planned.unit.shots: [(a.name, b.name) for a, b in planned.learned_from] for planned in plan.planned}
    assert pairs[6] == [("copy.png", "002.png")]
    drawn = plan.planned[0].shots[0].path.name
    assert pairs[1] == ([("copy.png", "002.png")] if drawn == "002.png" else [])

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from promptad.data.records import Record
from promptad.data.shots import draw_shots, read_manifest, write_manifest
from promptad.errors import ConfigError, DataError

NAMES = [f"{number:03}.png" for number in range(10)]


def good_records(root: Path, count: int = 10, class_name: str = "bottle") -> list[Record]:
    folder = root / class_name / "train" / "good"
    return [Record(folder / f"{n:03}.png", 0, None, class_name, "good", "train") for n in range(count)]


def make_photos(root: Path, count: int = 6) -> list[Path]:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (root / f"{number:03}.png").write_bytes(f"photo {number}".encode())
    return sorted(root.iterdir())


def test_the_draw_is_the_same_on_every_machine() -> None:
    assert draw_shots(NAMES, 4, seed=0) == ["004.png", "006.png", "002.png", "007.png"]
    assert draw_shots(NAMES, 4, seed=1) == ["008.png", "004.png", "007.png", "000.png"]


def test_order_of_the_input_and_place_do_not_matter(tmp_path: Path) -> None:
    drawn = draw_shots(NAMES, 4, seed=3)
    for _ in range(5):
        shuffled = random.sample(NAMES, len(NAMES))
        assert draw_shots(shuffled, 4, seed=3) == drawn
    elsewhere = draw_shots([tmp_path / "data" / name for name in reversed(NAMES)], 4, seed=3)
    assert [path.name for path in elsewhere] == drawn


def test_relative_and_absolute_paths_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mixed = [tmp_path / name if index % 2 else Path(name) for index, name in enumerate(NAMES)]
    assert [path.name for path in draw_shots(mixed, 4, seed=3)] == draw_shots(NAMES, 4, seed=3)


def test_composed_and_decomposed_names_draw_the_same() -> None:
    names = ["Zebra.png", "été.png", "eu.png", "écrou.png", "f.png"]
    for seed in range(5):
        linux = draw_shots(names, 2, seed)
        mac = draw_shots([unicodedata.normalize("NFD", name) for name in names], 2, seed)
        assert [unicodedata.normalize("NFC", name) for name in mac] == linux


def test_two_names_that_differ_only_in_composition_are_two_photos() -> None:
    names = ["é.png", unicodedata.normalize("NFD", "é.png")]
    assert sorted(draw_shots(names, 2, seed=0)) == sorted(names)


def test_smaller_draws_are_part_of_larger_ones() -> None:
    for seed in range(5):
        assert draw_shots(NAMES, 1, seed) == draw_shots(NAMES, 4, seed)[:1]


def test_every_photo_is_drawn_about_equally_often() -> None:
    counts = Counter(name for seed in range(1000) for name in draw_shots(NAMES, 2, seed))
    assert set(counts) == set(NAMES)
    assert all(140 < count < 260 for count in counts.values()), counts  # 200 expected, 4.7 sigma


def test_only_normal_training_records_take_part(tmp_path: Path) -> None:
    good = good_records(tmp_path, 3)
    others = [
        Record(tmp_path / "t.png", 0, None, "bottle", "good", "test"),
        Record(tmp_path / "x.png", 1, None, "bottle", "crack", "train"),
        Record(tmp_path / "u.png", None, None, "bottle", "", "train"),
        Record(tmp_path / "c.png", 1, None, "cable", "cut", "test"),
    ]
    drawn = draw_shots([*others, *good], 3, seed=0)
    assert sorted(drawn, key=lambda record: record.path) == good
    with pytest.raises(DataError, match="4 normal training photos were asked for, there are 3"):
        draw_shots([*others, *good], 4, seed=0)


def test_a_photo_listed_twice_counts_once() -> None:
    with pytest.raises(DataError, match="there are 2"):
        draw_shots(["a.png", "b.png", "./a.png"], 3, seed=0)


def test_several_classes_are_refused(tmp_path: Path) -> None:
    records = good_records(tmp_path) + good_records(tmp_path, class_name="cable")
    with pytest.raises(DataError, match=r"2 classes \(bottle, cable"):
        draw_shots(records, 1, seed=0)


def test_k_and_seed_are_checked() -> None:
    for k in (0, -1):
        with pytest.raises(ConfigError, match=f"k is {k}"):
            draw_shots(NAMES, k, seed=0)
    with pytest.raises(ConfigError, match="seed is -1"):
        draw_shots(NAMES, 1, seed=-1)
    assert draw_shots(NAMES, np.int64(2), np.int64(0)) == draw_shots(NAMES, 2, 0)


def test_manifest_round_trip(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "data" / "good")
    shots = draw_shots(photos, 3, seed=7)
    manifest = tmp_path / "runs" / "shots.json"
    write_manifest(manifest, shots, seed=7, k=3, root=tmp_path / "data")
    back = read_manifest(manifest)
    assert back.paths == shots
    assert (back.seed, back.k, back.root) == (7, 3, tmp_path / "data")
    assert [shot.size for shot in back.shots] == [7, 7, 7]
    content = json.loads(manifest.read_text())
    assert [entry["file"] for entry in content["shots"]] == [f"good/{shot.name}" for shot in shots]


def test_manifest_of_records_uses_their_shared_folder(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "good", 2)
    records = [Record(photo, 0, None, "bottle", "good", "train") for photo in photos]
    write_manifest(tmp_path / "shots.json", records, seed=0, k=2)
    content = json.loads((tmp_path / "shots.json").read_text())
    assert [entry["file"] for entry in content["shots"]] == ["000.png", "001.png"]
    assert content["root"] == "good"
    assert read_manifest(tmp_path / "shots.json").paths == photos


def test_manifest_moves_with_its_data_or_takes_a_root(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "one" / "good", 2)
    write_manifest(tmp_path / "one" / "shots.json", photos, seed=0, k=2)
    write_manifest(tmp_path / "apart.json", photos, seed=0, k=2, root=tmp_path / "one" / "good")
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert [path.parent for path in read_manifest(tmp_path / "two" / "shots.json").paths] == [
        tmp_path / "two" / "good"
    ] * 2
    with pytest.raises(DataError, match=r"2 of 2 shots are missing.*as root"):
        read_manifest(tmp_path / "apart.json")
    assert len(read_manifest(tmp_path / "apart.json", root=tmp_path / "two" / "good").paths) == 2


def test_manifest_names_the_photo_that_changed(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "good", 3)
    write_manifest(tmp_path / "shots.json", photos, seed=0, k=3)
    photos[1].write_bytes(b"photo X")  # same size
    with pytest.raises(DataError, match=r"1 of 3 shots changed since they were drawn \(.*001\.png\)") as caught:
        read_manifest(tmp_path / "shots.json")
    assert "000.png" not in str(caught.value) and "\n" not in str(caught.value)
    photos[1].unlink()
    with pytest.raises(DataError, match=r"1 of 3 shots are missing \(first: .*001\.png\)"):
        read_manifest(tmp_path / "shots.json")


def test_manifest_cannot_be_written_wrong(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "good", 2)
    with pytest.raises(ConfigError, match="2 shots for k=4"):
        write_manifest(tmp_path / "shots.json", photos, seed=0, k=4)
    with pytest.raises(DataError, match="lies outside"):
        write_manifest(tmp_path / "shots.json", photos, seed=0, k=2, root=tmp_path / "other")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        write_manifest(tmp_path / "shots.json", [tmp_path / "gone.png"], seed=0, k=1)
    assert not (tmp_path / "shots.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"format": "other"}',
        '{"format": "promptad shots 1", "seed": 0, "k": 1, "root": "."}',
        '{"format": "promptad shots 1", "seed": "x", "k": 1, "root": ".", "shots": []}',
        '{"format": "promptad shots 1", "seed": 0, "k": 1, "root": ".", "shots": [3]}',
        "[" * 100_000,
    ],
)
def test_other_files_are_no_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "shots.json").write_text(content)
    with pytest.raises(DataError, match="is not a shot manifest") as caught:
        read_manifest(tmp_path / "shots.json")
    assert "\n" not in str(caught.value)


def test_missing_manifest_and_paths_that_lead_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        read_manifest(tmp_path / "gone.json")
    photos = make_photos(tmp_path / "good", 1)
    write_manifest(tmp_path / "good" / "shots.json", photos, seed=0, k=1)
    text = (tmp_path / "good" / "shots.json").read_text()
    (tmp_path / "good" / "shots.json").write_text(text.replace('"000.png"', '"../../secret.png"'))
    with pytest.raises(DataError, match="leads out of"):
        read_manifest(tmp_path / "good" / "shots.json")


def test_manifest_keeps_unicode_and_undecodable_names(tmp_path: Path) -> None:
    names = ["写真.png", "bytes\udcff.png"]
    try:
        for name in names:
            (tmp_path / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    except OSError as error:
        pytest.skip(f"this file system refuses such names: {error}")
    photos = [tmp_path / name for name in names]
    write_manifest(tmp_path / "shots.json", photos, seed=0, k=2)
    assert read_manifest(tmp_path / "shots.json").paths == photos

"""Files of benchmarks in which anything may stand: units, maps, manifests and plans are read, made anew, or refused in a line."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from drawn_data import make_class
from mutations import mutated, mutated_toml
from promptad.bench.draw import read_given_shots
from promptad.bench.pictures import read_pictures
from promptad.bench.units import FORMAT, read_unit, write_unit
from promptad.data.datasets import load_dataset
from promptad.data.shots import draw_shots, read_manifest, write_manifest
from promptad.errors import PromptadError
from promptad.notices import PromptadNotice, collected_notices
from promptad.suite.plan import read_plan

UNIT = {
    "format": FORMAT,
    "key": "abc",
    "method": "clip",
    "class": "cup",
    "settings": {"map_size": 48},
    "test": [{"file": "test/good/0.png", "label": 0}, {"file": "test/\udcff.png", "label": None}],
    "rows": [
        {"parts": "", "metrics": {"image_auroc": 0.123456789012345678, "aupro_30": None}, "scores": [0.1, 1e-300]}
    ],
}


def try_texts(text: str, path: Path, number: int, change: Callable, use: Callable[[Path], object]) -> tuple[int, int]:
    """Uses so many changed copies; how many were used and refused, each refused in one line."""
    rng, used, refused = random.Random(path.name), 0, 0
    for _ in range(number):
        path.write_bytes(change(text, rng).encode("utf-8", "surrogateescape"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PromptadNotice)
                use(path)
            used += 1
        except PromptadError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 5000
    return used, refused


def test_a_finished_unit_is_read_as_it_was_written_and_every_change_of_it_is_noticed(tmp_path: Path):
    path = tmp_path / "abc.json"
    written = write_unit(path, UNIT)
    assert read_unit(path, "abc") == written == UNIT and read_unit(path, "other") is None
    assert read_unit(tmp_path / "none.json", "abc") is None
    content, rng = path.read_bytes(), random.Random(0)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptadNotice)
            assert read_unit(path, "abc") in (None, UNIT)  # a changed space between two values changes nothing
    path.write_bytes(content.replace(b"0.12345678901234568", b"0.92345678901234568"))
    with collected_notices() as lines, pytest.warns(PromptadNotice):
        assert read_unit(path, "abc") is None
    assert len(lines) == 1 and "SHA-256 differs" in lines[0] and "computed again" in lines[0]


def test_units_of_earlier_versions_without_a_digest_count(tmp_path: Path):
    path = tmp_path / "abc.json"
    earlier = UNIT | {"format": "promptad unit 4"}
    path.write_text(json.dumps(earlier, indent=1))
    assert read_unit(path, "abc") == earlier
    path.write_text(json.dumps(UNIT | {"format": "promptad unit 3"}))
    assert read_unit(path, "abc") is None
    path.write_text(json.dumps(UNIT))
    with pytest.warns(PromptadNotice, match="SHA-256 differs"):
        assert read_unit(path, "abc") is None


def test_mutated_units_are_computed_again(tmp_path: Path):
    path = tmp_path / "abc.json"
    write_unit(path, UNIT)
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    unchanged = [0]

    def use(changed: Path) -> None:
        unchanged[0] += read_unit(changed, "abc") == UNIT

    used, refused = try_texts(text, path, 200, mutated, use)
    assert (used, refused) == (200, 0) and unchanged[0] < 60


def test_damaged_maps_are_none(tmp_path: Path):
    path = tmp_path / "maps.safetensors"
    save_file({"fused/0": np.ones((2, 3), np.float16)}, path)
    assert list(read_pictures(path)) == [("fused", 0)]
    content = path.read_bytes()
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        assert read_pictures(path) == {}
    save_file({"no number": np.ones((2, 3), np.float16)}, path)
    assert read_pictures(path) == {} == read_pictures(tmp_path / "none")


def test_mutated_manifests_of_good_photos_are_refused_in_one_line(tmp_path: Path):
    cup = make_class(tmp_path, "cup")
    records, path = load_dataset(cup), tmp_path / "shots.json"
    write_manifest(path, draw_shots(records, 2, 5), seed=5, k=2, root=cup)
    text = path.read_text()
    for use in (read_manifest, lambda changed: read_given_shots([changed], records)):
        used, refused = try_texts(text, path, 150, mutated, use)
        assert used + refused == 150 and refused > 40


def test_mutated_plans_are_refused_in_one_line(plan_file: Path, tmp_path: Path):
    used, refused = try_texts(plan_file.read_text(), tmp_path / "plan.toml", 400, mutated_toml, read_plan)
    assert used + refused == 400 and refused > 150
    assert used > 10  # such as another title

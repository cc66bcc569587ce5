"""The protocol: variants, units, draws, keys."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from drawn_data import make_class
from promptad.annotations import ALL
from promptad.bench.draw import draw_order, take_shots
from promptad.bench.keys import fingerprint_of, unit_key
from promptad.bench.protocol import Protocol, Unit
from promptad.bench.variants import Variant, make_variants
from promptad.data.datasets import load_dataset
from promptad.data.records import Record
from promptad.data.shots import draw_shots
from promptad.errors import ConfigError, DataError
from tiny import tiny_backbone

CLEAN = make_variants(["promptad"])


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return load_dataset(make_class(tmp_path, "cup", train=8))


def test_every_method_comes_with_every_preset() -> None:
    variants = make_variants(["promptad", "clip", "clip"], ["clean", "paper"], {"epochs": 5, "smoothing": 2.0})
    assert [(variant.method, variant.preset) for variant in variants] == [
        ("promptad", "clean"),
        ("promptad", "paper"),
        ("clip", "clean"),
        ("clip", "paper"),
    ]
    assert variants[0].settings == (("epochs", 5), ("smoothing", 2.0)) and variants[0].config().epochs == 5
    assert variants[2].settings == (("smoothing", 2.0),) and variants[2].parts == (
        "",
    )  # the untrained one has no epochs


def test_several_parts_are_rows_of_one_fused_fit_and_one_part_is_fitted_alone() -> None:
    [several] = make_variants(["promptad"], parts=["text", "memory"])
    assert several.parts == ("text", "memory") and several.config().parts == "fused"
    [alone] = make_variants(["promptad"], parts=["memory"])
    assert alone.config().parts == "memory"
    [by_setting] = make_variants(["promptad"], settings={"parts": "text"})
    assert by_setting.parts == ("text",) and by_setting.config().parts == "text" and by_setting.settings == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"methods": ["prompted"]}, "method 'prompted' unknown"),
        ({"methods": ["clip"], "presets": ["best"]}, "preset 'best' unknown"),
        ({"methods": ["promptad", "clip"], "settings": {"epoch": 5}}, "did you mean epochs"),
        ({"methods": ["promptad"], "settings": {"epochs": "many"}}, "epochs must be a whole number"),
        ({"methods": ["promptad"], "parts": ["image"]}, "part 'image' unknown"),
        ({"methods": ["promptad"], "parts": ["text"], "settings": {"parts": "text"}}, "given twice"),
        ({"methods": ["promptad"], "settings": {"parts": "all"}}, "parts must be one of"),
    ],
)
def test_unknown_names_are_config_errors(arguments, words) -> None:
    with pytest.raises(ConfigError, match=words):
        make_variants(**arguments)


def test_the_release_preset_chooses_its_epoch_on_the_test_set() -> None:
    variants = make_variants(["promptad", "clip"], ["clean", "release"])
    assert [Protocol(variants).oracle(variant) for variant in variants] == [False, True, False, False]
    chosen = Protocol(variants, conventions={"selection": "oracle_test"})
    assert [chosen.oracle(variant) for variant in variants] == [True, True, False, False]  # clip has no epochs


def test_a_class_has_one_unit_per_k_and_run_and_untrained_methods_have_one() -> None:
    protocol = Protocol(make_variants(["promptad", "clip"]), shots=(1, 2, 2), runs=3)
    units = [(unit.variant.method, unit.shots, unit.run) for unit in protocol.units("cup")]
    assert units == [*(("promptad", k, run) for k in (1, 2) for run in range(3)), ("clip", 0, 0)]


def test_the_run_seeds_the_prompts() -> None:
    protocol = Protocol(CLEAN, base_seed=40)
    assert CLEAN[0].config(protocol.seed(2)).seed == 42


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"variants": ()}, "no method"),
        ({"shots": ()}, "shots"),
        ({"shots": (0,)}, "shots"),
        ({"runs": 0}, "runs"),
        ({"base_seed": -1}, "seed"),
        ({"conventions": {"eval_size": 0}}, "eval_size must be from 1 to 1000000"),
        ({"conventions": {"eval_size": "own"}}, "eval_size must be a whole number"),
        ({"conventions": {"masks": "soft"}}, "masks must be one of nearest, nearest_1024, bilinear"),
        ({"conventions": {"mask": "nearest"}}, "did you mean masks"),
        ({"limit": -1}, "the limit is -1"),
    ],
)
def test_impossible_protocols_are_config_errors(values, words) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(Protocol(CLEAN), **values)


# -- draws ----------------------------------------------------------------------------------------------


def test_shots_are_those_of_draw_shots_and_grow_with_k(records: list[Record]) -> None:
    ordered = draw_order(records, 5)
    assert len(ordered) == 8 and {record.split for record in ordered} == {"train"}
    for k in (1, 3, 8):
        assert take_shots(ordered, k, lambda _: None) == (draw_shots(records, k, 5), [])
    assert draw_order(records, 6) != ordered


def test_the_directory_order_is_the_listings_own(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list:
            return self.entries

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    by_name = sorted(record.path for record in draw_order(records, 5))
    from_directory = [record.path for record in draw_order(records, 5, "directory")]
    assert sorted(from_directory) == by_name
    # The same positions in a listing that is turned round.
    assert [by_name.index(path) for path in from_directory] == [
        7 - by_name.index(record.path) for record in draw_order(records, 5)
    ]


def test_photos_that_cannot_be_read_are_passed_over(records: list[Record]) -> None:
    ordered = draw_order(records, 5)
    bad = {ordered[0].path: "first is damaged", ordered[2].path: "third is damaged"}
    shots, lines = take_shots(ordered, 2, bad.get)
    assert shots == [ordered[1], ordered[3]] and lines == ["first is damaged", "third is damaged"]


def test_all_are_all_that_can_be_read(records: list[Record]) -> None:
    ordered = draw_order(records, 5)
    assert take_shots(ordered, ALL, lambda _: None) == (ordered, [])
    bad = {ordered[2].path: "third is damaged"}
    assert take_shots(ordered, ALL, bad.get) == ([*ordered[:2], *ordered[3:]], ["third is damaged"])
    with pytest.raises(DataError, match="all good photos were asked for, train has 8, 0 of them readable"):
        take_shots(ordered, ALL, lambda path: f"{path} is damaged")


def test_too_few_good_photos_are_a_data_error(records: list[Record]) -> None:
    ordered = draw_order(records, 5)
    with pytest.raises(DataError, match=r"cup: 9 good photos were asked for, train has 8;"):
        take_shots(ordered, 9, lambda _: None)
    with pytest.raises(DataError, match="train has 8, 0 of them readable"):
        take_shots(ordered, 1, lambda path: f"{path} is damaged")
    with pytest.raises(DataError, match="cup: no normal training photos"):
        draw_order([record for record in records if record.split == "test"], 5)


# -- keys -----------------------------------------------------------------------------------------------


def test_the_key_says_what_a_result_depends_on(tmp_path: Path) -> None:
    backbone, other = tiny_backbone(0), tiny_backbone(1)
    protocol = Protocol(CLEAN, runs=2)
    unit = Unit(CLEAN[0], "cup", 1, 0)
    words = tmp_path / "words.toml"
    words.write_text('[states]\nall = ["[c] with hole"]\n', encoding="utf-8")
    own = make_variants(["promptad"], settings={"state_bank": str(words)})[0]
    with_words = unit_key(replace(unit, variant=own), protocol, backbone, ["a"], "t")
    words.write_text('[states]\nall = ["[c] with dent"]\n', encoding="utf-8")
    keys = [
        unit_key(unit, protocol, backbone, ["a"], "t"),
        unit_key(replace(unit, run=1), protocol, backbone, ["a"], "t"),
        unit_key(replace(unit, class_name="mug"), protocol, backbone, ["a"], "t"),
        unit_key(unit, replace(protocol, conventions={"eval_size": "photo"}), backbone, ["a"], "t"),
        unit_key(unit, replace(protocol, objects={"cup": "tea cup"}), backbone, ["a"], "t"),
        unit_key(unit, protocol, other, ["a"], "t"),
        unit_key(unit, protocol, backbone, ["b"], "t"),
        unit_key(unit, protocol, backbone, ["a"], "u"),
        unit_key(replace(unit, variant=Variant(settings=(("epochs", 7),))), protocol, backbone, ["a"], "t"),
        unit_key(replace(unit, variant=Variant(parts=("fused", "text"))), protocol, backbone, ["a"], "t"),
        with_words,
        unit_key(replace(unit, variant=own), protocol, backbone, ["a"], "t"),
    ]
    assert len(set(keys)) == len(keys) and all(len(key) == 24 for key in keys)
    assert unit_key(unit, replace(protocol, runs=9), backbone, ["a"], "t") == keys[0]  # more runs keep the first ones


def test_the_fingerprint_is_of_contents_and_labels_not_of_places(records: list[Record], tmp_path: Path) -> None:
    tests = [record for record in records if record.split == "test"]
    shutil.copytree(tmp_path / "cup", tmp_path / "moved" / "cup")
    moved = [record for record in load_dataset(tmp_path / "moved" / "cup") if record.split == "test"]
    assert fingerprint_of(moved) == fingerprint_of(tests)
    assert fingerprint_of([replace(tests[0], label=1), *tests[1:]]) != fingerprint_of(tests)
    masked = next(record for record in tests if record.mask)
    masked.mask.write_bytes(masked.mask.read_bytes() + b" ")
    changed = fingerprint_of(tests)
    assert changed != fingerprint_of(moved)
    tests[0].path.unlink()  # a photo that vanishes is reported when it is scored, not here
    assert fingerprint_of(tests) not in (changed, fingerprint_of(moved))

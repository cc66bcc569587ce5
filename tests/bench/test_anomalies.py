"""Labelled anomalies in an evaluation: how they are drawn, what the test set loses, and keys that stay."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from drawn_data import make_class, photo, save
from promptad.bench.anomalies import draw_anomalies
from promptad.bench.keys import unit_key
from promptad.bench.protocol import Protocol, Unit
from promptad.bench.run import Evaluation, run
from promptad.bench.tables import make_report, text
from promptad.bench.variants import make_variants
from promptad.data.datasets import load_dataset
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError
from promptad.requests.evaluating import EvaluateRequest
from tiny import tiny_backbone

BACKBONE = tiny_backbone()
QUICK = {"epochs": 1, "iterations": 2, "batch_size": 6}


def records(counts: dict[str, int]) -> list[Record]:
    anomalous = [
        Record(Path(f"/cup/test/{kind}/{number}.png"), 1, None, "cup", kind)
        for kind, count in counts.items()
        for number in range(count)
    ]
    good = [Record(Path(f"/cup/test/good/{number}.png"), 0, None, "cup", "good") for number in range(3)]
    train = [Record(Path("/cup/train/good/0.png"), 0, None, "cup", "good", "train")]
    return [*anomalous, *good, *train]


def drawn(number: int, most: int, draw="general", seed: int = 1, counts=None, problem=lambda photo: None):
    return draw_anomalies(records(counts or {"bent": 6, "cut": 5, "worn": 2}), number, most, draw, seed, problem)


def test_the_single_anomaly_is_one_of_the_ten_and_the_test_set_is_that_of_ten():
    single, five = drawn(1, 5), drawn(5, 5)
    assert single.learned == five.learned[:1] and single.removed == five.removed == five.learned
    assert drawn(5, 5, seed=2).learned != five.learned and drawn(5, 5).learned == five.learned
    assert all(record.label == 1 for record in five.learned)


def test_a_general_draw_takes_all_types_alike():
    counts = Counter(drawn(1, 1, seed=seed).learned[0].defect_type for seed in range(400))
    # Of 13 photos: expected 185, 154 and 62, within four deviations.
    assert abs(counts["bent"] - 185) < 40 and abs(counts["cut"] - 154) < 40 and abs(counts["worn"] - 62) < 29


def test_a_hard_draw_leaves_no_photo_of_its_type_in_the_test_set():
    kinds = set()
    for seed in range(20):
        hard = drawn(4, 4, "hard", seed)
        kinds.add(hard.kind)
        assert {record.defect_type for record in (*hard.learned, *hard.removed)} == {hard.kind}
        assert len(hard.learned) == 4 and len(hard.removed) == {"bent": 6, "cut": 5}[hard.kind]
    assert kinds == {"bent", "cut"}  # the third has too few


def test_photos_that_cannot_be_read_are_passed_over_with_a_line():
    first = drawn(1, 1).learned[0]
    other = drawn(1, 1, problem=lambda photo: "broken file" if photo == first.photo else None)
    assert other.learned[0] != first and other.problems == ("broken file",)


@pytest.mark.parametrize(
    ("counts", "number", "draw", "words"),
    [
        ({"bent": 3}, 4, "general", "4 labelled anomalies were asked for, its test photos have 3; choose fewer"),
        ({"bent": 3}, 3, "general", "have 3, and none would be left to test"),
        ({"bent": 3}, 1, "hard", "has 1 type of damage; expected two or more for a hard draw; choose"),
        ({"bent": 3, "cut": 2}, 4, "hard", "has no type of damage with 4 photos or more for a hard draw"),
        ({}, 1, "general", "its test photos have 0"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(counts, number, draw, words):
    with pytest.raises(DataError, match=words):
        draw_anomalies(records(counts), number, number, draw, 0, lambda photo: None)


def test_units_have_anomalies_where_the_method_learns_from_them_and_other_keys_stay():
    variants = make_variants(["clip", "patchcore", "devnet"], settings={**QUICK, "layers": (2,)})
    protocol = Protocol(variants, shots=(2,), runs=1, anomalies=(1, 3, 3))
    drawn_of = [(unit.variant.method, unit.anomalies) for unit in protocol.units("cup")]
    assert drawn_of == [("clip", 0), ("patchcore", 0), ("devnet", 1), ("devnet", 3)]
    plain = Protocol(variants[:2], shots=(2,), runs=1)
    for mixed, alone in zip(protocol.units("cup")[:2], plain.units("cup"), strict=True):
        assert unit_key(mixed, protocol, BACKBONE, ["a"], "b") == unit_key(alone, plain, BACKBONE, ["a"], "b")
    learned = Unit(variants[2], "cup", 2, 0, 1)
    keys = {
        unit_key(learned, protocol, BACKBONE, ["a"], "b", described)
        for described in (None, {"learned": ["c"], "removed": ["c"]}, {"learned": ["c"], "removed": ["c", "d"]})
    }
    assert len(keys) == 3


def test_a_method_that_needs_anomalies_asks_for_their_number_and_others_refuse_it():
    variants = make_variants(["devnet"])
    with pytest.raises(ConfigError, match=r"learns from labelled defective photos .*\(anomalies\)"):
        Protocol(variants)
    with pytest.raises(ConfigError, match="must be at least 1"):
        Protocol(variants, anomalies=(0,))
    with pytest.raises(ConfigError, match="learns from labelled defective photos"):
        EvaluateRequest(dataset=Path("x"), method="dra")
    with pytest.raises(ConfigError, match="learns nothing from labelled anomalies"):
        EvaluateRequest(dataset=Path("x"), method="clip", anomalies="1")
    with pytest.raises(ConfigError, match="no labelled anomalies are drawn"):
        EvaluateRequest(dataset=Path("x"), method="clip", anomaly_draw="hard")


@pytest.mark.parametrize("draw", ["general", "hard"])
def test_an_evaluation_learns_from_anomalies_and_names_what_its_test_lost(tmp_path, draw):
    root = make_class(tmp_path, "cup", train=4, good=4, bad=4, masks=False)
    for number in range(4):
        save(root / "test/dent", f"{number:03}.png", photo(900 + number, defect=True))
    variants = make_variants(["devnet", "clip"], settings=QUICK)
    protocol = Protocol(variants, (2,), 1, conventions={"eval_size": 24}, anomalies=(1, 2), anomaly_draw=draw)
    out = tmp_path / "out"
    outcome = run(Evaluation(protocol, load_dataset(root), BACKBONE, out, root=root))
    assert not outcome.failures
    plain, *fitted = sorted(outcome.units, key=lambda unit: unit.get("anomalies", {"number": 0})["number"])
    assert "anomalies" not in plain
    whole = {photo["file"] for photo in plain["test"]}
    for number, unit in enumerate(fitted, 1):
        drawn = unit["anomalies"]
        assert drawn["number"] == len(drawn["learned"]) == number and drawn["draw"] == draw
        assert {photo["file"] for photo in unit["test"]} == whole - set(drawn["removed"])
        assert len(drawn["removed"]) == (4 if draw == "hard" else 2)
        if draw == "hard":
            assert not any(f"/{drawn['type']}/" in photo["file"] for photo in unit["test"])
        stored = json.loads((out / "units" / f"{unit['key']}.json").read_text())
        assert stored["anomalies"] == drawn
    shown = text(make_report("cup", protocol, ("tiny", "tiny"), outcome))
    assert f"devnet clean, 1 anomaly ({draw})" in shown and f"devnet clean, 2 anomalies ({draw})" in shown
    assert "anomalous photos are not in the test of methods that learn from labelled anomalies" in shown
    again = run(Evaluation(protocol, load_dataset(root), BACKBONE, out, root=root))
    assert again.reused == 3 and again.scored == 0

"""The words beside a threshold: what was measured is told where it was measured, and nowhere else."""

from __future__ import annotations

import re

import pytest

from promptad.calibration.measured import LEARNS_NOTHING, MEASURED, is_measured, measured, unlike_measured
from promptad.calibration.scales import BY_KIND, MEASURED_METHODS, usual_spread
from promptad.calibration.threshold import Calibration, calibrate
from promptad.calibration.words import missed_words, threshold_words
from promptad.data.files import sha256_file
from promptad.methods.registry import METHODS, find_method
from promptad.methods.settings import config_dict
from promptad.saved.prompts import SHIPPED, is_shipped

LEARNED = ("promptad", "distance", "leave-one-out")


def test_the_nearest_lower_measurement_is_told():
    assert "with 4 photos" in measured(*LEARNED, 0.1, 5) and "aim of 10%" in measured(*LEARNED, 0.3, 5)
    assert "with 1 photo," in measured(*LEARNED, 0.07, 1) and "aim of 5%" in measured(*LEARNED, 0.07, 1)


@pytest.mark.parametrize(("method", "kind", "rate"), MEASURED)
def test_every_measured_method_is_told_with_its_own_shares_where_good_photos_were_used_alike(method, kind, rate):
    unused = find_method(method).good_photos == "unused"
    assert unused == (method in LEARNS_NOTHING)
    row = MEASURED[method, kind, rate][4]
    how, other = ("held-out", "leave-one-out") if unused else ("leave-one-out", "held-out")
    told = measured(method, kind, how, rate, 4)
    for mean, low, high in (row.false_alarms, row.found):
        assert f"{mean:.0%} ({low:.0%} to {high:.0%})" in told
    assert f"({method}, preset clean, starter weights)" in told
    assert told in threshold_words(4, how, rate, False, kind, method)
    assert measured(method, kind, other, rate, 4) == ""
    assert find_method(method).score_kind == kind and (method, kind) in MEASURED_METHODS


def test_what_was_not_measured_is_not_told():
    assert measured(*LEARNED, 0.01, 4) == "" and measured(*LEARNED, 0.1, 500) == ""
    assert measured("promptad", "probability", "leave-one-out", 0.1, 4) == ""  # its text scores alone
    assert measured("another", "distance", "leave-one-out", 0.1, 4) == ""
    assert "measured" in threshold_words(1, "altered copies", 0.1, False, "distance", "promptad")


def test_a_method_that_was_not_measured_has_the_spread_of_its_kind():
    assert usual_spread("distance", "another") == BY_KIND["distance"]
    assert usual_spread("probability", "clip") != usual_spread("probability", "faprompt")
    scores = dict(scores=[0.3, 0.32], map_peaks=[], map_tops=[], how="held-out", kind="probability")
    wide, narrow = (calibrate(**scores, method=name) for name in ("clip", "anomalyclip"))
    assert wide.threshold > narrow.threshold
    assert wide.at_rate(0.2).threshold == calibrate(**scores, method="clip", rate=0.2).threshold
    assert Calibration.from_dict(wide.to_dict()) == wide


@pytest.mark.parametrize(
    ("preset", "settings", "backbone", "says"),
    [
        ("clean", {}, "starter", ""),
        ("clean", {"seed": 5, "defects": ("bent [c]",), "input_range": 4095.0}, "starter", ""),
        ("paper", {"epochs": 2}, "starter", "preset paper"),
        ("clean", {"epochs": 2, "fit": "crop"}, "starter", "fit, epochs"),
        ("clean", {}, "ViT-B-32/openai", "weights ViT-B-32/openai"),
    ],
)
def test_what_differs_from_the_measured_detectors_is_told(preset, settings, backbone, says):
    entry = find_method("promptad")
    config, clean = (
        config_dict(entry.make_config(*made[:1], **made[1])) for made in ((preset, settings), ("clean", {}))
    )
    unlike = unlike_measured(preset, config, clean, backbone)
    assert sorted(unlike.split(", ")) == sorted(says.split(", "))
    calibration = calibrate([0.1, 0.2], [], [], "leave-one-out", kind="distance", method="promptad", unlike=unlike)
    assert (f"This detector differs from those ({unlike})" in calibration.note) == bool(says)
    assert calibration.at_rate(0.2).unlike == unlike and Calibration.from_dict(calibration.to_dict()) == calibration


def test_prompts_that_are_not_the_packages_are_told():
    clean = config_dict(find_method("faprompt").make_config("clean"))
    unlike = unlike_measured("clean", clean, clean, "starter", own_prompts=True)
    note = calibrate([0.1, 0.2], [], [], "held-out", kind="probability", method="faprompt", unlike=unlike).note
    assert "This detector differs from those (trained prompts that are not the package's)" in note
    assert unlike_measured("clean", clean, clean, "starter") == ""


@pytest.mark.parametrize("method", [name for name in LEARNS_NOTHING if (SHIPPED / f"{name}.safetensors").is_file()])
def test_prompts_are_the_packages_by_their_content(method, tmp_path):
    path = SHIPPED / f"{method}.safetensors"
    same, other = tmp_path / "same.safetensors", tmp_path / "other.safetensors"
    same.write_bytes(path.read_bytes())
    other.write_bytes(path.read_bytes() + b" ")
    assert is_shipped(method, sha256_file(same)) and not is_shipped(method, sha256_file(other))
    assert not is_shipped("clip", sha256_file(path))


def test_methods_whose_thresholds_were_not_measured_say_so():
    note = calibrate([0.1, 0.2], [], [], "leave-one-out", kind="distance", method="patchcore").note
    assert "was not measured for patchcore" in note
    proved = calibrate(
        [0.1 + 0.01 * i for i in range(12)], [], [], "leave-one-out", kind="distance", method="patchcore"
    )
    assert "not measured" not in proved.note


@pytest.mark.parametrize("name", METHODS)
def test_shares_are_those_of_the_method_itself_or_are_not_told(name):
    entry = find_method(name)
    for preset in entry.presets:
        kind = entry.kind_of(entry.make_config(preset))
        for how in ("leave-one-out", "held-out"):
            note = calibrate([0.1, 0.2, 0.15, 0.12], [], [], how, kind=kind, method=name).note
            assert ("measured sets" in note) <= any(known == name for known, *_ in MEASURED)
            assert f"measured sets ({name}," in note or "measured sets" not in note
            if not is_measured(name, kind):
                assert f"was not measured for {name}" in note


@pytest.mark.parametrize("rows", MEASURED.values())
def test_measurements_are_shares_in_order(rows):
    for row in rows.values():
        for mean, low, high in (row.false_alarms, row.found):
            assert 0 <= low <= mean <= high <= 1


def test_misses_are_counted_and_a_score_at_the_threshold_reads_normal():
    assert re.match(r" 2 of 3 known defective photos lie below", missed_words(0.5, [0.5, 0.4, 0.6]))
    assert re.match(r" 0 of 1 known defective photo lies below", missed_words(0.5, [0.6]))
    assert "nothing is known" in missed_words(0.5)

"""MVTec LOCO AD, AutoVI, MVTec AD 2, VAD, Sewer-ML, Real-IAD: further splits, several masks, scenes and samples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import miniature_sets as sets
from loaded_sets import loaded
from promptad.data.datasets import load_dataset
from promptad.data.datasets.loco import Saturation, read_saturations
from promptad.data.photos import read_mask
from promptad.errors import DataError


def test_loco_with_validation_and_a_file_for_each_defect(tmp_path: Path) -> None:
    records, lines = loaded(sets.loco(tmp_path))
    assert Counter(record.split for record in records) == {"train": 4, "validation": 2, "test": 8}
    assert Counter(record.defect_type for record in records if record.label) == {
        **{"logical_anomalies": 4, "structural_anomalies": 2}
    }
    two = next(record for record in records if len(record.masks) == 2)
    union = np.zeros((16, 24), bool)
    union[1:4, 1:5] = union[8:12, 10:14] = True
    assert np.array_equal(read_mask(two.masks), union)
    assert not [line for line in lines if "validation" in line]
    assert loaded(tmp_path / "pushpins")[0] == [record for record in records if record.class_name == "pushpins"]


def test_the_saturations_of_loco(tmp_path: Path) -> None:
    kinds = read_saturations(sets.loco(tmp_path) / "pushpins/defects_config.json")
    assert kinds == {250: Saturation("missing_bolt", 10, False), 3: Saturation("scratch", 1.0, True)}
    assert [kinds[250].area(pixels) for pixels in (4, 10, 99)] == [4, 10, 10]
    assert [Saturation("x", 0.7, True).area(pixels) for pixels in (1, 9, 10)] == [0, 6, 7]


@pytest.mark.parametrize(
    "changed",
    [
        *({"pixel_value": 0}, {"pixel_value": "250"}, {"saturation_threshold": 0}, {"saturation_threshold": 2.5}),
        *({"saturation_threshold": 1.5, "relative_saturation": True}, {"pixel_value": 3}),
    ],
)
def test_wrong_saturations_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    first = {"defect_name": "a", "pixel_value": 250, "saturation_threshold": 9, "relative_saturation": False}
    second = {"defect_name": "b", "pixel_value": 3, "saturation_threshold": 1.0, "relative_saturation": True}
    (tmp_path / "c.json").write_text(json.dumps([first | changed, second]))
    with pytest.raises(DataError, match=r"c\.json: is not a list of defects with saturations"):
        read_saturations(tmp_path / "c.json")


def test_ad2_keeps_scenes_and_lights(tmp_path: Path) -> None:
    records, _ = loaded(sets.ad2(tmp_path))
    can = [record for record in records if record.class_name == "can"]
    assert Counter((record.split, record.label) for record in can) == {
        **{("train", 0): 2, ("validation", 0): 1, ("test", 0): 3, ("test", 1): 3},
        **{("test_private", None): 2, ("test_private_mixed", None): 2},
    }
    bad = [record for record in can if record.label]
    assert [(record.group, record.condition, record.mask.name) for record in bad] == [
        *(("test/000", light, f"000_{light}_mask.png") for light in ("overexposed", "regular", "shift_1")),
    ]
    assert len({record.group for record in can if record.split == "train"}) == 2
    assert {record.class_name for record in records} == set(sets.AD2_OBJECTS), "can is nested in itself"


def test_vad_keeps_the_unseen_kind(tmp_path: Path) -> None:
    records, _ = loaded(sets.vad(tmp_path))
    assert Counter((record.split, record.defect_type) for record in records) == {
        **{("train", "good"): 3, ("train", "bad"): 2, ("test", "good"): 2, ("test", "bad"): 2},
        ("test", "bad_unseen_defects"): 1,
    }


def test_sewerml_reads_the_validation_photos_that_are_there(tmp_path: Path) -> None:
    records, lines = loaded(sets.sewerml(tmp_path))
    assert [(record.path.parent.name, record.label, record.defect_type) for record in records] == [
        *(("valid00", 0, "good"), ("valid00", 1, "RB"), ("valid01", 1, "RB+OK"), ("valid01", 0, "good"))
    ]
    assert any("1 of its photos are not there and left out (first: 00000044.png)" in line for line in lines)
    assert any("1 photos are not in SewerML_Val.csv and not used" in line for line in lines)


def test_a_view_without_a_visible_defect_is_normal(tmp_path: Path) -> None:
    records, lines = loaded(sets.real_iad(tmp_path))
    assert len(records) == 15 and all("realiad_1024" in record.path.as_posix() for record in records)
    defective = [record for record in records if record.group == "audiojack_0003_NG_AK"]
    assert [(record.condition, record.label) for record in defective] == [
        *(("C1", 1), ("C2", 1), ("C3", 1), ("C4", 0), ("C5", 1))
    ]
    assert {record.defect_type for record in defective if record.label} == {"pit"}
    assert any("has photos in 2 sizes; realiad_1024 is read" in line for line in lines)


def test_the_lists_of_one_view_and_of_polluted_training(tmp_path: Path) -> None:
    root = sets.real_iad(tmp_path)
    assert len(loaded(root, "real-iad-sv")[0]) == 3
    polluted, lines = loaded(root, "real-iad-fuiad-0.4")
    training = [record for record in polluted if record.split == "train"]
    assert len(training) == 7 and all(record.label == 0 and record.mask is None for record in training)
    assert any("every training photo counts as good" in line for line in lines)


def test_lists_of_real_iad_stay_in_their_folder(tmp_path: Path) -> None:
    root = sets.real_iad(tmp_path)
    file = root / "realiad_jsons/realiad_jsons/audiojack.json"
    content = json.loads(file.read_text())
    content["test"][0]["image_path"] = "../../../secret.jpg"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="leads out of"):
        load_dataset(root)
    for broken in ("[]", '{"meta": {}}', '{"meta": {"prefix": "", "normal_class": "OK"}, "train": [{}], "test": []}'):
        file.write_text(broken)
        with pytest.raises(DataError, match=r"audiojack\.json: is not a list of Real-IAD"):
            load_dataset(root)

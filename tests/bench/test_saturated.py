"""AU-sPRO in an evaluation of MVTec LOCO AD, against the metric on masks and saturations that are read by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import miniature_sets as sets
from drawn_data import SETTINGS
from promptad.bench.conventions import Conventions
from promptad.bench.keys import fingerprint_of
from promptad.bench.saturated import SATURATED, SaturatedSet
from promptad.bench.testset import TestSet
from promptad.data.datasets import load_dataset
from promptad.detector import Detector
from promptad.metrics.spro import Region, au_spro
from tiny import tiny_backbone

PHOTO = Conventions(eval_size="photo")
FLOORS = {250: lambda pixels: min(10, pixels), 3: lambda pixels: pixels}  # as the miniature's config says


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sets.loco(tmp_path_factory.mktemp("loco"))


def records_of(folder: Path, name: str = "pushpins") -> list:
    return [record for record in load_dataset(folder) if record.split == "test" and record.class_name == name]


def drawn(records: list, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    size = Image.open(records[0].path).size
    return [(record, float(rng.random()), rng.random(size[::-1]).astype(np.float32)) for record in records]


def measured(records: list, conventions: Conventions = PHOTO) -> tuple[SaturatedSet, dict[str, float], list]:
    photos, collected = drawn(records), SaturatedSet(records, conventions)
    for photo in photos:
        collected.add(*photo)
    return collected, collected.compute(), photos


def by_hand(record) -> list[Region]:
    regions = []
    for file in record.masks:
        values = np.asarray(Image.open(file))
        mask = values > 0
        regions.append(Region(mask, FLOORS[int(values.max())](int(mask.sum()))))
    return regions


def test_each_kind_is_measured_against_all_good_photos(folder: Path) -> None:
    collected, values, photos = measured(records_of(folder))
    assert not collected.skipped and set(values) == set(SATURATED)
    for kind in ("logical", "structural"):
        some = [photo for photo in photos if not photo[0].label or photo[0].defect_type.startswith(kind)]
        assert len(some) == (3 if kind == "logical" else 2)
        expected = au_spro([m for *_, m in some], [by_hand(r) if r.label else [] for r, *_ in some])
        assert values[f"spro_05_{kind}"] == pytest.approx(expected[0.05])
        assert values[f"spro_30_{kind}"] == pytest.approx(expected[0.3])
        labels, scores = [r.label for r, *_ in some], [score for _, score, _ in some]
        assert values[f"image_auroc_{kind}"] == pytest.approx(roc_auc_score(labels, scores))
    for key in ("05", "30"):
        both = (values[f"spro_{key}_logical"], values[f"spro_{key}_structural"])
        assert values[f"spro_{key}"] == pytest.approx(np.mean(both))


def test_what_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    records = records_of(folder)
    collected, values, _ = measured(records, Conventions())
    assert set(collected.skipped) == {"spro_05", "spro_30"} and "eval_size" in collected.skipped["spro_05"]
    assert set(values) == {"image_auroc_logical", "image_auroc_structural"}
    logical = [record for record in records if "structural" not in record.defect_type]
    collected, values, _ = measured(logical)
    assert "no structural anomaly" in collected.skipped["spro_30"] and "spro_30_logical" in values
    other = SaturatedSet([replace(record, mask=None) for record in records], PHOTO)
    other.add(*drawn(records)[0])
    assert other.compute() == {} == other.skipped


def test_a_mask_without_saturation_stops_the_metric_with_its_name(tmp_path: Path) -> None:
    folder = sets.loco(tmp_path)
    config = folder / "pushpins/defects_config.json"
    records, before = records_of(folder), fingerprint_of(records_of(folder))
    config.write_text(json.dumps(json.loads(config.read_text())[:1]))
    assert fingerprint_of(records) != before  # another config is another result
    collected, values, _ = measured(records)
    assert "has the value 3" in collected.skipped["spro_05"] and "spro_05" not in values
    config.write_text("[]x")
    collected, values, _ = measured(records)
    assert "is not a list of defects" in collected.skipped["spro_30"] and "image_auroc_logical" in values


def test_other_sets_of_the_layout_are_one_kind(folder: Path, tmp_path: Path) -> None:
    sets.loco_class(tmp_path, "engine", kinds=("fastening", "obstruction"))
    _, values, photos = measured(records_of(tmp_path, "engine"))
    expected = au_spro([m for *_, m in photos], [by_hand(r) if r.label else [] for r, *_ in photos])
    assert values == {"spro_05": pytest.approx(expected[0.05]), "spro_30": pytest.approx(expected[0.3])}


def test_a_test_set_measures_it(folder: Path) -> None:
    records = records_of(folder)
    detector = Detector("promptad", object="pin", backbone=tiny_backbone(), **{**SETTINGS, "epochs": 1})
    good = detector.encoder.encode_files(sorted((folder / "pushpins/train/good").iterdir()), reference=True)
    tests = TestSet(records, detector.fit_features(good).encoder, PHOTO, {})
    scores = list(tests.scores(detector))
    collected = SaturatedSet(records, PHOTO)
    for photo in scores:
        collected.add(*photo)
    result = tests.measure(detector)
    assert result.saturated == collected.compute() and 0 <= result.saturated["spro_05"] <= 1
    assert not result.skipped

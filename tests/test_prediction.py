from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptad.errors import PhotoError
from promptad.prediction import DefectWord, Prediction


def made(**changes: Any) -> Prediction:
    anomaly_map = np.zeros((4, 6), np.float32)
    anomaly_map[2, 5] = 0.9
    values: dict[str, Any] = {
        "path": Path("line 1") / "bolt.jpg",
        "score": 0.7,
        "threshold": 0.5,
        "map": anomaly_map,
        "map_threshold": 0.4,
        "defects": (DefectWord("bent thread", 0.6, 0.8), DefectWord("rust", 0.1, 0.05)),
        "size": (4, 6),
        "timings": {"read": 0.25, "score": 0.5},
        "backbone": "ViT-B/16",
        "method": "winclip",
        "parts": {"text": 0.3, "memory": 0.4},
    }
    return Prediction(**{**values, **changes})


@pytest.mark.parametrize(
    ("threshold", "anomalous", "verdict"),
    [(0.5, True, "anomalous"), (0.7, False, "normal"), (0.9, False, "normal"), (None, None, "no threshold")],
)
def test_verdict_needs_a_score_above_the_threshold(
    threshold: float | None, anomalous: bool | None, verdict: str
) -> None:
    prediction = made(threshold=threshold)
    assert prediction.is_anomalous is anomalous
    assert prediction.verdict == verdict


def test_hottest_is_row_then_column_and_the_first_of_equals() -> None:
    assert made().hottest == (2, 5)
    assert made(map=np.ones((4, 6), np.float32)).hottest == (0, 0)
    assert made(map=None).hottest is None


def test_mask_is_strictly_above_the_pixel_threshold() -> None:
    mask = made(map_threshold=0.0).mask
    assert mask is not None and mask.dtype == np.bool_
    assert [tuple(place) for place in np.argwhere(mask)] == [(2, 5)]
    assert made(map=None).mask is None
    assert made(map_threshold=None).mask is None


def test_what_was_not_looked_at_is_neither_hottest_nor_marked() -> None:
    looked = np.zeros((4, 6), np.bool_)
    looked[:, :3] = True
    values = np.full((4, 6), 0.8, np.float32)
    values[3, 2] = 0.9
    prediction = made(map=values, inspected=looked)
    assert prediction.hottest == (3, 2)
    assert prediction.mask is not None and np.array_equal(prediction.mask, looked)
    assert prediction.inspected_share == prediction.to_dict()["inspected"] == 0.5
    flat = made(map=np.ones((4, 6), np.float32), inspected=~looked)
    assert flat.hottest == (0, 3)
    assert made().inspected_share == 1.0


def test_seconds_prefers_the_total() -> None:
    assert made().seconds == pytest.approx(0.75)
    assert made(timings={"read": 0.25, "total": 2.0}).seconds == 2.0
    assert made(timings={}).seconds is None


def test_to_dict_is_strict_json_even_from_numpy_numbers() -> None:
    prediction = made(
        score=np.float32(0.75),
        defects=(DefectWord("rust", np.float32(0.5), np.float64(0.25)),),
        parts={"text": np.float32(0.5), "memory": float("nan")},
    )
    values = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
    assert values["score"] == 0.75
    assert values["photo"] == str(Path("line 1") / "bolt.jpg")
    assert values["verdict"] == "anomalous"
    assert values["hottest"] == {"x": 5, "y": 2}
    assert (values["width"], values["height"]) == (6, 4)
    assert values["defects"] == [{"words": "rust", "image_probability": 0.5, "region_probability": 0.25}]
    assert values["parts"] == {"text": 0.5, "memory": None}
    assert "map" not in values
    assert made(path=None, map=None, threshold=None).to_dict()["hottest"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"score": float("nan")},
        {"score": float("inf")},
        {"threshold": float("nan")},
        {"map_threshold": float("nan")},
        {"map": np.full((4, 6), np.nan, np.float32)},
        {"map": np.zeros((6, 4), np.float32)},
        {"inspected": np.ones((6, 4), np.bool_)},
        {"inspected": np.zeros((4, 6), np.bool_)},
        {"defects": (DefectWord("rust", float("nan"), 0.1),)},
    ],
)
def test_what_could_pass_as_normal_by_accident_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PhotoError) as caught:
        made(**changes)
    assert "bolt.jpg" in str(caught.value) and "\n" not in str(caught.value)


def test_a_prediction_does_not_change_and_can_be_a_key() -> None:
    prediction = made()
    with pytest.raises(FrozenInstanceError):
        prediction.score = 0.1  # type: ignore[misc]
    assert prediction == prediction and prediction != made()
    assert prediction in {prediction}

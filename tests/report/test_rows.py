from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from promptad.prediction import DefectWord, Prediction
from promptad.report.rows import Row, Scale, counted, worst_first


def prediction_of(path: Path | None, score: float = 0.7) -> Prediction:
    anomaly_map = np.zeros((4, 6), np.float32)
    anomaly_map[1, 3] = 1
    words = (DefectWord("bent", np.float32(0.5), 0.75), DefectWord("rust", 0.125, 0.25))
    return Prediction(
        path, score, 0.5, anomaly_map, 0.4, words, (4, 6), {"read": 0.2}, "ViT-B/16", "winclip", {"text": 0.25}
    )


def test_row_of_a_prediction_survives_json() -> None:
    row = Row.of(
        prediction_of(Path("a.jpg")), label=1, heatmap="heatmaps/a.jpg.jpg", scale=Scale(0.1, 0.9, 0.4), root="../photos",
        sha256="0" * 64, run="1" * 16, remarks=("one", "two"), map_file="maps/a.jpg.npy",
    )  # fmt: skip
    assert (row.verdict, row.score, row.hottest, row.size, row.seconds, row.inspected) == (
        "anomalous", 0.7, (1, 3), (4, 6), 0.2, 1.0,
    )  # fmt: skip
    assert Row.from_dict(json.loads(json.dumps(row.to_dict(), allow_nan=False))) == row


def test_a_row_writes_what_its_prediction_says() -> None:
    prediction = prediction_of(Path("a.jpg"))
    assert Row.of(prediction).to_dict() == prediction.to_dict()
    assert list(Row.of(prediction).to_dict()) == list(prediction.to_dict())
    assert Row.of(prediction_of(None)).to_dict() == prediction_of(None).to_dict()


def test_failed_row_keeps_the_text_of_the_error_on_one_line() -> None:
    row = Row.failed(Path("b.jpg"), ValueError("cut\noff"), label=0)
    assert (row.verdict, row.score, row.error) == ("failed", None, "cut off")
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row
    assert Row.failed("c.jpg", ValueError()).error
    assert Row.failed("c.txt", "no photo", verdict="skipped").verdict == "skipped"


def test_another_threshold_judges_the_same_score() -> None:
    row = Row.of(prediction_of(Path("a.jpg")))
    assert (row.judged(0.7, 0.2).verdict, row.judged(0.69, None).verdict, row.judged(None, None).verdict) == (
        "normal", "anomalous", "no threshold",
    )  # fmt: skip
    assert row.judged(0.9, 0.3).to_dict() == {
        **row.to_dict(), "verdict": "normal", "is_anomalous": False, "threshold": 0.9, "map_threshold": 0.3, "regions": None,
    }  # fmt: skip
    assert Row.failed("b.jpg", "x").judged(0.1, None).verdict == "failed"


def test_worst_first_puts_failed_photos_and_then_skipped_files_last_and_ties_by_path() -> None:
    rows = [
        Row("a.txt", "skipped"),
        Row("d", "failed"),
        Row("c", "normal", 0.0),
        Row("b", "normal", -1.0),
        Row("z", "anomalous", 3.0),
        Row("a", "anomalous", 3.0),
    ]
    assert [row.photo for row in worst_first(rows)] == ["a", "z", "c", "b", "d", "a.txt"]
    assert list(counted(rows).items()) == [("anomalous", 2), ("normal", 2), ("failed", 1), ("skipped", 1)]


def test_a_photo_is_found_from_its_report() -> None:
    assert Row("sub/a.jpg", "normal", 0.1, root="../photos").photo_file(Path("/x/out")) == Path("/x/photos/sub/a.jpg")
    assert Row("sub/a.jpg", "normal", 0.1).photo_file(Path("/x/out")) == Path("sub/a.jpg")

"""The prompts in the package give the scores that they gave when they were made (values stored on 26 Nov 2026)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import promptad
from promptad.clip.backbone import Backbone, load_backbone
from promptad.detector import Detector
from promptad.saved.prompts import SHIPPED

STORED = json.loads((Path(__file__).parent / "shipped_scores.json").read_text())
PHOTOS = Path(promptad.__file__).parent / "demo_photos" / "cookies" / "test"


@pytest.fixture(scope="module")
def starter() -> Backbone:
    return load_backbone("starter")


def test_values_are_stored_for_every_shipped_file():
    assert set(STORED) == {path.stem for path in SHIPPED.glob("*.safetensors")}


@pytest.mark.parametrize("method", STORED)
def test_shipped_prompts_load_and_score_as_they_did(starter, method):
    detector = Detector(method, backbone=starter, fit="squash")
    for name, stored in zip(("good/test-normal-1.jpg", "broken/anomaly-1.jpg"), STORED[method], strict=True):
        scores = detector.method.score(detector.encode(PHOTOS / name).features[0])
        values = {"image": scores.image, **scores.parts}
        expected = {"image": stored["image"], **stored["parts"]}
        assert {key: float(value[0]) for key, value in values.items()} == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert (scores.map is None) == ("map" not in stored)
        if scores.map is not None:
            values = scores.map[0].flatten()
            chosen = values[:: max(16, len(values) // 15)]  # some fifteen, of maps of patches and of pixels
            np.testing.assert_allclose(chosen.numpy(), stored["map"], rtol=1e-3, atol=1e-4)

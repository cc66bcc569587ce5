"""What type checkers know of the public names: mypy reads this file (`pyproject.toml`), nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptad import Detector, Prediction, load


def judged(detector: Detector, array: NDArray[np.uint8]) -> None:
    assert_type(detector.predict("a.png"), Prediction)
    assert_type(detector.predict(Path("a.png")), Prediction)
    assert_type(detector.predict(array), Prediction)
    assert_type(detector.predict(Image.fromarray(array)), Prediction)
    assert_type(detector.predict(["a.png", Path("b.png"), array]), list[Prediction])
    assert_type(detector.predict(("a.png", "b.png")), list[Prediction])
    assert_type(load("nut.safetensors").predict("a.png").score, float)
    assert_type(detector.predict("a.png").mask, NDArray[np.bool_] | None)
    assert_type(detector.predict("a.png").to_dict(), dict[str, Any])
    assert_type(detector.fit(["a.png", array]), Detector)

"""One line of a report: what the table, the log and the page know about one photo."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptad.prediction import DefectWord, Prediction

RowVerdict = Literal["anomalous", "normal", "no threshold", "failed"]


@dataclass(frozen=True)
class Row:
    """The result for one photo without its anomaly map, or the reason why there is none.

    Attributes:
        photo: path of the photo as the user gave it.
        verdict: "anomalous", "normal", "no threshold", or "failed" (``error`` says why, ``score`` is None).
        score: image-level anomaly score, larger = more anomalous.
        threshold: a score above it is anomalous; None when nothing was calibrated.
        defects: defect words, most probable first.
        hottest: (row, column) in photo pixels of the largest value of the map.
        size: (H, W) of the photo.
        parts: the terms of the score.
        seconds: time for the photo.
        backbone, method: as in :class:`promptad.prediction.Prediction`.
        error: one line for a failed photo, else "".
        label: 0 normal, 1 anomalous, None unknown.
        heatmap: path of the saved heat map, or None.
        photo_array: (h, w, 3) uint8 RGB to show instead of the file; a small one will do. Not saved in logs.
        heatmap_array: the same for the heat map.
    """

    photo: str
    verdict: RowVerdict
    score: float | None = None
    threshold: float | None = None
    defects: tuple[DefectWord, ...] = ()
    hottest: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    parts: dict[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    backbone: str = ""
    method: str = ""
    error: str = ""
    label: int | None = None
    heatmap: str | None = None
    photo_array: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    heatmap_array: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        *,
        label: int | None = None,
        heatmap: str | Path | None = None,
        photo_array: NDArray[np.uint8] | None = None,
        heatmap_array: NDArray[np.uint8] | None = None,
    ) -> Row:
        """The row of a prediction. The anomaly map is not kept, so the rows of a run fit into memory."""
        values = prediction.to_dict()
        spot = values["hottest"]
        return cls(
            photo="" if prediction.path is None else os.fspath(prediction.path),
            verdict=prediction.verdict,
            score=float(prediction.score),
            threshold=None if prediction.threshold is None else float(prediction.threshold),
            defects=tuple(
                DefectWord(word["words"], word["image_probability"], word["region_probability"])
                for word in values["defects"]
            ),
            hottest=None if spot is None else (spot["y"], spot["x"]),
            size=(int(prediction.size[0]), int(prediction.size[1])),
            parts=values["parts"],
            seconds=prediction.seconds,
            backbone=prediction.backbone,
            method=prediction.method,
            label=None if label is None else int(label),
            heatmap=None if heatmap is None else os.fspath(heatmap),
            photo_array=photo_array,
            heatmap_array=heatmap_array,
        )

    @classmethod
    def failed(cls, photo: str | Path, error: BaseException | str, *, label: int | None = None) -> Row:
        """The row of a photo that could not be scored; of the error only the text is kept, on one line."""
        return cls(os.fspath(photo), "failed", error=" ".join(str(error).split()) or "unknown error", label=label)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the small pictures. :meth:`from_dict` reads them back."""
        return {
            "photo": self.photo,
            "verdict": self.verdict,
            "score": self.score,
            "threshold": self.threshold,
            "defects": [[word.words, word.image_probability, word.region_probability] for word in self.defects],
            "hottest": None if self.hottest is None else list(self.hottest),
            "size": None if self.size is None else list(self.size),
            "parts": self.parts,
            "seconds": self.seconds,
            "backbone": self.backbone,
            "method": self.method,
            "error": self.error,
            "label": self.label,
            "heatmap": self.heatmap,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """The row that :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError: the values are not those of a row.
        """
        known = dict(values)
        known["defects"] = tuple(
            DefectWord(str(w), float(i), None if r is None else float(r)) for w, i, r in known["defects"]
        )
        for name in ("hottest", "size"):
            if known[name] is not None:
                first, second = known[name]
                known[name] = (int(first), int(second))
        return cls(**known)


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Rows by falling score, equal scores by path; failed photos last, by path."""
    return sorted(rows, key=lambda row: (row.score is None, -(row.score or 0.0), row.photo))

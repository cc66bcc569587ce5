"""The one record type that every data source emits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Record:
    """One photo of a data set.

    Attributes:
        path: the photo.
        label: 0 normal, 1 anomalous, None unknown (a plain folder of photos).
        mask: the ground-truth mask, several whose union it is, or None where there is none; for
            :func:`promptad.data.photos.read_mask`.
        class_name: the object category, as the data set names it ("metal_nut"); "" when unknown.
        defect_type: the anomaly type as the data set names it ("scratch"); "good" for normal photos, "" when unknown.
        split: "train" or "test".
    """

    path: Path
    label: int | None = None
    mask: Path | tuple[Path, ...] | None = None
    class_name: str = ""
    defect_type: str = ""
    split: Split = "test"

    @property
    def masks(self) -> tuple[Path, ...]:
        """The mask files: none, one or several."""
        return () if self.mask is None else self.mask if isinstance(self.mask, tuple) else (self.mask,)

"""The one record type that every data source emits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from promptad.data.parts import Crop, FilePart, FileView, PhotoRef

Split = Literal["train", "validation", "test", "test_private", "test_private_mixed"]
"""Further splits than training and test are those of MVTec LOCO AD (validation) and MVTec AD 2; what is private has no labels."""

MaskFile = Path | FileView
"""A mask that is a whole file, or what a :class:`~promptad.data.parts.FileView` reads out of one."""


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
        split: "train", "test", or one of the further ones.
        group: what the photo shows together with others of the same text: the sample of a set with several views, the scene
            of one with several lights, the strip that tiles are cut from; "" where it stands alone.
        condition: under which it was taken, as the data set names it: the light, the camera; "" where there is one.
        crop: where the photo is a part of its file, that part: (left, top, right, bottom) in pixels of the upright photo.
    """

    path: Path
    label: int | None = None
    mask: MaskFile | tuple[MaskFile, ...] | None = None
    class_name: str = ""
    defect_type: str = ""
    split: Split = "test"
    group: str = ""
    condition: str = ""
    crop: Crop | None = None

    @property
    def photo(self) -> PhotoRef:
        """What readers take, and what tells photos apart: the file, or the part of it that `crop` is."""
        return self.path if self.crop is None else FilePart(self.path, self.crop)

    @property
    def masks(self) -> tuple[MaskFile, ...]:
        """The mask files: none, one or several."""
        return () if self.mask is None else self.mask if isinstance(self.mask, tuple) else (self.mask,)

"""What is read out of a file by a rule: a part of a photo, a mask that is drawn or coloured in an annotation.

Readers (:func:`promptad.data.photos.read_photo`, :func:`~promptad.data.photos.read_mask`) and
:func:`promptad.data.files.sha256_file` take such a view in the place of a path, so a tile of a long strip is a photo like
every other, and nothing is written into the folder of a data set.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Crop = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels of the upright photo."""


@dataclass(frozen=True)
class FileView(ABC):
    """What a rule reads out of the file `path`. Two views are one where file and rule are."""

    path: Path

    self_contained: ClassVar[bool] = False
    """Whether the rule alone says what is read, so that the file's content does not matter."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """The rule as text: together with the file's content it says what is read."""

    def __str__(self) -> str:
        return f"{self.path} ({self.rule})"


@dataclass(frozen=True)
class FilePart(FileView):
    """A rectangle of a photo or mask file, and from which grey value on its pixels are defect.

    Attributes:
        crop: the rectangle; None is the whole file. above: of a mask, the grey value (0..255) above which a pixel is defect;
            None leaves that to the mask's own values (:mod:`promptad.data.mask_values`).
    """

    crop: Crop | None = None
    above: float | None = None

    @property
    def rule(self) -> str:
        """Such as ``part 0,0,256,256``."""
        words = [] if self.crop is None else ["part " + ",".join(map(str, self.crop))]
        return ", ".join(words if self.above is None else [*words, f"defect above {self.above:g}"])


class MaskView(FileView):
    """A mask that is made from what a file says."""

    @abstractmethod
    def draw(self, size: tuple[int, int] | None) -> NDArray[np.bool_]:
        """The mask, (H, W) bool.

        Args:
            size: (H, W) of its photo, where the file does not say it itself.
        """


PhotoRef = Path | FilePart
"""A photo file, or a part of one; as `Record.photo` gives it."""

FileRef = str | os.PathLike[str] | FileView
"""A file, or a view of one."""

"""Requests about data sets themselves: `promptad data check` and `promptad data write`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptad.data.files import shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.requests.asked import LAYOUT, Request, asked
from promptad.requests.data import chosen_classes
from promptad.steps import Progress

if TYPE_CHECKING:
    from promptad.data.datasets.check import Checked


@dataclass(frozen=True)
class DataRequest(Request):
    """Which data set."""

    dataset: Path = asked("Data set: its folder as it was unpacked, or a list of photos.", Path(), place="argument")
    layout: str = asked(LAYOUT, "auto")
    normal: tuple[str, ...] = asked(
        "Folders of good photos that have another name than good, ok, pass, ..., with commas.", (), commas=True
    )

    def check(self) -> None:
        """The layout has to exist."""
        from promptad.data.datasets import LAYOUTS

        if self.layout not in LAYOUTS:
            raise ConfigError(
                f"{argument('layout', self.layout)}: is not known; expected one of {', '.join(LAYOUTS)}; choose one"
            )


@dataclass(frozen=True)
class CheckRequest(DataRequest):
    """What is in a data set, what is left out and why, and what cannot be read."""

    whole: bool = asked("Decode every photo instead of opening it only; takes longer.", False)

    def run(self, *, progress: Progress | None = None) -> Checked:
        """Looks through the set; lines that reading it would say are in the result's `notes`.

        Args:
            progress: called with photos done and in all.

        Raises:
            DataError: no layout fits, or the set cannot be read at all.
        """
        from promptad.data.datasets.check import check_dataset

        return check_dataset(self.dataset, self.layout, self.normal, whole=self.whole, progress=progress)


@dataclass(frozen=True)
class WriteRequest(DataRequest):
    """The list that other programs read (`meta.json`) of a data set in any layout."""

    output: Path = asked("The file to write, or a folder to write meta.json into.", Path(), place="argument")
    classes: tuple[str, ...] = asked("Only these classes, with commas. Default: all.", (), commas=True)

    def run(self) -> tuple[Path, int]:
        """Writes the list; gives its path and the number of photos in it. Paths are relative to the list where they can be.

        Photos without a label cannot be listed and get a line.

        Raises:
            DataError: the set cannot be read, has nothing to list, or the file cannot be written.
        """
        from promptad.data.datasets import load_dataset, meta_json

        records = chosen_classes(load_dataset(self.dataset, self.layout, self.normal), self.classes, say=False)
        kept = [record for record in records if record.label is not None]
        if len(kept) < len(records):
            notice(
                f"{shown(self.dataset)}: {len(records) - len(kept)} photos have no label, so the list leaves them out"
            )
        if not kept:
            raise DataError(f"{shown(self.dataset)}: no photo has a label, so there is nothing to list")
        file = self.output / meta_json.FILE_NAME if self.output.is_dir() else self.output
        meta_json.write(kept, file)
        return file, len(kept)

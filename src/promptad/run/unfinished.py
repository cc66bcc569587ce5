"""The photo that a run is at, on disk, so that the files of a killed run are not taken for those of an earlier result.

The pictures of a photo are written before its line in the log. A run that is killed in between leaves pictures that no line
tells of, under names that an older line may have: the same path with another content, or judged by another detector.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from promptad.parsing import parsed_json

NAME = ".promptad.at"
"""File in the folder of a run. It is empty but while the files of a photo are written and its line is not."""

Place = tuple[str, str | None, str | None]


class Unfinished:
    """Which photo is being written.

    Args:
        folder: of the run, locked by it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME

    def begin(self, place: Place, files: Sequence[str]) -> None:
        """Before the first file of a photo is written.

        Args:
            place: the photo's path, content and run key. files: that may be written, below the folder.
        """
        with suppress(OSError):  # a full disk: the line in the log, which cannot be written either, says it
            self.path.write_text(json.dumps({"place": place, "files": list(files)}))

    def done(self) -> None:
        """After the photo's line is in the log."""
        with suppress(OSError):
            self.path.unlink()

    def clear(self, logged: Callable[[str], Place | None]) -> None:
        """Removes the files that a killed run wrote without a line about them.

        Args:
            logged: whose a file is as the last line in the log says that names it.
        """
        try:
            values = parsed_json(self.path.read_text())
            place, files = tuple(values["place"]), [str(name) for name in values["files"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):  # killed while it was written: no picture was begun
            self.done()
            return
        for name in files:
            if logged(name) != place and not Path(name).is_absolute() and ".." not in Path(name).parts:
                with suppress(OSError):
                    (self.folder / name).unlink()
        self.done()

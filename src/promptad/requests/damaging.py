"""A request to make a labelled practice set from good photos: `promptad damage`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from promptad.annotations import Above0, Positive, Seed
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.requests.asked import INPUT_RANGE, Lines, Request, Said, asked
from promptad.requests.detecting import photo_files
from promptad.steps import Progress


@dataclass(frozen=True)
class DamageRequest(Request):
    """Painted damage on good photos, with masks, in the MVTec layout."""

    good: tuple[Path, ...] = asked("Good photos, or folders of them.", (), place="argument")
    output: Path = asked("Folder of the set; the object gets a folder in it.", Path("practice"), option="-o --output")
    object: str = asked('What the photos show, in words: "metal nut".', "object")
    count: Positive = asked("How many damaged photos.", 24)
    kinds: tuple[str, ...] = asked("Kinds of damage, with commas: scratch,stain. Default: all.", (), commas=True)
    largest: Above0 = asked("Share of the photo that the largest damage covers, 0.001 to 0.4.", 0.1)
    light: bool = asked(
        "Give every copy, good or damaged, its own light: from one side, in shade, softer, noisier.", False
    )
    donors: tuple[Path, ...] = asked(
        "Photos of other things, or folders of them: what is pasted or lies on damaged copies is taken from them. "
        "Default: the good photos themselves.",
        (),
    )
    seed: Seed = asked("Seed of everything that is drawn.", 0)
    input_range: Above0 | None = asked(INPUT_RANGE, None)

    def check(self) -> None:
        """There must be good photos."""
        if not self.good:
            raise ConfigError(f"damage is painted on good photos; name some ({argument('good')})")

    def run(self, *, progress: Progress | None = None, said: Said | None = None, failed: Said | None = None) -> Path:
        """Makes the set and gives its folder.

        Args:
            progress: called with photos done and in all. said: called with a line for each file that is no photo.
                failed: the same for each photo that cannot be read and each damage that cannot be made; `said` where it is
                not given.

        Raises:
            PromptadError: whatever cannot be, on one line.
        """
        from promptad.data.damage import write_damaged
        from promptad.data.lock import prepared_folder

        lines = Lines(said, failed)
        with prepared_folder(self.output):
            return write_damaged(
                photo_files(self.good, lines),
                self.output,
                count=self.count,
                kinds=list(self.kinds),
                seed=self.seed,
                class_name=self.object,
                input_range=self.input_range,
                largest=self.largest,
                light=self.light,
                donors=photo_files(self.donors, lines) if self.donors else (),
                progress=progress,
                failed=lines.fail,
            )

"""What people marked on the report of a run, beside what the run says: `promptad review`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.requests.asked import Request, asked

if TYPE_CHECKING:
    from promptad.data.labels import Label
    from promptad.report.rows import Row


@dataclass(frozen=True)
class Disagreement:
    """A photo whose label is not its verdict: a "missed" defect or a "false alarm"."""

    what: str
    row: Row
    label: Label


@dataclass(frozen=True)
class Reviewed:
    """What was marked.

    Attributes:
        rows: judged photos of the run. people: how many lines are of whom, most first.
        agreed: of each photo of the run, by SHA-256, what people say of it. disagreements: with the verdicts; false alarms
            from the highest score down, then misses from the lowest up.
        disputed: photos of the run on which people disagree, with all that they say. outside: labels of photos that are not in
            the run.
    """

    rows: int
    people: Mapping[str, int]
    agreed: Mapping[str, Label]
    disagreements: tuple[Disagreement, ...]
    disputed: Mapping[str, tuple[Label, ...]]
    outside: tuple[Label, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many photos of the run are good, defect and unsure, by what people agree on."""
        counts = Counter(label.label for label in self.agreed.values())
        return {name: counts[name] for name in ("good", "defect", "unsure")}


@dataclass(frozen=True)
class ReviewRequest(Request):
    """Labels of one or several people, held against the results of a run."""

    folder: Path = asked("Folder of the run, with its results.jsonl.", Path("out"), place="argument")
    labels: tuple[Path, ...] = asked("Files of labels, as the report saves them.", (), place="argument")

    def check(self) -> None:
        """There must be labels."""
        if not self.labels:
            raise ConfigError(f"there is nothing to review; name a file of labels ({argument('labels')})")

    def run(self) -> Reviewed:
        """What was marked, and where it differs from the verdicts.

        Raises:
            DataError: no results there, or labels that cannot be read; one line with the way out.
        """
        from promptad.data.labels import read_labels, settle
        from promptad.report.log import read_results

        rows = {row.sha256: row for row in read_results(self.folder / "results.jsonl") if row.sha256 is not None}
        labels = [label for path in self.labels for label in read_labels(path)]
        settled = settle(labels)
        agreed = {digest: label for digest, label in settled.agreed.items() if digest in rows}
        return Reviewed(
            rows=len(rows),
            people=dict(Counter(label.who for label in labels).most_common()),
            agreed=agreed,
            disagreements=tuple(_disagreements(rows, agreed)),
            disputed={digest: said for digest, said in settled.disputed.items() if digest in rows},
            outside=tuple(
                label
                for digest, label in [*settled.agreed.items(), *((d, said[-1]) for d, said in settled.disputed.items())]
                if digest not in rows
            ),
        )


def _disagreements(rows: Mapping[str, Row], agreed: Mapping[str, Label]) -> list[Disagreement]:
    """False alarms, highest score first, then misses, lowest first."""
    wrong = {("good", "anomalous"): "false alarm", ("defect", "normal"): "missed"}
    out = [
        Disagreement(wrong[label.label, rows[digest].verdict], rows[digest], label)
        for digest, label in agreed.items()
        if (label.label, rows[digest].verdict) in wrong
    ]
    return sorted(
        out,
        key=lambda entry: (
            entry.what == "missed",
            (entry.row.score or 0.0) * (1 if entry.what == "missed" else -1),
        ),
    )

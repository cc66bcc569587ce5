"""`promptad review`: what was marked on a report, and where it differs from the verdicts."""

from __future__ import annotations

from promptad.cli.console import say, table
from promptad.cli.takes import takes
from promptad.data.files import shown
from promptad.requests.reviewing import Reviewed, ReviewRequest


@takes(ReviewRequest, arguments=("folder", "labels"), required=("folder", "labels"))
def review(request: ReviewRequest) -> None:
    """Show what people marked on the report of a run: where it differs from the verdicts, and where they differ from each other."""
    reviewed = request.run()
    counts = ", ".join(f"{count} {label}" for label, count in reviewed.counts.items())
    say(f"marked     {len(reviewed.agreed) + len(reviewed.disputed)} of {reviewed.rows} photos: {counts}")
    say(
        "by         "
        + ", ".join(f"{who or 'somebody without a name'} ({count})" for who, count in reviewed.people.items())
    )
    _differences(reviewed)
    for said in reviewed.disputed.values():
        who = ", ".join(f"{label.who or 'somebody without a name'} says {label.label}" for label in said)
        say(f"disputed   {shown(said[0].photo)}: {who}; it counts for neither")
    if reviewed.outside:
        names = ", ".join(shown(label.photo) for label in reviewed.outside[:5])
        more = f" and {len(reviewed.outside) - 5} more" if len(reviewed.outside) > 5 else ""
        say(f"elsewhere  {len(reviewed.outside)} labelled photos are not in this run: {names}{more}")
    labels = " ".join(f"--labels {shown(path)}" for path in request.labels)
    say(f"next       promptad fit --model DETECTOR.safetensors {labels} -o DETECTOR-2.safetensors")


def _differences(reviewed: Reviewed) -> None:
    """The photos whose label is not their verdict."""
    names = [entry.what for entry in reviewed.disagreements]
    alarms, missed = names.count("false alarm"), names.count("missed")
    say(f"differ     {alarms} false alarm{'' if alarms == 1 else 's'}, {missed} missed")
    lines = [
        [entry.what, f"{entry.row.score:.4f}", entry.label.words, shown(entry.row.photo)]
        for entry in reviewed.disagreements
    ]
    if lines:
        table(["", "score", "words", "photo"], lines)

"""`promptad inspect`: judge a folder of photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from promptad.cli.console import EXIT_INTERRUPTED, Failures, progress_stages, say, table, warn
from promptad.cli.takes import takes
from promptad.requests.inspecting import InspectRequest

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.run.inspection import Report


@takes(InspectRequest, arguments=("photos",), required=("photos",))
def inspect(request: InspectRequest) -> None:
    """Judge photos: table, heat maps at photo size, and one HTML page, worst first.

    Give a saved detector (--model), or good photos to learn from now (--good), or neither with --method faprompt,
    anomalyclip, promptad-zs, rwda or clip; good photos then set the threshold. A second run into the same folder goes on
    where the first one stopped; another threshold judges the same scores anew. Exit codes: 0 all judged, 3 some photos
    could not be read or judged, or a file about them not be written, 2 nothing could be done, 130 interrupted.
    """
    failures = Failures()
    with progress_stages("learning from good photos", "inspecting") as (learning, judging):
        detector, report = request.run(learning=learning, judging=judging, said=warn, failed=failures)
    show(report, detector)
    if report.interrupted:
        warn("interrupted; finished photos are kept, run the same command again to go on")
        raise SystemExit(EXIT_INTERRUPTED)
    failures.end()


def show(report: Report, detector: Detector, most: int = 12) -> None:
    """Prints the worst photos, the counts and the names of the files."""
    scored = [row for row in report.rows if row.score is not None]
    lines = []
    for row in scored[:most]:
        word = row.defects[0] if row.defects else None
        share = word and (word.image_probability if word.region_probability is None else word.region_probability)
        best = f"{word.words} ({share:.0%})" if word else ""
        lines.append([f"{row.score:.4f}", row.verdict, best, Path(row.photo).name])
    if lines:
        regions = any(word.region_probability is not None for row in scored for word in row.defects)
        table(["score", "verdict", f"nearest words ({'hottest region' if regions else 'whole photo'})", "photo"], lines)
    if len(scored) > most:
        say(f"... and {len(scored) - most} more in {report.csv}")
    say()
    say("photos     " + ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items()))
    say(f"backbone   {detector.backbone.identity}")
    if detector.calibration:
        say(f"threshold  {detector.calibration.threshold:.4g}. {detector.calibration.note}")
    else:
        say("threshold  none, so no verdicts: good photos (--good) set one, or give your own (--threshold)")
    say(f"table      {report.csv}")
    say(f"page       {report.page}")

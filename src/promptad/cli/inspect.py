"""`promptad inspect`: judge a folder of photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from promptad.cli.console import EXIT_INTERRUPTED, Failures, progress_stages, say, table, warn
from promptad.cli.takes import takes
from promptad.requests.inspecting import InspectRequest

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.prediction import DefectWord
    from promptad.run.inspection import Report


@takes(InspectRequest, arguments=("photos",), required=("photos",))
def inspect(request: InspectRequest) -> None:
    """Judge photos: table, heat maps at photo size, and one HTML page, worst first.

    Give a saved detector (--model), or good photos to learn from now (--good), or neither with a method that does without them
    (such as --method faprompt; good photos then set the threshold) or with photos that nobody has sorted (--unlabelled). A
    second run into the same folder goes on where the first one stopped; another threshold judges the same scores anew. Exit
    codes: 0 all judged, 3 some photos could not be read or judged, or a file about them not be written, 2 nothing could be
    done, 130 interrupted.
    """
    failures = Failures()
    learned = "unlabelled" if request.unlabelled else "good"
    with progress_stages(f"learning from {learned} photos", "inspecting") as (learning, judging):
        detector, report = request.run(learning=learning, judging=judging, said=warn, failed=failures)
    show(report, detector)
    if report.interrupted:
        warn("interrupted; finished photos are kept, run the same command again to go on")
        raise SystemExit(EXIT_INTERRUPTED)
    failures.end()


def show(report: Report, detector: Detector, most: int = 12) -> None:
    """Prints the worst photos, the counts and the names of the files."""
    from promptad.run.inspection import way_to_threshold  # once something was judged, torch is loaded anyway

    scored = [row for row in report.rows if row.score is not None]
    lines = []
    for row in scored[:most]:
        word = row.defects[0] if row.defects else None
        best = f"{word.words} ({_shares(word)})" if word else ""
        lines.append([f"{row.score:.4f}", row.verdict, best, Path(row.photo).name])
    if lines:
        regions = any(word.region_probability is not None for row in scored for word in row.defects)
        of = "whole photo, hottest region" if regions else "whole photo"
        table(["score", "verdict", f"nearest words ({of})", "photo"], lines)
    if len(scored) > most:
        say(f"... and {len(scored) - most} more in {report.csv}")
    say()
    say("photos     " + ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items()))
    if report.discoveries is not None:
        say(f"chosen     {report.discoveries.text}")
    say(f"backbone   {detector.backbone.identity}")
    if detector.calibration:
        say(f"threshold  {detector.calibration.threshold:.4g}. {detector.calibration.note}")
        if detector.calibration.map_threshold is not None:
            say(f"regions    above {detector.calibration.map_threshold:.4g}. {detector.calibration.map_note}")
    else:
        say(f"threshold  none, so no verdicts. {way_to_threshold(detector)}")
    say(f"table      {report.csv}")
    say(f"page       {report.page}")


def _shares(word: DefectWord) -> str:
    """Both probabilities: words are ranked by the two together, so one alone may be near 0 in the first of them."""
    values = (word.image_probability, word.region_probability)
    return ", ".join(f"{value:.0%}" for value in values if value is not None)

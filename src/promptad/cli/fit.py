"""`promptad fit`: learn a product from good photos and save the detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from promptad.cli.console import Failures, progress, say, table, warn
from promptad.cli.takes import takes
from promptad.data.files import shown
from promptad.requests.detecting import FitRequest

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.requests.refitting import Refit


@takes(FitRequest, arguments=("good",), required=("output",))
def fit(request: FitRequest) -> None:
    """Learn a product from good photos, set the threshold from them, and save the detector.

    With --model a new detector is made from a saved one: what people marked good on the report (--labels) joins the good photos, and
    what they marked defective sets the other side of the threshold; or with --threshold only that is another one. Nothing is written over.
    """
    failures = Failures()
    if request.model is not None:
        with progress("learning from good photos") as update:
            done, output = request.refit(progress=update, said=warn, failed=failures)
        show_changes(done)
        _end(done.detector, output)
        failures.end()
        return
    with progress("learning from good photos") as update:
        detector, output = request.run(progress=update, said=warn, failed=failures)
    count = sum("copy_of" not in photo for photo in detector.good)
    faulty = len(detector.anomalies)
    labelled = f" and {faulty} defective one{'s' if faulty > 1 else ''}" if faulty else ""
    say(f"object     {detector.object}, from {count} good photo{'s' if count > 1 else ''}{labelled}")
    say(f"method     {detector.entry.title}, preset {detector.preset}")
    say(f"backbone   {detector.backbone.identity}")
    say(f"words      {detector.words.describe()}")
    _end(detector, output)
    failures.end()


def _end(detector: Detector, output: Path | None) -> None:
    """What was tuned, the threshold, the file, and what comes next."""
    if detector.tuned:
        for number, line in enumerate(detector.tuned.lines()):
            say(f"{'' if number else 'tuned':11}{line}")
    if detector.calibration:
        say(f"threshold  {detector.calibration.threshold:.4g}")
        say(f"           {detector.calibration.note}")
        if detector.calibration.map_note:
            say(f"regions    above {detector.calibration.map_threshold:.4g}. {detector.calibration.map_note}")
    say(f"saved      {output}")
    say(f"next       promptad inspect PHOTOS --model {output} -o out/")


def show_changes(done: Refit, most: int = 20) -> None:
    """Prints what a refit changed: the verdicts of labelled photos before and after, and what got worse."""
    detector, old = done.detector, done.threshold_before
    say(f"object     {detector.object}, made from {shown(done.parent)} (sha256 {done.digest[:8]})")
    if not done.judgements and not done.joined and not done.left_out:
        say("learned    nothing; only the threshold is another one")
        say(f"was        {'no threshold' if old is None else f'threshold {old:.4g}'}")
        return
    say(f"good       {done.joined} joined{f', {done.left_out} left out, marked defective' if done.left_out else ''}")
    if done.rows:
        say(f"memory     at most {done.rows} patches a layer, those farthest apart")
    before, now = done.mistakes()
    say(
        f"labelled   {len(done.judgements)} photos, {before} judged wrong before, {now} now (good ones without themselves)"
    )
    changed = [entry for entry in done.judgements if entry.was != entry.now and entry.after is not None]
    lines = [
        [
            entry.label.label,
            f"{entry.before:.4f} {_verdict(entry.was)}",
            f"{entry.after:.4f} {_verdict(entry.now)}",
            "worse" if entry in done.worse else "",
            shown(entry.photo),
        ]
        for entry in sorted(changed, key=lambda entry: entry not in done.worse)
    ]
    if lines:
        table(["label", "before", "now", "", "photo"], lines[:most])
    if len(lines) > most:
        say(f"... and {len(lines) - most} more whose verdict changed")
    say(f"worse      {len(done.worse)} photos that were judged right and are not any more")
    say(f"was        {'no threshold' if old is None else f'threshold {old:.4g}'}")


def _verdict(anomalous: bool | None) -> str:
    return {True: "anomalous", False: "normal", None: "no verdict"}[anomalous]

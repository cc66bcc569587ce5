"""`promptad fit`: learn a product from good photos and save the detector."""

from __future__ import annotations

from promptad.cli.console import Failures, progress, say, warn
from promptad.cli.takes import takes
from promptad.requests.detecting import FitRequest


@takes(FitRequest, arguments=("good",), required=("good", "object", "output"))
def fit(request: FitRequest) -> None:
    """Learn a product from good photos, set the threshold from them, and save the detector."""
    failures = Failures()
    with progress("learning from good photos") as update:
        detector, output = request.run(progress=update, said=warn, failed=failures)
    count = sum("copy_of" not in photo for photo in detector.good)
    faulty = len(detector.anomalies)
    labelled = f" and {faulty} defective one{'s' if faulty > 1 else ''}" if faulty else ""
    say(f"object     {detector.object}, from {count} good photo{'s' if count > 1 else ''}{labelled}")
    say(f"method     {detector.entry.title}, preset {detector.preset}")
    say(f"backbone   {detector.backbone.identity}")
    say(f"words      {detector.words.describe()}")
    if detector.calibration:
        say(f"threshold  {detector.calibration.threshold:.4g}")
        say(f"           {detector.calibration.note}")
    say(f"saved      {output}")
    say(f"next       promptad inspect PHOTOS --model {output} -o out/")
    failures.end()

"""`promptad verify`: check what promptad wrote as evidence, and recompute verdicts from it."""

from __future__ import annotations

from promptad.cli.console import EXIT_SOME_FAILED, Failures, progress_stages, say, warn
from promptad.cli.takes import takes
from promptad.requests.verifying import VerifyRequest


@takes(VerifyRequest, arguments=("file",), required=("file",))
def verify(request: VerifyRequest) -> None:
    """Check an audit log: whether a line was altered, taken out or put in, and (with photos and detector) whether its verdicts come out.

    Exit codes: 0 all holds, 3 something does not, or a photo could not be read; 2 nothing could be checked.
    """
    failures = Failures()
    with progress_stages("verifying") as (stage,):
        checked = request.run(progress=stage, failed=failures)
    say(f"entries    {checked.photos} photos, {checked.begins} begins of a watch, {checked.drifts} drifts")
    say(f"time       {checked.first or 'none'} to {checked.last or 'none'}")
    if checked.present is not None:
        say(f"photos     {checked.present} of {checked.photos} are there with the content that was judged")
    if request.model is not None:
        say(f"recomputed {checked.recomputed} verdicts; {checked.others} are another detector's")
    if checked.moved:
        say(
            f"threshold  {checked.moved} of them were judged by another threshold than the detector's own, as the log says"
        )
    for line in checked.told:
        warn(line)
    if checked.faults > len(checked.told):
        warn(f"{checked.faults - len(checked.told)} faults more")
    say(f"digest     {checked.head or 'none'} (keep it elsewhere: --kept shows later that nothing was cut off)")
    say(f"result     {f'{checked.faults} faults' if checked.faults else 'holds'}")
    if checked.faults:
        raise SystemExit(EXIT_SOME_FAILED)
    failures.end()

"""`promptad verify`: check what promptad wrote as evidence, and recompute verdicts from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptad.cli.console import EXIT_SOME_FAILED, Failures, progress_stages, say, warn
from promptad.cli.takes import takes
from promptad.requests.verifying import VerifyRequest

if TYPE_CHECKING:
    from promptad.run.protocol_check import ProtocolCheck
    from promptad.run.recomputing import AuditCheck


@takes(VerifyRequest, arguments=("file",), required=("file",))
def verify(request: VerifyRequest) -> None:
    """Check an audit log or the protocol of an acceptance test: whether anything was altered, and (with photos and detector) whether it comes out.

    Exit codes: 0 all holds, 3 something does not, or a photo could not be read; 2 nothing could be checked.
    """
    from promptad.run.recomputing import AuditCheck

    failures = Failures()
    with progress_stages("verifying") as (stage,):
        checked = request.run(progress=stage, failed=failures)
    if isinstance(checked, AuditCheck):
        _say_audit(checked, request)
    else:
        _say_protocol(checked, request)
    for line in checked.told:
        warn(line)
    if checked.faults > len(checked.told):
        warn(f"{checked.faults - len(checked.told)} faults more")
    digest = checked.head if isinstance(checked, AuditCheck) else checked.digest
    say(f"digest     {digest or 'none'} (keep it elsewhere: --kept shows later that nothing was cut off)")
    say(f"result     {f'{checked.faults} faults' if checked.faults else 'holds'}")
    if checked.faults:
        raise SystemExit(EXIT_SOME_FAILED)
    failures.end()


def _say_audit(checked: AuditCheck, request: VerifyRequest) -> None:
    """What an audit log holds."""
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


def _say_protocol(checked: ProtocolCheck, request: VerifyRequest) -> None:
    """What a protocol holds, and what was computed again."""
    say(f"protocol   {checked.photos} photos, tested by {checked.who or 'nobody who is named'}, {checked.when}")
    if not checked.page:
        say("page       made by another version of promptad, so not compared with its data; its digest was")
    if checked.present is not None:
        say(f"photos     {checked.present} of {checked.photos} are there with the content that was tested")
    if request.model is not None:
        say(
            f"recomputed {checked.recomputed} scores; those that hold differ by {checked.largest:.1e} of themselves at most, as sums in another order do"
        )
    if checked.doubtful:
        say(f"threshold  {checked.doubtful} of them lie so near to it that this machine judges them otherwise")

"""`promptad accept`: what a saved detector misses and falsely alarms, and what that proves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptad.cli.console import Failures, progress, say, table, warn
from promptad.cli.takes import takes
from promptad.data.files import shown
from promptad.requests.accepting import AcceptRequest

if TYPE_CHECKING:
    from promptad.calibration.acceptance import Acceptance, Share
    from promptad.run.acceptance import Accepted


@takes(AcceptRequest, arguments=("model",), required=("model",))
def accept(request: AcceptRequest) -> None:
    """Test a saved detector on photos of which people know whether they are good: what it misses, what it falsely alarms, what that proves.

    Intervals are exact (Clopper-Pearson) and hold for photos that are drawn like these. Writes a protocol that `promptad verify` checks.
    The detector is not changed. Exit codes: 0 all
    photos judged, 3 some could not be read, 2 nothing could be tested.
    """
    failures = Failures()
    with progress("judging") as update:
        accepted = request.run(progress=update, said=warn, failed=failures)
    show(accepted)
    failures.end()


def show(accepted: Accepted) -> None:
    """Prints counts, intervals, tables and the cheapest threshold."""
    from promptad.calibration.acceptance import AREA_WORDS, proved_words

    result = accepted.result
    missed, alarmed = result.missed, result.alarmed
    left = f", {len(accepted.left_out)} left out" if accepted.left_out else ""
    say(f"detector   {shown(accepted.model)} (sha256 {accepted.digest[:8]}), threshold {result.threshold:.4g}")
    say(f"photos     {missed.photos} defective, {alarmed.photos} good{left}")
    say(f"missed     {_told(missed, result.confidence)}")
    say(f"alarmed    {_told(alarmed, result.confidence)}")
    say(f"proved     {proved_words(missed, result.confidence, 'miss')}")
    say(f"           {proved_words(alarmed, result.confidence, 'false alarm')}")
    if result.kinds:
        say()
        _shares("kind of defect", result.kinds)
    for source, shares in result.sizes.items():
        say()
        _shares(f"size, side of the square of its area ({AREA_WORDS[source]})", shares)
    say()
    _promises(result)
    _trade_off(accepted)
    say()
    say(f"protocol   {shown(accepted.protocol)}")
    say(f"digest     {accepted.protocol_digest} (keep it elsewhere: --kept shows later that nothing was changed)")
    say(f"check      promptad verify {shown(accepted.protocol)} --photos PHOTOS --model {shown(accepted.model)}")


def _told(share: Share, confidence: float) -> str:
    from promptad.calibration.acceptance import percent

    if not share.photos:
        return "no photo"
    return (
        f"{share.mistakes} of {share.photos} {share.name} ({percent(share.mistakes / share.photos)}; "
        f"{100 * confidence:g} %: {percent(share.low)} to {percent(share.high)})"
    )


def _shares(what: str, shares: Sequence[Share]) -> None:
    from promptad.calibration.acceptance import percent

    lines = [
        [share.name, str(share.mistakes), str(share.photos), f"{percent(share.low)} to {percent(share.high)}"]
        for share in shares
    ]
    table([what, "missed", "of", "share missed"], lines)


def _promises(result: Acceptance) -> None:
    """How many photos more other promises need."""
    from promptad.calibration.acceptance import percent

    lines = [
        [f"at most {percent(p.share)}", str(p.bad) if p.bad else "proved", str(p.good) if p.good else "proved"]
        for p in result.promises
    ]
    table(
        [f"to prove at {100 * result.confidence:g} %", "bad photos more, none missed", "good photos more, no alarm"],
        lines,
    )


def _trade_off(accepted: Accepted) -> None:
    """What the thresholds cost, and the command that makes the cheapest one permanent."""
    result = accepted.result
    if result.costs is None or result.cheapest is None:
        return
    now, best, costs = result.present, result.cheapest, result.costs
    say()
    say(
        f"costs      a miss {costs.miss:g}, a false alarm {costs.alarm:g}, {100 * costs.share:.3g} % of parts defective"
    )
    say(f"now        threshold {now.threshold:.6g}: {now.missed} missed, {now.alarmed} alarmed, {now.cost:.4g} a part")
    if not accepted.permanent:
        say("cheapest   no other threshold costs less on these photos")
        return
    say(
        f"cheapest   threshold {best.threshold:.6g}: {best.missed} missed, {best.alarmed} alarmed, {best.cost:.4g} a part"
    )
    say("           chosen on these photos, so it looks better here than it is; test it on others")
    say(f"permanent  {accepted.permanent}")

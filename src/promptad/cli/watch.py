"""`promptad watch`: judge photos as they arrive in a folder."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from promptad.cli.console import EXIT_INTERRUPTED, EXIT_SOME_FAILED, say, warn
from promptad.cli.takes import takes
from promptad.data.files import shown
from promptad.requests.watching import WatchRequest

if TYPE_CHECKING:
    from promptad.report.rows import Row


@takes(WatchRequest, arguments=("inbox",), required=("inbox", "model"))
def watch(request: WatchRequest) -> None:
    """Judge photos as they arrive in a folder: each once, when it is whole, with an audit log; survives kills and full disks.

    Results are added to results.jsonl and results.csv, verdicts to audit.jsonl (`promptad verify` checks it). The same command goes on
    where an earlier one stopped. Exit codes: 0 ended, 3 photos failed or events wait for a receiver, 2 it could not begin, 130
    interrupted.
    """
    say(f"watching   {request.inbox}, results in {request.output}")
    detector, watched = request.run(judged=_show, said=warn)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in watched.counts.items()) or "none"
    say(f"photos     {counts}; {watched.before} judged before, {watched.repeats} files repeat a judged content")
    say(
        f"threshold  {detector.calibration.threshold:.4g}"
        if detector.calibration
        else "threshold  none, so no verdicts"
    )
    say(f"table      {request.output / 'results.csv'}")
    say(f"audit log  {request.output / 'audit.jsonl'}")
    for receiver, count in watched.waiting.items():
        warn(f"{receiver}: {count} events wait; the next watch into this folder sends them")
    if watched.interrupted:
        raise SystemExit(EXIT_INTERRUPTED)
    if watched.counts.get("failed") or watched.waiting:
        raise SystemExit(EXIT_SOME_FAILED)


def _show(row: Row) -> None:
    score = row.error if row.score is None else f"{row.score:.4f}"
    say(f"{time.strftime('%H:%M:%S')}  {row.verdict:12}  {score}  {shown(row.photo)}")
    sys.stdout.flush()  # a service's log is read while it runs

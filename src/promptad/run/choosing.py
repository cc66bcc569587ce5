"""Photos of a folder chosen together, at a false discovery rate: `promptad inspect` with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from promptad.calibration.discovery import Discoveries, discover
from promptad.detector import Detector
from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.report.rows import Discovery, Row
from promptad.run.remarks import LEARNED


def require_good(detector: Detector) -> None:
    """Raises ConfigError where no good photos are known that others can be compared with."""
    calibration = detector.calibration
    if calibration is None or not calibration.compared:
        raise ConfigError(
            f"{argument('fdr')}: the p-values that photos are chosen by need scores of different good photos, and this detector has none; "
            f"fit it to more than one ({argument('good')}), or hold some out ({argument('held_out')})"
        )


def choose(
    detector: Detector, rows: Sequence[Row], rate: float, *, interrupted: bool
) -> tuple[list[Row], Discoveries | None]:
    """The rows with what was chosen from them, and the choice, which is said; None where a run was interrupted.

    All photos that were judged are one batch, but for those that the detector learned from.
    """
    calibration = detector.calibration
    assert calibration is not None  # `require_good`
    if interrupted:
        notice("the run was interrupted, and photos are chosen from a whole batch: none is chosen until it is finished")
        return list(rows), None
    batch = [n for n, row in enumerate(rows) if row.score is not None and LEARNED not in row.remarks]
    discoveries = discover([rows[n].score or 0.0 for n in batch], calibration.compared, rate)
    notice(discoveries.text)
    if calibration.how == "leave-one-out":
        notice(
            "the good photos were each scored without themselves by what was learned from the others, so p-values and false discovery rate hold "
            f"approximately; good photos that only set the threshold ({argument('held_out')}) make them exact"
        )
    out = list(rows)
    for n, chosen in zip(batch, discoveries.chosen.tolist(), strict=True):
        out[n] = replace(rows[n], discovery=Discovery(rate, chosen))
    return out, discoveries

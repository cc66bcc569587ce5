"""The labelled anomalies that methods learn from, drawn out of the test set, which loses them.

DRA (CVPR 2022) has two settings: "general" draws from all types of damage; "hard" draws from one type, and every photo of that
type leaves the test set, so that all that is asked for was never seen.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from promptad.data.parts import PhotoRef
from promptad.data.records import Record
from promptad.data.shots import draw_shots
from promptad.errors import DataError
from promptad.inputs import argument

AnomalyDraw = Literal["general", "hard"]


@dataclass(frozen=True)
class DrawnAnomalies:
    """Labelled anomalies of one fit.

    Attributes:
        learned: what is learned from. removed: what the test set loses, those learned among it; the same for every number of
            anomalies of a protocol, so that their rows are on the same photos.
        draw: how they were drawn. kind: the type of damage of a "hard" draw, else "".
        problems: a line for each photo that was passed over, since it cannot be read.
    """

    learned: tuple[Record, ...]
    removed: tuple[Record, ...]
    draw: AnomalyDraw
    kind: str = ""
    problems: tuple[str, ...] = ()

    def key(self, digest: Callable[[PhotoRef], str]) -> dict[str, Any]:
        """What a unit's result depends on, JSON-ready."""
        groups = {"learned": self.learned, "removed": self.removed}
        return {"draw": self.draw} | {name: [digest(r.photo) for r in records] for name, records in groups.items()}

    def described(self, name: Callable[[PhotoRef], str]) -> dict[str, Any]:
        """What the file of a unit says of them."""
        return {
            "number": len(self.learned),
            "draw": self.draw,
            "type": self.kind,
            "learned": [name(record.photo) for record in self.learned],
            "removed": [name(record.photo) for record in self.removed],
        }


def draw_anomalies(
    records: Sequence[Record],
    number: int,
    most: int,
    draw: AnomalyDraw,
    seed: int,
    problem: Callable[[PhotoRef], str | None],
) -> DrawnAnomalies:
    """Draws `number` labelled anomalies of one class out of its test photos.

    A smaller number's are among those of a larger one with the same seed.

    Args:
        records: of one class. most: the largest number of the protocol, whose photos every row's test set loses.
        problem: why a photo cannot be read, or None.

    Raises:
        DataError: fewer anomalies, or of one type, than are asked for, or none left to test.
    """
    name = records[0].class_name if records else "class"
    known = {record.photo: record for record in records if record.split == "test" and record.label == 1}
    kind, pool = "", known
    if draw == "hard":
        kind = _kind(name, list(known.values()), most, seed)
        pool = {photo: record for photo, record in known.items() if record.defect_type == kind}
    drawn: list[Record] = []
    passed = []
    for photo in draw_shots(list(pool), len(pool), seed) if pool else []:
        if len(drawn) < most:
            reason = problem(photo)
            if reason is None:
                drawn.append(pool[photo])
            else:
                passed.append(reason)
    removed = list(pool.values()) if draw == "hard" else drawn
    if len(drawn) < most or len(removed) == len(known):
        left = "" if len(drawn) < most else ", and none would be left to test"
        raise DataError(
            f"{name}: {most} labelled anomalies were asked for, its test photos have {len(pool)}{left}; "
            f"choose fewer ({argument('anomalies')}) or leave the class out"
        )
    return DrawnAnomalies(tuple(drawn[:number]), tuple(removed), draw, kind, tuple(passed))


def _kind(name: str, anomalous: Sequence[Record], most: int, seed: int) -> str:
    """The type of damage of a hard draw: one of those with enough photos."""
    types = sorted({record.defect_type for record in anomalous})
    enough = [kind for kind in types if sum(record.defect_type == kind for record in anomalous) >= most]
    if len(types) < 2 or not enough:
        reason = (
            f"{len(types)} type{'s' if len(types) != 1 else ''} of damage; expected two or more"
            if len(types) < 2
            else f"no type of damage with {most} photos or more"
        )
        raise DataError(
            f"{name}: has {reason} for a hard draw; choose {argument('anomaly_draw', 'general')}, or leave the class out"
        )
    rng = np.random.default_rng(zlib.crc32(f"{seed} {name}".encode()))
    return enough[int(rng.integers(len(enough)))]

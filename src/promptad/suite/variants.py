"""Rows of a plan as an evaluation takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from promptad.bench.protocol import Protocol
from promptad.bench.variants import Variant, make_variants
from promptad.errors import ConfigError
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict
from promptad.saved.prompts import Learned
from promptad.suite.plan import Plan, RowPlan, row_label


def check_rows(plan: Plan) -> None:
    """Refuses settings of rows before anything is loaded. Raises ConfigError, which names the row."""
    plan.require_content()
    for row in plan.rows:
        try:
            find_method(row.method).make_config(row.preset, **row.settings)
            _check_learned(row)
            [variant, *_] = make_variants([row.method], [row.preset], row.settings, row.parts) or [None]
            if variant is not None:
                Protocol(
                    (replace(variant, **_own(row)),),
                    plan.shots,
                    plan.seeds,
                    conventions=plan.convention,
                    **draws(plan),
                )
        except ConfigError as error:
            raise ConfigError(f"{plan.source}: {row_label(row)}: {error}") from error


def _check_learned(row: RowPlan) -> None:
    """Refuses trainings and files of trained prompts where nothing would use them. Raises ConfigError."""
    if not find_method(row.method).trained:
        idle = [name for name in ("train", "weights") if getattr(row, name)]
        if idle:
            raise ConfigError(f"{' and '.join(idle)}: {row.method} is not trained beforehand; leave it out")
    elif row.train is not None and row.weights:
        raise ConfigError("prompts come from train or from weights; leave one of them out")


def draws(plan: Plan) -> dict[str, Any]:
    """Which test photos and labelled anomalies all rows have, as a protocol takes it."""
    return {"limit": plan.limit, "anomalies": plan.anomalies, "anomaly_draw": plan.anomaly_draw}


def _own(row: RowPlan) -> dict[str, Any]:
    return {"shots": row.shots, "runs": row.seeds, "conventions": tuple(row.convention.items())}


def row_variants(row: RowPlan, learned: Sequence[Learned], suffix: str = "") -> list[Variant]:
    """A row as an evaluation takes it. `suffix` is added to its name."""
    settings = dict(row.settings)
    if row.train is not None and learned:
        # Trainings are shared by rows that differ in what may be chosen afterwards; each row has its own choice.
        entry, file = find_method(row.method), learned[0]
        own, there = (config_dict(c) for c in (entry.make_config(row.preset, **settings), file.make_config({})))
        settings |= {key: own[key] for key in entry.free if key in own and own[key] != there[key]}
        settings.pop("seed", None)
    variants = make_variants([row.method], [row.preset], settings, row.parts, learned)
    return [
        replace(variant, name=", ".join(word for word in (row.name, variant.name, suffix) if word), **_own(row))
        for variant in variants
    ]

"""The tables of a benchmark over all its sets: each set, the means of groups, and paired tests."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from promptad.bench import notes
from promptad.bench.summary import COLUMNS, Cell, Line, summarise
from promptad.bench.tables import Report, Table, aligned, make_report, selected
from promptad.bench.uncertainty import Comparison, RowScores, compare
from promptad.data.shots import shots_order, shots_word
from promptad.suite.run import SetResult, SuiteResult

SHOWN = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max (oracle threshold)",
    "pixel_auroc": "pixel AUROC",
    "aupro_30": "AUPRO@0.3",
    "aupro_200": "AUPRO-200",
}
ALL = "all sets"
_BEYOND_TERMINALS = {SHOWN[column] for column in ("image_ap", "image_f1_max", "aupro_30", "aupro_200")}


@dataclass(frozen=True)
class Row:
    """One row over all sets: its line on each set that it was measured on."""

    line: Line
    by_set: Mapping[str, Line]

    @property
    def scores(self) -> RowScores:
        """Scores of all classes of all sets."""
        return RowScores(
            {f"{name}/{kind}": runs for name, line in self.by_set.items() for kind, runs in line.scores.classes.items()}
        )

    def cell(self, column: str, sets: Sequence[str]) -> Cell | None:
        """The mean over sets of their means over classes, and its spread over runs; None where a set has no number."""
        cells = [self.by_set[name].cells[column] if name in self.by_set else None for name in sets]
        known = [cell for cell in cells if cell is not None]
        if not known or len(known) < len(cells):
            return None
        runs = {cell.runs for cell in known}
        if len(runs) == 1:
            means = [statistics.fmean(values) for values in zip(*(cell.by_run for cell in known), strict=True)]
        else:
            means = [statistics.fmean(cell.mean for cell in known)]
        std = statistics.stdev(means) if len(means) > 1 else None
        return Cell(statistics.fmean(means), std, len(means), tuple(sets), tuple(means))


def heading(result: SuiteResult) -> str:
    """The benchmark's title; a first look says that it is one."""
    limit = result.plan.limit
    return f"{result.plan.title} (first look, {limit} photos a class and label)" if limit else result.plan.title


def set_report(result: SetResult) -> Report:
    """The report on one set, as `promptad evaluate` makes it."""
    protocols = [protocol for protocol, _ in result.protocols]
    merged = replace(protocols[0], variants=tuple(v for protocol in protocols for v in protocol.variants))
    backbones = list(dict.fromkeys(backbone.identity for _, backbone in result.protocols))
    name = result.protocols[0][1].title if len(backbones) == 1 else ""
    return make_report(result.plan.title, merged, (name, "; ".join(backbones)), result.outcome)


def overview_rows(result: SuiteResult) -> list[Row]:
    """All rows, by shots and in the plan's order, with their lines on the sets."""
    by_row: dict[tuple[int, str, str], dict[str, Line]] = {}
    for of_set in result.sets:
        for line in summarise(of_set.outcome.units):
            by_row.setdefault((line.shots, line.label, line.selection), {})[of_set.plan.title] = line
    rows = [Row(next(iter(lines.values())), lines) for lines in by_row.values()]
    return sorted(rows, key=lambda row: shots_order(row.line.shots))  # stable: the plan's order within a k


def group_sets(result: SuiteResult, column: str) -> dict[str, list[str]]:
    """Group -> its sets that have such numbers, for groups of two sets and more; "all sets" last."""
    having = [
        of_set.plan.title
        for of_set in result.sets
        if any(row["metrics"][column] is not None for unit in of_set.outcome.units for row in unit["rows"])
    ]
    groups: dict[str, list[str]] = {}
    for of_set in result.sets:
        for group in of_set.groups if of_set.plan.title in having else ():
            groups.setdefault(group, []).append(of_set.plan.title)
    groups = {group: sets for group, sets in groups.items() if len(sets) > 1}
    return {**groups, ALL: having} if len(having) > 1 else groups


def overview_tables(result: SuiteResult) -> list[Table]:
    """One table a metric: rows over the sets and the means of their groups; and the paired tests."""
    rows = overview_rows(result)
    made = []
    for column in SHOWN:
        groups = group_sets(result, column)
        names = [s.plan.title for s in result.sets if any(s.plan.title in r.by_set for r in rows)]
        having = [name for name in names if any(r.by_set[name].cells[column] for r in rows if name in r.by_set)]
        if not having:
            continue
        body = tuple(
            (
                *_key(row),
                *(notes.percent(row.cell(column, sets)) for sets in [*([name] for name in having), *groups.values()]),
            )
            for row in rows
        )
        made.append(Table(SHOWN[column], ("method", "shots", "runs", "selection", *having, *groups), body))
    tests = paired_rows(rows)
    if tests:
        titles = ("shots", "row", "against the best", "difference", "95 %", "p", "p (Holm)")
        made.append(
            Table("paired tests in image AUROC against the best row, mean over all classes of all sets", titles, tests)
        )
    return made


def _key(row: Row) -> tuple[str, str, str, str]:
    line = row.line
    return line.label, shots_word(line.shots), str(max(len(own.seeds) for own in row.by_set.values())), selected(line)


def paired_rows(rows: Sequence[Row]) -> tuple[tuple[str, ...], ...]:
    """Each row against the best one with as many shots, on the same photos, with p values adjusted by Holm's step-down."""
    made: list[tuple[str, ...]] = []
    for shots in dict.fromkeys(row.line.shots for row in rows):
        scored = [(row, row.scores) for row in rows if row.line.shots == shots and not row.line.oracle]
        scored = [(row, scores) for row, scores in scored if scores.draws is not None]
        if len(scored) < 2:
            continue
        best, best_scores = max(scored, key=lambda pair: pair[1].auroc)
        pairs = [(row, compare(scores, best_scores)) for row, scores in scored if row is not best]
        known = [(row, pair) for row, pair in pairs if pair is not None]
        for (row, pair), adjusted in zip(known, holm([pair.p for _, pair in known]), strict=True):
            made.append(_test_row(shots, row, best, pair, adjusted))
    return tuple(made)


def _test_row(shots: int, row: Row, best: Row, pair: Comparison, adjusted: float) -> tuple[str, ...]:
    p, q = (f"{value:.3f}" if value >= 0.001 else "< 0.001" for value in (pair.p, adjusted))
    interval = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"
    return shots_word(shots), row.line.label, best.line.label, f"{100 * pair.difference:+.1f}", interval, p, q


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number by Holm's step-down (Scandinavian Journal of Statistics 6, 1979), in their order."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def for_terminal(tables: Sequence[Table]) -> list[Table]:
    """Those of the tables over all sets that a terminal shows."""
    return [table for table in tables if table.title not in _BEYOND_TERMINALS]


def plain_text(table: Table) -> str:
    """A table for a terminal."""
    return "\n".join([table.title, *aligned([table.columns, *table.rows])])


def overview_csv(result: SuiteResult) -> str:
    """Every row, set and group with every mean and standard deviation as fractions."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "where",
            "kind",
            "method",
            "preset",
            "name",
            "parts",
            "shots",
            "selection",
            "backbone",
            "metric",
            "mean",
            "std",
            "runs",
        ]
    )
    groups = {column: group_sets(result, column) for column in SHOWN}
    for row in overview_rows(result):
        line = row.line
        what = [line.method, line.preset, line.name, line.parts, shots_word(line.shots), line.selection, line.backbone]
        for column in COLUMNS:
            places = [(name, "set", [name]) for name in row.by_set]
            places += [(name, "group", sets) for name, sets in groups.get(column, {}).items()]
            for name, kind, sets in places:
                cell = row.cell(column, sets)
                if cell is not None:
                    deviation = "" if cell.std is None else f"{cell.std:.6f}"
                    writer.writerow([name, kind, *what, column, f"{cell.mean:.6f}", deviation, cell.runs])
    return out.getvalue()

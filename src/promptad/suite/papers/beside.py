"""Tables in a paper's own shape: our numbers and the printed ones side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from promptad.bench import notes
from promptad.bench.comparison import spread
from promptad.bench.published import COLUMNS, METRICS, Number
from promptad.bench.summary import Cell, Line, by_class
from promptad.bench.tables import Table
from promptad.data.shots import shots_order, shots_word, shots_words
from promptad.suite.overview import Row, overview_rows
from promptad.suite.papers.plans import PaperPlan, Point
from promptad.suite.papers.printed import GROUPS, Printed, printed
from promptad.suite.run import SetResult, SuiteResult

_NONE = "–"


@dataclass(frozen=True)
class Measured:
    """Our rows of an experiment by the row of print that they belong to."""

    made: PaperPlan
    result: SuiteResult

    @cached_property
    def rows(self) -> list[Row]:
        """Our rows over all sets."""
        return overview_rows(self.result)

    @cached_property
    def printed(self) -> Printed:
        """What is printed."""
        return printed(self.made.experiment)

    def row_name(self, line: Line) -> str:
        """The name of the plan's row that a line is of."""
        names = [row.name for row in self.made.plan.rows if row.method == line.method and row.preset == line.preset]
        own = [name for name in names if line.name == name or line.name.startswith(f"{name}, ") or not name]
        return max(own, key=len, default="")

    def method(self, line: Line) -> str:
        """What print calls a line's row; of figures, our own name."""
        name = self.row_name(line)
        known = self.made.names.get((name, line.parts)) or self.made.names.get((name, ""))
        return (known or name or line.label) + (" (oracle epoch)" if line.oracle else "")

    def point(self, line: Line) -> Point | None:
        """Where a line stands in a figure."""
        return self.made.points.get(self.row_name(line))

    def set_result(self, key: str) -> SetResult | None:
        """What was measured on a set."""
        return next((of_set for of_set in self.result.sets if of_set.plan.title == key), None)

    def members(self, key: str) -> list[str]:
        """The sets that a mean is over, of those that are there."""
        measured = [s.plan.title for s in self.result.sets if s.outcome.units]
        if key not in GROUPS:
            return [key] if key in measured else []
        return [s.plan.title for s in self.result.sets if key in s.groups and s.plan.title in measured]

    def why_apart(self, key: str) -> str:
        """Why no difference to print may be shown of a set; "" where one may."""
        if self.made.plan.limit:
            return "only some photos were scored"
        if self.made.wish.settings:
            return "settings are not the paper's"
        for name in self.members(key):
            of_set = self.set_result(name)
            if of_set is not None and (of_set.data.facts is None or of_set.data.differences):
                return f"{name} is not the whole set"
        return "" if self.members(key) else f"{key} is not there"


def paper_tables(made: PaperPlan, result: SuiteResult) -> list[Table]:
    """The tables of an experiment; none for figures without numbers."""
    measured, kind = Measured(made, result), made.experiment.kind
    if kind == "means":
        return [_means(measured)]
    if kind == "classes":
        return list(_classes(measured))
    return [_sweep(measured)] if kind == "sweep" else []


def apart_lines(made: PaperPlan, result: SuiteResult) -> list[str]:
    """One for every set whose numbers may not be compared with print."""
    measured = Measured(made, result)
    reasons = {key: measured.why_apart(key) for key in measured.printed.sets}
    shared = {reason for reason in reasons.values() if reason}
    return [f"no differences to print: {reason}" for reason in sorted(shared)]


def column_of(measured: Measured, metric: str) -> str:
    """The column of an evaluation that a printed metric is compared with."""
    of_paper = (n.column for _, n in measured.printed.means if n.metric == metric)
    return next(of_paper, COLUMNS[metric])


def _means(measured: Measured) -> Table:
    made, shown = measured.made, measured.printed
    metrics = made.experiment.metrics
    body = []
    for key in shown.sets:
        own = [row for row in measured.rows if set(measured.members(key)) & set(row.by_set)]
        ours = {(measured.method(row.line), row.line.shots): row for row in own}
        order = dict.fromkeys([*((n.method, n.shots) for k, n in shown.means if k == key), *ours])
        for method, shots in sorted(order, key=lambda pair: shots_order(pair[1])):
            cells: list[str] = []
            for metric in metrics:
                number = shown.mean(key, method.removesuffix(" (oracle epoch)"), metric, shots)
                cells += _triple(measured, key, ours.get((method, shots)), metric, number)
            mark = next((n.mark for k, n in shown.means if (k, n.method) == (key, method)), "")
            body.append((f"{method}{mark}", shots_word(shots), key, *cells))
    columns = [word for metric in metrics for word in (METRICS[metric], "printed", "difference")]
    return Table(made.experiment.title, ("method", "shots", "set", *columns), tuple(body))


def _triple(measured: Measured, key: str, row: Row | None, metric: str, number: Number | None) -> Iterator[str]:
    cell = row.cell(column_of(measured, metric), measured.members(key)) if row is not None else None
    yield notes.percent(cell)
    yield _NONE if number is None else spread(number.mean, number.std)
    yield _difference(measured, key, row, cell, number)


def _difference(measured: Measured, key: str, row: Row | None, cell: Cell | None, number: Number | None) -> str:
    if row is None or cell is None or number is None or measured.why_apart(key):
        return _NONE
    same = number.backbone.startswith(row.line.backbone.split("/")[0]) and bool(row.line.backbone)
    return f"{100 * cell.mean - number.mean:+.1f}" if same else _NONE


def _classes(measured: Measured) -> Iterator[Table]:
    """Classes over methods and numbers of good photos; a cell is ours, and print's in brackets."""
    for key in measured.printed.sets:
        of_set = measured.set_result(key)
        lines = by_class(of_set.outcome.units) if of_set is not None else []
        ours = {(measured.method(line), line.shots, line.class_name): line for line in lines}
        for metric in measured.made.experiment.metrics:
            yield _class_table(measured, key, metric, ours)


def _class_table(measured: Measured, key: str, metric: str, ours: Mapping[tuple[str, int, str], Line]) -> Table:
    made, shown, column = measured.made, measured.printed, column_of(measured, metric)
    columns = [(c.method, c.shots) for c in shown.classes if (c.data_set, c.metric) == (key, metric)]
    columns += [(n.method, n.shots) for k, n in shown.means if (k, n.metric) == (key, metric)]
    heads = list(dict.fromkeys([*columns, *((method, shots) for method, shots, _ in ours)]))
    heads.sort(key=lambda pair: shots_order(pair[1]))
    of_print = {head: shown.column(key, head[0].removesuffix(" (oracle epoch)"), metric, head[1]) for head in heads}
    names = [name for c in of_print.values() if c is not None for name in c.values]
    body = []
    for name in dict.fromkeys([*names, *(class_name for _, _, class_name in ours)]):
        cells = []
        for method, shots in heads:
            line, column_values = ours.get((method, shots, name)), of_print[method, shots]
            value = None if column_values is None else column_values.values.get(name)
            cells.append(_pair(line.cells[column] if line is not None else None, value))
        body.append((name, *cells))
    body.append(("mean", *(_class_mean(measured, key, metric, head) for head in heads)))
    titles = (f"{method}, {shots_words(shots)}" if shots else method for method, shots in heads)
    title = f"{made.experiment.title} ({key}; in brackets as printed)"
    return Table(title, ("class", *titles), tuple(body))


def _class_mean(measured: Measured, key: str, metric: str, head: tuple[str, int]) -> str:
    shown, rows = measured.printed, [row for row in measured.rows if key in row.by_set]
    row = next((r for r in rows if (measured.method(r.line), r.line.shots) == head), None)
    method = head[0].removesuffix(" (oracle epoch)")
    column = shown.column(key, method, metric, head[1])
    number = shown.mean(key, method, metric, head[1])
    value = (column.mean, column.std) if column is not None and column.mean is not None else None
    if value is None and number is not None:
        value = (number.mean, number.std)
    return _pair(row.cell(column_of(measured, metric), [key]) if row is not None else None, value)


def _pair(cell: Cell | None, value: tuple[float, float | None] | None) -> str:
    own = notes.percent(cell)
    return own if value is None else f"{own} ({spread(*value)})"


def sweep_points(measured: Measured, metric: str, key: str) -> list[tuple[Point, Row, Cell]]:
    """(place, row, value) of the rows of a figure on one set, or on a group of sets."""
    column, points = column_of(measured, metric), []
    for row in measured.rows:
        point, cell = measured.point(row.line), row.cell(column, measured.members(key))
        if point is not None and cell is not None:
            points.append((point, row, cell))
    return points


def _sweep(measured: Measured) -> Table:
    experiment = measured.made.experiment
    keys = [key for key in experiment.sets if measured.members(key)]
    pairs = [(key, metric) for key in keys for metric in experiment.metrics]
    cells_of: dict[tuple[str, str, int, str], dict[tuple[str, str], Cell]] = {}
    for pair in pairs:
        for point, row, cell in sweep_points(measured, pair[1], pair[0]):
            where = (point.curve, f"{point.axis} = {point.x}", row.line.shots, row.line.selection)
            cells_of.setdefault(where, {})[pair] = cell
    body = [
        (
            curve + (" (oracle epoch)" if selection != "last" else ""),
            x,
            shots_word(shots),
            *tuple(notes.percent(cells.get(pair)) for pair in pairs),
        )
        for (curve, x, shots, selection), cells in cells_of.items()
    ]
    return Table(experiment.title, ("row", "at", "shots", *(f"{k} {METRICS[m]}" for k, m in pairs)), tuple(body))

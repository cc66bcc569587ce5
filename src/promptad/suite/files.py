"""The files of a benchmark: units as JSON lines, tables as Markdown, CSV and LaTeX, each set's own files, and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptad import __version__
from promptad.bench.files import write_report
from promptad.bench.tables import Report, Table, markdown, markdown_table, tables
from promptad.data.files import write_atomic
from promptad.suite.overview import heading, overview_csv, set_report
from promptad.suite.page import Lead, write_page
from promptad.suite.run import SuiteResult


def write_suite(
    result: SuiteResult, over: Sequence[Table], out: Path, command: str = "", lead: Lead = Lead()
) -> list[Path]:
    """Writes everything that a benchmark gave; the page is last.

    Args:
        over: its tables over all sets. command: that made it, for the page. lead: what its page begins with.

    Raises:
        DataError: it cannot be written.
    """
    reports = {of_set.plan.title: set_report(of_set) for of_set in result.sets if of_set.protocols}
    every = [*over, *(table for report in reports.values() for table in _titled(report))]
    contents = {
        "units.jsonl": units_jsonl(result),
        "overview.csv": overview_csv(result),
        "tables.md": suite_markdown(result, over, reports, lead.remarks),
        "tables.tex": latex(heading(result), every),
    }
    for name, content in contents.items():
        write_atomic(out / name, content)
    written = [out / name for name in contents]
    for title, report in reports.items():
        folder = out / "sets" / slug(title)
        folder.mkdir(parents=True, exist_ok=True)
        write_report(report, folder)
        written.append(folder / "table.md")
    written += _write_figures(lead, out)
    return [*written, write_page(result, over, reports, out, command, lead)]


def _write_figures(lead: Lead, out: Path) -> list[Path]:
    """Each drawn figure as a file of its own."""
    drawn = [figure for figure in lead.figures if figure.svg]
    if drawn:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    paths = [out / "figures" / f"{slug(figure.title)}.svg" for figure in drawn]
    for path, figure in zip(paths, drawn, strict=True):
        write_atomic(path, figure.svg)
    return paths


def slug(title: str) -> str:
    """A folder's name from a title."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-.") or "set"


def units_jsonl(result: SuiteResult) -> str:
    """One line a unit: everything but the scores of single photos, which `sets/<set>/scores.csv` has."""
    lines = []
    for of_set in result.sets:
        for unit in of_set.outcome.units:
            rows = [{key: value for key, value in row.items() if key != "scores"} for row in unit["rows"]]
            content: dict[str, Any] = {"set": of_set.plan.title, **unit, "rows": rows}
            content.pop("test")
            lines.append(json.dumps(content, ensure_ascii=False, allow_nan=False))
    return "".join(f"{line}\n" for line in lines)


def suite_markdown(
    result: SuiteResult, over: Sequence[Table], reports: dict[str, Report], remarks: Sequence[str] = ()
) -> str:
    """All tables as one Markdown page."""
    head = [f"# {heading(result)}", "", f"- promptad: {__version__}"]
    head += [f"- {name}: {words}" for name, words in _facts(result)]
    head += [f"- {line}" for line in remarks]
    body = [line for table in over for line in ("", *markdown_table(table))]
    lines = [*head, "", "Numbers are percent: means over classes, ± sample standard deviation over runs.", *body, ""]
    if result.problems:
        lines += ["## Not measured", "", *(f"- {line}" for line in result.problems), ""]
    sets = "\n".join(markdown(report).replace("\n## ", "\n### ").replace("# ", "## ", 1) for report in reports.values())
    return "\n".join(lines) + "\n" + sets


def _facts(result: SuiteResult) -> list[tuple[str, str]]:
    facts = []
    for of_set in result.sets:
        data, units = of_set.data, of_set.outcome.units
        classes = len({unit["class"] for unit in units})
        known = f"{data.facts.title}, {data.facts.stated_licence}" if data.facts is not None else "no public set"
        differs = f"; {data.differences[0]}" if data.differences else ""
        facts.append((of_set.plan.title, f"{classes} classes, {len(units)} units; {known}{differs}"))
    return facts


def _titled(report: Report) -> list[Table]:
    return [Table(f"{report.title}: {table.title}", table.columns, table.rows) for table in tables(report, full=True)]


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}
_LATEX |= {mark: f"\\{mark}" for mark in "&%$#_{}"}


def latex(title: str, made: Sequence[Table]) -> str:
    """Tables for a paper, with the package booktabs."""
    parts = [f"% {title}; promptad {__version__}; needs \\usepackage{{booktabs}}"]
    for table in made:
        parts += [
            "",
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{latex_text(table.title)}}}",
            f"\\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            r"\toprule",
            _latex_row(table.columns),
            r"\midrule",
            *(_latex_row(row) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    return "\n".join([*parts, ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def latex_text(text: str) -> str:
    """Text with LaTeX's own marks escaped."""
    return "".join(_LATEX.get(mark, mark) for mark in text)

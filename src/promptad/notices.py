"""Lines about what was assumed, left out or not used, so that nothing that decides a result happens in silence.

A value is given, found in a file that says so, or assumed with a line; an input is used, or named as not used. Such a line
is no error: the work goes on. Python users get it as a warning of the category :class:`PromptadNotice`, the commands print
it on stderr, and a run that writes a report collects its lines for the page.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_collectors: list[list[str]] = []
_gatherers: list[dict[str, dict[str, str]]] = []
_trials = 0


class PromptadNotice(UserWarning):
    """Something was assumed, left out or not used; ``str(notice)`` is one line that says what, and the way out."""


def notice(text: str) -> None:
    """Says one line. The same text is said again only where the caller's warning filters ask for it.

    Args:
        text: what was assumed or left out, of which file, and how to decide it otherwise.
    """
    if _trials:
        return
    line = " ".join(text.split())
    for collector in _collectors:
        if line not in collector:
            collector.append(line)
    warnings.warn(line, PromptadNotice, stacklevel=3)


def notice_about(subject: str, alone: str, many: str) -> None:
    """Says one line about one subject of several; inside :func:`gathered_notices` one line about all of them.

    Args:
        subject: what the line is about, such as the name of an object.
        alone: the line about it. many: the line about several, with "{}" for their names, the same text for all.
    """
    if not _gatherers:
        notice(alone)
        return
    lines = _gatherers[-1].setdefault(many, {})
    lines.setdefault(subject, alone)


@contextmanager
def gathered_notices() -> Iterator[None]:
    """Inside, lines of :func:`notice_about` wait, and are said at the end: one for all subjects of which it says the same."""
    gathered: dict[str, dict[str, str]] = {}
    _gatherers.append(gathered)
    try:
        yield
    finally:
        _gatherers[:] = [other for other in _gatherers if other is not gathered]
        for many, lines in gathered.items():
            notice(next(iter(lines.values())) if len(lines) == 1 else many.format(", ".join(lines)))


@contextmanager
def only_looking() -> Iterator[None]:
    """Inside, nothing is said: for looking at what may never be used. Whatever is used then must be read again, outside."""
    global _trials
    _trials += 1
    try:
        yield
    finally:
        _trials -= 1


@contextmanager
def collected_notices(*, earlier: bool = False) -> Iterator[list[str]]:
    """Inside, the lines that are said are also put into the list that this gives, each text once, in order.

    Args:
        earlier: begin with what the blocks around this one have collected so far, as a report does that is written at the
            end of a command.
    """
    before = [line for outer in _collectors for line in outer] if earlier else []
    collector = list(dict.fromkeys(before))
    _collectors.append(collector)
    try:
        yield collector
    finally:
        # By identity: two collectors with equal lines are equal lists.
        _collectors[:] = [other for other in _collectors if other is not collector]

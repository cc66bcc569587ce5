"""How all commands talk to a person: results on stdout, everything else on stderr, no tracebacks.

rich is imported only where something is drawn on a terminal; pipes and logs get plain lines instead.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, TextIO

from promptad.errors import PromptadError
from promptad.inputs import named_as_options
from promptad.notices import PromptadNotice

EXIT_ERROR = 2
EXIT_SOME_FAILED = 3
"""Done, but something that was asked for could not be read, judged, measured or made."""
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE, what a shell reports for any tool whose reader went away."""

Update = Callable[[int, int | None], None]
"""Called with what is done and what there is in all (None: not known), in the unit of the progress."""


def say(text: str = "") -> None:
    """Write a result line to stdout."""
    _write(sys.stdout, text)


def warn(text: str) -> None:
    """Write a ``warning:`` line to stderr."""
    _write(sys.stderr, f"warning: {_one_line(text)}")


class Failures:
    """Warns of what could not be read or done; the command then ends with exit code 3, its results stand."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, line: str) -> None:
        """One line about one failure, shown once."""
        if line not in self._said:
            self._said.add(line)
            warn(line)

    def end(self) -> None:
        """Ends the command with `EXIT_SOME_FAILED` if there was one."""
        if self._said:
            sys.stdout.flush()
            raise SystemExit(EXIT_SOME_FAILED)


@contextmanager
def show_notices() -> Iterator[None]:
    """Inside, warnings are lines on stderr, each text once: promptad's own as ``note: ...``, others as ``warning: ...``.

    What they and errors say of inputs is said of options.
    """
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        text = _one_line(str(message))
        if text not in shown:
            shown.add(text)
            _write(sys.stderr, f"note: {text}" if issubclass(category, PromptadNotice) else f"warning: {text}")

    with warnings.catch_warnings():
        # Pillow warns about damaged metadata of photos that it then reads well; errors reach people as lines of their own.
        warnings.filterwarnings("ignore", module="PIL")
        # Python would hold back a second text from the same place in the code.
        warnings.filterwarnings("always", category=PromptadNotice)
        warnings.showwarning = show
        with named_as_options():
            yield


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Around a command, as ``with friendly_errors():`` or ``@friendly_errors()``: errors become one line.

    Exit codes: 2 for a :class:`PromptadError` or a refusal by the operating system, 130 after Ctrl-C, 141
    when the reader of stdout went away. Errors in the program itself keep their traceback: they are bugs.
    """
    try:
        with named_as_options():
            yield
        sys.stdout.flush()  # inside, so that a reader that went away is noticed here and not at exit
    except PromptadError as error:
        _fail(str(error), EXIT_ERROR, error)
    except KeyboardInterrupt as error:
        _write(sys.stderr, "interrupted; finished results are kept")
        raise SystemExit(EXIT_INTERRUPTED) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
            _discard_stdout()
            raise SystemExit(EXIT_BROKEN_PIPE) from error
        if error.strerror is None:
            raise
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror, EXIT_ERROR, error)


def _fail(text: str, code: int, cause: BaseException) -> None:
    _write(sys.stderr, f"error: {_one_line(text)}")
    raise SystemExit(code) from cause


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout: drawn on a terminal, aligned plain columns elsewhere. Cells are plain text."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*columns, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
        Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def progress(title: str, *, unit: Literal["bytes", "count"] = "count") -> Iterator[Update]:
    """Show how far something is, on stderr: a bar on a terminal, a line every tenth elsewhere.

    Example::

        with progress("scoring") as update:
            for done, photo in enumerate(photos, 1):
                ...
                update(done, len(photos))
    """
    if not sys.stderr.isatty():
        yield _Lines(title, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    text = TextColumn("{task.description}", markup=False)
    bar = Progress(text, BarColumn(), amount, Remaining(), console=Console(stderr=True))
    task = bar.add_task(title, total=None)

    def update(done: int, total: int | None) -> None:
        bar.start()  # only now: a pull that finds its file in place draws nothing
        bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        bar.stop()


@contextmanager
def progress_stages(*titles: str) -> Iterator[list[Update]]:
    """One progress for each stage of a work, shown one after the other: a terminal has room for one bar at a time."""
    with ExitStack() as bars:
        open_bars: dict[str, Update] = {}

        def stage(title: str) -> Update:
            def update(done: int, total: int | None) -> None:
                if title not in open_bars:
                    bars.close()
                    open_bars[title] = bars.enter_context(progress(title))
                open_bars[title](done, total)

            return update

        yield [stage(title) for title in titles]


class _Lines:
    """Progress for logs: a line at each tenth and every five minutes, or every ten seconds where the whole is not known."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.tenth = -1
        self.next_time = 0.0
        self.began: tuple[float, int] | None = None

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if total:
            self.began = self.began or (now, done)
            tenth = 10 * done // total
            if tenth <= self.tenth and now < self.next_time:
                return
            self.tenth, self.next_time = tenth, now + 300
            amount = f"{100 * done // total} % ({self._amount(done)} of {self._amount(total)})"
            _write(
                sys.stderr,
                f"{self.title}: {amount}{time_left(now - self.began[0], done - self.began[1], total - done)}",
            )
        elif now >= self.next_time:
            self.next_time = now + 10
            _write(sys.stderr, f"{self.title}: {self._amount(done)}")

    def _amount(self, number: int) -> str:
        return f"{number / 1e6:.1f} MB" if self.unit == "bytes" else str(number)


def time_left(seconds: float, done: int, rest: int) -> str:
    """ ", about 3 min left" for `rest` pieces of work at the pace of `done` in `seconds`; "" where that says nothing yet."""
    if done <= 0 or rest <= 0 or seconds < 1:
        return ""
    left = seconds * rest / done
    if left < 60:
        return f", about {left:.0f} s left"
    minutes = round(left / 60)
    return f", about {minutes} min left" if minutes < 120 else f", about {minutes // 60} h {minutes % 60} min left"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _write(stream: TextIO, text: str) -> None:
    try:
        print(text, file=stream)
    except UnicodeEncodeError:  # a file name that this terminal cannot show must not end the run
        encoding = stream.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _discard_stdout() -> None:
    """Send what is still buffered to nowhere, or Python complains about the closed pipe at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return

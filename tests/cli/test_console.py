"""Errors, results and progress as they reach a person, a pipe or a log."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest

from promptad.cli.console import friendly_errors, progress, say, table, time_left, warn
from promptad.errors import PhotoError, WeightsError


def stopped_by(error: BaseException) -> int:
    with pytest.raises(SystemExit) as stop, friendly_errors():
        raise error
    return int(stop.value.code)


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped_by(WeightsError("a file\n  is  missing")) == 2
    assert capsys.readouterr() == ("", "error: a file is missing\n")


def test_a_refusal_by_the_system_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped_by(PermissionError(errno.EACCES, "Permission denied", "/x/y.jpg")) == 2
    assert stopped_by(OSError(errno.ENOSPC, "No space left on device")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: /x/y.jpg: Permission denied", "error: No space left on device"]


def test_ctrl_c_says_that_results_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert stopped_by(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted; finished results are kept\n"


def test_bugs_keep_their_traceback() -> None:
    for bug in (ValueError("bug"), OSError("without a reason")):
        with pytest.raises(type(bug)), friendly_errors():
            raise bug


def test_as_a_decorator_it_keeps_the_signature(capsys: pytest.CaptureFixture[str]) -> None:
    import inspect

    @friendly_errors()
    def command(photo: str, count: int = 1) -> int:
        """Doc."""
        if count == 0:
            raise PhotoError(photo)
        return count

    assert command("a") == 1 and command("a", count=3) == 3
    for _ in range(2):  # works more than once
        with pytest.raises(SystemExit):
            command("bad.jpg", 0)
    assert capsys.readouterr().err == "error: bad.jpg\n" * 2
    assert list(inspect.signature(command).parameters) == ["photo", "count"] and command.__doc__ == "Doc."


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX shells")
def test_a_reader_that_goes_away_makes_no_noise() -> None:
    code = (
        "from promptad.cli.console import friendly_errors, say\n"
        "with friendly_errors():\n"
        "    for number in range(200_000): say(str(number))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None and writer.stderr is not None
    assert writer.stdout.readline() == b"0\n"
    writer.stdout.close()
    with writer.stderr as errors:
        assert errors.read() == b""
    assert writer.wait(timeout=30) == 141


def test_names_that_the_terminal_cannot_show_do_not_end_the_run() -> None:
    code = "from promptad.cli.console import say, warn\nsay('K\\u00e4se \\udcff'); warn('\\u4e2d')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stdout) == (0, b"K\\xe4se \\udcff\n")
    assert done.stderr == b"warning: \\u4e2d\n"


def test_results_and_warnings_go_to_different_streams(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]not markup[/bold]")
    warn("two\nlines")
    assert capsys.readouterr() == ("[bold]not markup[/bold]\n", "warning: two lines\n")


def test_a_table_in_a_pipe_is_aligned_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    table(["name", "n"], [["a", "1"], ["longer name", "22"]])
    assert capsys.readouterr().out == "name         n\na            1\nlonger name  22\n"
    table(["name"], [])
    assert capsys.readouterr().out == "name\n"


def test_a_table_on_a_terminal_is_drawn_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    table(["file"], [["[red]/a/very/long/path/to/a/photo.jpg"]])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 20
    assert "".join(line.strip() for line in lines[1:]) == "[red]/a/very/long/path/to/a/photo.jpg"


def test_progress_in_a_log_is_a_line_a_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("scoring") as update:
        for done in range(1, 1001):
            update(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[1] == "scoring: 10 % (100 of 1000)" and lines[-1] == "scoring: 100 % (1000 of 1000)"
    with progress("pulling", unit="bytes") as update:
        update(1_500_000, None)
        update(1_600_000, None)  # within the same ten seconds
    assert capsys.readouterr().err == "pulling: 1.5 MB\n"


@pytest.mark.parametrize(
    ("seconds", "done", "rest", "words"),
    [
        (0.0, 5, 5, ""),
        (10.0, 0, 5, ""),
        (10.0, 5, 0, ""),
        (10.0, 5, 20, ", about 40 s left"),
        (60.0, 1, 5, ", about 5 min left"),
        (600.0, 1, 90, ", about 15 h 0 min left"),
    ],
)
def test_time_left_in_words(seconds: float, done: int, rest: int, words: str) -> None:
    assert time_left(seconds, done, rest) == words


def test_a_long_work_in_a_log_says_the_time_left_and_is_never_silent_for_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("promptad.cli.console.time.monotonic", lambda: clock[0])
    with progress("scoring") as update:
        for done in range(1, 102):  # a piece every minute
            update(done, 1001)
            clock[0] += 60
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring: 0 % (1 of 1001)"
    assert lines[1] == "scoring: 0 % (6 of 1001), about 16 h 35 min left"
    assert lines[-1] == "scoring: 10 % (101 of 1001), about 15 h 0 min left"
    assert len(lines) == 21


def test_progress_on_a_terminal_is_a_bar_once_there_is_something_to_show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress("pulling", unit="bytes"):
        pass
    assert capsys.readouterr().err == ""
    with progress("pulling", unit="bytes") as update:
        update(3_000_000, 6_000_000)
    assert "3.0/6.0 MB" in capsys.readouterr().err


def test_an_error_inside_progress_passes_through() -> None:
    with pytest.raises(PhotoError), progress("scoring") as update:
        update(1, 2)
        raise PhotoError("x")

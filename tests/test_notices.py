"""Lines about what was assumed reach Python users, the commands and the report."""

from __future__ import annotations

import pytest

from promptad.cli.console import show_notices
from promptad.notices import PromptadNotice, collected_notices, gathered_notices, notice, notice_about


def test_a_notice_is_a_warning_of_its_own_category_on_one_line():
    with pytest.warns(PromptadNotice, match="^a.png: assumed RGB$"):
        notice("a.png:\n  assumed RGB")


def test_collected_each_text_once_in_order_and_only_inside():
    with pytest.warns(PromptadNotice), collected_notices() as outer:
        notice("first")
        with collected_notices() as inner:
            notice("second")
            notice("first")
            notice("second")
        notice("third")
    with pytest.warns(PromptadNotice):
        notice("fourth")
    assert outer == ["first", "second", "third"]
    assert inner == ["second", "first"]


def test_commands_print_each_text_once_on_stderr(capsys):
    with show_notices():
        for _ in range(3):
            notice("b.png: the mask is soft")
        notice("c.png: the mask is soft")
    assert capsys.readouterr().err.splitlines() == ["note: b.png: the mask is soft", "note: c.png: the mask is soft"]


def test_a_report_at_the_end_of_a_command_knows_what_was_said_before_it():
    with pytest.warns(PromptadNotice), collected_notices() as command:
        notice("while the words were read")
        with collected_notices() as alone, collected_notices(earlier=True) as report:
            notice("while photos were judged")
            notice("while the words were read")
        notice("after the report")
    assert report == ["while the words were read", "while photos were judged"]
    assert alone == ["while photos were judged", "while the words were read"]
    assert command == ["while the words were read", "while photos were judged", "after the report"]


def test_what_is_the_same_of_several_subjects_is_one_line():
    with collected_notices() as lines, gathered_notices():
        for name, origin in (("nut", "A"), ("cap", "A"), ("nut", "A"), ("pcb", "B")):
            notice_about(name, f"{name} alone", f"{{}} of {origin}")
        assert lines == []
    assert lines == ["nut, cap of A", "pcb alone"]
    with collected_notices() as lines:
        notice_about("nut", "nut alone", "{} of A")
    assert lines == ["nut alone"]


def test_gathered_lines_are_said_when_the_work_fails():
    with collected_notices() as lines, pytest.raises(ZeroDivisionError), gathered_notices():
        notice_about("nut", "nut alone", "{} of A")
        raise ZeroDivisionError
    assert lines == ["nut alone"]

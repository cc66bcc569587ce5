"""Jobs over processes: order, errors, workers that die."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import pytest

from promptad.errors import DataError
from promptad.notices import PromptadNotice, notice
from promptad.suite.processes import Context, Tick, run_jobs


@dataclass(frozen=True)
class Drawn:
    """A job that does what its word says."""

    title: str
    cost: int
    word: str = "double"

    def run(self, context: Context, tick: Tick) -> Any:
        tick(self.cost)
        if self.word == "fail":
            raise DataError(f"{self.title}: cannot be; leave it out")
        if self.word == "die":
            os._exit(7)
        if self.word == "bug":
            raise ZeroDivisionError("a bug")
        if self.word == "note":
            notice("something was assumed")
        return os.getpid() if self.word == "process" else context.shared * self.cost


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_jobs_and_errors_are_lines(processes: int):
    jobs = [Drawn("a", 1), Drawn("b", 5, "fail"), Drawn("c", 3)]
    ticks: list[int] = []
    done = run_jobs(jobs, Context({}, 10), processes=processes, tick=ticks.append)
    assert [d.result for d in done] == [10, None, 30] and sum(ticks) == 9
    assert done[1].error == "b: cannot be; leave it out" and done[0].error == ""


def test_a_worker_that_dies_costs_its_job_alone():
    jobs = [Drawn("dies", 9, "die"), *(Drawn(f"{n}", 1) for n in range(5))]
    done = run_jobs(jobs, Context({}, 10), processes=2, tick=lambda _: None)
    assert "exit code 7" in done[0].error and [d.result for d in done[1:]] == [10] * 5


def test_where_all_workers_die_every_job_has_its_line():
    done = run_jobs([Drawn(f"{n}", 1, "die") for n in range(4)], Context({}, 1), processes=2, tick=lambda _: None)
    assert all(d.error for d in done)


def test_jobs_are_spread_and_notices_come_back():
    with pytest.warns(PromptadNotice, match="something was assumed"):
        run_jobs([Drawn("a", 1, "note"), Drawn("b", 1)], Context({}, 1), processes=2, tick=lambda _: None)
    done = run_jobs([Drawn(f"{n}", 1, "process") for n in range(6)], Context({}, 1), processes=2, tick=lambda _: None)
    assert os.getpid() not in {d.result for d in done}


def test_a_bug_in_a_worker_is_a_bug_here():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_jobs([Drawn("a", 1, "bug"), Drawn("b", 1)], Context({}, 1), processes=2, tick=lambda _: None)
    time.sleep(0)

"""Jobs of a benchmark, one after the other or over several processes and devices.

Workers are fresh processes that talk to their parent alone: where the parent is killed, its workers end with it. A job that
fails with an error of ours is a line; a worker that dies takes its job with it, and the others go on.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import torch

from promptad.clip.backbone import Backbone, reopen
from promptad.errors import PromptadError
from promptad.notices import PromptadNotice, notice

Tick = Callable[[int], None]


class Job(Protocol):
    """Something to be done, in this process or another one.

    Attributes:
        title: for messages. cost: how much there is to do, in the unit of its ticks; the largest are begun first.
    """

    @property
    def title(self) -> str: ...

    @property
    def cost(self) -> int: ...

    def run(self, context: Context, tick: Tick) -> Any:
        """Does it; what comes back must be picklable. `tick` is told how much more is done."""


@dataclass
class Context:
    """What jobs share, and every worker gets once.

    Attributes:
        backbones: name -> loaded, or as `Backbone.source` says where it lies. shared: whatever else the jobs read.
    """

    backbones: dict[str, Backbone | dict[str, Any]]
    shared: Any = None
    _open: dict[str, Backbone] = field(default_factory=dict)

    def backbone(self, name: str) -> Backbone:
        """A backbone, loaded when it is asked for the first time."""
        if name not in self._open:
            given = self.backbones[name]
            self._open[name] = reopen(given) if isinstance(given, dict) else given
        return self._open[name]

    def sent(self, device: str) -> Context:
        """The same for a worker: weights that lie in a file are opened there again, on its device where one is named."""
        light = {name: _light(given, device) for name, given in self.backbones.items()}
        return Context(light, self.shared)


def _light(given: Backbone | dict[str, Any], device: str) -> Backbone | dict[str, Any]:
    if isinstance(given, dict) or not given.in_files:
        return given
    return {**given.source, "device": device or given.source["device"]}


@dataclass(frozen=True)
class Done:
    """A finished job: what it gave, or the line of why it could not be."""

    job: Job
    result: Any
    error: str = ""


def run_jobs(
    jobs: Sequence[Job], context: Context, *, processes: int = 1, devices: Sequence[str] = (), tick: Tick
) -> list[Done]:
    """Does all jobs; results in the order of the jobs.

    Args:
        processes: how many work at once; 1 works here. devices: where they run, in turn; none leaves backbones where they are.
        tick: told how much more is done, of the sum of all costs.
    """
    order = sorted(range(len(jobs)), key=lambda number: -jobs[number].cost)
    if min(processes, len(jobs)) <= 1:
        done = {number: _do(jobs[number], context, tick) for number in order}
    else:
        done = _Pool(jobs, context, min(processes, len(jobs)), devices or ("",), tick).run(order)
    return [done[number] for number in range(len(jobs))]


def _do(job: Job, context: Context, tick: Tick) -> Done:
    try:
        return Done(job, job.run(context, tick))
    except PromptadError as error:
        return Done(job, None, str(error))


class _Pool:
    """Workers, and what each is at."""

    def __init__(
        self, jobs: Sequence[Job], context: Context, processes: int, devices: Sequence[str], tick: Tick
    ) -> None:
        self.jobs, self.tick = jobs, tick
        self.at: dict[Connection, int] = {}
        self.workers: dict[Connection, BaseProcess] = {}
        spawn = get_context("spawn")
        threads = max(1, torch.get_num_threads() // processes)
        for number in range(processes):
            ours, theirs = spawn.Pipe()
            sent = context.sent(devices[number % len(devices)])
            worker = spawn.Process(target=_work, args=(theirs, sent, threads), daemon=True)
            worker.start()
            theirs.close()
            self.workers[ours] = worker

    def run(self, order: Sequence[int]) -> dict[int, Done]:
        """Hands out jobs until none is left."""
        left, done = list(order), {}
        try:
            for worker in self.workers:
                self._give(worker, left)
            while self.at:
                for ready in wait(list(self.at)):
                    worker = next(worker for worker in self.at if worker is ready)
                    finished = self._heard(worker)
                    if finished is not None:
                        done[self.at.pop(worker)] = finished
                        self._give(worker, left)
                if not self.workers and left:
                    for number in left:
                        done[number] = Done(self.jobs[number], None, f"{self.jobs[number].title}: no worker is left")
                    left.clear()
        finally:
            for connection, process in self.workers.items():
                connection.close()  # a worker that waits for a job ends
                process.join(0.5)
                process.terminate()
        return done

    def _give(self, worker: Connection, left: list[int]) -> None:
        if left and worker in self.workers:
            number = left.pop(0)
            self.at[worker] = number
            worker.send(self.jobs[number])

    def _heard(self, worker: Connection) -> Done | None:
        job = self.jobs[self.at[worker]]
        try:
            kind, content = worker.recv()
        except EOFError:
            process = self.workers.pop(worker)
            process.join()
            return Done(job, None, f"{job.title}: its process ended (exit code {process.exitcode}); run it again")
        if kind == "tick":
            self.tick(content)
        elif kind == "notice":
            notice(content)
        elif kind == "failed":
            raise RuntimeError(f"{job.title}: {content}")  # a bug: its traceback as the worker printed it
        else:
            return Done(job, *content)
        return None


def _work(parent: Connection, context: Context, threads: int) -> None:
    """A worker: does what it is given until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends its workers
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=PromptadNotice)
    warnings.showwarning = lambda message, category, *_, **__: (
        parent.send(("notice", str(message))) if issubclass(category, PromptadNotice) else None
    )
    try:
        while True:
            job = parent.recv()
            try:
                finished = _do(job, context, lambda more: parent.send(("tick", more)))
            except (EOFError, BrokenPipeError, ConnectionError):
                raise
            except Exception as error:
                import traceback

                parent.send(("failed", "".join(traceback.format_exception(error))))
                continue
            parent.send(("done", (finished.result, finished.error)))
    except (EOFError, BrokenPipeError, ConnectionError):
        os._exit(0)  # the parent is gone: nothing is to be flushed or reported

"""Searches side by side: processes that are copies of this one, so that compiled kernels are loaded once."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from archsim.cli._map_value import Task
from mapper._errors import MapperError, NothingFitsError

GRACE_S = 2.0
"""For which a process that is told to end may do so."""


_NONE = {"points": [], "proved_optimal": True, "gap": 0.0, "evaluated": 0, "factors": "perfect"}
"""The answer where nothing fits."""


def run_search(task: Task) -> dict[str, Any]:
    """Search in this process: the answer as a tree of JSON values, without points where nothing fits."""
    from mapper._exact import exact_search

    problem, asked = task.problem, task.asked
    objective: Any = asked.objective if len(asked.objective) > 1 else asked.objective[0]
    factors: Any = asked.factors
    start = time.perf_counter()
    try:
        found = exact_search(
            problem.einsum,
            dict(problem.sizes),
            problem.hierarchy,
            objective,
            shapes=dict(problem.shapes),
            factors=factors,
            budget=asked.budget,
        )
    except NothingFitsError:
        return _NONE | {"search_s": time.perf_counter() - start}
    seconds = time.perf_counter() - start
    return {
        "points": [
            {"mapping": str(each.nest), "energy_pj": each.cost.energy_pj, "cycles": each.cost.cycles}
            for each in found.points
        ],
        "proved_optimal": found.proved_optimal,
        "gap": found.gap,
        "evaluated": found.evaluated,
        "factors": found.factors,
        "search_s": seconds,
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    number: int | None = None
    """The task it is at."""


@dataclass(slots=True, eq=False)
class Pool:
    """Up to ``jobs`` processes; with one, or one task, the searches run in this process."""

    jobs: int
    workers: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Pool:
        """Start the processes: before anything else starts a thread, whose locks they would copy."""
        context = multiprocessing.get_context("fork")
        for _ in range(self.jobs if self.jobs > 1 else 0):
            ours, theirs = context.Pipe()
            inherited = [worker.pipe for worker in self.workers]
            process = context.Process(target=_serve, args=(theirs, [ours, *inherited]), daemon=True)
            process.start()
            theirs.close()
            self.workers.append(_Worker(process, ours))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, whatever they are at."""
        for worker in self.workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def answers(self, tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each task's number and answer, as they are found; a task without a mapping raises its error."""
        if not self.workers:
            yield from ((number, run_search(task)) for number, task in enumerate(tasks))
            return
        waiting = deque(enumerate(tasks))
        for worker in self.workers:
            _next(worker, waiting)
        while busy := {worker.pipe: worker for worker in self.workers if worker.number is not None}:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker = busy[pipe]
                number = worker.number
                assert number is not None
                answer = _received(worker)
                _next(worker, waiting)
                yield number, answer


def _next(worker: _Worker, waiting: deque[tuple[int, Task]]) -> None:
    worker.number = None
    if waiting:
        worker.number, task = waiting.popleft()
        worker.pipe.send(task)


def _received(worker: _Worker) -> dict[str, Any]:
    try:
        answer, error = worker.pipe.recv()
    except EOFError:
        worker.process.join()
        message = f"a search's process must end by itself, not with code {worker.process.exitcode}"
        raise MapperError(message) from None
    if error is not None:
        raise error
    found: dict[str, Any] = answer
    return found


def _end_with_parent() -> None:
    """Have Linux end this process when its parent ends, even if that is killed; a search may be long."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:
        os._exit(1)


_PR_SET_PDEATHSIG = 1


def _serve(pipe: Connection, others: Sequence[Connection]) -> None:
    """A process's life: search what is asked until nobody asks."""
    _end_with_parent()
    # An interruption is for the caller to see, which then ends its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        other.close()
    with suppress(EOFError, BrokenPipeError):
        while True:
            task = pipe.recv()
            try:
                pipe.send((run_search(task), None))
            except ValueError as error:
                pipe.send((None, error))

"""Cases side by side in processes that outlive neither the caller nor each other's crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Protocol

from archsim.cli._regress_store import kept
from archsim.cli._regress_value import Case, Failed, Finished, Result

GRACE_S = 3.0
"""For which processes that are told to end may remove their temporary files."""
_LISTED_LINES = 30
_SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Message = dict[str, Any]


class Board(Protocol):
    """Shows what happens."""

    def step(self, case: Case, title: str) -> None:
        """A case has come to the step called ``title``."""

    def finished(self, finished: Finished) -> None:
        """A case has ended."""


@dataclass(frozen=True, slots=True)
class Task:
    """A case that is to be run, and the key under which its result will be."""

    case: Case
    key: str


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, and what it is doing."""

    process: subprocess.Popen[str]
    log: IO[bytes]
    task: Task | None = None


def run_tasks(
    tasks: Sequence[Task], *, folder: Path, jobs: int, board: Board
) -> Generator[Finished, None, None]:
    """Run ``tasks`` in at most ``jobs`` processes, and yield each as it ends.

    A process that dies costs its own case and is replaced. When the iteration stops for any reason,
    the processes and all that they started are ended.
    """
    waiting = deque(_spread(tasks))
    messages: SimpleQueue[tuple[_Worker, Message | None]] = SimpleQueue()
    workers: set[_Worker] = set()
    try:
        while waiting and len(workers) < jobs:
            workers.add(_assign(_start(messages), waiting.popleft(), folder))
        while workers:
            worker, message = messages.get()
            task = worker.task
            if task is None or worker not in workers:
                continue
            if message is not None and "step" in message:
                board.step(task.case, message["step"])
                continue
            yield Finished(case=task.case, outcome=_outcome(worker, task, message, folder))
            if message is None or not waiting:
                workers.discard(worker)
                _end([worker])
            if waiting:
                free = _start(messages) if message is None else worker
                workers.add(_assign(free, waiting.popleft(), folder))
    finally:
        _end(workers)


def _spread(tasks: Sequence[Task]) -> list[Task]:
    """The tasks so that neighbours have different architectures: those would wait for one another."""
    rounds: dict[str, int] = {}
    numbered = []
    for task in tasks:
        rounds[task.case.job.arch] = turn = rounds.get(task.case.job.arch, 0) + 1
        numbered.append((turn, task))
    return [task for _, task in sorted(numbered, key=lambda pair: pair[0])]


def _start(messages: SimpleQueue[tuple[_Worker, Message | None]]) -> _Worker:
    """A new process in a session of its own, so that a signal reaches it with all that it started."""
    descriptor, name = tempfile.mkstemp(prefix="archsim-regress-")
    Path(name).unlink()
    log = os.fdopen(descriptor, "w+b")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "archsim.cli._regress_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_environment(),
        start_new_session=True,
        text=True,
    )
    worker = _Worker(process, log)
    threading.Thread(target=_listen, args=(worker, messages), daemon=True).start()
    return worker


def _environment() -> dict[str, str]:
    """The caller's, with its packages, and one thread for sums: more would change their last digits."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(item for item in (root, os.environ.get("PYTHONPATH")) if item)
    return os.environ | dict.fromkeys(_SINGLE_THREADED, "1") | {"PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"}


def _listen(worker: _Worker, messages: SimpleQueue[tuple[_Worker, Message | None]]) -> None:
    """Hand on what ``worker`` says, and None when it has ended."""
    assert worker.process.stdout is not None
    for line in worker.process.stdout:
        # A process that is killed leaves half a line.
        with suppress(json.JSONDecodeError):
            messages.put((worker, json.loads(line)))
    messages.put((worker, None))


def _assign(worker: _Worker, task: Task, folder: Path) -> _Worker:
    worker.task = task
    assert worker.process.stdin is not None
    request = {"case": task.case.document(), "key": task.key, "results": str(folder)}
    # A process that died already says so by the end of its output.
    with suppress(BrokenPipeError):
        worker.process.stdin.write(json.dumps(request) + "\n")
        worker.process.stdin.flush()
    return worker


def _outcome(worker: _Worker, task: Task, message: Message | None, folder: Path) -> Result | Failed:
    """What became of the task of ``worker``, which has said its last word about it."""
    result = kept(folder, task.key)
    if message is None:
        return result or Failed(message=_obituary(worker), crashed=True)
    if "error" in message:
        return Failed(message=message["error"])
    return result or Failed(message=f"the result must stay in {folder}, and is gone", crashed=True)


def _obituary(worker: _Worker) -> str:
    """How a process ended, with the last lines that it wrote."""
    code = worker.process.wait()
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    worker.log.seek(0)
    lines = worker.log.read().decode(errors="replace").splitlines()[-_LISTED_LINES:]
    return "\n".join([f"the process of the case must end well, not {how}", *lines])


def _end(workers: Sequence[_Worker] | set[_Worker]) -> None:
    """End the processes and what they started: politely, then not."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        for worker in workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.process.pid, number)
        deadline = time.monotonic() + patience
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        worker.log.close()
        for pipe in (worker.process.stdin, worker.process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()

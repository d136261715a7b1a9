"""A suite, run: what earlier runs left is read, the rest is computed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from archsim import ArchsimError
from archsim.cli._regress_pool import Task, run_tasks
from archsim.cli._regress_store import kept, key_of, prepare, program_digest
from archsim.cli._regress_value import Case, Failed, Finished

if TYPE_CHECKING:
    from types import TracebackType


class Progresses:
    """Progress on stderr: a bar and the running cases on a terminal, a line for each case elsewhere."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn())
        self._bar = Progress(
            *columns, TimeElapsedColumn(), console=self._console, disable=not self._console.is_terminal
        )
        self._all = self._bar.add_task("cases", total=total)
        self._running: dict[str, TaskID] = {}
        self._total, self._done = total, 0

    def __enter__(self) -> Progresses:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, case: Case, title: str) -> None:
        """Show what a case is at."""
        if case.name not in self._running:
            self._running[case.name] = self._bar.add_task("", total=1)
        self._bar.update(self._running[case.name], description=f"{case.name}: {title}")

    def finished(self, finished: Finished) -> None:
        """Count a case, and say how it ended."""
        self._done += 1
        if (row := self._running.pop(finished.case.name, None)) is not None:
            self._bar.remove_task(row)
        self._bar.advance(self._all)
        self._console.print(
            f"[{self._done}/{self._total}] {finished.case.name}: {_ending(finished)}", soft_wrap=True
        )


def _ending(finished: Finished) -> str:
    outcome = finished.outcome
    if isinstance(outcome, Failed):
        return "could not be run"
    word = f"{len(outcome.failures)} failures" if outcome.failures else "done"
    return f"{word}, kept from an earlier run" if finished.kept else f"{word} in {outcome.seconds:.1f} s"


def run_suite(cases: Sequence[Case], *, folder: Path, jobs: int, fresh: bool) -> tuple[Finished, ...]:
    """Every case with how it ended, in the order of ``cases``.

    Results are kept in ``folder`` as they come; ``fresh`` computes them all again.
    """
    prepare(folder)
    ended: dict[str, Finished] = {}
    tasks: list[Task] = []
    program = program_digest()
    with Progresses(len(cases)) as board:
        for case in cases:
            known = _known(case, folder, program=program, fresh=fresh)
            if isinstance(known, Finished):
                ended[case.name] = known
                board.finished(known)
            else:
                tasks.append(known)
        with closing(run_tasks(tasks, folder=folder, jobs=jobs, board=board)) as running:
            for finished in running:
                ended[finished.case.name] = finished
                board.finished(finished)
    return tuple(ended[case.name] for case in cases)


def _known(case: Case, folder: Path, *, program: str, fresh: bool) -> Finished | Task:
    """The case's end, where it needs no process: an earlier result, or files that cannot be read."""
    try:
        key = key_of(case, program=program)
    except ArchsimError as error:
        return Finished(case=case, outcome=Failed(message=str(error)))
    result = None if fresh else kept(folder, key)
    return Finished(case=case, outcome=result, kept=True) if result else Task(case, key)

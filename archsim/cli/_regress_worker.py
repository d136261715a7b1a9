"""A process that runs cases: one JSON object a line comes in, lines about its progress go out.

Its input is also its lifeline: when the pipe closes, whoever asked is gone, and so the process and
everything that it started end too. A result is on disk before it is announced.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from archsim._errors import ArchsimError
from archsim.cli._errors import _user_errors
from archsim.cli._progress import Steps
from archsim.cli._regress_store import keep, key_of, program_digest
from archsim.cli._regress_value import Case, case_of

GRACE_S = 5.0
"""For which a process that is told to end may clean up."""


@dataclass(frozen=True, slots=True)
class _Announced(Steps):
    """Steps that are told to the process which shows them."""

    out: IO[str] | None = None

    @contextmanager
    def __call__(self, title: str) -> Iterator[Callable[[str], None]]:
        """Announce ``title``."""
        _say(self.out, {"step": title})
        yield lambda detail: _say(self.out, {"step": f"{title}: {detail}"})


def main() -> None:
    """Run the cases that standard input names, until it closes."""
    asked, told = _own_pipes()
    signal.signal(signal.SIGTERM, _end)
    waiting: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked, waiting), daemon=True).start()
    while True:
        _run(json.loads(waiting.get()), told)


def _own_pipes() -> tuple[IO[str], IO[str]]:
    """The pipes to the caller, out of reach of the tools that are started and of what they print."""
    asked, told = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return asked, told


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _listen(asked: IO[str], waiting: SimpleQueue[str]) -> None:
    for line in asked:
        waiting.put(line)
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


def _run(request: dict[str, Any], told: IO[str]) -> None:
    """Run one case; a defect of ours ends the process with its traceback, which the caller shows."""
    # Compilers and arrays are imported here, so that the lifeline is held from the first moment.
    from archsim.cli._regress_case import run_case

    folder, case, key = Path(request["results"]), case_of(request["case"]), request["key"]
    try:
        result = run_case(case, locks=folder, steps=_Announced(out=told))
        _require_unchanged(case, key)
        keep(folder, key, result)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _say(told, {"error": f"{name}{error.strerror or error}"})
    except ValueError as error:
        if not isinstance(error, _user_errors()):
            raise
        _say(told, {"error": str(error)})
    else:
        _say(told, {"done": True})


def _require_unchanged(case: Case, key: str) -> None:
    """Refuse a result under the key of files that were edited meanwhile: it may be of either content."""
    if key_of(case, program=program_digest()) != key:
        raise ArchsimError("the files of the case must stay as they are while it runs, and did not")


def _say(out: IO[str] | None, message: dict[str, object]) -> None:
    if out is not None:
        out.write(json.dumps(message) + "\n")
        out.flush()


if __name__ == "__main__":
    main()

"""Programs that this process started, and their end when it is told to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_AGAIN_S = 0.2


@contextmanager
def ended_together() -> Iterator[None]:
    """While the body runs, a signal that tells this process to end does so to all that it started.

    Python's own way is to leave them running after SIGTERM, and to wait for them after SIGINT. The body
    sees KeyboardInterrupt, so that it removes its temporary files. Outside of the main thread, which
    alone is told, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # nohup and a shell's background jobs have some ignored, and mean it.
    heard = [number for number in _NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A thread that was about to start a program starts it after this, and waits for it.
    threading.Thread(target=_keep_ending, daemon=True).start()
    raise KeyboardInterrupt


def _keep_ending() -> None:
    while True:
        for process in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        time.sleep(_AGAIN_S)


def descendants(process: int) -> list[int]:
    """Processes that ``process`` started and that they started, as Linux lists them."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may hold anything; behind it are the state and the parent.
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = list(children.get(process, ()))
    for child in found:
        found += children.get(child, ())
    return found

"""Progress on stderr, so that stdout stays the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


EVERY_S = 10.0
"""Between two lines about how far a step is, where there is no terminal."""


def roughly(seconds: float) -> str:
    """A time ahead in words, of one unit.

    >>> roughly(3), roughly(100), roughly(9000), roughly(1e7)
    ('under a minute', 'about 2 minutes', 'about 2 hours', 'about 116 days')
    """
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:,.0f} {unit}"
    return "about a minute" if seconds >= 60 else "under a minute"


@dataclass(slots=True, eq=False)
class Details:
    """How far a step is, as lines of a log: none for a short step, and one now and then for a long one."""

    console: Console
    title: str
    every_s: float = EVERY_S
    said_s: float = field(default_factory=time.monotonic)
    """When the last line was written, or the step began."""

    def __call__(self, detail: str) -> None:
        """Write ``detail`` if the last line is old enough."""
        now = time.monotonic()
        if now - self.said_s >= self.every_s:
            self.said_s = now
            self.console.print(f"{self.title}: {detail}", markup=False, highlight=False)


@dataclass(frozen=True, slots=True)
class Steps:
    """Announces the steps of a job: a spinner on a terminal, a line with its seconds elsewhere."""

    console: Console = field(default_factory=_stderr)

    @contextmanager
    def __call__(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show ``title`` while the body runs, then the seconds it took if they were noticeable.

        The body is given a function that shows how far it is, beside the spinner on a terminal, and
        as a line from time to time elsewhere.
        """
        start = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(title) as status:
                yield lambda detail: status.update(f"{title}: {detail}")
        else:
            self.console.print(f"{title} ...", markup=False, highlight=False)
            yield Details(self.console, title)
        if (elapsed := time.monotonic() - start) >= 1:
            self.console.print(f"{title}: {elapsed:.1f} s", markup=False, highlight=False)

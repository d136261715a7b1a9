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


@dataclass(frozen=True, slots=True)
class Steps:
    """Announces the steps of a job: a spinner on a terminal, a line with its seconds elsewhere."""

    console: Console = field(default_factory=_stderr)

    @contextmanager
    def __call__(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show ``title`` while the body runs, then the seconds it took if they were noticeable.

        The body is given a function that shows how far it is, beside the spinner on a terminal.
        """
        start = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(title) as status:
                yield lambda detail: status.update(f"{title}: {detail}")
        else:
            self.console.print(f"{title} ...", markup=False, highlight=False)
            yield lambda detail: None
        if (elapsed := time.monotonic() - start) >= 1:
            self.console.print(f"{title}: {elapsed:.1f} s", markup=False, highlight=False)

"""What the clock-by-clock twin's units are made of: queues, semaphores, retirements (``_naive.py``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from archsim._architecture import Architecture
from archsim._counters import COUNTERS, STALL_BASE, Counter
from archsim._isa import SEMAPHORES
from archsim._program import Instruction


@dataclass(slots=True)
class Command:
    """An instruction in a queue: its operands resolved."""

    instruction: Instruction
    dram: int = 0
    is_fetch: bool = False


@dataclass(slots=True)
class Board:
    """What all units see: the counters, and the semaphores with their next values."""

    counters: list[int] = field(default_factory=lambda: [0] * COUNTERS)
    semaphores: list[int] = field(default_factory=lambda: [0] * SEMAPHORES)
    changes: list[int] = field(default_factory=lambda: [0] * SEMAPHORES)

    def count(self, counter: Counter, amount: int = 1) -> None:
        """Add to a counter."""
        self.counters[counter] += amount

    def give(self, mask: int) -> None:
        """Increment the semaphores of ``mask``, visible in the next cycle."""
        for index in _bits(mask):
            self.changes[index] += 1

    def take(self, mask: int) -> None:
        """Decrement the semaphores of ``mask``, visible in the next cycle."""
        for index in _bits(mask):
            self.changes[index] -= 1

    def clock(self) -> None:
        """The end of a cycle."""
        self.semaphores = [now + change for now, change in zip(self.semaphores, self.changes, strict=True)]
        self.changes = [0] * SEMAPHORES


def _bits(mask: int) -> Iterator[int]:
    return (index for index in range(SEMAPHORES) if mask >> index & 1)


class Unit(ABC):
    """An engine: its queue, its in-flight count, and the retirements that are due."""

    def __init__(self, arch: Architecture, board: Board) -> None:
        self.arch = arch
        self.board = board
        self.queue: deque[Command] = deque()
        self.arriving: list[Command] = []
        self.departing = 0
        self.in_flight = 0
        self.due: deque[tuple[int, Command]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether the queue has no free place this cycle."""
        return len(self.queue) + self.departing >= self.arch.queue_depth

    def push(self, command: Command) -> None:
        """Visible at the head from the next cycle."""
        self.arriving.append(command)

    def try_pop(self) -> Command | None:
        """Pop the head if it is visible and has its tokens; count the stalls if it has not."""
        if not self.queue:
            return None
        missing = [i for i in _bits(self.queue[0].instruction.waits) if self.board.semaphores[i] == 0]
        for index in missing:
            self.board.counters[STALL_BASE + index] += 1
        if missing:
            return None
        self.departing = 1
        command = self.queue.popleft()
        self.board.take(command.instruction.waits)
        return command

    def retire_due(self, t: int) -> None:
        """Retire what is due at ``t``, in order."""
        while self.due and self.due[0][0] == t:
            self.retire(self.due.popleft()[1])

    def retire(self, command: Command) -> None:
        """Signal, and leave the in-flight count (next cycle)."""
        self.board.give(command.instruction.signals)
        self.departed += 1

    departed = 0

    def clock(self) -> None:
        """The end of a cycle."""
        self.queue.extend(self.arriving)
        self.in_flight += len(self.arriving) - self.departed
        self.arriving, self.departing, self.departed = [], 0, 0

    @abstractmethod
    def tick(self, t: int) -> None:
        """One cycle."""

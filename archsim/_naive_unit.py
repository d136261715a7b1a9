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
    """What all units see: the counters, and the semaphores with what is about to change them."""

    counters: list[int] = field(default_factory=lambda: [0] * COUNTERS)
    semaphores: list[int] = field(default_factory=lambda: [0] * SEMAPHORES)
    arriving: list[int] = field(default_factory=lambda: [0] * SEMAPHORES)
    """The givers' registers: tokens given a cycle ago."""
    given: list[int] = field(default_factory=lambda: [0] * SEMAPHORES)
    taken: list[int] = field(default_factory=lambda: [0] * SEMAPHORES)

    def count(self, counter: Counter, amount: int = 1) -> None:
        """Add to a counter."""
        self.counters[counter] += amount

    def give(self, mask: int) -> None:
        """Write the givers' registers, which increment the semaphores of ``mask`` in the next cycle."""
        for index in _bits(mask):
            self.given[index] += 1

    def take(self, mask: int) -> None:
        """Decrement the semaphores of ``mask``, visible in the next cycle."""
        for index in _bits(mask):
            self.taken[index] += 1

    def clock(self) -> None:
        """The end of a cycle."""
        present = zip(self.semaphores, self.arriving, self.taken, strict=True)
        self.semaphores = [now + more - less for now, more, less in present]
        self.arriving, self.given, self.taken = self.given, [0] * SEMAPHORES, [0] * SEMAPHORES


def _bits(mask: int) -> Iterator[int]:
    return (index for index in range(SEMAPHORES) if mask >> index & 1)


class Unit(ABC):
    """An engine: its queue, its in-flight count, and the retirements that are due."""

    def __init__(self, arch: Architecture, board: Board) -> None:
        self.arch = arch
        self.board = board
        self.queue: deque[Command] = deque()
        self.arriving: list[Command] = []
        self.departing = False
        """Whether the head is popped in this cycle."""
        self.leaving = False
        """Whether it was in the last one, so that it leaves the queue."""
        self.is_full = False
        """Whether the queue had no free place in the last cycle."""
        self.armed = False
        """Whether the head has its tokens."""
        self.lacking: tuple[int, ...] = ()
        """Semaphores that the head lacked in the last cycle."""
        self.arming: tuple[bool, tuple[int, ...]] = (False, ())
        """The next values of both."""
        self.in_flight = 0
        self.due: deque[tuple[int, Command]] = deque()

    def push(self, command: Command) -> None:
        """Visible at the head from the next cycle."""
        self.arriving.append(command)

    def try_pop(self) -> Command | None:
        """Pop the head if it is armed; count the stalls if it lacked tokens a cycle ago."""
        for index in self.lacking:
            self.board.counters[STALL_BASE + index] += 1
        if not self.armed:
            return None
        self.departing = True
        return self.queue[0]

    def arm(self) -> None:
        """Take the visible head's tokens, if all are there, so that it may be popped from now on."""
        if self.departing or self.leaving or not self.queue:
            self.arming = (False, ())
        elif self.armed:
            self.arming = (True, ())
        else:
            waits = self.queue[0].instruction.waits
            lacking = tuple(index for index in _bits(waits) if self.board.semaphores[index] == 0)
            if not lacking:
                self.board.take(waits)
            self.arming = (not lacking, lacking)

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
        self.armed, self.lacking = self.arming
        self.is_full = len(self.queue) >= self.arch.queue_depth
        if self.leaving:
            self.queue.popleft()
        self.leaving, self.departing = self.departing, False
        self.queue.extend(self.arriving)
        self.in_flight += len(self.arriving) - self.departed
        self.arriving, self.departed = [], 0

    @abstractmethod
    def tick(self, t: int) -> None:
        """One cycle."""

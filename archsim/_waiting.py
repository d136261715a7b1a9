"""What the array does in each cycle of a traced run, and where it waits, what it waits for in the end.

Every time in the machine is a maximum of sums of earlier times, so that whatever happens in a cycle
was held back by one earlier thing: a pop by a token, by its engine's previous instruction or by the
push; a token by its giver's last issue or retirement; a transfer's end by its data, these by the data
before them or by a request, a request by the pop or by an earlier burst; a push by the instruction
before it or by a full queue. While the array does nothing, this chain is followed back from the pop
that ends the pause to the pause's first cycle. The links lie end to end, so that each cycle falls into
exactly one of them, and the link is its cause. Example, a product that waits for its operand:

    array    | previous product ..|                  pause                  |p| next product
    load                        |p|request  latency  |data  data|w|
    cause                         |   read latency   |bandwidth |l| hand-over |

A buffer that is not free, a barrier and a full queue are no causes here: the chain goes on to the
engine that holds the buffer, that the barrier waits for, or whose queue is full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

import numpy as np

from archsim._architecture import Architecture
from archsim._bursts import bursts_of
from archsim._causes import (
    ARRAY_DRAIN,
    FETCH,
    FIRST_WEIGHTS,
    HALT,
    HAND_OVER,
    READ_BANDWIDTH,
    READ_LATENCY,
    RESULT,
    SEQUENCER,
    STREAMING,
    VECTOR_UNIT,
    WEIGHT_BOUND,
    WRITES,
)
from archsim._counters import Counter
from archsim._isa import SEMAPHORES, Engine, Opcode
from archsim._program import Instruction, Program
from archsim._simulate import Event, Simulation
from archsim._timing import HALT_CYCLES, POP_CYCLES, SEQ_CYCLES, SEQ_START


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive cycles with one cause, or of weight-bound tiles with the rows that they stream."""

    start: int
    stop: int
    """First cycle after it."""
    cause: str
    event: int | None
    """Place in the trace of the instruction in whose course they fall; None for the sequencer's."""
    rows: int = 0
    """Of weight-bound tiles: first cycles of each ``period`` in which a row streams."""
    period: int = 1

    def within(self, start: int, stop: int) -> Iterator[tuple[str, int]]:
        """(cause, cycles) of the cycles from ``start`` to ``stop``, which lie in the slice."""
        streaming = self._streamed(stop) - self._streamed(start)
        if streaming:
            yield STREAMING, streaming
        if streaming < stop - start:
            yield self.cause, stop - start - streaming

    def _streamed(self, cycle: int) -> int:
        """Rows that tiles have streamed before ``cycle``."""
        tiles, rest = divmod(cycle - self.start, self.period)
        return tiles * self.rows + min(rest, self.rows)


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction that the sequencer executes."""

    instruction: int
    cycle: int
    event: int | None
    """Place in the trace, for an engine's instruction."""
    blocked: bool = False
    """Whether its push waited for a place in the queue."""


class _Node(Enum):
    """Moments that the chain goes through; each ends with the cycle named."""

    POP = auto()
    """The cycle before an event's pop."""
    LEFT = auto()
    """The cycle of the pop."""
    PUSH = auto()
    """The cycle of its push."""
    ISSUE = auto()
    """Its last issue."""
    RETIRE = auto()
    """Its retirement."""
    READY = auto()
    """The cycle after which its engine takes the next instruction."""
    BEAT = auto()
    """A burst's last data beat."""
    FIRST = auto()
    """A burst's first data beat."""
    REQUEST = auto()
    """A burst's address handshake."""
    RESPONSE = auto()
    """A write burst's response."""


_At = tuple[_Node, int]
"""A moment of an event, or of a burst."""
_Link = tuple[int, str, int, _At | None]
"""First cycle, cause, event, and the moment that held it back; None where the program starts with it."""


def steps(program: Program, run: Simulation) -> Iterator[Step]:
    """The instructions in the order of their execution, each with its cycle, HALT's last."""
    queues = {engine: iter(places) for engine, places in _by_engine(run.events).items()}
    cycle = run.events[0].retire + 1 + SEQ_START
    for index in _order(program.instructions):
        engine = program.instructions[index].engine
        if engine is not None:
            place = next(queues[engine])
            push = run.events[place].push
            yield Step(index, push, place, push > cycle)
            cycle = push
        else:
            halts = program.instructions[index].opcode is Opcode.HALT
            yield Step(index, run.cycles - 1 if halts else cycle, None)
        cycle += SEQ_CYCLES


def _order(listing: Sequence[Instruction]) -> Iterator[int]:
    """The indices that the sequencer goes through."""
    index, loops = 0, list[tuple[int, int]]()
    while True:
        yield index
        opcode = listing[index].opcode
        if opcode is Opcode.HALT:
            return
        if opcode is Opcode.LOOP:
            loops.append((index + 1, listing[index].field("imm")))
        elif opcode is Opcode.END:
            start, left = loops.pop()
            if left > 1:
                loops.append((start, left - 1))
                index = start - 1
        index += 1


def _by_engine(events: Sequence[Event]) -> Mapping[Engine, Sequence[int]]:
    """The events of each engine in its order, the program's fetch apart."""
    found: dict[Engine, list[int]] = {engine: [] for engine in Engine}
    for place, event in enumerate(events):
        if event.instruction >= 0:
            found[event.engine].append(place)
    return found


class _Chain:
    """What held back each moment of a run; ``back`` follows it."""

    def __init__(self, arch: Architecture, program: Program, run: Simulation) -> None:
        self.arch = arch
        self.listing = program.instructions
        self.events = run.events
        self.pushed = [step for step in steps(program, run) if step.event is not None]
        self.order = {step.event: place for place, step in enumerate(self.pushed)}
        self.queues = _by_engine(run.events)
        self.place = {event: n for queue in self.queues.values() for n, event in enumerate(queue)}
        self.givers = self._givers()
        reads = bursts_of(arch, program, run.events, Engine.LOAD, count=run.counter(Counter.LOAD_BURSTS))
        writes = bursts_of(arch, program, run.events, Engine.STORE, count=run.counter(Counter.STORE_BURSTS))
        self.writes = len(reads.owner)
        """LOAD's bursts are numbered first, STORE's from here on."""
        self.request = np.concatenate((reads.request, writes.request))
        self.first = np.concatenate((reads.first, writes.first))
        self.last = np.concatenate((reads.last, writes.last))
        self.owner = np.concatenate((reads.owner, writes.owner))
        stored = {event: self.writes + burst for event, burst in writes.end.items()}
        self.last_burst: Mapping[int, int] = reads.end | stored
        self.result: int | None = None
        """The STORE whose result is what the chain waits for."""

    def _givers(self) -> Mapping[tuple[int, int], int]:
        """(event, semaphore that it waited for) -> the event that gave the token."""
        given: list[list[int]] = [[] for _ in range(SEMAPHORES)]
        taken: list[list[int]] = [[] for _ in range(SEMAPHORES)]
        for queue in self.queues.values():
            for event in queue:
                instruction = self.listing[self.events[event].instruction]
                for semaphore in _bits(instruction.signals | instruction.releases):
                    given[semaphore].append(event)
                for semaphore in _bits(instruction.waits):
                    taken[semaphore].append(event)
        pairs = zip(range(SEMAPHORES), given, taken, strict=True)
        return {
            (taker, semaphore): giver
            for semaphore, givers, takers in pairs
            for giver, taker in zip(givers, takers, strict=False)
        }

    def back(self, at: _At, stop: int, low: int) -> list[Slice]:
        """The links from moment ``at``, in cycle ``stop - 1``, back to cycle ``low``, in order of time."""
        found: list[Slice] = []
        while stop > low:
            assert self._cycle(*at) + 1 == stop, (at, stop)
            first, cause, event, before = self._link(*at)
            assert first <= stop, (at, first, stop)
            first = low if before is None else max(first, low)
            if first < stop:
                found.append(Slice(first, stop, cause, event))
            stop, at = first, before or at
        return found[::-1]

    def _cycle(self, node: _Node, index: int) -> int:
        """The cycle with which a moment ends."""
        match node:
            case _Node.POP:
                return self.events[index].pop - 1
            case _Node.LEFT:
                return self.events[index].pop
            case _Node.PUSH:
                return self.events[index].push
            case _Node.ISSUE:
                return self.events[index].issue
            case _Node.RETIRE:
                return self.events[index].retire
            case _Node.READY:
                event = self.events[index]
                return event.retire if event.engine is Engine.VECTOR else event.issue
            case _Node.BEAT:
                return int(self.last[index])
            case _Node.FIRST:
                return int(self.first[index])
            case _Node.REQUEST:
                return int(self.request[index])
            case _Node.RESPONSE:
                return int(self.last[index]) + self.arch.memory.write_latency
            case _:
                assert_never(node)

    def _link(self, node: _Node, index: int) -> _Link:
        match node:
            case _Node.POP:
                return self._before_pop(index)
            case _Node.LEFT:
                return self.events[index].pop, HAND_OVER, index, (_Node.POP, index)
            case _Node.PUSH:
                return self._before_push(index)
            case _Node.ISSUE:
                event = self.events[index]
                cause = VECTOR_UNIT if event.engine is Engine.VECTOR else STREAMING
                return event.pop + 1, cause, index, (_Node.LEFT, index)
            case _Node.RETIRE:
                return self._before_retirement(index)
            case _Node.READY:
                return self._before_ready(index)
            case _Node.BEAT | _Node.FIRST | _Node.REQUEST | _Node.RESPONSE:
                return self._in_transfer(node, index)
            case _:
                assert_never(node)

    def _before_pop(self, index: int) -> _Link:
        """A token, the engine's previous instruction, or the push."""
        event = self.events[index]
        if event.pop > event.head:
            assert event.cause is not None
            giver = self.givers[index, event.cause]
            if event.engine is Engine.LOAD and self.events[giver].engine is Engine.STORE:
                self.result = self.transfer(giver)
            released = self.listing[self.events[giver].instruction].releases >> event.cause & 1
            before = (_Node.ISSUE if released else _Node.RETIRE), giver
        elif event.head > event.push + POP_CYCLES:
            before = _Node.READY, self._previous(index)
        else:
            before = _Node.PUSH, index
        return self._cycle(*before) + 1, HAND_OVER, index, before

    def _before_push(self, index: int) -> _Link:
        """A full queue, or the instructions before it."""
        place = self.order[index]
        if self.pushed[place].blocked:
            queue = self.queues[self.events[index].engine]
            full = queue[self.place[index] - self.arch.queue_depth]
            return self.events[full].pop + 1, SEQUENCER, index, (_Node.LEFT, full)
        if place == 0:
            return 0, SEQUENCER, index, None
        before = self.pushed[place - 1].event
        assert before is not None
        return self.events[before].push + 1, SEQUENCER, index, (_Node.PUSH, before)

    def _before_retirement(self, index: int) -> _Link:
        """The latency behind the last issue; a SYNC of a transfer's engine waits for the transfer."""
        event = self.events[index]
        match event.engine:
            case Engine.ARRAY:
                return event.issue + 1, ARRAY_DRAIN, index, (_Node.ISSUE, index)
            case Engine.VECTOR:
                return event.pop + 1, VECTOR_UNIT, index, (_Node.LEFT, index)
            case Engine.LOAD | Engine.STORE:
                if index in self.last_burst:
                    burst = self.last_burst[index]
                    cause = self._written(index) if event.engine is Engine.STORE else READ_LATENCY
                    return int(self.last[burst]) + 1, cause, index, (_Node.BEAT, burst)
                if event.retire == event.pop:
                    return event.retire + 1, HAND_OVER, index, (_Node.LEFT, index)
                transfer = self.transfer(index)
                assert transfer is not None
                return event.retire + 1, HAND_OVER, index, (_Node.RETIRE, transfer)
            case _:
                assert_never(event.engine)

    def _before_ready(self, index: int) -> _Link:
        event = self.events[index]
        match event.engine:
            case Engine.ARRAY:
                return event.issue + 1, HAND_OVER, index, (_Node.ISSUE, index)
            case Engine.VECTOR:
                return event.retire + 1, HAND_OVER, index, (_Node.RETIRE, index)
            case Engine.LOAD | Engine.STORE:
                if index not in self.last_burst:
                    return event.pop + 1, HAND_OVER, index, (_Node.LEFT, index)
                load = event.engine is Engine.LOAD
                node = _Node.REQUEST if load else _Node.BEAT
                return event.issue + 1, HAND_OVER, index, (node, self.last_burst[index])
            case _:
                assert_never(event.engine)

    def _in_transfer(self, node: _Node, burst: int) -> _Link:
        """Data after data or a request; a request after too many bursts, the one before, or the pop."""
        event, reads = int(self.owner[burst]), burst < self.writes
        request, last = int(self.request[burst]), int(self.last[burst])
        waiting = READ_LATENCY if reads else self._written(event)
        if node is _Node.RESPONSE:
            return last + 1, waiting, event, (_Node.BEAT, burst)
        if node is _Node.FIRST:
            return request + 1, waiting, event, (_Node.REQUEST, burst)
        if node is _Node.REQUEST:
            return request, waiting, event, self._before_request(burst)
        first, before = int(self.first[burst]), self._earlier(burst, 1)
        moving = READ_BANDWIDTH if reads else waiting
        memory = self.arch.memory
        interval = memory.read_interval if reads else memory.write_interval
        if before is not None and self.last[before] + interval == first:
            return int(self.last[before]) + 1, moving, event, (_Node.BEAT, before)
        return first + 1, moving, event, (_Node.FIRST, burst)

    def _before_request(self, burst: int) -> _At:
        reads, request = burst < self.writes, int(self.request[burst])
        limit = self._earlier(burst, self.arch.bus.outstanding)
        latency = 0 if reads else self.arch.memory.write_latency
        if limit is not None and self.last[limit] + latency + 1 == request:
            return (_Node.BEAT if reads else _Node.RESPONSE), limit
        before = self._earlier(burst, 1)
        if before is not None and self.owner[before] == self.owner[burst]:
            return (_Node.REQUEST if reads else _Node.BEAT), before
        return _Node.LEFT, int(self.owner[burst])

    def _earlier(self, burst: int, distance: int) -> int | None:
        """The engine's burst ``distance`` before this one, if there is one."""
        found = burst - distance
        return found if found >= (0 if burst < self.writes else self.writes) else None

    def _written(self, event: int) -> str:
        """Cause of a STORE's cycles: the result that is waited for, or one that is in the way."""
        return RESULT if event == self.result else WRITES

    def _previous(self, index: int) -> int:
        """The engine's previous instruction; the program's fetch is LOAD's first."""
        place = self.place[index]
        return self.queues[self.events[index].engine][place - 1] if place else 0

    def transfer(self, index: int) -> int | None:
        """``index`` or the engine's last transfer before it; None where there is none."""
        queue = self.queues[self.events[index].engine]
        place = self.place[index]
        while place >= 0 and queue[place] not in self.last_burst:
            place -= 1
        if place >= 0:
            return queue[place]
        return 0 if self.events[index].engine is Engine.LOAD else None


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


def slices(arch: Architecture, program: Program, run: Simulation) -> Iterator[Slice]:
    """Every cycle of ``run``, which holds all its events, in order of time."""
    chain = _Chain(arch, program, run)
    ready = run.events[0].retire + 1 + SEQ_START
    yield Slice(0, ready, FETCH, 0)
    for place in chain.queues[Engine.ARRAY]:
        event = run.events[place]
        yield from chain.back((_Node.POP, place), event.pop, ready)
        yield Slice(event.pop, event.pop + 1, HAND_OVER, place)
        yield from _busy(arch, program.instructions[event.instruction], event.pop + 1, place)
        ready = event.issue + 1
    yield from _end(chain, run, ready)


def _busy(arch: Architecture, instruction: Instruction, start: int, place: int) -> Iterator[Slice]:
    """The cycles after the pop in which a MATMUL or ATTEND has the array; none for a SYNC_ARRAY."""
    if instruction.opcode is Opcode.ATTEND:
        yield Slice(start, start + instruction.field("period") - 1, STREAMING, place)
    if instruction.opcode is not Opcode.MATMUL:
        return
    rows, w_rows = instruction.field("rows"), instruction.field("w_rows")
    tiles = instruction.field("n_chunks") * instruction.field("k_chunks")
    if arch.array.kind == "ternary":
        yield Slice(start, start + tiles * rows, STREAMING, place)
        return
    yield Slice(start, start + w_rows, FIRST_WEIGHTS, place)
    start += w_rows
    if rows >= w_rows:
        yield Slice(start, start + tiles * rows, STREAMING, place)
        return
    yield Slice(start, start + (tiles - 1) * w_rows + rows, WEIGHT_BOUND, place, rows, w_rows)


def _end(chain: _Chain, run: Simulation, ready: int) -> Iterator[Slice]:
    """From the array's last issue to the end: HALT waits for the last retirement or the sequencer."""
    halt = run.cycles - 1
    last = max(range(1, len(run.events)), key=lambda place: run.events[place].retire, default=0)
    if last and run.events[last].retire + HALT_CYCLES == halt:
        chain.result = chain.transfer(last) if run.events[last].engine is Engine.STORE else None
        retired = run.events[last].retire + 1
        yield from chain.back((_Node.RETIRE, last), retired, ready)
        yield Slice(retired, run.cycles, HALT, None)
    else:
        step = chain.pushed[-1] if chain.pushed else None
        if step is not None and step.event is not None:
            yield from chain.back((_Node.PUSH, step.event), step.cycle + 1, ready)
            ready = max(ready, step.cycle + 1)
        yield Slice(ready, halt, SEQUENCER, None)
        yield Slice(halt, run.cycles, HALT, None)

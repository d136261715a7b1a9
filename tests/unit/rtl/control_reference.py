"""Times of control and data movement as a timed event graph, written from ``docs/machine.md``.

The program is unrolled, and each time is the maximum of the times it waits on; nothing steps a clock.
ARRAY and VECTOR are the stand-ins of ``bench``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from archsim._architecture import Architecture
from archsim._counters import COUNTERS, STALL_BASE, Counter
from archsim._isa import SEMAPHORES, Engine, Opcode
from archsim._program import Instruction
from archsim._timing import (
    HALT_CYCLES,
    NEXT_CYCLES,
    PLACE_CYCLES,
    POP_CYCLES,
    SEQ_CYCLES,
    SEQ_START,
    STORE_LEAD,
    TOKEN_CYCLES,
)
from tests.unit.rtl.control_bench import STAND_IN_LATENCY

SYNCS = (Opcode.SYNC_LOAD, Opcode.SYNC_STORE, Opcode.SYNC_ARRAY, Opcode.SYNC_VECTOR)


@dataclass(slots=True)
class Step:
    """An executed instruction with its resolved operands, and its times."""

    instruction: Instruction
    operands: list[int]
    push: int = 0
    pop: int = 0
    ready: int = 0
    """First cycle in which the engine can pop the next one."""
    release: int = 0
    retire: int = 0


def unroll(instructions: Sequence[Instruction]) -> list[Step]:
    """Runs loops and registers; the result ends with HALT."""
    registers, loops, place, steps = [0] * 16, list[list[int]](), 0, list[Step]()
    while True:
        now = instructions[place]
        steps.append(Step(now, [(o.base + registers[o.reg]) % 2**32 for o in now.operands]))
        place += 1
        reg, imm = now.field("reg"), now.field("imm")
        match now.opcode:
            case Opcode.HALT:
                return steps
            case Opcode.SET:
                registers[reg] = imm
            case Opcode.ADD:
                registers[reg] = (registers[reg] + imm) % 2**32
            case Opcode.RING:
                total = (registers[reg] + imm) % 2**32
                registers[reg] = 0 if total == now.field("limit") else total
            case Opcode.LOOP:
                loops.append([imm, place])
            case Opcode.END:
                loops[-1][0] -= 1
                if loops[-1][0]:
                    place = loops[-1][1]
                else:
                    loops.pop()
            case _:
                pass


def bursts(address: int, beats: int, arch: Architecture) -> list[tuple[int, int]]:
    """(address, beats) of a segment's bursts, one beat at a time."""
    split: list[tuple[int, int]] = []
    for beat in range(beats):
        here = address + beat * arch.bus.bytes
        if split and split[-1][1] < arch.bus.max_burst_beats and here % 4096:
            split[-1] = (split[-1][0], split[-1][1] + 1)
        else:
            split.append((here, 1))
    return split


@dataclass
class Reference:
    """Times of every instruction; ``counters`` is what the hardware's must be."""

    arch: Architecture
    instructions: Sequence[Instruction]
    program_address: int
    counters: list[int] = field(default_factory=lambda: [0] * COUNTERS)
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    writes: list[tuple[int, int, int]] = field(default_factory=list)
    _read_ends: list[int] = field(default_factory=list)
    _write_responses: list[int] = field(default_factory=list)
    _last_beat: int = -(10**9)
    _last_write: int = -(10**9)

    @cached_property
    def cycles(self) -> int:
        """Total cycles of the run."""
        steps = unroll(self.instructions)
        fetched = self._load(
            [(self.program_address, -(-64 * len(self.instructions) // self.arch.bus.bytes))], 0
        )
        queues: dict[Engine, list[Step]] = {engine: [] for engine in Engine}
        last: dict[Engine, int] = dict.fromkeys(Engine, fetched[1])
        ready: dict[Engine, int] = dict.fromkeys(Engine, 0) | {Engine.LOAD: fetched[0]}
        signalled: list[list[int]] = [[] for _ in range(SEMAPHORES)]
        taken = [0] * SEMAPHORES
        earliest = fetched[1] + 1 + SEQ_START
        for step in steps[:-1]:
            engine = step.instruction.engine
            step.push = earliest
            if engine is not None:
                queue = queues[engine]
                if len(queue) >= self.arch.queue_depth:
                    # It leaves the queue in the cycle after the pop, and the sequencer sees that two later.
                    step.push = max(step.push, queue[-self.arch.queue_depth].pop + PLACE_CYCLES)
                # At the head in the next cycle, armed in it at the earliest, and popped after that.
                follows = queue[-1].pop + NEXT_CYCLES if queue else 0
                head = max(step.push + POP_CYCLES, follows, ready[engine])
                step.pop = self._wait(step, head, signalled=signalled, taken=taken)
                ready[engine] = self._execute(step, last=last[engine])
                last[engine] = max(last[engine], step.retire)
                queue.append(step)
                for semaphore in range(SEMAPHORES):
                    if step.instruction.signals >> semaphore & 1:
                        signalled[semaphore].append(step.retire)
                    if step.instruction.releases >> semaphore & 1:
                        signalled[semaphore].append(step.release)
            earliest = step.push + SEQ_CYCLES
        retired = [step.retire for queue in queues.values() for step in queue]
        # A retirement in cycle r leaves the count at zero from r + 1 on, which the sequencer sees at r + 2.
        halt = max([earliest, *(cycle + HALT_CYCLES for cycle in retired)])
        self.counters[Counter.CYCLES] = halt + 1
        self.counters[Counter.INSTRUCTIONS] = len(steps)
        return halt + 1

    def _wait(self, step: Step, head: int, *, signalled: list[list[int]], taken: list[int]) -> int:
        pop = head
        for semaphore in range(SEMAPHORES):
            if step.instruction.waits >> semaphore & 1:
                # Given in cycle r, registered in r + 1, above 0 and arming in r + 2, popped in r + 3.
                available = signalled[semaphore][taken[semaphore]] + TOKEN_CYCLES
                taken[semaphore] += 1
                self.counters[STALL_BASE + semaphore] += max(0, available - head)
                pop = max(pop, available)
        return pop

    def _execute(self, step: Step, *, last: int) -> int:
        """Sets the times of a popped instruction; returns the engine's next ready cycle."""
        now = step.instruction
        if now.opcode in (Opcode.LOAD, Opcode.STORE):
            segments = [
                ((step.operands[0] + index * now.field("dram_stride")) % 2**32, now.field("beats"))
                for index in range(now.field("segments"))
            ]
            move = self._load if now.opcode is Opcode.LOAD else self._store
            ready, step.retire = move(segments, step.pop)
            return ready
        if now.opcode in (Opcode.SYNC_LOAD, Opcode.SYNC_STORE):
            step.retire = max(step.pop, last)
            return step.pop + 1
        step.release = step.pop + (0 if now.opcode in SYNCS else now.field("rows"))
        step.retire = step.release + STAND_IN_LATENCY
        return step.release + 1

    def _load(self, segments: list[tuple[int, int]], pop: int) -> tuple[int, int]:
        memory, asked = self.arch.memory, pop
        for address, beats in segments:
            for start, length in bursts(address, beats, self.arch):
                asked += 1
                if len(self._read_ends) >= self.arch.bus.outstanding:
                    asked = max(asked, self._read_ends[-self.arch.bus.outstanding] + 1)
                first = max(asked + memory.read_latency, self._last_beat + memory.read_interval)
                self._last_beat = first + (length - 1) * memory.read_interval
                self._read_ends.append(self._last_beat)
                self.reads.append((asked, start, length))
                self.counters[Counter.LOAD_BURSTS] += 1
                self.counters[Counter.LOAD_BEATS] += length
        return asked + 1, self._last_beat + 1

    def _store(self, segments: list[tuple[int, int]], pop: int) -> tuple[int, int]:
        memory, asked = self.arch.memory, pop
        for address, beats in segments:
            for start, length in bursts(address, beats, self.arch):
                asked += 1
                if len(self._write_responses) >= self.arch.bus.outstanding:
                    asked = max(asked, self._write_responses[-self.arch.bus.outstanding] + 1)
                first = max(asked + STORE_LEAD, self._last_write + memory.write_interval)
                self.writes.append((asked, start, length))
                asked = self._last_write = first + (length - 1) * memory.write_interval
                self._write_responses.append(asked + memory.write_latency)
                self.counters[Counter.STORE_BURSTS] += 1
                self.counters[Counter.STORE_BEATS] += length
        return asked + 1, self._write_responses[-1] + 1

"""The sequencer: fetches instructions, runs the loops and registers, issues the rest to the queues."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from archsim._architecture import Architecture, ArrayKind
from archsim._isa import (
    HEADER,
    INSTRUCTION_BITS,
    LOOP_DEPTH,
    OPERANDS,
    PAYLOAD,
    REGISTERS,
    SEMAPHORES,
    Engine,
    Opcode,
)
from rtl._command import SYNCS, absent_opcodes, command_layout, opcodes_of
from rtl._encode import PAYLOAD_START, field_offsets

PAYLOAD_BITS = INSTRUCTION_BITS - PAYLOAD_START

ISSUE = data.StructLayout(
    {
        "opcode": 8,
        "waits": SEMAPHORES,
        "signals": SEMAPHORES,
        "releases": SEMAPHORES,
        "operands": data.ArrayLayout(32, OPERANDS),
        "payload": PAYLOAD_BITS,
    }
)
"""An engine instruction with its operands resolved, before the engine's fields are picked out."""

_INSTRUCTION = data.StructLayout({**dict(HEADER), "payload": PAYLOAD_BITS})
_CONTROL = data.StructLayout(dict(PAYLOAD[Opcode.RING]))


class State(IntEnum):
    """Where the sequencer is with the instruction at hand."""

    IDLE = 0
    LANDING = 1
    FETCH = 2
    READ = 3
    EXECUTE = 4


def program_read_port() -> wiring.Signature:
    """Read of an instruction; ``data`` comes one cycle after ``en``."""
    return wiring.Signature({"en": Out(1), "addr": Out(32), "data": In(INSTRUCTION_BITS)})


def entry_layout(engine: Engine, kind: ArrayKind = "dense", *, gated: bool = False) -> data.StructLayout:
    """An entry of ``engine``'s queue: the semaphores it waits on, and its command."""
    return data.StructLayout({"waits": SEMAPHORES, "command": command_layout(engine, kind, gated=gated)})


def connect_entry(
    issue: data.View, entry: data.View, *, engine: Engine, kind: ArrayKind = "dense"
) -> Iterator[object]:
    """Statements that pick the fields of ``engine`` out of an ISSUE."""
    command = entry.command
    yield entry.waits.eq(issue.waits)
    yield command.opcode.eq(issue.opcode)
    yield command.is_sync.eq(issue.opcode == SYNCS[engine])
    yield command.signals.eq(issue.signals)
    yield command.releases.eq(issue.releases)
    for index in range(OPERANDS):
        yield command[f"op{index}"].eq(issue.operands[index])
    for name, choices in _choices(engine, kind).items():
        if name not in command.shape().members:
            continue
        (_, chosen), *others = choices
        picked = _slice(issue.payload, chosen)
        for opcode, place in others:
            picked = Mux(issue.opcode == opcode, _slice(issue.payload, place), picked)
        yield command[name].eq(picked)


def _choices(engine: Engine, kind: ArrayKind) -> dict[str, list[tuple[Opcode, tuple[int, int]]]]:
    """For each field, where the opcodes that have it keep it."""
    choices: dict[str, list[tuple[Opcode, tuple[int, int]]]] = {}
    for opcode in opcodes_of(engine, kind):
        for name, place in field_offsets(PAYLOAD[opcode]).items():
            known = choices.setdefault(name, [])
            if place not in (other for _, other in known):
                known.append((opcode, place))
    return choices


def _slice(payload: Value, place: tuple[int, int]) -> Value:
    offset, width = place
    return payload[offset : offset + width]


class Sequencer(wiring.Component):
    """Executes one instruction every SEQ_CYCLES cycles: fetch, read registers, execute.

    An engine instruction executes, that is, is pushed, in the first cycle from its execute cycle on in
    which its queue is not full; HALT, and whatever is illegal, in the first one in which ``idle`` is high.
    Illegal are: an opcode that does not exist, a loop too deep or of no turns, an END without LOOP, a
    write to register 0, and running past the program's end.

    Members: ``start``, high in cycle 0; ``fetched``, high in the cycle in which the program fetch retires;
    ``length``, instructions; ``program``, the memory's port; ``idle``, no instruction in flight;
    ``issue`` with ``push``, one bit an engine, and ``full``; ``executed``, ``halted``, ``illegal``, pulses
    of the execute cycle.
    """

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch
        super().__init__(
            {
                "start": In(1),
                "fetched": In(1),
                "length": In(32),
                "program": Out(program_read_port()),
                "idle": In(1),
                "issue": Out(ISSUE),
                "push": Out(len(Engine)),
                "full": In(len(Engine)),
                "executed": Out(1),
                "halted": Out(1),
                "illegal": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counter = Signal(range(self._arch.program_words + 1))
        state = Signal(State)

        # States. LANDING is the cycle in which the program's last word becomes visible.
        with m.Switch(state):
            with m.Case(State.IDLE):
                with m.If(self.fetched):
                    m.d.sync += state.eq(State.LANDING)
            with m.Case(State.LANDING):
                m.d.sync += state.eq(State.FETCH)
            with m.Case(State.FETCH):
                m.d.sync += state.eq(State.READ)
            with m.Case(State.READ):
                m.d.sync += state.eq(State.EXECUTE)
            with m.Default():
                with m.If(self.executed):
                    m.d.sync += state.eq(Mux(self.halted, State.IDLE, State.FETCH))
        m.d.comb += [self.program.en.eq(state == State.FETCH), self.program.addr.eq(counter)]

        control, total = self._read(m, reading=state == State.READ)
        self._execute(m, control, executing=state == State.EXECUTE, total=total, counter=counter)
        with m.If(self.start):
            m.d.sync += [counter.eq(0)]
        return m

    def _read(self, m: Module, *, reading: Value) -> tuple[data.View, Signal]:
        """Resolves operands and the control instruction's sum into registers."""
        instruction = data.View(_INSTRUCTION, self.program.data)
        control = data.View(_CONTROL, instruction.payload[: _CONTROL.size])
        held, total = Signal(_CONTROL), Signal(32)
        values = self._registers(
            m,
            held,
            indices=[control.reg, *(instruction[f"reg{index}"] for index in range(OPERANDS))],
            total=total,
        )
        with m.If(reading):
            m.d.sync += [held.eq(control)]
            m.d.sync += total.eq(control.imm + Mux(instruction.opcode == Opcode.SET, 0, values[0]))
            for name in ("opcode", "waits", "signals", "releases", "payload"):
                m.d.sync += self.issue[name].eq(instruction[name])
            for index, value in enumerate(values[1:]):
                m.d.sync += self.issue.operands[index].eq(instruction[f"base{index}"] + value)
        return held, total

    def _registers(self, m: Module, held: data.View, *, indices: list[Value], total: Signal) -> list[Value]:
        """The address registers: one write, a read for each of ``indices``; all are zero at the start."""
        m.submodules.registers = registers = Memory(shape=32, depth=REGISTERS, init=[])
        known = Signal(REGISTERS)
        write = registers.write_port()
        wraps = (self.issue.opcode == Opcode.RING) & (total == held.limit)
        writes = self.executed & ~self.illegal & _is_any(self.issue.opcode, _WRITERS)
        m.d.comb += [write.en.eq(writes), write.addr.eq(held.reg), write.data.eq(Mux(wraps, 0, total))]
        with m.If(writes):
            m.d.sync += known.bit_select(held.reg, 1).eq(1)
        with m.If(self.start):
            m.d.sync += known.eq(0)
        values: list[Value] = []
        for index in indices:
            read = registers.read_port(domain="comb")
            m.d.comb += read.addr.eq(index)
            values.append(Mux(known.bit_select(index, 1), read.data, 0))
        return values

    def _execute(
        self, m: Module, control: data.View, *, executing: Value, total: Signal, counter: Signal
    ) -> None:
        """Runs the instruction that was read; its successor is known at the end of this cycle."""
        opcode = self.issue.opcode
        wrong, halting = Signal(), Signal()
        target = self._loops(m, control, wrong=wrong, counter=counter)
        with m.If(_is_any(opcode, _WRITERS) & (control.reg == 0)):
            m.d.comb += wrong.eq(1)
        kind = self._arch.array.kind
        absent = absent_opcodes(kind)
        highest = max(set(Opcode).difference(absent))
        illegal = (opcode > highest) | _is_any(opcode, tuple(each for each in absent if each < highest))
        with m.If(illegal | (counter >= self.length)):
            m.d.comb += wrong.eq(1)
        m.d.comb += halting.eq(wrong | (opcode == Opcode.HALT))

        wanted = Cat(_is_any(opcode, opcodes_of(engine, kind)) for engine in Engine)
        can_execute = Mux(halting, self.idle, (wanted & self.full) == 0)
        m.d.comb += [
            self.executed.eq(executing & can_execute),
            self.halted.eq(self.executed & halting),
            self.illegal.eq(self.executed & wrong),
        ]
        with m.If(self.executed & ~halting):
            m.d.comb += self.push.eq(wanted)
            m.d.sync += counter.eq(target)

    def _loops(self, m: Module, control: data.View, *, wrong: Signal, counter: Signal) -> Value:
        """The stack of loops, its top first; returns the next instruction's index."""
        level = data.StructLayout({"turns": 32, "body": len(counter)})
        stack = [Signal(level, name=f"loop{index}") for index in range(LOOP_DEPTH)]
        depth = Signal(range(LOOP_DEPTH + 1))
        top, opcode = stack[0], self.issue.opcode
        again = top.turns != 1
        begins, ends = opcode == Opcode.LOOP, opcode == Opcode.END
        with m.If(begins & ((depth == LOOP_DEPTH) | (control.imm == 0)) | (ends & (depth == 0))):
            m.d.comb += wrong.eq(1)
        with m.If(self.executed & ~self.halted):
            with m.If(begins):
                m.d.sync += [inner.eq(outer) for outer, inner in pairwise(stack)]
                m.d.sync += [top.turns.eq(control.imm), top.body.eq(counter + 1), depth.eq(depth + 1)]
            with m.Elif(ends & again):
                m.d.sync += top.turns.eq(top.turns - 1)
            with m.Elif(ends):
                m.d.sync += [outer.eq(inner) for outer, inner in pairwise(stack)]
                m.d.sync += depth.eq(depth - 1)
        with m.If(self.start):
            m.d.sync += depth.eq(0)
        return Mux(ends & again, top.body, counter + 1)


_WRITERS = (Opcode.SET, Opcode.ADD, Opcode.RING)


def _is_any(opcode: Value, opcodes: tuple[Opcode, ...]) -> Value:
    return Cat(opcode == choice for choice in opcodes).any()

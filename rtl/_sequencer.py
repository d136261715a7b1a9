"""The sequencer: fetches instructions, runs the loops and registers, issues the rest to the queues."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
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
    TABLE_ENTRIES,
    Engine,
    Opcode,
)
from rtl._command import SYNCS, absent_opcodes, command_layout, opcodes_of
from rtl._encode import PAYLOAD_START, field_offsets
from rtl._pipe import delayed_word

PAYLOAD_BITS = INSTRUCTION_BITS - PAYLOAD_START

ISSUE = data.StructLayout(
    {
        "of": len(Opcode),
        "waits": SEMAPHORES,
        "signals": SEMAPHORES,
        "releases": SEMAPHORES,
        "operands": data.ArrayLayout(32, OPERANDS),
        "payload": PAYLOAD_BITS,
    }
)
"""An engine instruction with its operands resolved, before the engine's fields are picked out.

``of``: a bit for each opcode."""

_INSTRUCTION = data.StructLayout({**dict(HEADER), "payload": PAYLOAD_BITS})
_CONTROL = data.StructLayout(dict(PAYLOAD[Opcode.RING]))
_LATE = ("waits", "signals", "releases", "payload")


class State(IntEnum):
    """Where the sequencer is with the instruction at hand; each state is a bit."""

    IDLE = 1
    LANDING = 2
    FETCH = 4
    READ = 8
    EXECUTE = 16


_DECODED = data.StructLayout(
    {
        "wanted": len(Engine),
        "wrong": 1,
        "halting": 1,
        "again": 1,
        "writes": 1,
        "begins": 1,
        "ends": 1,
        "rings": 1,
    }
)
"""What an instruction asks for: engines; an end of the run, rightly or wrongly; another turn of the loop;
a register's write; a loop's begin and end; RING."""


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
    members = command.shape().members
    yield entry.waits.eq(issue.waits)
    yield command.is_sync.eq(issue.of[SYNCS[engine]])
    for name in ("signals", "releases"):
        if name in members:
            yield command[name].eq(issue[name])
    for index in range(OPERANDS):
        if f"op{index}" in members:
            yield command[f"op{index}"].eq(issue.operands[index])
    for name, choices in _choices(engine, kind).items():
        if name not in members:
            continue
        (_, chosen), *others = choices
        picked = _slice(issue.payload, chosen)
        for opcode, place in others:
            picked = Mux(issue.of[opcode], _slice(issue.payload, place), picked)
        yield command[name].eq(picked)
    if engine in (Engine.LOAD, Engine.STORE):
        yield from _connect_transfer(issue, command, engine=engine)
    if "is_table" in members:
        is_table = issue.of[Opcode.TABLE]
        places = field_offsets(PAYLOAD[Opcode.VECTOR])
        yield command.is_table.eq(is_table)
        for name, entries in (("rows", TABLE_ENTRIES), ("chunks", 1)):
            yield command[name].eq(Mux(is_table, entries, _slice(issue.payload, places[name])))


def _connect_transfer(issue: data.View, command: data.View, *, engine: Engine) -> Iterator[object]:
    """What a DMA engine is told of a transfer, so that it need not find out in the cycle of its pop."""
    places = field_offsets(PAYLOAD[opcodes_of(engine)[-1]])
    beats, segments = (_slice(issue.payload, places[name]) for name in ("beats", "segments"))
    yield command.beats.eq(beats - 1)
    yield command.is_sync.eq(issue.of[SYNCS[engine]] | (beats == 0) | (segments == 0))


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
        counter, following = (
            Signal(range(self._arch.program_words + 1), name=name) for name in ("counter", "following")
        )
        state, decoded = Signal(State, init=State.IDLE), Signal(_DECODED)
        idle, landing, fetching, reading, executing = state
        # LANDING is the cycle in which the program's last word becomes visible.
        m.d.sync += state.eq(
            Cat(
                (idle & ~self.fetched) | self.halted,
                idle & self.fetched,
                landing | (self.executed & ~decoded.halting),
                fetching,
                reading | (executing & ~self.executed),
            )
        )
        can_execute = Mux(decoded.halting, self.idle, (decoded.wanted & self.full) == 0)
        m.d.comb += [
            self.executed.eq(executing & can_execute),
            self.halted.eq(executing & decoded.halting & self.idle),
            self.illegal.eq(executing & decoded.wrong & self.idle),
            self.push.eq(Mux(executing, decoded.wanted & ~self.full, 0)),
        ]

        # The successor is read while the instruction executes. Its word is registered before anything is done
        # with it, since a memory answers late, unless it is this register.
        held, total, wraps = Signal(_CONTROL), Signal(32), Signal()
        instruction = data.View(_INSTRUCTION, delayed_word(m, self.program.data, 1))
        top, depth = self._loops(m, decoded, held, acting=fetching, counter=counter)
        m.d.comb += [
            self.program.en.eq(landing | executing),
            self.program.addr.eq(Mux(decoded.again, top.body, following)),
        ]
        with m.If(self.program.en):
            m.d.sync += [counter.eq(self.program.addr), wraps.eq(decoded.rings & (total == held.limit))]
        past = Signal()
        with m.If(fetching):
            m.d.sync += [following.eq(counter + 1), past.eq(counter >= self.length[: len(counter)])]
        written = (held.reg, Mux(wraps, 0, total))
        values = self._registers(m, instruction, writes=fetching & decoded.writes, written=written)
        with m.If(reading):
            m.d.sync += [held.eq(_control(instruction)), total.eq(values[0])]
            m.d.sync += [self.issue[name].eq(instruction[name]) for name in _LATE]
            m.d.sync += self.issue.of.eq(Cat(instruction.opcode == opcode for opcode in Opcode))
            m.d.sync += [self.issue.operands[index].eq(value) for index, value in enumerate(values[1:])]
            m.d.sync += decoded.eq(self._decode(m, instruction, past=past, top=top, depth=depth))
        with m.If(self.start):
            m.d.sync += [following.eq(0), depth.eq(0), decoded.eq(0)]
        return m

    def _registers(
        self, m: Module, instruction: data.View, *, writes: Value, written: tuple[Value, Value]
    ) -> list[Value]:
        """The sum of a control instruction and the operands; all address registers are zero at the start.

        A register is written in the cycle after its instruction, one before the next one's read.
        """
        m.submodules.registers = registers = Memory(shape=32, depth=REGISTERS, init=[])
        known = Signal(REGISTERS)
        write, (place, value) = registers.write_port(), written
        m.d.comb += [write.en.eq(writes), write.addr.eq(place), write.data.eq(value)]
        with m.If(writes):
            m.d.sync += known.bit_select(place, 1).eq(1)
        with m.If(self.start):
            m.d.sync += known.eq(0)
        control = _control(instruction)
        replaces = instruction.opcode == Opcode.SET
        summands = [(control.reg, control.imm, ~replaces)]
        summands += [
            (instruction[f"reg{index}"], instruction[f"base{index}"], Const(1)) for index in range(OPERANDS)
        ]
        values: list[Value] = []
        for index, base, adds in summands:
            read = registers.read_port(domain="comb")
            m.d.comb += read.addr.eq(index)
            # Added before it is known whether to add: the memory is sooner there than the mark.
            values.append(Mux(known.bit_select(index, 1) & adds, (base + read.data)[:32], base))
        return values

    def _decode(
        self, m: Module, instruction: data.View, *, past: Value, top: data.View, depth: Value
    ) -> data.View:
        """What the instruction that was read asks for, one cycle before it executes."""
        opcode, control, kind = instruction.opcode, _control(instruction), self._arch.array.kind
        decoded = Signal(_DECODED, name="next_decoded")
        begins, ends = opcode == Opcode.LOOP, opcode == Opcode.END
        writes = _is_any(opcode, _WRITERS)
        absent = absent_opcodes(kind)
        highest = max(set(Opcode).difference(absent))
        illegal = (opcode > highest) | _is_any(opcode, tuple(each for each in absent if each < highest))
        no_loop = (begins & ((depth == LOOP_DEPTH) | (control.imm == 0))) | (ends & (depth == 0))
        wrong = illegal | past | no_loop | (writes & (control.reg == 0))
        wanted = Cat(_is_any(opcode, opcodes_of(engine, kind)) for engine in Engine)
        m.d.comb += [
            decoded.wanted.eq(Mux(wrong, 0, wanted)),
            decoded.wrong.eq(wrong),
            decoded.halting.eq(wrong | (opcode == Opcode.HALT)),
            decoded.again.eq(ends & (top.turns != 1)),
            decoded.writes.eq(writes & ~wrong),
            decoded.begins.eq(begins & ~wrong),
            decoded.ends.eq(ends & ~wrong),
            decoded.rings.eq(opcode == Opcode.RING),
        ]
        return decoded

    def _loops(
        self, m: Module, decoded: data.View, held: data.View, *, acting: Value, counter: Signal
    ) -> tuple[data.View, Signal]:
        """The stack of loops, its top first, and their number; both change in the cycle after LOOP or END."""
        level = data.StructLayout({"turns": 32, "body": len(counter)})
        stack = [Signal(level, name=f"loop{index}") for index in range(LOOP_DEPTH)]
        depth = Signal(range(LOOP_DEPTH + 1))
        top = stack[0]
        with m.If(acting & decoded.begins):
            m.d.sync += [inner.eq(outer) for outer, inner in pairwise(stack)]
            m.d.sync += [top.turns.eq(held.imm), top.body.eq(counter), depth.eq(depth + 1)]
        with m.If(acting & decoded.ends & decoded.again):
            m.d.sync += top.turns.eq(top.turns - 1)
        with m.If(acting & decoded.ends & ~decoded.again):
            m.d.sync += [outer.eq(inner) for outer, inner in pairwise(stack)]
            m.d.sync += depth.eq(depth - 1)
        return top, depth


def _control(instruction: data.View) -> data.View:
    """The payload of a SET, ADD, RING or LOOP."""
    return data.View(_CONTROL, instruction.payload[: _CONTROL.size])


_WRITERS = (Opcode.SET, Opcode.ADD, Opcode.RING)


def _is_any(opcode: Value, opcodes: tuple[Opcode, ...]) -> Value:
    return Cat(opcode == choice for choice in opcodes).any()

"""The core: sequencer, queues, semaphores, engines, memories and registers, wired together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from archsim._architecture import Architecture
from archsim._counters import Counter
from archsim._isa import INSTRUCTION_BYTES, SEMAPHORES, Engine, Space
from rtl._axi import axi4, axi4_lite
from rtl._issue import Issue
from rtl._load import Load
from rtl._queue import Queue
from rtl._registers import Registers
from rtl._scratchpad import Scratchpad, WideMemory, word_readers
from rtl._semaphores import Semaphores
from rtl._sequencer import Sequencer, connect_entry, entry_layout
from rtl._store import Store

PARAMETER_LANE_BYTES = 8
IN_FLIGHT_BITS = 16
RESULT_READS = ("acc_read", "record_read")
"""Ports through which the vector engine reads what the array engine holds, as far as its kind has them."""


class Core(wiring.Component):
    """A whole machine; ``docs/machine.md`` says what it does.

    ``array`` and ``vector`` are the two compute engines, built for the same architecture: components
    with ``head``, ``signal``, ``release``, ``retire``, ``events`` and the memory ports of their kind.
    The core has a parameter memory where ``vector`` reads one.
    ``head.ready`` of an engine must not depend on its ``head.valid``.

    Members: ``m_axi``, AXI4; ``s_axil``, AXI4-Lite; ``irq``; ``busy`` and ``done``, as in STATUS.
    """

    def __init__(self, arch: Architecture, *, array: Any, vector: Any) -> None:
        self._arch = arch
        self._array = array
        self._vector = vector
        super().__init__(
            {
                "m_axi": Out(axi4(arch.bus.bytes)),
                "s_axil": In(axi4_lite()),
                "irq": Out(1),
                "busy": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.registers = registers = Registers()
        m.submodules.load = load = Load(self._arch)
        m.submodules.store = store = Store(self._arch)
        m.submodules.array = self._array
        m.submodules.vector = self._vector

        # Ports.
        join(m, load.axi, self.m_axi)
        join(m, store.axi, self.m_axi)
        join(m, registers.bus, self.s_axil)
        m.d.comb += [self.irq.eq(registers.irq), self.busy.eq(registers.busy), self.done.eq(registers.done)]

        conflict, program = self._memories(m, load, store=store)
        sequencer = self._control(m, registers, load=load, store=store)
        join(m, sequencer.program, program)

        # Status and counters.
        faults = registers.faults
        m.d.comb += [
            faults.read_error.eq(load.error),
            faults.write_error.eq(store.error),
            faults.bank_conflict.eq(conflict),
        ]
        sources = (load.events, store.events, self._array.events, self._vector.events)
        for counter in Counter:
            name = counter.name.lower()
            amounts = [events[name] for events in sources if name in events.shape().members]
            if amounts:
                m.d.sync += registers.events[name].eq(sum(amounts))
        m.d.comb += [
            registers.events.cycles.eq(registers.busy),
            registers.events.instructions.eq(sequencer.executed),
        ]
        return m

    def _memories(self, m: Module, load: Load, *, store: Store) -> tuple[Value, Any]:
        """Scratchpad, parameters and program memory; returns the conflict bit and the program's port."""
        arch = self._arch
        m.submodules.scratchpad = scratchpad = Scratchpad(arch)
        m.submodules.program = program = WideMemory(
            row_bytes=INSTRUCTION_BYTES, beat_bytes=arch.bus.bytes, depth=arch.program_words
        )
        _fill(m, load, {Space.SCRATCHPAD: scratchpad.load, Space.PROGRAM: program.write})
        join(m, store.read, scratchpad.store)
        ports = {f"{name}_read": getattr(scratchpad, name) for name in word_readers(arch)}
        ports["write"] = scratchpad.vector
        if "param_read" in self._vector.signature.members:
            m.submodules.parameters = parameters = WideMemory(
                row_bytes=PARAMETER_LANE_BYTES * arch.word_bytes,
                beat_bytes=arch.bus.bytes,
                depth=arch.parameter_words,
                # Of a word's lanes the vector unit reads one for each of its own.
                kept_bytes=PARAMETER_LANE_BYTES * arch.array.cols,
                # Who reads them waits for the LOAD's token, which takes longer.
                late=True,
            )
            _fill(m, load, {Space.PARAMETERS: parameters.write})
            ports["param_read"] = parameters.read
        if "weights" in self._array.signature.members:
            weights = self._array.weights
            m.d.comb += [
                weights.en.eq(load.write.en & (load.write.space == Space.WEIGHTS)),
                weights.start.eq(load.write.start),
                weights.addr.eq(load.write.addr),
                weights.data.eq(load.write.data),
            ]
        for engine in (self._array, self._vector):
            for name in (each for each in ports if each in engine.signature.members):
                join(m, getattr(engine, name), ports[name])
        for name in RESULT_READS:
            if name in self._array.signature.members:
                join(m, getattr(self._vector, name), getattr(self._array, name))
        return scratchpad.conflict, program.read

    def _control(self, m: Module, registers: Registers, *, load: Load, store: Store) -> Sequencer:
        """Sequencer, queues and semaphores."""
        m.submodules.sequencer = sequencer = Sequencer(self._arch)
        m.submodules.semaphores = semaphores = Semaphores()
        length = registers.program_length
        # Two words are not written in successive cycles, so that this is known when the start is.
        m.d.sync += registers.fits.eq((length != 0) & (length <= self._arch.program_words))
        m.d.comb += [
            sequencer.start.eq(registers.start),
            sequencer.fetched.eq(load.completes),
            sequencer.length.eq(length),
            semaphores.clear.eq(registers.start),
            registers.halt.eq(sequencer.halted),
            registers.faults.illegal_instruction.eq(sequencer.illegal),
        ]
        heads = {
            Engine.LOAD: load.head,
            Engine.STORE: store.head,
            Engine.ARRAY: self._array.head,
            Engine.VECTOR: self._vector.head,
        }
        dma: dict[Engine, Load | Store] = {Engine.LOAD: load, Engine.STORE: store}
        retires = {Engine.ARRAY: self._array.retire, Engine.VECTOR: self._vector.retire}
        taken, stalled, idle, given = [], [], [], []
        for engine, head in heads.items():
            queue, issue = self._queue(m, sequencer, engine=engine)
            if engine is Engine.LOAD:
                self._fetch(m, registers, queue=queue, issue=issue)
            else:
                m.d.comb += issue.entry.payload.eq(queue.head.payload)
            m.d.comb += [
                issue.available.eq(semaphores.available),
                issue.entry.valid.eq(queue.head.valid),
                queue.head.ready.eq(issue.entry.ready),
                head.valid.eq(issue.command.valid),
                head.payload.eq(issue.command.payload),
                issue.command.ready.eq(head.ready),
            ]
            taken.append(issue.take)
            stalled.append(Mux(head.ready, issue.lacking, 0))
            if engine in dma:
                # Whatever waits to retire waits for a transfer.
                idle.append(~queue.head.valid & dma[engine].resting)
                given.append(Mux(issue.popped, dma[engine].gives, 0))
            else:
                idle.append(self._at_rest(m, sequencer, engine=engine, retire=retires[engine]))
        # What engines give arrives a cycle later, and so does their rest.
        at_pop = Signal(SEMAPHORES)
        m.d.sync += [sequencer.idle.eq(Cat(idle).all()), at_pop.eq(_union(given))]
        m.d.comb += [
            semaphores.give.eq(at_pop | self._array.release | self._vector.release),
            semaphores.take.eq(_union(taken)),
            registers.stalls.eq(_union(stalled)),
        ]
        self._signal(m, semaphores, retiring=[engine.retiring for engine in dma.values()])
        return sequencer

    def _signal(self, m: Module, semaphores: Semaphores, *, retiring: list[Any]) -> None:
        """What retirements add to the semaphores, a cycle later."""
        signals = self._array.signal | self._vector.signal
        m.d.sync += semaphores.adding.some.eq(_union([signals, *(group.some for group in retiring)]))
        for index in range(SEMAPHORES):
            amounts = [signals[index], *(group.amounts[index] for group in retiring)]
            m.d.sync += semaphores.adding.amounts[index].eq(_union(amounts))

    def _at_rest(self, m: Module, sequencer: Sequencer, *, engine: Engine, retire: Value) -> Value:
        """Whether a compute engine has retired whatever was pushed, in HALT's execute cycles.

        A push counts a cycle late, which is before the next instruction executes.
        """
        name = engine.name.lower()
        in_flight = Signal(IN_FLIGHT_BITS, name=f"{name}_in_flight")
        pushed = Signal(name=f"{name}_pushed")
        m.d.sync += [pushed.eq(sequencer.push[engine]), in_flight.eq(in_flight + pushed - retire)]
        return in_flight == 0

    def _fetch(self, m: Module, registers: Registers, *, queue: Queue, issue: Issue) -> None:
        """LOAD's first command, popped in cycle 0, fetches the program: it is at hand while none runs."""
        queued = queue.head.payload
        command = Signal.like(queued.command, name="fetch")
        beats = registers.program_length * (INSTRUCTION_BYTES // self._arch.bus.bytes) - 1
        m.d.comb += [
            issue.at_once.eq(registers.begins),
            command.space.eq(Space.PROGRAM),
            command.segments.eq(1),
            command.beats.eq(beats),
            command.op0.eq(registers.program_address),
            issue.entry.payload.waits.eq(queued.waits),
            issue.entry.payload.command.eq(
                Mux(registers.busy, queued.command.as_value(), command.as_value())
            ),
        ]

    def _queue(self, m: Module, sequencer: Sequencer, *, engine: Engine) -> tuple[Queue, Issue]:
        """An engine's queue behind the sequencer, and what arms its head."""
        kind, gated = self._arch.array.kind, self._arch.vector.gated
        entry = entry_layout(engine, kind, gated=gated)
        queue, issue = Queue(entry, depth=self._arch.queue_depth), Issue(entry)
        m.submodules[f"{engine.name.lower()}_queue"] = queue
        m.submodules[f"{engine.name.lower()}_issue"] = issue
        m.d.comb += list(connect_entry(sequencer.issue, queue.push.payload, engine=engine, kind=kind))
        m.d.comb += [
            queue.push.valid.eq(sequencer.push[engine]),
        ]
        # A queue that has just been filled was pushed to at least two cycles before it is asked again.
        m.d.sync += sequencer.full[engine].eq(~queue.push.ready)
        return queue, issue


def _fill(m: Module, load: Load, ports: Mapping[Space, Any]) -> None:
    """LOAD's beats to the write port of each space."""
    for space, port in ports.items():
        m.d.comb += [
            port.en.eq(load.write.en & (load.write.space == space)),
            port.addr.eq(load.write.addr),
            port.data.eq(load.write.data),
        ]


def join(m: Module, inner: Any, outer: Any) -> None:
    """Drives every member of ``outer`` that ``inner`` puts out, and the other way round, by name."""
    for name, member in inner.signature.members.items():
        source, sink = (inner, outer) if member.flow == Out else (outer, inner)
        m.d.comb += getattr(sink, name).eq(getattr(source, name))


def _union(values: list[Value]) -> Value:
    union = values[0]
    for value in values[1:]:
        union = union | value
    return union

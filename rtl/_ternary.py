"""The ARRAY engine without multipliers: slots, weight memory, sums by trits, accumulators."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from archsim._architecture import Architecture
from archsim._isa import SEMAPHORES, Engine
from archsim._timing import array_retirement
from rtl._accumulator import ADD_LATENCY, ADD_LEAD, Accumulators
from rtl._array import Walk
from rtl._command import ARRAY_EVENTS, command_layout
from rtl._pipe import delayed, read_port
from rtl._schedule import retire_in_order
from rtl._trits import TernarySums, datapath_text, sum_bits
from rtl._weights import WeightMemory, weight_write_port

_BITS = 16
"""Width of the row and chunk counts."""


def extra_verilog(arch: Architecture) -> str:
    """Verilog of the modules that ``TernaryEngine`` instantiates by name."""
    return datapath_text(arch.array.rows, arch.array.group)


class TernarySlots(wiring.Component):
    """The nest ``for n: for k: for m`` of a MATMUL, one slot a cycle.

    Members
    -------
    start:
        Begin in the next cycle with the command at ``command``, which the registers follow until then.
    held:
        The command under way; the cycle after its end, it is the last one.
    busy, first, end:
        A slot is issued; it is the first one of its weight word; the last one of the MATMUL.
    w_addr, x_addr, acc_addr, fresh:
        Its addresses, and whether its accumulator word has no content of its own yet.
    """

    def __init__(self) -> None:
        pulses = dict.fromkeys(("busy", "first", "end", "fresh"), Out(1))
        addresses = dict.fromkeys(("w_addr", "x_addr", "acc_addr"), Out(32))
        layout = command_layout(Engine.ARRAY)
        super().__init__({**pulses, **addresses, "start": In(1), "command": In(layout), "held": Out(layout)})

    def elaborate(self, platform: object) -> Any:
        """A counter of the row, and the two walks that it steps."""
        m = Module()
        m.submodules.weights, m.submodules.rows = weights, rows = Walk(), Walk()
        left, rows_last = Signal(_BITS), Signal(_BITS)
        ends, is_single, step = Signal(), Signal(), Signal()
        m.d.comb += [
            step.eq(ends),
            self.end.eq(self.busy & ends & rows.last),
            self.w_addr.eq(weights.address),
            self.x_addr.eq(rows.address),
            self.acc_addr.eq(rows.address_n),
            rows.move.eq(1),
            self.fresh.eq(rows.first_k & ~self.held.accumulate),
        ]
        rows_of = self.command.rows
        with m.If(~self.busy):
            m.d.sync += [self.busy.eq(self.start), self.held.eq(self.command), self.first.eq(1)]
            m.d.sync += [rows_last.eq(rows_of - 1), left.eq(rows_of - 1)]
            m.d.sync += [is_single.eq(rows_of == 1), ends.eq(rows_of == 1)]
        with m.Elif(step):
            m.d.sync += [left.eq(rows_last), ends.eq(is_single), self.first.eq(1), self.busy.eq(~rows.last)]
        with m.Else():
            m.d.sync += [left.eq(left - 1), ends.eq(left == 1), self.first.eq(0)]
        held, new = self.held, self.command
        for walk, origin, k_stride, n_stride in (
            (weights, new.op1, held.w_k_stride, held.w_n_stride),
            (rows, new.op0, held.x_k_stride, 0),
        ):
            m.d.comb += [
                walk.start.eq(~self.busy),
                walk.step.eq(step),
                walk.origin.eq(origin),
                walk.k_chunks.eq(new.k_chunks),
                walk.n_chunks.eq(new.n_chunks),
                walk.k_stride.eq(k_stride),
                walk.n_stride.eq(n_stride),
            ]
        m.d.comb += [rows.origin_n.eq(new.op2), rows.stride_n.eq(held.acc_n_stride)]
        return m


class TernaryEngine(wiring.Component):
    """MATMUL and SYNC_ARRAY at the cycles of ``docs/ternary-machine.md``.

    With ``inline`` the leaves are part of the module, for Amaranth's simulator; otherwise they are
    instances of the modules in ``extra_verilog(arch)``. ``weights`` is what the weight memory holds at
    the start, in DRAM's form.

    Members
    -------
    head, signal, retire, release, events:
        As those of ``rtl._array.ArrayEngine``.
    x_read:
        Scratchpad port of the streamed operand.
    weights:
        LOAD's port of the weight memory.
    acc_read:
        The accumulators' read port for the vector unit.
    """

    def __init__(self, arch: Architecture, *, weights: bytes = b"", inline: bool = False) -> None:
        self.arch = arch
        self._inline = inline
        self._weights = weights
        super().__init__(
            {
                "head": In(stream.Signature(command_layout(Engine.ARRAY))),
                "signal": Out(SEMAPHORES),
                "release": Out(SEMAPHORES),
                "retire": Out(1),
                "x_read": Out(read_port(32, 8 * arch.word_bytes)),
                "weights": In(weight_write_port(arch)),
                "acc_read": In(read_port(16, 32 * arch.array.cols)),
                "events": Out(ARRAY_EVENTS),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """The command, its slots, the reads, and the datapath behind them."""
        m = Module()
        m.submodules.slots = slots = TernarySlots()
        pop = Signal()
        m.d.comb += [self.head.ready.eq(~slots.busy), pop.eq(self.head.valid & ~slots.busy)]
        m.d.comb += [slots.start.eq(pop & ~self.head.payload.is_sync), slots.command.eq(self.head.payload)]
        m.d.comb += [self.x_read.en.eq(slots.busy), self.x_read.addr.eq(slots.x_addr)]
        reads = slots.busy & slots.first
        self._tokens(m, pop, slots)
        self._datapath(m, slots, reads)
        m.d.comb += [
            self.events.array_rows.eq(slots.busy),
            self.events.array_weight_rows.eq(reads),
            self.events.array_busy.eq(slots.busy),
            self.events.accumulator_reads.eq(slots.busy & ~slots.fresh),
            self.events.accumulator_writes.eq(slots.busy),
            self.events.scratchpad_reads.eq(slots.busy),
        ]
        return m

    def _tokens(self, m: Any, pop: Any, slots: TernarySlots) -> None:
        """Masks: releases after a cycle, signals after the array's latency."""
        done = (pop & self.head.payload.is_sync) | slots.end
        retire_in_order(m, self, done, held=slots.held, latency=array_retirement(self.arch))

    def _datapath(self, m: Any, slots: TernarySlots, reads: Any) -> None:
        arch, array = self.arch, self.arch.array
        m.submodules.memory = memory = WeightMemory(arch, weights=self._weights)
        m.submodules.sums = sums = TernarySums(
            rows=array.rows,
            cols=array.cols,
            group=array.group,
            word_bytes=arch.word_bytes,
            inline=self._inline,
        )
        m.submodules.accumulators = accumulators = Accumulators(
            words=arch.accumulator_words, cols=array.cols, addend_bits=sum_bits(array.rows, array.group)
        )
        wiring.connect(m, wiring.flipped(self.acc_read), accumulators.read)
        wiring.connect(m, wiring.flipped(self.weights), memory.write)
        add, lead = accumulators.add, array_retirement(arch) - ADD_LATENCY - ADD_LEAD
        m.d.comb += [
            memory.read.en.eq(reads),
            memory.read.addr.eq(slots.w_addr),
            sums.x_word.eq(self.x_read.data),
            sums.w_word.eq(memory.read.data),
            accumulators.sums.eq(sums.sums),
            add.valid.eq(delayed(m, slots.busy, lead)),
            add.fresh.eq(delayed(m, slots.fresh, lead)),
            add.addr.eq(delayed(m, slots.acc_addr[: len(add.addr)], lead)),
        ]

"""The VECTOR engine of the attention machine: numerators over denominators, to the scratchpad."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from archsim._architecture import Architecture
from archsim._isa import SEMAPHORES, Engine
from archsim._timing import divide_latency
from rtl import _divide_lane
from rtl._attend_lane import ADDRESS_BITS, DENOMINATOR_BITS, VALUE_BITS
from rtl._command import DIVIDE_EVENTS, command_layout
from rtl._divide_lane import DivideLane
from rtl._pipe import delayed, delayed_word, module_text, placed, read_port, write_port
from rtl._schedule import schedule

LANE_MODULE = "archsim_divide_lane"
_BITS = 16


def extra_verilog() -> str:
    """Verilog of the modules that ``DivideEngine`` instantiates by name."""
    return module_text(DivideLane(), LANE_MODULE)


class DivideEngine(wiring.Component):
    """DIVIDE and SYNC_VECTOR at the cycles and bits of ``docs/attention-machine.md``.

    With ``inline`` the lanes are part of the module, for Amaranth's simulator; otherwise they are
    instances of the module in ``extra_verilog()``.

    Members
    -------
    head:
        Stream of commands; a command is taken at its cycle s.
    signal, retire:
        Mask of the command's signals, and a pulse, at its cycle r.
    release:
        Mask of the command's releases, the cycle after its cycle e.
    acc_read, record_read:
        Read ports of the value memory and of the denominator records, C lanes each.
    write:
        Write port of the scratchpad, used ``divide_latency()`` cycles after a slot's issue.
    events:
        What the counters add in this cycle.
    """

    def __init__(self, arch: Architecture, *, inline: bool = False) -> None:
        self.arch = arch
        self.lanes = arch.array.cols
        self._module = None if inline else LANE_MODULE
        self._layout = command_layout(Engine.VECTOR, "fusemax")
        super().__init__(
            {
                "head": In(stream.Signature(self._layout)),
                "signal": Out(SEMAPHORES),
                "release": Out(SEMAPHORES),
                "retire": Out(1),
                "acc_read": Out(read_port(ADDRESS_BITS, VALUE_BITS * self.lanes)),
                "record_read": Out(read_port(ADDRESS_BITS, DENOMINATOR_BITS * self.lanes)),
                "write": Out(write_port(32, 8 * arch.word_bytes)),
                "events": Out(DIVIDE_EVENTS),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """The command and its slots, one a word; the reads; the lanes; the write."""
        m = Module()
        command = Signal(self._layout)
        slot, index = Signal(), Signal(_BITS)
        latency = divide_latency()
        assert latency == _divide_lane.RESULT
        last = index == command.rows - 1
        rests = schedule(m, self, command, slot=slot, last=last, latency=latency)
        with m.If(rests):
            m.d.sync += index.eq(0)
        with m.Elif(slot):
            m.d.sync += index.eq(index + 1)
        m.d.comb += [
            self.acc_read.en.eq(slot),
            self.acc_read.addr.eq(command.op0 + index),
            self.record_read.en.eq(slot),
            self.record_read.addr.eq(command.record),
            self.events.vector_slots.eq(slot),
            self.events.accumulator_reads.eq(slot),
            self.events.scratchpad_writes.eq(slot),
        ]
        results = Cat(lane.result for lane in self._lanes(m, slot, command))
        m.d.comb += [
            self.write.en.eq(delayed(m, slot, latency)),
            self.write.addr.eq(delayed_word(m, (command.op1 + index)[:32], latency)),
            self.write.data.eq(results),
        ]
        return m

    def _lanes(self, m: Any, slot: Any, command: Any) -> list[Any]:
        """The lanes, with their setup and operands."""
        setup = Signal(_divide_lane.SETUP, reset_less=True)
        m.d.sync += [
            setup.multiplier.eq(command.multiplier),
            setup.shift.eq(command.shift),
            setup.half.eq(((C(1) << command.shift[:5]) >> 1)[:31]),
        ]
        valid = delayed(m, slot, 1)
        lanes = [placed(m, f"lane_{c}", DivideLane, self._module) for c in range(self.lanes)]
        for c, lane in enumerate(lanes):
            own = Signal(_divide_lane.SETUP, name=f"setup_{c}")
            m.d.comb += [own.eq(setup), own.keep.eq(c < command.lanes)]
            m.d.comb += [
                lane.setup.eq(own),
                lane.valid.eq(valid),
                lane.value.eq(self.acc_read.data.word_select(c, VALUE_BITS)),
                lane.divisor.eq(self.record_read.data.word_select(c, DENOMINATOR_BITS)),
            ]
        return lanes
